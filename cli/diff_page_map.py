"""A strip map: where along the data two datasets differ, as SVG."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from castore_cli.diff_page_samples import Picked
from castore_cli.formatting import number, plural
from castore_cli.pages import clip, render

if TYPE_CHECKING:
    from markupsafe import Markup

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


def strip_map(result: Comparison, shown: Sequence[Picked], sources: Sequence[tuple[str, int]]) -> Markup:
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
    return render(
        "diff_map.svg.jinja",
        width=_WIDTH,
        height=bottom + (40 if sources else 20),
        left=_LEFT,
        lane_height=_HEIGHT,
        said=", ".join(f"{_title(lane)}: {plural(sum(bins[lane].values()), 'sample')}" for lane in lanes),
        lanes=[_lane(lane, bins[lane], i * (_HEIGHT + _GAP), axis, links) for i, lane in enumerate(lanes)],
        bottom=bottom,
        scale=list(_scale(axis)),
        sources=list(_source_marks(axis, sources)),
    )


def _title(lane: str) -> str:
    return _TITLES.get(lane, lane)


def axis_length(result: Comparison) -> int:
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
    total = max(axis_length(result), 1)
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


def _lane(lane: str, bins: dict[int, int], top: int, axis: _Axis, links: dict[tuple[str, int], str]) -> dict[str, Any]:
    """One kind of difference: a bar for each part of the axis, as high as the share of samples that differ."""
    width = (_WIDTH - _LEFT) / BINS
    most = max(bins.values())
    bars = []
    for at, inside in sorted(bins.items()):
        high = max(round(_HEIGHT * inside / most), 4)
        lo, hi = at * axis.total // BINS, -(-(at + 1) * axis.total // BINS)
        bars.append(
            {
                "x": f"{_LEFT + at * width:.1f}",
                "y": top + _HEIGHT - high,
                "width": f"{max(width - 0.4, 2.5):.1f}",
                "height": high,
                "title": f"{number(inside)} of places {number(lo)} to {number(hi)}",
                "anchor": links.get((lane, at), ""),
            }
        )
    return {
        "name": lane,
        "op": {"deleted": "delete", "inserted": "insert"}.get(lane, "replace"),
        "array": _ARRAYS.get(lane, ""),
        "title": _title(lane),
        "count": sum(bins.values()),
        "top": top,
        "bars": bars,
    }


def _scale(axis: _Axis) -> Iterator[dict[str, Any]]:
    """Numbers of samples below the lanes."""
    for part, align in enumerate(("start", "middle", "middle", "middle", "end")):
        x = _LEFT + (_WIDTH - _LEFT) * part / 4
        yield {"x": f"{x:.1f}", "align": align, "sample": axis.total * part // 4}


def _source_marks(axis: _Axis, sources: Sequence[tuple[str, int]]) -> Iterator[dict[str, Any]]:
    """Where the sources begin, and their names where there is room."""
    wide = _WIDTH - _LEFT
    at = 0
    for i, (name, count) in enumerate(sources):
        x = _LEFT + wide * axis.of(at) / axis.total
        room = int(wide * count / axis.total / 7)
        short = name.rstrip("/").rpartition("/")[2]
        named = room > 4 and len(sources) <= _SOURCES_NAMED
        yield {"edge": i > 0, "x": f"{x:.1f}", "text_x": f"{x + 2:.1f}", "name": clip(short, room) if named else ""}
        at += count
