"""Which samples of two datasets have other values in one array, whatever its kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from castore.diff.keys import Match
from castore.format.samples import offsets_of
from castore.format.schema import LENGTH, Array
from castore.read.columns import Columns

Ints = NDArray[np.int64]


class SampleValues(NamedTuple):
    """One array of consecutive samples.

    Attributes:
        array: Which.
        columns: What equal samples have equal: bits of the elements, or starts and stops of spans.
        offsets: Where the part of each sample begins and ends in the columns, int64[n + 1]; None for one row each.
    """

    array: Array
    columns: tuple[NDArray[Any], ...]
    offsets: Ints | None


def read_values(data: Columns, name: str, lo: int, hi: int) -> SampleValues:
    """An array of samples ``lo`` to ``hi``."""
    reader, array = data.reader, data.tree(name).array
    if array.is_spans:
        spans = reader.spans(name, lo, hi)
        return SampleValues(array, (spans.starts, spans.stops), offsets_of(spans.counts))
    if array.axis == "sample":
        return SampleValues(array, (_bits(reader.elements(name, lo, hi)),), None)
    offsets = token_offsets(data, lo, hi)
    return SampleValues(array, (_bits(reader.elements(name, int(offsets[0]), int(offsets[-1]))),), offsets - offsets[0])


def token_offsets(data: Columns, lo: int, hi: int) -> Ints:
    """Where samples ``lo`` to ``hi``, at least one, begin and end among all tokens: int64[hi - lo + 1].

    No length is read but those of these samples and of others in the chunk of the first.
    """
    reader = data.reader
    return offsets_of(reader.elements(LENGTH.name, lo, hi)) + int(reader.sample_offsets(lo, lo + 1)[0])


def _bits(elements: NDArray[Any]) -> NDArray[Any]:
    """Elements as what is equal only if they are stored alike: no NaN equals itself, and -0 equals 0."""
    return elements.view(f"u{elements.itemsize}") if elements.dtype.kind == "f" else elements


def unequal_samples(a: SampleValues, at_a: Ints, b: SampleValues, at_b: Ints) -> NDArray[np.bool_]:
    """Whether samples ``at_a[i]`` of one side and ``at_b[i]`` of the other have other values: bool[n]."""
    if not _comparable(a.array, b.array):
        return np.ones(len(at_a), np.bool_)
    differ: NDArray[np.bool_]
    if a.offsets is None or b.offsets is None:
        differ = a.columns[0][at_a] != b.columns[0][at_b]
        return np.logical_or.reduce(differ, axis=1) if differ.ndim == 2 else differ
    starts_a, starts_b = a.offsets[at_a], b.offsets[at_b]
    counts = a.offsets[at_a + 1] - starts_a
    differ = counts != b.offsets[at_b + 1] - starts_b
    same = np.flatnonzero(~differ & (counts > 0))
    if len(same):
        counts = counts[same]
        firsts = offsets_of(counts)[:-1]
        within = np.arange(int(counts.sum())) - np.repeat(firsts, counts)
        places_a, places_b = (np.repeat(starts[same], counts) + within for starts in (starts_a, starts_b))
        pairs = zip(a.columns, b.columns, strict=True)
        elements = np.logical_or.reduce([x[places_a] != y[places_b] for x, y in pairs])
        differ[same] = np.logical_or.reduceat(elements, firsts)
    return differ


def _comparable(a: Array, b: Array) -> bool:
    """Whether elements of two arrays can be equal; integers of two widths are compared by what they count."""
    return a.axis == b.axis and (a.dtype == b.dtype or {a.dtype, b.dtype} <= {"uint8", "uint16", "uint32", "uint64"})


def renumber(sources: NDArray[Any], numbers: Mapping[int, int]) -> NDArray[Any]:
    """Sources of samples by the numbers that they have on the other side."""
    distinct, places = np.unique(sources, return_inverse=True)
    return np.array([numbers.get(source, source) for source in distinct.tolist()], sources.dtype)[places]


def relabelled(
    a: Columns, b: Columns, name: str, matches: Sequence[Match], numbers: Mapping[int, int]
) -> Iterator[tuple[int, int]]:
    """Pairs of samples, whose tokens are equal and whose places may not be, with other values in an array.

    Args:
        a, b: The datasets.
        name: The array.
        matches: Samples that stand for each other.
        numbers: Of an array of sources, those of a that have another number in b.
    """
    at_a, at_b = _places([(i, n) for i, _, n in matches]), _places([(j, n) for _, j, n in matches])
    values = read_values(a, name, 0, a.samples)
    if numbers:
        values = values._replace(columns=(renumber(values.columns[0], numbers),))
    differ = unequal_samples(values, at_a, read_values(b, name, 0, b.samples), at_b)
    for at in np.flatnonzero(differ).tolist():
        yield int(at_a[at]), int(at_b[at])


def _places(ranges: Sequence[tuple[int, int]]) -> Ints:
    """The samples of ranges (start, count), one after the other: int64[n]."""
    starts, counts = (np.array(column, np.int64) for column in zip(*ranges, strict=True))
    return np.repeat(starts - offsets_of(counts)[:-1], counts) + np.arange(int(counts.sum()))
