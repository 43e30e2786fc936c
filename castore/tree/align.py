"""Aligning two sequences of hashable items: what must go and what must come so that the one becomes the other."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

EDITS_MAX = 64
"""Edits that are searched for exactly. The search costs (length + edits) * edits; past this, landmarks are used."""

_STRIDE = 64
"""Items compared at once."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Items ``[a_lo, a_hi)`` of one sequence stand where ``[b_lo, b_hi)`` of the other stand; both half-open."""

    a_lo: int
    a_hi: int
    b_lo: int
    b_hi: int

    def shifted(self, a: int, b: int) -> Gap:
        """The same gap in sequences that begin ``a`` and ``b`` items earlier."""
        return Gap(self.a_lo + a, self.a_hi + a, self.b_lo + b, self.b_hi + b)


def align(a: Sequence[Hashable], b: Sequence[Hashable], *, items_max: int | None = None) -> list[Gap]:
    """The gaps between two sequences, in order; items between two gaps are equal pair by pair.

    Few edits are found exactly (Myers, "An O(ND) difference algorithm", 1986). Beyond ``EDITS_MAX`` the longest
    increasing run of items that are unique on both sides serves as landmarks (Bram Cohen's patience diff), and the
    stretches between landmarks are aligned in turn. Items that repeat are told apart by counting from the front.

    Args:
        a, b: The sequences.
        items_max: If more than so many items of a side are left once both sides' common head and tail are set aside,
            they are one gap.
    """
    head = _common_head(a, b)
    tail = _common_tail(a, b, head)
    gap = Gap(head, len(a) - tail, head, len(b) - tail)
    if items_max is not None and max(gap.a_hi - gap.a_lo, gap.b_hi - gap.b_lo) > items_max:
        return [gap]
    return list(_align(a[gap.a_lo : gap.a_hi], b[gap.b_lo : gap.b_hi], head, head))


def _align(a: Sequence[Hashable], b: Sequence[Hashable], a_at: int, b_at: int) -> Iterator[Gap]:
    head = _common_head(a, b)
    tail = _common_tail(a, b, head)
    a, b = a[head : len(a) - tail], b[head : len(b) - tail]
    a_at, b_at = a_at + head, b_at + head
    if not a and not b:
        return
    if not a or not b:
        yield Gap(a_at, a_at + len(a), b_at, b_at + len(b))
        return
    matches = _few_edits(a, b)
    if matches is not None:
        yield from (gap.shifted(a_at, b_at) for gap in _gaps_between(matches, len(a), len(b)))
        return
    landmarks = _landmarks(a, b)
    if not landmarks:
        yield Gap(a_at, a_at + len(a), b_at, b_at + len(b))
        return
    for gap in _gaps_between(landmarks, len(a), len(b)):
        below = a[gap.a_lo : gap.a_hi], b[gap.b_lo : gap.b_hi]
        yield from _align(*below, a_at + gap.a_lo, b_at + gap.b_lo)


