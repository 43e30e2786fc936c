"""A tighter packing than best fit, where best fit leaves much room: fill each instance as far as any choice can.

Best fit looks at one document at a time. Where documents are all of about one length, or few fit together, the last
places of its instances stay empty. Here an instance takes the longest document that is left and then the set of others
that comes nearest to filling it, found by subset sums ("minimum bin slack": Gupta and Ho, "A new heuristic algorithm
for the one-dimensional bin-packing problem", 1999). Of equal sets it takes the one with the longest documents, since
short ones are of use later. Sums are bits of an integer, so that one shift adds a length to all of them. What fills
one instance fills as many as there are such documents, so the work depends on the lengths that occur and hardly on the
number of documents. Integers only: one answer on every machine.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence

SUM_BITS = 1 << 21
"""Sums looked at for one filling: lengths that are tried times tokens of an instance."""

LENGTHS_MIN = 64
"""Lengths that are tried at least, however long instances are."""

Filling = tuple[dict[int, int], int]
"""Documents by length that share an instance, and how many instances are filled so."""


def exact_fit(counts: Mapping[int, int], capacity: int) -> list[Filling]:
    """Fillings for all documents.

    Args:
        counts: Number of documents by length in tokens, lengths from 1 to ``capacity``.
        capacity: Tokens of an instance.
    """
    left = dict(counts)
    lengths = sorted(left)
    tried = max(LENGTHS_MIN, SUM_BITS // capacity)
    fillings: list[Filling] = []
    while lengths:
        longest = lengths[-1]
        left[longest] -= 1
        filling = {longest: 1}
        fitting = [n for n in lengths[: bisect_right(lengths, capacity - longest)] if left[n]]
        for length, count in _nearest(_spread(fitting, tried), left, capacity - longest).items():
            filling[length] = filling.get(length, 0) + count
        left[longest] += 1
        times = min(left[length] // count for length, count in filling.items())
        for length, count in filling.items():
            left[length] -= count * times
            if not left[length]:
                del lengths[bisect_right(lengths, length) - 1]
        fillings.append((filling, times))
    return fillings


def _spread(lengths: Sequence[int], most: int) -> Sequence[int]:
    """At most so many of the lengths, evenly."""
    if len(lengths) <= most:
        return lengths
    return [lengths[i * len(lengths) // most] for i in range(most)]


def _nearest(lengths: Sequence[int], left: Mapping[int, int], space: int) -> dict[int, int]:
    """The documents by length whose sum is nearest to ``space`` from below; ``lengths`` ascend."""
    inside = (1 << (space + 1)) - 1
    sums, before = 1, []  # bit n: some choice has n tokens in all
    for length in lengths:
        before.append(sums)
        count, step = min(left[length], space // length), 1
        while count:  # 1, 2, 4, … and the rest make every number up to the count
            step = min(step, count)
            sums |= (sums << (step * length)) & inside
            count -= step
            step *= 2
    wanted = sums.bit_length() - 1
    chosen: dict[int, int] = {}
    for length, sums in zip(reversed(lengths), reversed(before), strict=True):
        most = min(left[length], wanted // length)
        count = next(n for n in range(most, -1, -1) if sums >> (wanted - n * length) & 1)
        if count:
            chosen[length] = count
            wanted -= count * length
    return chosen
