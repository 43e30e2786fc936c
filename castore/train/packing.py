"""How many instances a best-fit packing of documents makes, from a histogram of their lengths.

The rule is best-fit decreasing, as in "Fewer Truncations Improve Language Modeling" (https://arxiv.org/abs/2404.10830),
which OLMo-core follows: documents go longest first, each into the instance with the least space that still holds it, or
into a new one. Which of several equal documents, or of several instances with equal space, comes first changes the
content of instances and never the counts; so a histogram is enough, and its documents are placed many at a time.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PackingCounts:
    """What a packing comes to: instances, and tokens of documents in them."""

    instances: int
    tokens: int


def pack(counts: Mapping[int, int], capacity: int) -> PackingCounts:
    """Pack documents into instances of ``capacity`` tokens.

    An instance that takes a document of n tokens and has room for another has then the least space of all that fit, so
    documents of one length fill one instance after the other. Filling leaves less than n in it, at most half of what
    was free: the whole takes O(capacity · log capacity) steps, whatever the number of documents.

    Args:
        counts: Number of documents by length in tokens, lengths from 1 to ``capacity``.
        capacity: Tokens of an instance.
    """
    spaces = _Spaces()
    instances = 0
    for length in sorted(counts, reverse=True):
        assert 1 <= length <= capacity, f"a document of {length} tokens for instances of {capacity}"
        left = counts[length]
        while left and (space := spaces.least(length)):
            left = spaces.fill(space, length, left)
        if left:
            each = capacity // length
            opened = -(-left // each)
            instances += opened
            spaces.add(capacity, opened)
            spaces.fill(capacity, length, left)
    return PackingCounts(instances, sum(length * count for length, count in counts.items()))


class _Spaces:
    """Instances by the tokens that are free in them."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._sorted: list[int] = []

    def least(self, length: int) -> int:
        """The least space of at least ``length``, 0 if there is none."""
        at = bisect_left(self._sorted, length)
        return self._sorted[at] if at < len(self._sorted) else 0

    def add(self, space: int, instances: int) -> None:
        """Note instances that have ``space`` free tokens; full ones are forgotten."""
        if not space or not instances:
            return
        if space not in self._counts:
            insort(self._sorted, space)
        self._counts[space] = self._counts.get(space, 0) + instances

    def fill(self, space: int, length: int, documents: int) -> int:
        """Put documents of one length into the instances with ``space``, one instance after the other.

        Returns:
            Documents left over when all these instances are full.
        """
        each = space // length
        instances = self._counts.pop(space)
        full = min(documents // each, instances)
        rest = documents - full * each if full < instances else 0
        touched = full + (rest > 0)
        if touched == instances:
            del self._sorted[bisect_left(self._sorted, space)]
        else:
            self._counts[space] = instances - touched
        self.add(space - each * length, full)
        self.add(space - rest * length, int(rest > 0))
        return documents - full * each - rest
