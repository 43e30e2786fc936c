"""Reading samples as numpy arrays: one, a range, or any, with the chunks that were decoded last kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from castore.errors import CorruptionError, InvalidInputError
from castore.format.samples import SpanColumn, decode_column, offsets_of
from castore.format.schema import KEY, LABELS_MASK, LENGTH, SOURCE, TOKEN_IDS, Array
from castore.lru import LRU
from castore.read.arrays import Arrays
from castore.read.whole import span_column
from castore.tree.index import TreeIndex
from castore.tree.walk import Leaf

CACHE_BYTES = 64 * 1024 * 1024
"""Bytes of decoded arrays that one reader keeps."""

_OFFSETS, _SPANS = "#", "|"
"""What is kept beside chunks, with the number of samples or the name of the array; no array is called so."""

_SHOWN = 6  # token ids in the text of a sample

BUILT_IN = frozenset(array.name for array in (TOKEN_IDS, LABELS_MASK, LENGTH, KEY, SOURCE))
"""Arrays that every dataset of tokenized conversations has; the others are its extra arrays."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Sample:
    """One sample.

    Attributes:
        index: Its number in stored order.
        token_ids: uint32[t].
        labels_mask: bool[t], true where the loss counts.
        source: Number of its source.
        key: 16 bytes: BLAKE3 of the token ids, cut.
        arrays: Its part of every extra array by name: an array of t elements, or one element.
    """

    index: int
    token_ids: NDArray[np.uint32]
    labels_mask: NDArray[np.bool_]
    source: int
    key: bytes
    arrays: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.token_ids)

    def __repr__(self) -> str:
        ids = ", ".join(map(str, self.token_ids[:_SHOWN].tolist())) + (", …" if len(self) > _SHOWN else "")
        return f"<Sample {self.index}: {len(self)} tokens, {int(self.labels_mask.sum())} trained on; [{ids}]>"


class Batch(NamedTuple):
    """Samples one after the other.

    Attributes:
        token_ids: uint32[m].
        offsets: int64[n + 1]; sample i is elements ``offsets[i]`` to ``offsets[i + 1]``.
        labels_mask: bool[m].
    """

    token_ids: NDArray[np.uint32]
    offsets: NDArray[np.int64]
    labels_mask: NDArray[np.bool_]


