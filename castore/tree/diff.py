"""Where two trees differ, in sample coordinates, reading only what differs. Pure Python, no numpy.

Two questions, both answered from the top down, skipping equal digests:

* ``differing``: which stretches of two sequences do not match, allowing for insertions and deletions;
* ``unequal``: which samples differ between two stretches of equal length that are known to correspond.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from castore.format.node import Entry
from castore.tree.align import Gap, align
from castore.tree.walk import Fetch, Tree, ahead, children


def differing(fetch_a: Fetch, a: Tree, fetch_b: Fetch, b: Tree) -> list[Gap]:
    """Stretches of samples, bounded by chunks, in which two trees of the same array differ; in order.

    Everything between two stretches is equal, pair by pair; but a chunk of tokens does not say where in it samples end,
    so of tokens this holds where their lengths are equal too. Equal subtrees are not read: k scattered differences
    cost O(k log n) nodes.
    """
    gaps = _differing(
        _EntryRange(fetch_a, a.root.entries, a.root.level, a.array.grain, 0),
        _EntryRange(fetch_b, b.root.entries, b.root.level, b.array.grain, 0),
    )
    return joined(gaps)


class _EntryRange:
    """Consecutive entries at one level of one tree, and the first sample below them."""

    def __init__(self, fetch: Fetch, entries: Sequence[Entry], level: int, grain: int, start: int) -> None:
        self.fetch, self.entries, self.level, self.grain, self.start = fetch, entries, level, grain, start

    def lowered(self) -> _EntryRange:
        """The same samples one level lower."""
        ahead(self.fetch, [entry.digest for entry in self.entries])
        below = [child for entry in self.entries for child in children(self.fetch, entry, self.level)]
        return _EntryRange(self.fetch, below, self.level - 1, self.grain, self.start)

    def edges(self) -> list[int]:
        """First sample of every entry, and one past the last."""
        return list(accumulate((entry.samples for entry in self.entries), initial=self.start))

    def part(self, lo: int, hi: int, start: int) -> _EntryRange:
        """Entries ``lo`` to ``hi``, which begin at sample ``start``."""
        return _EntryRange(self.fetch, self.entries[lo:hi], self.level, self.grain, start)


def _differing(a: _EntryRange, b: _EntryRange) -> Iterator[Gap]:
    a_edges, b_edges = a.edges(), b.edges()
    if not a.entries or not b.entries:  # nothing to descend for, whatever the levels
        if a.entries or b.entries:
            yield Gap(a_edges[0], a_edges[-1], b_edges[0], b_edges[-1])
        return
    while a.level > b.level:
        a = a.lowered()
    while b.level > a.level:
        b = b.lowered()
    a_edges, b_edges = a.edges(), b.edges()
    gaps = align([e.digest for e in a.entries], [e.digest for e in b.entries])
    if a.level > a.grain:  # what all of them will open, so that it is read together
        opened = [gap for gap in gaps if gap.a_lo < gap.a_hi and gap.b_lo < gap.b_hi]
        ahead(a.fetch, [e.digest for gap in opened for e in a.entries[gap.a_lo : gap.a_hi]])
        ahead(b.fetch, [e.digest for gap in opened for e in b.entries[gap.b_lo : gap.b_hi]])
    for gap in gaps:
        samples = Gap(a_edges[gap.a_lo], a_edges[gap.a_hi], b_edges[gap.b_lo], b_edges[gap.b_hi])
        if a.level == a.grain or gap.a_lo == gap.a_hi or gap.b_lo == gap.b_hi:
            yield samples
        else:
            below_a = a.part(gap.a_lo, gap.a_hi, samples.a_lo).lowered()
            yield from _differing(below_a, b.part(gap.b_lo, gap.b_hi, samples.b_lo).lowered())


def joined(gaps: Iterable[Gap]) -> list[Gap]:
    """Gaps that adjoin on both sides, made one."""
    out: list[Gap] = []
    for gap in gaps:
        last = out[-1] if out else None
        if last and last.a_hi == gap.a_lo and last.b_hi == gap.b_lo:
            out[-1] = Gap(last.a_lo, gap.a_hi, last.b_lo, gap.b_hi)
        else:
            out.append(gap)
    return out


def unequal(
    fetch_a: Fetch, a: Tree, fetch_b: Fetch, b: Tree, a_lo: int, b_lo: int, count: int
) -> Iterator[tuple[int, int]]:
    """Stretches of ``count`` samples from ``a_lo`` and ``b_lo`` on that may differ, as offsets ``[lo, hi)``.

    Sample ``a_lo + i`` is compared with ``b_lo + i``. Whatever is not named is equal; what is named lies in chunks that
    are not.
    """
    if a.root.entries == b.root.entries and a_lo == b_lo:
        return
    run_a = _EntryRange(fetch_a, a.root.entries, a.root.level, a.array.grain, -a_lo)
    run_b = _EntryRange(fetch_b, b.root.entries, b.root.level, b.array.grain, -b_lo)
    yield from _unequal(run_a, run_b, 0, count)


def _unequal(a: _EntryRange, b: _EntryRange, lo: int, hi: int) -> Iterator[tuple[int, int]]:
    """Compare offsets ``lo`` to ``hi``; the starts of both runs are offsets too."""
    a, b = _within(a, lo, hi), _within(b, lo, hi)
    while a.level > b.level:
        a = _within(a.lowered(), lo, hi)
    while b.level > a.level:
        b = _within(b.lowered(), lo, hi)
    for a_part, b_part, start, stop in _stretches(a, b, lo, hi):
        if a_part.level == a_part.grain:
            yield start, stop
        else:
            yield from _unequal(a_part.lowered(), b_part.lowered(), start, stop)


def _within(run: _EntryRange, lo: int, hi: int) -> _EntryRange:
    """The entries of a run that overlap offsets ``lo`` to ``hi``."""
    edges = run.edges()
    first = next((i for i in range(len(run.entries)) if edges[i + 1] > lo), len(run.entries))
    last = next((i for i in range(first, len(run.entries)) if edges[i] >= hi), len(run.entries))
    return run.part(first, last, edges[first])


def _stretches(a: _EntryRange, b: _EntryRange, lo: int, hi: int) -> Iterator[tuple[_EntryRange, _EntryRange, int, int]]:
    """Shortest stretches that begin and end together in both runs and whose entries differ."""
    a_edges, b_edges = a.edges(), b.edges()
    i = j = 0
    while i < len(a.entries) and j < len(b.entries):
        i_stop, j_stop = i + 1, j + 1
        while a_edges[i_stop] != b_edges[j_stop]:
            if a_edges[i_stop] < b_edges[j_stop] and i_stop < len(a.entries):
                i_stop += 1
            elif a_edges[i_stop] > b_edges[j_stop] and j_stop < len(b.entries):
                j_stop += 1
            else:
                break  # the last entries reach over the end by different lengths
        aligned = a_edges[i] == b_edges[j]
        if not aligned or a.entries[i:i_stop] != b.entries[j:j_stop]:
            start, stop = max(lo, min(a_edges[i], b_edges[j])), min(hi, max(a_edges[i_stop], b_edges[j_stop]))
            yield a.part(i, i_stop, a_edges[i]), b.part(j, j_stop, b_edges[j]), start, stop
        i, j = i_stop, j_stop
