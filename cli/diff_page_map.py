"""A strip map: where along the data two datasets differ, in lanes of SVG."""

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
_HEIGHT = 26
_BIN_WIDTH = 100 / BINS  # lengths along the axis are in percent of it
_LANES = ("tokens", "labels", "arrays", "deleted", "inserted", "moved")
_TITLES = {"labels": "labels only", "arrays": "other arrays", "moved": "moved, both ends"}
_ARRAYS = {"tokens": "token_ids", "labels": "labels_mask"}
_SOURCES_NAMED, _NAME_WIDTH_MIN = 12, 2.5


@dataclass(slots=True)
class _Axis:
    """All samples of both sides in one line: those of a, and where they were inserted those of b."""

    total: int
    inserts: list[tuple[int, int]]  # places on the axis from which samples of a stand further behind, and by how much

    def of(self, sample_a: int) -> int:
        """Where a sample of a stands."""
        at = bisect_left(self.inserts, (sample_a + 1,)) - 1
        return sample_a + (self.inserts[at][1] if at >= 0 else 0)

    def sample_at(self, place: int, samples_a: int) -> int:
        """The first sample of a that does not stand before a place; their number behind the last."""
        return bisect_left(range(samples_a), place, key=self.of)


def strip_map(result: Comparison, shown: Sequence[Picked], sources: Sequence[tuple[str, int]], name: str) -> Markup:
    """The map as HTML.

    Args:
        result: The comparison.
        shown: Samples of the page, to which the map leads.
        sources: Names of the sources and their samples, in stored order, for a scale below.
        name: Of the side whose samples the scale counts.
    """
    axis, bins = _binned(result)
    links = _links(shown, axis)
    samples = result.samples_a
    marks = list(_source_marks(axis, sources))
    return render(
        "diff_map.html.jinja",
        lane_height=_HEIGHT,
        lanes=[_lane(lane, bins[lane], samples, axis, links) for lane in _LANES if lane in bins],
        scale_title=f"sample of {clip(name, 20)}",
        scale=[axis.sample_at(axis.total * part // 4, samples) for part in range(5)],
        sources=marks,
        named=any(mark["name"] for mark in marks),
    )


def _title(lane: str) -> str:
    return _TITLES.get(lane, lane)


def extent(result: Comparison, name: str) -> str:
    """What the map goes along, in words."""
    said = f"along {plural(result.samples_a, 'sample')} of {clip(name, 60)} in stored order"
    if inserted := sum(hunk.size for hunk in result.hunks if hunk.op == "insert"):
        said += f", and {number(inserted)} places of the other side between them"
    return said


def _kind(hunk: Hunk | Picked) -> str:
    if getattr(hunk, "moved", None) is not None:
        return "moved"
    if hunk.op != "replace":
        return "deleted" if hunk.op == "delete" else "inserted"
    return "tokens" if "token_ids" in hunk.arrays else "labels" if "labels_mask" in hunk.arrays else "arrays"


def _binned(result: Comparison) -> tuple[_Axis, dict[str, dict[int, int]]]:
    """The axis, and by lane the differing samples in each bin."""
    total = max(result.samples_a + sum(hunk.size for hunk in result.hunks if hunk.op == "insert"), 1)
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


def _lane(
    lane: str, bins: dict[int, int], samples: int, axis: _Axis, links: dict[tuple[str, int], str]
) -> dict[str, Any]:
    """One kind of difference: a bar for each part of the axis, as high as the share of samples that differ."""
    most = max(bins.values())
    bars = []
    for at, inside in sorted(bins.items()):
        high = max(round(_HEIGHT * inside / most), 4)
        lo = axis.sample_at(at * axis.total // BINS, samples)
        hi = axis.sample_at(-(-(at + 1) * axis.total // BINS), samples)
        where = f"from {number(lo)} up to {number(hi)}" if hi > lo else f"before {number(lo)}"
        bars.append(
            {
                "x": f"{at * _BIN_WIDTH:.3f}",
                "y": _HEIGHT - high,
                "width": f"{_BIN_WIDTH * 0.93:.3f}",
                "height": high,
                "title": f"{number(inside)} at samples {where}",
                "anchor": links.get((lane, at), ""),
            }
        )
    return {
        "name": lane,
        "op": {"deleted": "delete", "inserted": "insert"}.get(lane, "replace"),
        "array": _ARRAYS.get(lane, ""),
        "title": _title(lane),
        "count": sum(bins.values()),
        "bars": bars,
    }


def _source_marks(axis: _Axis, sources: Sequence[tuple[str, int]]) -> Iterator[dict[str, Any]]:
    """Where the sources begin, and their names where there is room; what does not fit is cut where it is shown."""
    at = 0
    for i, (name, count) in enumerate(sources):
        width = 100 * count / axis.total
        short = name.rstrip("/").rpartition("/")[2]
        named = width >= _NAME_WIDTH_MIN and len(sources) <= _SOURCES_NAMED
        x = 100 * axis.of(at) / axis.total
        yield {"edge": i > 0, "x": f"{x:.3f}", "width": f"{width:.3f}", "name": clip(short, 80) if named else ""}
        at += count