def _common_head(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Equal items at the front. Slices are compared first, which is many times faster than item by item."""
    stop = min(len(a), len(b))
    at = 0
    while at < stop and a[at : at + _STRIDE] == b[at : at + _STRIDE]:
        at += _STRIDE
    at = min(at, stop)
    while at < stop and a[at] == b[at]:
        at += 1
    return at


def _common_tail(a: Sequence[Hashable], b: Sequence[Hashable], head: int) -> int:
    """Equal items at the end, besides the first ``head``."""
    most = min(len(a), len(b)) - head
    count = 0
    while count + _STRIDE <= most:
        stop_a, stop_b = len(a) - count, len(b) - count
        if a[stop_a - _STRIDE : stop_a] != b[stop_b - _STRIDE : stop_b]:
            break
        count += _STRIDE
    while count < most and a[len(a) - 1 - count] == b[len(b) - 1 - count]:
        count += 1
    return count


def _gaps_between(matches: list[tuple[int, int]], a_len: int, b_len: int) -> Iterator[Gap]:
    """Stretches between matched pairs, both ends included; nothing where matches adjoin."""
    a_at = b_at = 0
    for i, j in [*matches, (a_len, b_len)]:
        if i > a_at or j > b_at:
            yield Gap(a_at, i, b_at, j)
        a_at, b_at = i + 1, j + 1


def _few_edits(a: Sequence[Hashable], b: Sequence[Hashable]) -> list[tuple[int, int]] | None:
    """Matched pairs of a shortest edit script, or None if it has over ``EDITS_MAX`` edits.

    ``furthest[k]`` is how far into ``a`` a path on diagonal ``k`` (index in a minus index in b) reaches.
    """
    if abs(len(a) - len(b)) > EDITS_MAX:
        return None
    furthest = {1: 0}
    history: list[dict[int, int]] = []
    for edits in range(EDITS_MAX + 1):
        history.append(dict(furthest))
        for k in range(-edits, edits + 1, 2):
            down = k == -edits or (k != edits and furthest[k - 1] < furthest[k + 1])
            x = furthest[k + 1] if down else furthest[k - 1] + 1
            while x < len(a) and x - k < len(b) and a[x] == b[x - k]:
                x += 1
            furthest[k] = x
            if x >= len(a) and x - k >= len(b):
                return _trace(history, len(a), len(b))
    return None


def _trace(history: list[dict[int, int]], x: int, y: int) -> list[tuple[int, int]]:
    """Walk the search back from its end and collect the matched pairs."""
    matches: list[tuple[int, int]] = []
    for edits in range(len(history) - 1, -1, -1):
        furthest = history[edits]
        k = x - y
        down = k == -edits or (k != edits and furthest[k - 1] < furthest[k + 1])
        before = k + 1 if down else k - 1
        x_before = furthest[before] if edits else 0
        y_before = x_before - before if edits else 0
        while x > x_before and y > y_before:
            x, y = x - 1, y - 1
            matches.append((x, y))
        x, y = x_before, y_before
    matches.reverse()
    return matches


def _landmarks(a: Sequence[Hashable], b: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Pairs of equal items that increase on both sides, as many as there can be of those that are told apart."""
    unique_a = {item for item, count in Counter(a).items() if count == 1}
    unique_b = {item for item, count in Counter(b).items() if count == 1}
    unique = unique_a & unique_b
    if unique:
        where = {item: j for j, item in enumerate(b) if item in unique}
        pairs = [(i, where[item]) for i, item in enumerate(a) if item in unique]
    else:
        pairs = _by_occurrence(a, b)
    return _longest_increasing(pairs)


def _by_occurrence(a: Sequence[Hashable], b: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Pair the n-th occurrence of an item in ``a`` with the n-th in ``b``."""
    places: dict[Hashable, list[int]] = {}
    for j, item in enumerate(b):
        places.setdefault(item, []).append(j)
    seen: Counter[Hashable] = Counter()
    pairs = []
    for i, item in enumerate(a):
        spots = places.get(item, [])
        if seen[item] < len(spots):
            pairs.append((i, spots[seen[item]]))
            seen[item] += 1
    return pairs


def _longest_increasing(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Longest run of ``pairs`` (ascending in the first) that ascends in the second (patience sorting)."""
    tops: list[int] = []
    top_pairs: list[int] = []
    before: list[int] = []
    for n, (_, j) in enumerate(pairs):
        pile = bisect_left(tops, j)
        before.append(top_pairs[pile - 1] if pile else -1)
        if pile == len(tops):
            tops.append(j)
            top_pairs.append(n)
        else:
            tops[pile], top_pairs[pile] = j, n
    chain = []
    n = top_pairs[-1] if top_pairs else -1
    while n >= 0:
        chain.append(pairs[n])
        n = before[n]
    chain.reverse()
    return chain
