"""A strip map: where along the data two datasets differ, as SVG."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from castore_cli.diff_samples import Picked
from castore_cli.html import clip, safe
from castore_cli.text import number, plural

if TYPE_CHECKING:
    from castore.diff.compare import Comparison
    from castore.diff.hunks import Hunk

BINS = 240
_WIDTH, _LEFT, _HEIGHT, _GAP = 1180, 120, 26, 8
_LANES = ("tokens", "labels", "arrays", "deleted", "inserted", "moved")
_TITLES = {"labels": "labels only", "arrays": "other arrays", "moved": "moved, both ends"}
_ARRAYS = {"tokens": "token_ids", "labels": "labels_mask"}
_SOURCES_NAMED = 12


@dataclass(slots=True)
class _Axis:
    """All samples of both sides in one line: those of a, and where they were inserted those of b."""

    total: int
    inserts: list[tuple[int, int]]  # places on the axis from which samples of a stand further behind, and by how much

    def of(self, sample_a: int) -> int:
        """Where a sample of a stands."""
        at = bisect_left(self.inserts, (sample_a + 1,)) - 1
        return sample_a + (self.inserts[at][1] if at >= 0 else 0)


def strip_map(result: Comparison, shown: Sequence[Picked], sources: Sequence[tuple[str, int]]) -> str:
    """The map as an SVG element.

    Args:
        result: The comparison.
        shown: Samples of the page, to which the map leads.
        sources: Names of the sources and their samples, in stored order, for a scale below.
    """
    axis, bins = _binned(result)
    lanes = [lane for lane in _LANES if lane in bins]
    links = _links(shown, axis)
    bottom = len(lanes) * (_HEIGHT + _GAP)
    height = bottom + (40 if sources else 20)
    parts = [_lane(lane, bins[lane], i * (_HEIGHT + _GAP), axis, links) for i, lane in enumerate(lanes)]
    parts += _scale(axis, bottom, sources)
    said = ", ".join(f"{_title(lane)}: {plural(sum(bins[lane].values()), 'sample')}" for lane in lanes)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="group" aria-label="Where the samples differ: {safe(said)}">'
        f"{''.join(parts)}</svg>"
    )


def _title(lane: str) -> str:
    return _TITLES.get(lane, lane)


def places(result: Comparison) -> int:
    """Length of the axis: the samples of a, and those that b has elsewhere or alone."""
    return result.samples_a + sum(hunk.size for hunk in result.hunks if hunk.op == "insert")


def _kind(hunk: Hunk | Picked) -> str:
    if getattr(hunk, "moved", None) is not None:
        return "moved"
    if hunk.op != "replace":
        return "deleted" if hunk.op == "delete" else "inserted"
    return "tokens" if "token_ids" in hunk.arrays else "labels" if "labels_mask" in hunk.arrays else "arrays"


def _binned(result: Comparison) -> tuple[_Axis, dict[str, dict[int, int]]]:
    """The axis, and by lane the differing samples in each bin."""
    total = max(places(result), 1)
    bins: dict[str, dict[int, int]] = {}
    inserts: list[tuple[int, int]] = []
    shift = 0
    for hunk in result.hunks:
        lane = bins.setdefault(_kind(hunk), {})
        for at, inside in _spread(hunk.a[0] + shift, hunk.size, total):
            lane[at] = lane.get(at, 0) + inside
        if hunk.op == "insert":
            shift += hunk.size
            inserts.append((hunk.a[0], shift))
    return _Axis(total, inserts), bins


def _spread(start: int, count: int, total: int) -> Iterator[tuple[int, int]]:
    """The bins of consecutive samples, and how many lie in each."""
    stop = start + count
    while start < stop:
        at = start * BINS // total
        end = min(stop, -(-(at + 1) * total // BINS))
        yield at, end - start
        start = end


def _links(shown: Sequence[Picked], axis: _Axis) -> dict[tuple[str, int], str]:
    """The first sample of the page in each bin of each lane."""
    links: dict[tuple[str, int], str] = {}
    for one in shown:
        links.setdefault((_kind(one), axis.of(one.a) * BINS // axis.total), one.anchor)
    return links


def _lane(lane: str, bins: dict[int, int], top: int, axis: _Axis, links: dict[tuple[str, int], str]) -> str:
    """One kind of difference: a bar for each part of the axis, as high as the share of samples that differ."""
    count = sum(bins.values())
    op = {"deleted": "delete", "inserted": "insert"}.get(lane, "replace")
    width = (_WIDTH - _LEFT) / BINS
    most = max(bins.values())
    parts = [
        f'<g class="lane {lane}" data-op="{op}" data-array="{_ARRAYS.get(lane, "")}">'
        f'<text x="0" y="{top + 17}">{_title(lane)}: {number(count)}</text>'
        f'<rect class="track" x="{_LEFT}" y="{top}" width="{_WIDTH - _LEFT}" height="{_HEIGHT}" rx="3"/>'
    ]
    for at, inside in sorted(bins.items()):
        high = max(round(_HEIGHT * inside / most), 4)
        lo, hi = at * axis.total // BINS, -(-(at + 1) * axis.total // BINS)
        rect = (
            f'<rect class="bin" x="{_LEFT + at * width:.1f}" y="{top + _HEIGHT - high}" '
            f'width="{max(width - 0.4, 2.5):.1f}" height="{high}">'
            f"<title>{number(inside)} of places {number(lo)} to {number(hi)}</title></rect>"
        )
        link = links.get((lane, at))
        parts.append(f'<a href="#{link}" tabindex="-1">{rect}</a>' if link else rect)
    return f"{''.join(parts)}</g>"


def _scale(axis: _Axis, top: int, sources: Sequence[tuple[str, int]]) -> Iterator[str]:
    """Below the lanes: sample numbers, and where the sources begin."""
    wide = _WIDTH - _LEFT
    for part in range(5):
        place = axis.total * part // 4
        x = _LEFT + wide * part / 4
        anchor = "start" if part == 0 else "end" if part == 4 else "middle"
        yield f'<text x="{x:.1f}" y="{top + 12}" text-anchor="{anchor}">{number(place)}</text>'
    at = 0
    for i, (name, count) in enumerate(sources):
        x = _LEFT + wide * axis.of(at) / axis.total
        room = int(wide * count / axis.total / 7)
        if i:
            yield f'<line class="edge" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{top}"/>'
        if room > 4 and len(sources) <= _SOURCES_NAMED:
            short = name.rstrip("/").rpartition("/")[2]
            yield f'<text x="{x + 2:.1f}" y="{top + 32}">{safe(clip(short, room))}</text>'
        at += count
