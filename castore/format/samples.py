"""A batch of samples in memory, and its encoding into chunks. Imports numpy: only for code that writes or exports."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from castore.errors import FormatError, InvalidInputError
from castore.format.chunk import Values, encode_spans, encode_values, span_parts
from castore.format.digest import Digest
from castore.format.object import Object
from castore.format.schema import ITEM_BYTES, KEY_BYTES, Array

TOKENS_MAX = 1 << 25
"""Most tokens of one sample (128 MiB of ids): a chunk of one sample must stay below the limit of an object."""


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """The little-endian numpy dtype that elements of ``dtype`` are stored as."""
    # By its name: where that is the order of the machine, arrays are then plain ones to all that take their buffer.
    return np.dtype((np.void, 16)) if dtype == "bytes16" else np.dtype(np.dtype(dtype).newbyteorder("<").str)


def sample_keys(token_ids: NDArray[np.uint32], lengths: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Keys of samples: uint8[n, 16] from token_ids uint32[sum(lengths)] and lengths uint32[n]."""
    data = np.ascontiguousarray(token_ids, "<u4").data.cast("B")
    keys = bytearray()
    at = 0
    for length in lengths.tolist():
        stop = at + 4 * length
        keys += blake3(data[at:stop]).digest(length=KEY_BYTES)
        at = stop
    return np.frombuffer(bytes(keys), np.uint8).reshape(-1, KEY_BYTES)


