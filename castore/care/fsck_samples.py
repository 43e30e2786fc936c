"""The part of a check that compares arrays of a dataset with one another: keys with tokens, and spans with lengths.

An object says nothing of the objects beside it: a chunk of tokens is whole whatever the keys of its samples are, and a
span may reach over the end of a sample whose length is in another tree. So chunks are read by the place they have in a
dataset, and compared while they are at hand; each once, however many datasets share it with the same lengths and keys.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from castore.care.graph import Graph
from castore.errors import FormatError
from castore.format.chunk import decode_values
from castore.format.digest import Digest, digest_hex, digest_of
from castore.format.samples import SpanColumn, sample_keys
from castore.format.schema import KEY, KEY_BYTES, LENGTH, TOKEN_IDS, Array

BATCH = 64
"""Chunks that are asked for at once."""

_SEEN_BYTES = 16


class NotingReader(Protocol):
    """Gives objects of a repository that is checked; what is wrong with one is told as it is read first."""

    def wants(self, number: int) -> bool:
        """Whether an object is among those that are read."""
        ...

    def read(self, numbers: Sequence[int]) -> Iterator[bytes | None]:
        """Objects by their numbers in the graph, in this order; None for one that is not whole."""
        ...

    def spans(self, data: bytes) -> SpanColumn:
        """What is in a chunk of spans that was read just now."""
        ...

    def kept(self, digest: Digest) -> bytes | None:
        """An object that other datasets may name too; None if it is not whole."""
        ...


class Chunks(NamedTuple):
    """The chunks of an array, by what is above them: numbers, samples and elements of each, int64, and its type."""

    array: Array
    numbers: NDArray[np.int64]
    samples: NDArray[np.int64]
    items: NDArray[np.int64]


Scalars: TypeAlias = "Callable[[str, int, int], NDArray[Any] | None]"
"""Elements of ``length`` or ``key`` of samples lo to hi; None if they cannot be had."""


def sample_faults(
    reader: NotingReader, graph: Graph, arrays: dict[str, Chunks], scalars: Scalars, seen: set[object]
) -> Generator[tuple[str, str], None, bool]:
    """Samples whose key is not that of their tokens, and spans over the end of a sample.

    Args:
        reader: Gives the chunks; those that it does not want are not compared.
        graph: Their names.
        arrays: Arrays of a dataset.
        scalars: Their lengths and keys.
        seen: What was compared already; what is, is added.

    Returns:
        Whether all chunks could be had.
    """
    complete = True
    for name, chunks in arrays.items():
        if name == TOKEN_IDS.name or chunks.array.is_spans:
            complete &= yield from _array_faults(reader, graph, name, chunks, scalars, seen)
    return complete


class _Place(NamedTuple):
    """A chunk that is to be compared: its number, its first sample, what its samples are said to be, and all in one."""

    number: int
    start: int
    lengths: NDArray[np.uint32]
    keys: NDArray[np.uint8]
    place: bytes


def _array_faults(
    reader: NotingReader, graph: Graph, name: str, chunks: Chunks, scalars: Scalars, seen: set[object]
) -> Generator[tuple[str, str], None, bool]:
    complete, batch = True, []
    stop = 0
    for at in range(len(chunks.numbers)):
        number, start, stop = int(chunks.numbers[at]), stop, stop + int(chunks.samples[at])
        if not reader.wants(number):
            continue
        lengths = scalars(LENGTH.name, start, stop)
        keys = scalars(KEY.name, start, stop) if name == TOKEN_IDS.name else np.zeros((0, KEY_BYTES), np.uint8)
        if lengths is None or keys is None:
            complete = False
            continue
        said = (name.encode(), graph.name(number), lengths.tobytes(), keys.tobytes())
        place = digest_of(b"".join(said))[:_SEEN_BYTES]
        if place in seen:
            continue
        seen.add(place)
        batch.append(_Place(number, start, lengths, keys, place))
        if len(batch) == BATCH:
            complete &= yield from _compared(reader, graph, name, batch, seen)
            batch = []
    complete &= yield from _compared(reader, graph, name, batch, seen)
    return complete


def _compared(
    reader: NotingReader, graph: Graph, name: str, batch: list[_Place], seen: set[object]
) -> Generator[tuple[str, str], None, bool]:
    complete = True
    for at, data in zip(batch, reader.read([at.number for at in batch]), strict=True):
        if data is None:
            seen.discard(at.place)
            complete = False
            continue
        is_tokens = name == TOKEN_IDS.name
        try:
            wrong = (
                _token_fault(data, at.lengths, at.keys) if is_tokens else _span_fault(reader.spans(data), at.lengths)
            )
        except FormatError:  # of another kind than its place wants, which the link to it tells
            continue
        if wrong is not None:
            chunk = digest_hex(Digest(graph.name(at.number)))
            text = f"chunk {chunk} of array {name}, from sample {at.start}: {wrong}"
            yield "wrong-keys" if is_tokens else "wrong-lengths", text
    return complete


def _token_fault(data: bytes, lengths: NDArray[np.uint32], keys: NDArray[np.uint8]) -> str | None:
    ids = np.frombuffer(decode_values(data, TOKEN_IDS.dtype).items, "<u4")
    if len(ids) != int(lengths.sum(dtype=np.int64)):
        return f"{len(ids)} tokens, and lengths of {int(lengths.sum(dtype=np.int64))}"
    others = np.flatnonzero((sample_keys(ids, lengths) != keys).any(axis=1))
    return f"sample {others[0]} of it has another key than that of its tokens" if len(others) else None


def _span_fault(spans: SpanColumn, lengths: NDArray[np.uint32]) -> str | None:
    if len(spans.counts) != len(lengths):
        return f"{len(spans.counts)} samples, not {len(lengths)}"
    return None if spans.fits(lengths) else "a span reaches over the end of its sample"


class FewScalars:
    """``Scalars`` of which only the chunks are read that are asked for; the last one of each array is kept."""

    def __init__(self, reader: NotingReader, graph: Graph, arrays: dict[str, Chunks]) -> None:
        self._reader, self._graph, self._arrays = reader, graph, arrays
        self._stops = {name: np.cumsum(arrays[name].samples).tolist() for name in (LENGTH.name, KEY.name)}
        self._last: dict[str, tuple[int, NDArray[Any] | None]] = {}

    def __call__(self, name: str, lo: int, hi: int) -> NDArray[Any] | None:
        """Elements of samples ``lo`` to ``hi``, which is more than none."""
        parts, stops = [], self._stops[name]
        while lo < hi:
            at = bisect_right(stops, lo)
            items = self._items(name, at)
            if items is None:
                return None
            start = stops[at] - len(items)
            parts.append(items[lo - start : hi - start])
            lo = stops[at]
        return np.concatenate(parts)

    def _items(self, name: str, at: int) -> NDArray[Any] | None:
        found = self._last.get(name)
        if found is None or found[0] != at:
            chunks = self._arrays[name]
            found = at, scalar_items(self._reader, self._graph, chunks, at)
            self._last[name] = found
        return found[1]


def scalar_items(reader: NotingReader, graph: Graph, chunks: Chunks, at: int) -> NDArray[Any] | None:
    """The elements in one chunk of ``length``, uint32[n], or ``key``, uint8[n, 16]; None if they cannot be had.

    A chunk of other counts than is said above it counts as one that cannot.
    """
    data = reader.kept(Digest(graph.name(int(chunks.numbers[at]))))
    if data is None:
        return None
    try:
        values = decode_values(data, chunks.array.dtype)
    except FormatError:
        return None
    if not values.sample_count == values.item_count == chunks.samples[at]:
        return None
    items = np.frombuffer(values.items, np.uint8)
    return items.reshape(-1, KEY_BYTES) if chunks.array == KEY else items.view("<u4")
