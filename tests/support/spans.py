"""Chunks of spans in plain Python, for tests to compare ``SpanColumn`` with."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from castore.errors import FormatError
from castore.format.chunk import span_parts, uint32s
from castore.format.samples import SpanColumn


class Spans(NamedTuple):
    """A decoded chunk of spans.

    Attributes:
        counts: Spans in each sample, ``[sample_count]``.
        starts: First true element of each span, from the start of its sample, ``[span_count]``.
        stops: One past the last true element, ``[span_count]``.
    """

    counts: Sequence[int]
    starts: Sequence[int]
    stops: Sequence[int]

    def by_sample(self, lo: int = 0, hi: int | None = None) -> list[list[tuple[int, int]]]:
        """The spans of samples ``lo`` to ``hi`` as lists of half-open ``(start, stop)``."""
        hi = len(self.counts) if hi is None else hi
        at = sum(self.counts[:lo])
        samples = []
        for count in self.counts[lo:hi]:
            samples.append(list(zip(self.starts[at : at + count], self.stops[at : at + count], strict=True)))
            at += count
        return samples

    @property
    def column(self) -> SpanColumn:
        """The same with numpy."""
        return SpanColumn(*(np.array(part, np.uint32) for part in self))


def decode_spans(data: bytes) -> Spans:
    """Decode and validate a spans chunk, a span at a time: what ``SpanColumn.decode`` does at once.

    Raises:
        FormatError: Another kind of object, counts that do not add up, spans that touch or are empty.
    """
    sample_count, raw = span_parts(data)
    numbers = uint32s(raw)
    counts = numbers[:sample_count]
    span_count = (len(numbers) - sample_count) // 2
    if sum(counts) != span_count or len(numbers) != sample_count + 2 * span_count:
        raise FormatError("span counts of a chunk do not add up to its spans")
    gaps, widths = numbers[sample_count : sample_count + span_count], numbers[sample_count + span_count :]
    return _checked(counts, gaps, widths)


def _checked(counts: Sequence[int], gaps: Sequence[int], widths: Sequence[int]) -> Spans:
    if len(widths) and min(widths) == 0:
        raise FormatError("a span of a chunk is empty")
    starts, stops = _absolute(counts, gaps, widths)
    if stops and max(stops) >> 32:
        raise FormatError("a span of a chunk ends past 2**32 - 1")
    return Spans(counts, starts, stops)


def _absolute(counts: Sequence[int], gaps: Sequence[int], widths: Sequence[int]) -> tuple[list[int], list[int]]:
    """Turn gaps and widths into starts and stops within each sample."""
    starts: list[int] = []
    stops: list[int] = []
    at = 0
    for count in counts:
        if count == 1:  # most samples: one answer
            starts.append(gaps[at])
            stops.append(gaps[at] + widths[at])
        elif count:
            if min(gaps[at + 1 : at + count]) == 0:
                raise FormatError("two spans of a chunk touch")
            pairs = (n for i in range(at, at + count) for n in (gaps[i], widths[i]))
            edges = list(accumulate(pairs))
            starts.extend(edges[0::2])
            stops.extend(edges[1::2])
        at += count
    return starts, stops