def offsets_of(lengths: NDArray[Any]) -> NDArray[np.int64]:
    """Cumulative sums with a leading zero: int64[n + 1]."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


@dataclass(frozen=True, slots=True)
class SpanColumn:
    """True spans of a boolean array with axis ``token``: counts uint32[n], starts and stops uint32[sum(counts)]."""

    counts: NDArray[np.uint32]
    starts: NDArray[np.uint32]
    stops: NDArray[np.uint32]

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self.counts.nbytes + self.starts.nbytes + self.stops.nbytes

    def slice(self, lo: int, hi: int) -> SpanColumn:
        """The spans of samples ``lo`` to ``hi``."""
        first = int(self.counts[:lo].sum())
        last = first + int(self.counts[lo:hi].sum())
        return SpanColumn(self.counts[lo:hi], self.starts[first:last], self.stops[first:last])

    def encode(self) -> Object:
        """Encode as a spans chunk."""
        gaps = self.starts.copy()
        gaps[1:] -= self.stops[:-1]
        heads = offsets_of(self.counts)[:-1][self.counts > 0]  # the first span of a sample counts from its start
        gaps[heads] = self.starts[heads]
        widths = self.stops - self.starts
        inner = np.ones(len(gaps), np.bool_)
        inner[heads] = False
        if np.any(self.stops <= self.starts) or np.any(self.starts[1:][inner[1:]] <= self.stops[:-1][inner[1:]]):
            raise InvalidInputError("spans of a sample are empty, touch, or do not ascend")
        return encode_spans(*(part.astype("<u4").tobytes() for part in (self.counts, gaps, widths)))

    @classmethod
    def of_mask(cls, mask: NDArray[np.bool_], lengths: NDArray[Any]) -> SpanColumn:
        """The maximal true spans of samples: bool[sum(lengths)] and the elements of each sample."""
        offsets = offsets_of(lengths)
        # Where runs of equal elements begin, at the first of all elements only if it is true: a start, a stop, a start.
        edges = np.flatnonzero(mask[1:] != mask[:-1]) + 1
        if len(mask) and mask[0]:
            edges = np.append(0, edges)
        starts, stops = edges[0::2], edges[1::2]
        if len(stops) < len(starts):
            stops = np.append(stops, len(mask))
        # A sample that begins within a span ends it and begins another.
        heads = offsets[:-1][lengths > 0][1:]
        within = heads[mask[heads] & mask[heads - 1]]
        if len(within):
            starts, stops = np.sort(np.append(starts, within)), np.sort(np.append(stops, within))
        counts = np.diff(np.searchsorted(starts, offsets))
        bases = np.repeat(offsets[:-1], counts)
        return cls(counts.astype(np.uint32), (starts - bases).astype(np.uint32), (stops - bases).astype(np.uint32))

    @classmethod
    def decode(cls, *chunks: bytes) -> SpanColumn:
        """The column of consecutive spans chunks.

        Raises:
            FormatError: Another kind of object, counts that do not add up, spans that touch or are empty.
        """
        parts: tuple[list[NDArray[Any]], ...] = [], [], []  # counts, gaps, widths
        for data in chunks:
            sample_count, raw = span_parts(data)
            numbers = np.frombuffer(raw, "<u4")
            split = sample_count + (len(numbers) - sample_count) // 2
            for part, piece in zip(parts, np.split(numbers, (sample_count, split)), strict=True):
                part.append(piece)
        span_counts = [len(gaps) for gaps in parts[1]]
        counts, gaps, widths = (np.concatenate(part).astype(np.uint32, copy=False) for part in parts)
        edges = offsets_of(counts)
        last = np.cumsum([len(part) for part in parts[0]])
        if len(gaps) != len(widths) or not np.array_equal(edges[last], np.cumsum(span_counts)):
            raise FormatError("span counts of a chunk do not add up to its spans")
        if not widths.all():
            raise FormatError("a span of a chunk is empty")
        touching = gaps == 0
        touching[edges[:-1][counts > 0]] = False  # the first span of a sample may begin it
        if touching.any():
            raise FormatError("two spans of a chunk touch")
        ends = offsets_of(np.add(gaps, widths, dtype=np.int64))
        stops = ends[1:] - np.repeat(ends[edges[:-1]], counts)
        if len(stops) and int(stops.max()) >> 32:
            raise FormatError("a span of a chunk ends past 2**32 - 1")
        return cls(counts, (stops - widths).astype(np.uint32), stops.astype(np.uint32))

    @classmethod
    def concat(cls, parts: Sequence[SpanColumn]) -> SpanColumn:
        """Samples of several columns, one after the other."""
        none = np.zeros(0, np.uint32)
        return cls(
            np.concatenate([none, *(part.counts for part in parts)]),
            np.concatenate([none, *(part.starts for part in parts)]),
            np.concatenate([none, *(part.stops for part in parts)]),
        )

    def by_sample(self) -> list[list[tuple[int, int]]]:
        """The spans of every sample as half-open ``(start, stop)``."""
        pairs = list(zip(self.starts.tolist(), self.stops.tolist(), strict=True))
        return [pairs[lo:hi] for lo, hi in pairwise(offsets_of(self.counts).tolist())]

    def fits(self, lengths: NDArray[Any]) -> bool:
        """Whether no span reaches over the end of its sample, given the elements of each."""
        some = self.counts > 0
        last = offsets_of(self.counts)[1:][some] - 1  # the spans of a sample ascend
        return not (self.stops[last] > lengths[some]).any()

    def mask(self, lengths: NDArray[Any]) -> NDArray[np.uint8]:
        """The elements themselves: uint8[sum(lengths)] of 0 and 1.

        Raises:
            InvalidInputError: A span reaches over the end of its sample.
        """
        if not self.fits(lengths):
            raise InvalidInputError("a span of true elements reaches over the end of its sample")
        bases = np.repeat(offsets_of(lengths)[:-1], self.counts)
        # Ends of alternating runs of zeros and ones. Spans of neighbouring samples may touch: a run of no zeros.
        ends = np.empty(2 * len(self.starts) + 2, np.int64)
        ends[0], ends[-1] = 0, np.sum(lengths, dtype=np.int64)
        ends[1:-1:2], ends[2:-1:2] = bases + self.starts, bases + self.stops
        values = np.zeros(len(ends) - 1, np.uint8)
        values[1::2] = 1
        return np.repeat(values, np.diff(ends))


Column: TypeAlias = "NDArray[Any] | SpanColumn"


@dataclass(frozen=True, slots=True)
class Samples:
    """Consecutive samples with some of their arrays.

    Attributes:
        lengths: Tokens in each sample, uint32[n].
        columns: Arrays by name. Axis ``token``: element arrays of ``sum(lengths)`` elements, or a ``SpanColumn``; axis
            ``sample``: arrays of n elements (``bytes16`` as uint8[n, 16]).
    """

    lengths: NDArray[np.uint32]
    columns: Mapping[str, Column]

    def __len__(self) -> int:
        return len(self.lengths)

    def slice(self, lo: int, hi: int, arrays: Iterable[Array]) -> Samples:
        """Samples ``lo`` to ``hi`` with the given arrays."""
        first = int(self.lengths[:lo].sum(dtype=np.int64))
        last = first + int(self.lengths[lo:hi].sum(dtype=np.int64))
        columns: dict[str, Column] = {}
        for array in arrays:
            column = self.columns[array.name]
            if isinstance(column, SpanColumn):
                columns[array.name] = column.slice(lo, hi)
            else:
                columns[array.name] = column[first:last] if array.axis == "token" else column[lo:hi]
        return Samples(self.lengths[lo:hi], columns)

    @classmethod
    def concat(cls, parts: Sequence[Samples], arrays: Iterable[Array]) -> Samples:
        """Samples of several batches, one after the other, with the given arrays."""
        columns: dict[str, Column] = {}
        for array in arrays:
            pieces = [part.columns[array.name] for part in parts]
            if isinstance(pieces[0], SpanColumn):
                columns[array.name] = SpanColumn.concat([p for p in pieces if isinstance(p, SpanColumn)])
            else:
                columns[array.name] = np.concatenate([p for p in pieces if isinstance(p, np.ndarray)])
        return Samples(np.concatenate([part.lengths for part in parts]), columns)

    def encode(self, array: Array) -> Object:
        """Encode one array of all samples as a chunk."""
        column = self.columns[array.name]
        if isinstance(column, SpanColumn):
            return column.encode()
        width = ITEM_BYTES[array.dtype]
        raw = column if array.dtype == "bytes16" else column.astype(numpy_dtype(array.dtype), copy=False)
        payload = np.ascontiguousarray(raw).view(np.uint8).reshape(-1)
        assert len(payload) % width == 0
        return encode_values(array.dtype, len(self), payload.data)


@dataclass(slots=True)
class Piece:
    """Consecutive samples on their way into a sequence, loaded only if they must be.

    Attributes:
        lengths: Tokens in each sample, uint32[n].
        keys: Key of each sample, uint8[n, 16].
        scalars: Arrays of grain 1 by name, n elements each (``length`` and ``key`` may be left out).
        load: Gives all n samples with the arrays of grain 0; called only if they must be encoded.
        chunks: Digests of chunks that hold these samples, by array of grain 0; None if none are stored.
        chunk_lo: Place of the first sample in those chunks.
        chunk_count: Samples in those chunks; None if they hold exactly these.
    """

    lengths: NDArray[np.uint32]
    keys: NDArray[np.uint8]
    scalars: Mapping[str, Column]
    load: Callable[[], Samples]
    chunks: Mapping[str, Digest] | None = None
    chunk_lo: int = 0
    chunk_count: int | None = None


def decode_column(values: Values) -> NDArray[Any]:
    """The numpy column of a decoded values chunk, read-only."""
    if values.dtype == "bytes16":
        return np.frombuffer(values.items, np.uint8).reshape(-1, 16)
    column = np.frombuffer(values.items, numpy_dtype(values.dtype))
    if not column.flags.aligned:  # computing with such is several times slower
        column = column.copy()
        column.flags.writeable = False
    return column
