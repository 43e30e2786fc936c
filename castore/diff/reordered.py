"""Samples that two datasets have in different orders: whether their other arrays are equal too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from castore.diff.keys import Run
from castore.format.samples import Column, SpanColumn, offsets_of
from castore.read.columns import Columns
from castore.read.whole import span_column, whole
from castore.tree.walk import leaves

Ints = NDArray[np.int64]


def relabelled(a: Column, b: Column, runs: Sequence[Run]) -> Iterator[tuple[int, int]]:
    """Pairs of samples whose elements of an array differ.

    Args:
        a, b: The whole array of either dataset, spans or one element a sample.
        runs: Samples that stand for each other: (sample of a, sample of b, count).
    """
    at_a, at_b = _places([(i, n) for i, _, n in runs]), _places([(j, n) for _, j, n in runs])
    if isinstance(a, SpanColumn) and isinstance(b, SpanColumn):
        differ = _spans_differ(a, at_a, b, at_b)
    else:
        assert isinstance(a, np.ndarray)
        assert isinstance(b, np.ndarray)
        differ = a[at_a] != b[at_b]
    for at in np.flatnonzero(differ).tolist():
        yield int(at_a[at]), int(at_b[at])


def whole_column(data: Columns, name: str) -> Column:
    """A whole array of a dataset with trees: stored as spans, or uint32 with an element a sample."""
    tree = data.tree(name)
    if not tree.array.is_spans:
        return whole(data, name)
    return SpanColumn.concat([span_column(data, tree.array, leaf) for leaf in leaves(data.fetch, tree)])


def _places(ranges: Sequence[tuple[int, int]]) -> Ints:
    """The samples of ranges (start, count), one after the other: int64[n]."""
    starts, counts = (np.array(column, np.int64) for column in zip(*ranges, strict=True))
    return np.repeat(starts - offsets_of(counts)[:-1], counts) + np.arange(int(counts.sum()))


def _spans_differ(a: SpanColumn, at_a: Ints, b: SpanColumn, at_b: Ints) -> NDArray[np.bool_]:
    counts = a.counts[at_a].astype(np.int64)
    differ: NDArray[np.bool_] = counts != b.counts[at_b]
    same = np.flatnonzero(~differ & (counts > 0))
    if len(same) == 0:
        return differ
    ranges = counts[same]
    spans_a = np.repeat(offsets_of(a.counts)[at_a[same]] - offsets_of(ranges)[:-1], ranges)
    spans_b = np.repeat(offsets_of(b.counts)[at_b[same]] - offsets_of(ranges)[:-1], ranges)
    spans_a += np.arange(len(spans_a))
    spans_b += np.arange(len(spans_b))
    unequal = (a.starts[spans_a] != b.starts[spans_b]) | (a.stops[spans_a] != b.stops[spans_b])
    differ[same] = np.logical_or.reduceat(unequal, offsets_of(ranges)[:-1])
    return differ