class Reader:
    """Reads samples of one dataset; every byte is verified before it is decoded.

    Not for several threads at once, as the store below it is not.

    Args:
        data: The dataset.
        cache_bytes: Bytes of decoded arrays to keep.
    """

    def __init__(self, data: Arrays, cache_bytes: int = CACHE_BYTES) -> None:
        self._data = data
        self._cache: LRU[tuple[str, int], Any] = LRU(cache_bytes, lambda column: int(column.nbytes))
        self._indices: dict[str, TreeIndex] = {}
        self.extra = tuple(a for a, _ in data.manifest.arrays.values() if a.name not in BUILT_IN)

    def index(self, name: str) -> TreeIndex:
        """Where the chunks of an array are."""
        if name not in self._indices:
            self._indices[name] = TreeIndex(self._data.fetch, self._data.tree(name))
        return self._indices[name]

    # ---- samples

    def sample(self, at: int) -> Sample:
        """The sample ``at``, 0 to n − 1; its arrays are copies."""
        return next(self.samples(at, at + 1))

    def samples(self, lo: int, hi: int) -> Iterator[Sample]:
        """Samples ``lo`` to ``hi``, a chunk at a time. Arrays of neighbours share memory, and no other does."""
        for leaf in self.index(TOKEN_IDS.name).leaves(lo, hi):
            first, last = max(lo, leaf.start), min(hi, leaf.stop)
            ids, offsets, mask = self.read(first, last)
            edges = offsets.tolist()
            sources = self.elements(SOURCE.name, first, last).tolist() if self._data.has("source") else [0] * len(edges)
            keys = self.elements(KEY.name, first, last).tobytes()
            extra = [(array, self._extra(array, first, last)) for array in self.extra]
            for i in range(last - first):
                a, b = edges[i], edges[i + 1]
                more = {array.name: column[a:b] if array.axis == "token" else column[i] for array, column in extra}
                yield Sample(first + i, ids[a:b], mask[a:b], sources[i], keys[16 * i : 16 * i + 16], more)

    def read(self, lo: int, hi: int) -> Batch:
        """Samples ``lo`` to ``hi``."""
        ids, lengths, masks = [], [], []
        for leaf in self.index(TOKEN_IDS.name).leaves(lo, hi):
            some, edges = self._tokens(leaf, lo, hi)
            ids.append(some)
            lengths.append(np.diff(edges))
            masks.append(self._beside(LABELS_MASK.name, leaf)[edges[0] : edges[-1]])
        return Batch(
            np.concatenate([np.zeros(0, np.uint32), *ids]),
            offsets_of(np.concatenate([np.zeros(0, np.int64), *lengths])),
            np.concatenate([np.zeros(0, np.bool_), *masks]),
        )

    def tokens(self, lo: int, hi: int) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Token ids of samples ``lo`` to ``hi``, uint32[m], and where each begins and ends in them, int64[n + 1].

        Labels are not read. Not to be written to.
        """
        parts = list(self.token_batches(lo, hi))
        if len(parts) == 1:
            return parts[0]
        lengths = [np.zeros(0, np.int64), *(np.diff(offsets) for _, offsets in parts)]
        return np.concatenate([np.zeros(0, np.uint32), *(ids for ids, _ in parts)]), offsets_of(np.concatenate(lengths))

    def token_batches(self, lo: int, hi: int) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.int64]]]:
        """The same a chunk at a time."""
        for leaf in self.index(TOKEN_IDS.name).leaves(lo, hi):
            ids, edges = self._tokens(leaf, lo, hi)
            yield ids, edges - edges[0]

    def _tokens(self, leaf: Leaf, lo: int, hi: int) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Token ids of a chunk that are of samples ``lo`` to ``hi``, and where these begin and end in the chunk."""
        edges = self.offsets(leaf)[max(lo - leaf.start, 0) : min(hi, leaf.stop) - leaf.start + 1]
        return self.chunk(TOKEN_IDS.name, leaf)[edges[0] : edges[-1]], edges

    def spans(self, name: str, lo: int, hi: int) -> SpanColumn:
        """True spans of samples ``lo`` to ``hi`` in a boolean array with an element a token.

        Only chunks of this array are read: whether a span reaches over the end of its sample is for the caller to ask.
        """
        array = self.index(name).tree.array
        parts = []
        for leaf in self.index(name).leaves(lo, hi):
            place = f"{_SPANS}{name}", leaf.start
            column: SpanColumn | None = self._cache.get(place)
            if column is None:
                column = span_column(self._data, array, leaf)
                self._cache.keep(place, column)
            parts.append(column.slice(max(lo - leaf.start, 0), min(hi, leaf.stop) - leaf.start))
        return parts[0] if len(parts) == 1 else SpanColumn.concat(parts)

    def take(self, indices: ArrayLike) -> Batch:
        """Any samples, in the order of ``indices`` (int[n]); each chunk is decoded once.

        Raises:
            InvalidInputError: An index that no sample has.
        """
        wanted = self._checked(indices)
        order = np.argsort(wanted, kind="stable")
        ascending = wanted[order]
        groups = list(self._groups(ascending))
        lengths = np.zeros(len(wanted), np.int64)
        for leaf, lo, hi in groups:
            edges, at = self.offsets(leaf), ascending[lo:hi] - leaf.start
            lengths[order[lo:hi]] = edges[at + 1] - edges[at]
        offsets = offsets_of(lengths)
        ids, mask = np.empty(int(offsets[-1]), np.uint32), np.empty(int(offsets[-1]), np.bool_)
        for leaf, lo, hi in groups:
            edges, at = self.offsets(leaf), ascending[lo:hi] - leaf.start
            chunk, chunk_mask = self.chunk(TOKEN_IDS.name, leaf), self._beside(LABELS_MASK.name, leaf)
            places = order[lo:hi]
            starts, stops, outs = edges[at].tolist(), edges[at + 1].tolist(), offsets[places].tolist()
            for start, stop, out in zip(starts, stops, outs, strict=True):
                ids[out : out + stop - start] = chunk[start:stop]
                mask[out : out + stop - start] = chunk_mask[start:stop]
        return Batch(ids, offsets, mask)

    def lengths(self, lo: int = 0, hi: int | None = None) -> NDArray[np.uint32]:
        """Tokens in each of samples ``lo`` to ``hi``, uint32."""
        return self.elements(LENGTH.name, lo, self._data.manifest.samples if hi is None else hi)

    def sample_offsets(self, lo: int = 0, hi: int | None = None) -> NDArray[np.int64]:
        """Elements ``lo`` to ``hi`` of the n + 1 places where samples begin and end among all tokens: int64[hi − lo].

        Reads the lengths of those samples only.
        """
        count = self._data.manifest.samples
        hi = count + 1 if hi is None else hi
        parts = [np.zeros(0, np.int64)]
        for leaf in self.index(TOKEN_IDS.name).leaves(lo, min(hi, count)):
            parts.append(
                leaf.item_start + self.offsets(leaf)[max(lo - leaf.start, 0) : min(hi, leaf.stop) - leaf.start]
            )
        if hi == count + 1:
            parts.append(np.array([self._data.manifest.tokens], np.int64))
        return np.concatenate(parts)

    def _checked(self, indices: ArrayLike) -> NDArray[np.int64]:
        wanted = np.asarray(indices)
        if wanted.ndim != 1 or (len(wanted) and wanted.dtype.kind not in "iu"):
            raise InvalidInputError(
                f"indices of samples are a list of integers, not {wanted.dtype}{list(wanted.shape)}"
            )
        count = self._data.manifest.samples
        outside = wanted[(wanted < 0) | (wanted >= count)]
        if len(outside):
            raise InvalidInputError(f"sample {outside[0]} of {count}: ask for 0 to {count - 1}")
        return wanted.astype(np.int64)

    def _groups(self, ascending: NDArray[np.int64]) -> Iterator[tuple[Leaf, int, int]]:
        """Leaves with the range of ``ascending`` that lies in each."""
        lo = 0
        while lo < len(ascending):
            leaf = self.index(TOKEN_IDS.name).leaf(int(ascending[lo]))
            hi = lo + int(np.searchsorted(ascending[lo:], leaf.stop))
            yield leaf, lo, hi
            lo = hi

    def _extra(self, array: Array, lo: int, hi: int) -> NDArray[Any]:
        """The part of an array that belongs to samples ``lo`` to ``hi``, as a copy."""
        if array.axis == "sample":
            return self.elements(array.name, lo, hi)
        parts = [self._none(array)]
        for leaf in self.index(array.name).leaves(lo, hi):
            edges = self.offsets(leaf)
            a, b = max(lo - leaf.start, 0), min(hi, leaf.stop) - leaf.start
            parts.append(self.chunk(array.name, leaf)[edges[a] : edges[b]])
        return np.concatenate(parts)

    # ---- elements of one array

    @staticmethod
    def dtype(array: Array) -> np.dtype[Any]:
        """The numpy type of the elements; keys are rows of 16 uint8."""
        if array.dtype == "bytes16":
            return np.dtype(np.uint8)
        return np.dtype(array.dtype)

    def _none(self, array: Array) -> NDArray[Any]:
        return np.zeros((0, 16) if array.dtype == "bytes16" else 0, self.dtype(array))

    def elements(self, name: str, lo: int, hi: int) -> NDArray[Any]:
        """Elements ``lo`` to ``hi`` of an array, whatever its axis, as a copy; keys as uint8[n, 16]."""
        index = self.index(name)
        array = index.tree.array
        parts = [self._none(array)]
        for leaf in index.leaves_of_items(lo, hi):
            parts.append(self.chunk(name, leaf)[max(lo - leaf.item_start, 0) : hi - leaf.item_start])
        return np.concatenate(parts)

    def chosen(self, name: str, places: NDArray[np.int64]) -> NDArray[Any]:
        """Any elements of an array in the order of ``places`` (int64[m], none outside); each chunk is decoded once."""
        index = self.index(name)
        nothing = self._none(index.tree.array)
        found = np.empty((len(places), *nothing.shape[1:]), nothing.dtype)
        order = np.argsort(places, kind="stable")
        ascending = places[order]
        lo = 0
        while lo < len(ascending):
            leaf = index.leaf_of_item(int(ascending[lo]))
            hi = lo + int(np.searchsorted(ascending[lo:], leaf.item_start + leaf.entry.items))
            found[order[lo:hi]] = self.chunk(name, leaf)[ascending[lo:hi] - leaf.item_start]
            lo = hi
        return found

    def chunk(self, name: str, leaf: Leaf) -> NDArray[Any]:
        """All elements of a chunk, in the order of the machine; kept, so not to be written to."""
        kept: NDArray[Any] | None = self._cache.get((name, leaf.start))
        if kept is None:
            kept = self._keep_array(name, leaf, self._decode(self.index(name).tree.array, leaf))
        return kept

    def offsets(self, leaf: Leaf) -> NDArray[np.int64]:
        """Where the samples of a chunk of tokens begin and end in it, int64[k + 1].

        Raises:
            CorruptionError: The lengths of the samples do not add up to the chunk.
        """
        name = f"{_OFFSETS}{leaf.entry.samples}"  # chunks of another grain begin at the same sample
        edges: NDArray[np.int64] | None = self._cache.get((name, leaf.start))
        if edges is None:
            edges = self._keep_array(name, leaf, offsets_of(self.elements(LENGTH.name, leaf.start, leaf.stop)))
        if edges[-1] != leaf.entry.items:
            raise CorruptionError(f"lengths of samples {leaf.start} to {leaf.stop} do not add up to their tokens")
        return edges

    def _beside(self, name: str, leaf: Leaf) -> NDArray[Any]:
        """The chunk of another array of tokens over the same samples."""
        kept: NDArray[Any] | None = self._cache.get((name, leaf.start))
        if kept is not None:
            return kept
        beside = self.index(name).leaf(leaf.start)
        if (beside.start, beside.stop, beside.entry.items) != (leaf.start, leaf.stop, leaf.entry.items):
            raise CorruptionError(f"chunks of {name} at sample {leaf.start} are not cut as those of token_ids")
        return self.chunk(name, beside)

    def _decode(self, array: Array, leaf: Leaf) -> NDArray[Any]:
        if array.is_spans:
            lengths, spans = np.diff(self.offsets(leaf)), span_column(self._data, array, leaf)
            if not spans.fits(lengths):
                raise CorruptionError(f"labels of samples {leaf.start} to {leaf.stop} reach over the end of one")
            return spans.mask(lengths).view(np.bool_)
        column = decode_column(self._data.values(leaf, array))
        if array.dtype == "bytes16":
            return column
        return column.astype(self.dtype(array), copy=False)

    def _keep_array(self, name: str, leaf: Leaf, column: NDArray[Any]) -> NDArray[Any]:
        column.flags.writeable = False
        self._cache.keep((name, leaf.start), column)
        return column
