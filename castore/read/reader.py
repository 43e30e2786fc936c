"""Reading samples as numpy arrays: one, a range, or any, with the chunks that were decoded last kept."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from castore.errors import CorruptionError, InvalidInputError
from castore.format.samples import decode_column, offsets_of
from castore.format.schema import KEY, LABELS_MASK, LENGTH, SOURCE, TOKEN_IDS, Array
from castore.read.whole import span_column
from castore.tree.index import TreeIndex
from castore.tree.lru import LRU
from castore.tree.walk import Leaf

if TYPE_CHECKING:
    from castore.read.columns import Columns

CACHE_BYTES = 64 * 1024 * 1024
"""Bytes of decoded arrays that one reader keeps."""

_OFFSETS = "#"  # in the cache, with the number of samples; no array is called so
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

    def __init__(self, data: Columns, cache_bytes: int = CACHE_BYTES) -> None:
        self._data = data
        self._cache: LRU[tuple[str, int], NDArray[Any]] = LRU(cache_bytes, lambda column: column.nbytes)
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
            edges = self.offsets(leaf)
            a, b = max(lo - leaf.start, 0), min(hi, leaf.stop) - leaf.start
            lengths.append(np.diff(edges[a : b + 1]))
            ids.append(self.chunk(TOKEN_IDS.name, leaf)[edges[a] : edges[b]])
            masks.append(self._beside(LABELS_MASK.name, leaf)[edges[a] : edges[b]])
        return Batch(
            np.concatenate([np.zeros(0, np.uint32), *ids]),
            offsets_of(np.concatenate([np.zeros(0, np.int64), *lengths])),
            np.concatenate([np.zeros(0, np.bool_), *masks]),
        )

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
        kept = self._cache.get((name, leaf.start))
        if kept is not None:
            return kept
        return self._keep(name, leaf, self._decode(self.index(name).tree.array, leaf))

    def offsets(self, leaf: Leaf) -> NDArray[np.int64]:
        """Where the samples of a chunk of tokens begin and end in it, int64[k + 1].

        Raises:
            CorruptionError: The lengths of the samples do not add up to the chunk.
        """
        name = f"{_OFFSETS}{leaf.entry.samples}"  # chunks of another grain begin at the same sample
        edges = self._cache.get((name, leaf.start))
        if edges is None:
            edges = self._keep(name, leaf, offsets_of(self.elements(LENGTH.name, leaf.start, leaf.stop)))
        if edges[-1] != leaf.entry.items:
            raise CorruptionError(f"lengths of samples {leaf.start} to {leaf.stop} do not add up to their tokens")
        return edges

    def _beside(self, name: str, leaf: Leaf) -> NDArray[Any]:
        """The chunk of another array of tokens over the same samples."""
        kept = self._cache.get((name, leaf.start))
        if kept is not None:
            return kept
        beside = self.index(name).leaf(leaf.start)
        if (beside.start, beside.stop, beside.entry.items) != (leaf.start, leaf.stop, leaf.entry.items):
            raise CorruptionError(f"chunks of {name} at sample {leaf.start} are not cut as those of token_ids")
        return self.chunk(name, beside)

    def _decode(self, array: Array, leaf: Leaf) -> NDArray[Any]:
        if array.is_spans:
            lengths = np.diff(self.offsets(leaf))
            return span_column(self._data, array, leaf).mask(lengths).view(np.bool_)
        column = decode_column(self._data.values(leaf, array))
        assert isinstance(column, np.ndarray)
        if array.dtype == "bytes16":
            return column
        return column.astype(self.dtype(array), copy=False)

    def _keep(self, name: str, leaf: Leaf, column: NDArray[Any]) -> NDArray[Any]:
        column.flags.writeable = False
        return self._cache.keep((name, leaf.start), column)


class ArrayView:
    """One array of a dataset, read when it is indexed, by element.

    ``labels_mask`` is bool here whatever its form in storage; keys are rows of 16 uint8.

    Args:
        reader: Of the dataset.
        array: Which array.
        items: Number of its elements.
    """

    def __init__(self, reader: Reader, array: Array, items: int) -> None:
        self._reader = reader
        self.name = array.name
        self.axis = array.axis
        self.dtype = reader.dtype(array)
        self.shape: tuple[int, ...] = (items, 16) if array.dtype == "bytes16" else (items,)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        """Elements as numpy gives them: an integer, a slice, or an array of indices, and more of it behind a comma."""
        first, rest = (key[0], key[1:]) if isinstance(key, tuple) and key else (key, ())
        if first is Ellipsis or (isinstance(first, tuple) and not first):
            return self._reader.elements(self.name, 0, len(self))[key]
        if isinstance(first, slice):
            chosen = range(len(self))[first]
            if len(chosen) == 0:
                return self._reader.elements(self.name, 0, 0)[(slice(None), *rest)]
            low, high = min(chosen[0], chosen[-1]), max(chosen[0], chosen[-1])
            found = self._reader.elements(self.name, low, high + 1)[:: chosen.step]
            return found[(slice(None), *rest)] if rest else found
        if isinstance(first, (int, np.integer)) and not isinstance(first, bool):
            at = int(first) + (len(self) if first < 0 else 0)
            if not 0 <= at < len(self):
                raise IndexError(f"element {first} of {len(self)}")
            return self._reader.elements(self.name, at, at + 1)[(0, *rest)]
        places = self._places(first)
        if places is None:
            return self[:][key]
        return self._reader.chosen(self.name, places)[(np.arange(len(places)), *rest) if rest else slice(None)]

    def _places(self, key: Any) -> NDArray[np.int64] | None:
        """The elements that a list of integers or a mask means; None for all else, which numpy answers or refuses."""
        chosen = np.asarray(key) if isinstance(key, (list, np.ndarray)) else np.zeros(())
        if chosen.ndim != 1 or (len(chosen) and chosen.dtype.kind not in "iub"):
            return None
        if chosen.dtype.kind == "b":
            return np.flatnonzero(chosen) if len(chosen) == len(self) else None
        if len(chosen) and not -len(self) <= int(chosen.min()) <= int(chosen.max()) < len(self):
            return None
        places = chosen.astype(np.int64)
        return np.where(places < 0, places + len(self), places)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        found = self._reader.elements(self.name, 0, len(self))
        return found if dtype is None else found.astype(dtype, copy=False)

    def __repr__(self) -> str:
        return f"<array {self.name}: {self.dtype}{list(self.shape)}, one a {self.axis}>"


class SampleView(Sequence[Sample]):
    """Some samples of a dataset in some order; nothing is read before it is asked for.

    Args:
        reader: Of the dataset.
        indices: Their numbers in stored order: a range, or int64[n].
    """

    def __init__(self, reader: Reader, indices: range | NDArray[np.int64]) -> None:
        self._reader = reader
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: Any) -> Any:
        """A ``Sample`` for an integer; a ``SampleView`` for a slice, a list of integers, or a mask of bool[n].

        Raises:
            IndexError: There is no such sample.
        """
        if isinstance(key, slice):
            return SampleView(self._reader, self.indices[key])
        if isinstance(key, (list, np.ndarray)):
            return SampleView(self._reader, self._chosen(np.asarray(key)))
        try:
            at = operator.index(key)
        except TypeError:
            raise TypeError(
                f"samples are asked for by number, slice, list of numbers or mask, not by {type(key).__name__}"
            ) from None
        return self._reader.sample(int(self.indices[self._inside(at)]))

    def _inside(self, at: int) -> int:
        if not -len(self) <= at < len(self):
            raise IndexError(f"sample {at} of {len(self)}")
        return at

    def _chosen(self, key: NDArray[Any]) -> NDArray[np.int64]:
        """The numbers of the samples at places, or where a mask is true."""
        if key.ndim != 1 or (key.dtype.kind not in "iub" and len(key)):
            raise TypeError(f"samples are asked for by integers or a mask, not by {key.dtype}{list(key.shape)}")
        if key.dtype.kind == "b":
            if len(key) != len(self):
                raise IndexError(f"a mask of {len(key)} for {len(self)} samples")
            key = np.flatnonzero(key)
        elif len(key):
            self._inside(int(key.min()))
            self._inside(int(key.max()))
        places = key.astype(np.int64)
        places[places < 0] += len(self)
        if isinstance(self.indices, range):
            return places * self.indices.step + self.indices.start
        return self.indices[places]

    def __repr__(self) -> str:
        return f"<SampleView: {len(self)} samples>"

    def __iter__(self) -> Iterator[Sample]:
        if isinstance(self.indices, range) and self.indices.step == 1:
            return self._reader.samples(self.indices.start, self.indices.stop)
        return (self._reader.sample(int(i)) for i in self.indices)

    def read(self) -> Batch:
        """All of them at once."""
        if isinstance(self.indices, range) and self.indices.step == 1:
            return self._reader.read(self.indices.start, self.indices.stop)
        return self._reader.take(np.asarray(self.indices, np.int64))
