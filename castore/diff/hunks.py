"""Hunks: samples that differ, aligned by their keys, told whether they moved, and paired."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import accumulate, groupby
from operator import itemgetter
from typing import NamedTuple, Protocol

import numpy as np

from castore.diff.edits import token_lists
from castore.diff.keys import Keys, Match, align_keys, matched
from castore.diff.unequal_values import relabelled, renumber
from castore.format.schema import SOURCE
from castore.read.columns import Columns
from castore.tree.align import Gap

MOVES_MAX = 10_000
"""Moves that are listed; if they are more, the samples are in another order."""

SOURCES_TOGETHER = 1 << 14
"""Samples whose sources are read at once."""

SIMILAR_PAIRS_MAX = 1024
"""Pairs of a gap that are compared with each other, to pair what is similar."""

SIMILAR = 0.5
"""Share of equal tokens from which on two samples are taken for two states of one."""


class Hunk(NamedTuple):
    """Samples ``[a.0, a.1)`` of one side stand where ``[b.0, b.1)`` of the other stand.

    Attributes:
        op: ``replace`` (as many on both sides, pair by pair), ``delete`` or ``insert``.
        a, b: Half-open ranges of samples in stored order.
        arrays: Arrays that differ, in order of the manifest; for ``insert`` and ``delete`` all of them, and for what
            has moved those that differ from where it was.
        moved: For ``insert`` and ``delete``: where the same samples are on the other side, if they are.
    """

    op: str
    a: tuple[int, int]
    b: tuple[int, int]
    arrays: tuple[str, ...]
    moved: tuple[int, int] | None = None

    @property
    def size(self) -> int:
        """Samples of it."""
        return max(self.a[1] - self.a[0], self.b[1] - self.b[0])


class DatasetPair(Protocol):
    """Two datasets, and how to find what differs between them.

    Attributes:
        a, b: The datasets.
    """

    @property
    def a(self) -> Columns: ...

    @property
    def b(self) -> Columns: ...

    def equal(self) -> bool:
        """Whether all arrays are equal, and the orders."""
        ...

    def same(self, name: str) -> bool:
        """Whether an array is equal, element by element."""
        ...

    def gaps(self) -> Iterable[tuple[Gap, Keys, Keys]]:
        """Samples whose tokens differ or that only one side has, in order, with their keys on both sides."""
        ...

    def unequal(self, name: str, a_lo: int, b_lo: int, count: int) -> Iterator[int]:
        """Offsets of samples whose elements of an array differ, of ``count`` whose tokens do not."""
        ...


def find_hunks(
    pair: DatasetPair, names: Sequence[str], renumbered: Mapping[int, int] | None = None
) -> tuple[list[Hunk], int]:
    """All hunks in the named arrays. Tokens align the samples; other arrays are compared between aligned ones.

    Args:
        pair: The datasets.
        names: The arrays.
        renumbered: Sources by their number in a whose number in b is another one: that alone makes no hunk.

    Returns:
        The hunks, which applied to a make b, and 0. If the samples are in orders too different to be told as moves: how
        many both sides have, and as hunks what one side alone has, and samples of both whose other arrays differ.
    """
    pair = _Renumbered(pair, renumbered) if renumbered else pair
    a, b = pair.a, pair.b
    shared = [n for n in names if n != "token_ids" and a.has_data(n) and b.has_data(n)]
    gaps = [] if pair.same("token_ids") and pair.same("length") else list(pair.gaps())
    moves, disorder = _moves(gaps)
    if disorder is not None:
        return _find_disordered(pair, names, shared, gaps, moves, disorder)
    hunks: list[Hunk] = []
    a_at = b_at = 0
    whole = "token_ids" in names
    for gap, pairs in [*_paired(pair, gaps, moves), (Gap(a.samples, a.samples, b.samples, b.samples), [])]:
        hunks.extend(_value_hunks(pair, shared, a_at, b_at, gap.a_lo - a_at))
        for hunk in _gap_hunks(gap, pairs, moves, tuple(names)):
            if hunk.op == "replace" and not whole:  # these tokens differ, the array that was asked for need not
                hunks.extend(_value_hunks(pair, shared, hunk.a[0], hunk.b[0], hunk.size))
            else:
                hunks.append(hunk)
        a_at, b_at = gap.a_hi, gap.b_hi
    return _moved_with_arrays(pair, shared, hunks), 0


def _find_disordered(
    pair: DatasetPair,
    names: Sequence[str],
    shared: Sequence[str],
    gaps: Sequence[tuple[Gap, Keys, Keys]],
    moves: Moves,
    disorder: list[Match],
) -> tuple[list[Hunk], int]:
    """What one side alone has, and samples that have other labels than they have on the other side."""
    kept = [gap for gap, _, _ in gaps]
    alone = [h for gap in kept for h in _gap_hunks(gap, [], moves, tuple(names)) if not h.moved]
    end = Gap(pair.a.samples, pair.a.samples, pair.b.samples, pair.b.samples)
    a_at = b_at = 0
    for gap in [*kept, end]:
        disorder.append((a_at, b_at, gap.a_lo - a_at))
        a_at, b_at = gap.a_hi, gap.b_hi
    changed: dict[tuple[int, int], list[str]] = {}
    for name in shared:
        if not pair.same(name):
            numbers = pair.numbers if name == SOURCE.name and isinstance(pair, _Renumbered) else {}
            for at in relabelled(pair.a, pair.b, name, disorder, numbers):
                changed.setdefault(at, []).append(name)
    hunks = [Hunk("replace", (i, i + 1), (j, j + 1), tuple(arrays)) for (i, j), arrays in changed.items()]
    total = sum(count for _, count, _ in moves.of_a)
    return sorted([*alone, *hunks], key=lambda hunk: (hunk.a, hunk.b)), total


class _Renumbered:
    """A pair of datasets of which sources have other numbers: a sample's source is equal if they stand for each other.

    Args:
        pair: The datasets.
        numbers: Number in b of every source of a that has another one there.
    """

    def __init__(self, pair: DatasetPair, numbers: Mapping[int, int]) -> None:
        self.a, self.b, self.equal, self.gaps = pair.a, pair.b, pair.equal, pair.gaps
        self._pair, self.numbers = pair, numbers

    def same(self, name: str) -> bool:
        """As of the pair; of sources nothing is known without a look."""
        return name != SOURCE.name and self._pair.same(name)

    def unequal(self, name: str, a_lo: int, b_lo: int, count: int) -> Iterator[int]:
        """As of the pair, sources by what they stand for."""
        if name != SOURCE.name:
            yield from self._pair.unequal(name, a_lo, b_lo, count)
            return
        for at in range(0, count, SOURCES_TOGETHER):
            some = min(SOURCES_TOGETHER, count - at)
            x = renumber(self.a.reader.elements(name, a_lo + at, a_lo + at + some), self.numbers)
            y = self.b.reader.elements(name, b_lo + at, b_lo + at + some)
            yield from (at + np.flatnonzero(x != y)).tolist()


# ---- what has moved


class Moves(NamedTuple):
    """Stretches of samples that are elsewhere on the other side, ascending, by side: (start, count, start there)."""

    of_a: list[tuple[int, int, int]]
    of_b: list[tuple[int, int, int]]

    def inside(self, side: int, lo: int, hi: int) -> list[tuple[int, int, int]]:
        """Those of a side that lie in a gap."""
        moves = self.of_b if side else self.of_a
        first = bisect_right(moves, (lo, -1, -1))
        last = bisect_right(moves, (hi, -1, -1), lo=first)
        return moves[first:last]


def _moves(gaps: Sequence[tuple[Gap, Keys, Keys]]) -> tuple[Moves, list[Match] | None]:
    """Samples of gaps that have equals in gaps of the other side; and their runs once more if they are in disorder."""
    found = matched(Keys.joined(a.raw for _, a, _ in gaps), Keys.joined(b.raw for _, _, b in gaps))
    if not found:
        return Moves([], []), None
    places_a = _Places([(gap.a_lo, gap.a_hi) for gap, _, _ in gaps])
    places_b = _Places([(gap.b_lo, gap.b_hi) for gap, _, _ in gaps])
    runs = [piece for run in found for piece in _split(places_a, places_b, *run)]
    moves = Moves([(i, n, j) for i, j, n in runs], sorted((j, n, i) for i, j, n in runs))
    return moves, runs if len(runs) > MOVES_MAX else None


class _Places:
    """Where items of consecutive ranges are that were counted through."""

    def __init__(self, ranges: Sequence[tuple[int, int]]) -> None:
        kept = [(lo, hi) for lo, hi in ranges if hi > lo]
        self._los = [lo for lo, _ in kept]
        self._ends = list(accumulate(hi - lo for lo, hi in kept))

    def of(self, item: int) -> tuple[int, int]:
        """The place of an item, and how many from it on lie in the same range."""
        at = bisect_right(self._ends, item)
        before = self._ends[at - 1] if at else 0
        return self._los[at] + item - before, self._ends[at] - item


def _split(places_a: _Places, places_b: _Places, a: int, b: int, count: int) -> Iterator[tuple[int, int, int]]:
    """A run of equal keys as runs that lie in one gap on either side."""
    while count:
        (at_a, left_a), (at_b, left_b) = places_a.of(a), places_b.of(b)
        step = min(count, left_a, left_b)
        yield at_a, at_b, step
        a, b, count = a + step, b + step, count - step


# ---- what stands for what


def _paired(
    pair: DatasetPair, gaps: Sequence[tuple[Gap, Keys, Keys]], moves: Moves
) -> Iterator[tuple[Gap, list[tuple[int, int, int]]]]:
    """Gaps with the runs of samples that stand for each other: (a, b, count), ascending on both sides."""
    for gap, _, _ in gaps:
        rest_a = _without(gap.a_lo, gap.a_hi, moves.inside(0, gap.a_lo, gap.a_hi))
        rest_b = _without(gap.b_lo, gap.b_hi, moves.inside(1, gap.b_lo, gap.b_hi))
        yield gap, list(_pairs(pair.a, rest_a, pair.b, rest_b))


def _without(lo: int, hi: int, moves: Sequence[tuple[int, int, int]]) -> list[tuple[int, int]]:
    """Ranges of a gap that have not moved."""
    ranges = []
    for start, count, _ in moves:
        if start > lo:
            ranges.append((lo, start))
        lo = start + count
    return [*ranges, (lo, hi)] if hi > lo else ranges


def _pairs(
    a: Columns, rest_a: list[tuple[int, int]], b: Columns, rest_b: list[tuple[int, int]]
) -> Iterator[tuple[int, int, int]]:
    """By raw row where it is known, then by similarity, else in order."""
    count_a, count_b = (sum(hi - lo for lo, hi in rest) for rest in (rest_a, rest_b))
    if not count_a or not count_b:
        return
    inner = [Gap(0, count_a, 0, count_b)]
    if max(count_a, count_b) > 1:
        if a.has("raw_key") and b.has("raw_key"):
            inner = _by_row(a, rest_a, b, rest_b, count_a, count_b)
        elif count_a * count_b <= SIMILAR_PAIRS_MAX:
            inner = _by_similarity(a, rest_a, b, rest_b)
    places_a, places_b = _Places(rest_a), _Places(rest_b)
    for gap in inner:
        yield from _split(places_a, places_b, gap.a_lo, gap.b_lo, min(gap.a_hi - gap.a_lo, gap.b_hi - gap.b_lo))


def _by_row(
    a: Columns, rest_a: list[tuple[int, int]], b: Columns, rest_b: list[tuple[int, int]], count_a: int, count_b: int
) -> list[Gap]:
    """Samples of the same raw row stand across from each other.

    Another template changes every token and drops other rows: only the raw rows then tell what has become of what.
    """
    rows_a = Keys.joined(Keys.stored(a.reader, "raw_key", *bounds).raw for bounds in rest_a)
    rows_b = Keys.joined(Keys.stored(b.reader, "raw_key", *bounds).raw for bounds in rest_b)
    out: list[Gap] = []
    a_at = b_at = 0
    for lost in [*align_keys(rows_a, rows_b), Gap(count_a, count_a, count_b, count_b)]:
        if lost.a_lo > a_at:
            out.append(Gap(a_at, lost.a_lo, b_at, lost.b_lo))
        out.append(lost)
        a_at, b_at = lost.a_hi, lost.b_hi
    return out


def _by_similarity(a: Columns, rest_a: list[tuple[int, int]], b: Columns, rest_b: list[tuple[int, int]]) -> list[Gap]:
    """The pairs in order that have the most in common, and what is between them."""
    bags_a = [Counter(tokens) for lo, hi in rest_a for tokens in token_lists(a, lo, hi)]
    bags_b = [Counter(tokens) for lo, hi in rest_b for tokens in token_lists(b, lo, hi)]
    alike = [[_alike(x, y) for y in bags_b] for x in bags_a]
    # The heaviest common subsequence, by the table that every textbook has.
    table = [[0.0] * (len(bags_b) + 1) for _ in range(len(bags_a) + 1)]
    for i in range(len(bags_a) - 1, -1, -1):
        for j in range(len(bags_b) - 1, -1, -1):
            table[i][j] = max(table[i + 1][j], table[i][j + 1], table[i + 1][j + 1] + alike[i][j])
    out: list[Gap] = []
    i = j = a_at = b_at = 0
    while i < len(bags_a) and j < len(bags_b):
        if alike[i][j] and table[i][j] == table[i + 1][j + 1] + alike[i][j]:
            out += [Gap(a_at, i, b_at, j), Gap(i, i + 1, j, j + 1)]
            i, j = i + 1, j + 1
            a_at, b_at = i, j
        elif table[i][j] == table[i + 1][j]:
            i += 1
        else:
            j += 1
    return [*out, Gap(a_at, len(bags_a), b_at, len(bags_b))]


def _alike(x: Counter[int], y: Counter[int]) -> float:
    """Share of tokens that two samples have in common; 0 if it is less than ``SIMILAR``."""
    longer = max(x.total(), y.total())
    share = (x & y).total() / longer if longer else 1.0
    return share if share >= SIMILAR else 0.0


# ---- hunks


def _gap_hunks(gap: Gap, pairs: Sequence[tuple[int, int, int]], moves: Moves, names: tuple[str, ...]) -> Iterator[Hunk]:
    """A gap as hunks: pairs, and between them what is left on one side or the other."""
    a_at, b_at = gap.a_lo, gap.b_lo
    run: tuple[int, int, int] | None = None  # pairs that adjoin are one hunk
    for i, j, count in [*pairs, (gap.a_hi, gap.b_hi, 0)]:
        if run and (i, j) == (a_at, b_at) and count:
            run = run[0], run[1], run[2] + count
        else:
            if run:
                yield _replaced(run, names)
            run = (i, j, count) if count else None
            yield from _one_sided("delete", a_at, i, b_at, moves, names)
            yield from _one_sided("insert", b_at, j, i, moves, names)
        a_at, b_at = i + count, j + count


def _replaced(run: tuple[int, int, int], names: tuple[str, ...]) -> Hunk:
    i, j, count = run
    return Hunk("replace", (i, i + count), (j, j + count), names[:1])


def _one_sided(op: str, lo: int, hi: int, other: int, moves: Moves, names: tuple[str, ...]) -> Iterator[Hunk]:
    """Samples ``lo`` to ``hi`` of one side, at ``other`` of the other side; what has moved apart from the rest."""
    side = int(op == "insert")
    at = lo
    for start, count, there in [*moves.inside(side, lo, hi), (hi, 0, -1)]:
        for first, last, to in ((at, start, None), (start, start + count, (there, there + count))):
            if last > first:
                bounds = (other, other), (first, last)
                a, b = bounds if side else bounds[::-1]
                yield Hunk(op, a, b, names if to is None else (), to)
        at = start + count


def _moved_with_arrays(pair: DatasetPair, shared: Sequence[str], hunks: list[Hunk]) -> list[Hunk]:
    """The hunks, those that moved with the arrays that differ from where they were."""
    unequal = [name for name in shared if not pair.same(name)]
    if not unequal:
        return hunks
    out = []
    for hunk in hunks:
        if hunk.moved:
            a_lo, b_lo = (hunk.a[0], hunk.moved[0]) if hunk.op == "delete" else (hunk.moved[0], hunk.b[0])
            arrays = [name for name in unequal if next(pair.unequal(name, a_lo, b_lo, hunk.size), None) is not None]
            out.append(hunk._replace(arrays=tuple(arrays)))
        else:
            out.append(hunk)
    return out


def _value_hunks(pair: DatasetPair, names: Sequence[str], a_lo: int, b_lo: int, count: int) -> Iterator[Hunk]:
    """Samples with equal tokens whose other arrays differ, runs of neighbours as one hunk."""
    if count == 0:
        return

    def places(number: int, name: str) -> Iterator[tuple[int, int]]:
        return ((at, number) for at in pair.unequal(name, a_lo, b_lo, count))

    lo = hi = 0
    arrays: tuple[str, ...] = ()
    merged = merge(*(places(number, name) for number, name in enumerate(names)))
    for at, here in groupby(merged, itemgetter(0)):
        found = tuple(names[number] for _, number in here)
        if at != hi or found != arrays:
            if lo < hi:
                yield Hunk("replace", (a_lo + lo, a_lo + hi), (b_lo + lo, b_lo + hi), arrays)
            lo, arrays = at, found
        hi = at + 1
    if lo < hi:
        yield Hunk("replace", (a_lo + lo, a_lo + hi), (b_lo + lo, b_lo + hi), arrays)
