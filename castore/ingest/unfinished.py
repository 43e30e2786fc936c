"""What a write that is not finished has: samples that are in no record yet, and those of its records."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from castore.errors import CorruptionError, InvalidInputError
from castore.format.chunk import decode_values
from castore.format.digest import Digest
from castore.format.samples import Column, Piece, Samples, SpanColumn, decode_column, numpy_dtype
from castore.format.schema import KEY_BYTES, SOURCE, TOKEN_IDS, Array
from castore.ingest.caller_samples import Checked, Gathered
from castore.store.objects import ObjectStore
from castore.store.writes import SourceTotal, Stored
from castore.tree.build import Cut


@dataclass(slots=True)
class Waiting:
    """Samples in the builder that are in no record yet."""

    lengths: NDArray[np.uint32]
    keys: NDArray[np.uint8]
    scalars: Mapping[str, NDArray[Any]]
    trainable: NDArray[np.int64]

    @property
    def tokens(self) -> int:
        """Tokens of all of them."""
        return int(self.lengths.sum(dtype=np.int64))

    def split(self, count: int) -> tuple[Waiting, Waiting]:
        """The first ``count`` samples, and the others."""
        return self._slice(slice(None, count)), self._slice(slice(count, None))

    def _slice(self, chosen: slice) -> Waiting:
        scalars = {name: column[chosen] for name, column in self.scalars.items()}
        return Waiting(self.lengths[chosen], self.keys[chosen], scalars, self.trainable[chosen])

    def added_to(self, totals: list[SourceTotal]) -> None:
        """Count them towards their sources."""
        sources = self.scalars[SOURCE.name]
        for number in np.unique(sources).tolist():
            chosen, before = sources == number, totals[number]
            totals[number] = SourceTotal(
                before.name,
                before.samples + int(chosen.sum()),
                before.tokens + int(self.lengths[chosen].sum(dtype=np.int64)),
                before.trainable + int(self.trainable[chosen].sum()),
            )


def record_of(
    cuts: Sequence[Cut], done: Sequence[Waiting], scalars: Sequence[Array], totals: Sequence[SourceTotal]
) -> Stored:
    """The record of samples that lie in the chunks of ``cuts``."""
    columns = {
        array.name: np.concatenate([part.scalars[array.name] for part in done])
        .astype(_stored_dtype(array), copy=False)
        .tobytes()
        for array in scalars
    }
    return Stored(
        [cut.stop - cut.start for cut in cuts],
        [cut.chunks for cut in cuts],
        np.concatenate([part.lengths for part in done]).astype("<u4").tobytes(),
        np.concatenate([part.keys for part in done]).tobytes(),
        columns,
        list(totals),
    )


def is_whole(stored: Stored, fine: Sequence[Array], scalars: Sequence[Array], objects: ObjectStore) -> bool:
    """Whether a record has what these arrays need, and its chunks are there and right; a sweep then spares them."""
    names = {array.name for array in fine}
    widths = {array.name: numpy_dtype(array.dtype).itemsize for array in scalars}
    fits = stored.columns.keys() == widths.keys() and all(chunks.keys() == names for chunks in stored.chunks)
    if not fits or any(len(stored.columns[name]) != stored.samples * width for name, width in widths.items()):
        return False
    return objects.renew_whole(digest for chunks in stored.chunks for digest in chunks.values())


def pieces_of(stored: Stored, fine: Sequence[Array], scalars: Sequence[Array], objects: ObjectStore) -> list[Piece]:
    """The samples of a record for the builder, a chunk each; read only if they must be cut anew."""
    lengths = np.frombuffer(stored.lengths, "<u4").astype(np.uint32, copy=False)
    keys = keys_of(stored)
    columns = {array.name: _column(array, stored.columns[array.name]) for array in scalars}
    pieces, lo = [], 0
    for count, chunks in zip(stored.counts, stored.chunks, strict=True):
        hi = lo + count
        some: dict[str, Column] = {name: column[lo:hi] for name, column in columns.items()}
        load = _loader(objects, fine, chunks, lengths[lo:hi])
        pieces.append(Piece(lengths[lo:hi], keys[lo:hi], some, load, chunks, 0, count))
        lo = hi
    return pieces


class StoredSamples:
    """Samples that an interrupted write has stored, compared with those that are given again, a chunk at a time.

    No chunk is read: what is given is encoded as it would be stored, and its digest compared.

    Args:
        extra: The extra arrays of the write.
        fine: Its arrays of grain 0.
        objects: Where the chunks are.
    """

    def __init__(self, extra: Sequence[Array], fine: Sequence[Array], objects: ObjectStore) -> None:
        self._extra, self._objects = extra, objects
        self._fine = [array for array in fine if array != TOKEN_IDS]  # keys tell of these
        self._pieces: deque[Piece] = deque()
        self._given = Gathered(extra)
        self._at = 0

    @property
    def position(self) -> int:
        """Samples that were given again."""
        return self._at + self._given.count

    def add(self, pieces: Iterable[Piece]) -> None:
        """Take further stored samples, a chunk each."""
        self._pieces.extend(pieces)

    def compare(self, some: Checked, source: int) -> None:
        """Compare one given sample, of a source by its number, with the next stored one.

        Raises:
            InvalidInputError: It, or one since the beginning of its chunk, is another.
        """
        if not self._pieces:
            raise InvalidInputError("the interrupted write has no more samples: append what comes next")
        self._given.add(some, source)
        if self._given.count == len(self._pieces[0].lengths):
            piece, self._given, given = self._pieces.popleft(), Gathered(self._extra), self._given
            self._compare_chunk(piece, *given.samples()[:2])
            self._at += len(piece.lengths)

    def _compare_chunk(self, piece: Piece, given: Samples, keys: NDArray[np.uint8]) -> None:
        self._refuse("", _differ(keys, piece.keys))
        for name, column in piece.scalars.items():
            self._refuse(name, _differ(given.columns[name], column))
        assert piece.chunks is not None
        for array in self._fine:
            if given.encode(array).digest != piece.chunks[array.name]:
                kept = piece.load()
                places = range(len(given))
                self._refuse(array.name, [_encoded(given, i, array) != _encoded(kept, i, array) for i in places])

    def _refuse(self, name: str, differ: Sequence[bool] | NDArray[np.bool_]) -> None:
        places = np.flatnonzero(differ)
        if len(places):
            what = f"has another {name}" if name else "is another"
            raise InvalidInputError(
                f"sample {self._at + int(places[0])} {what} than the one that the interrupted write has: "
                "take another resume_key"
            )


def _differ(a: Column, b: Column) -> NDArray[np.bool_]:
    """Whether the elements of two arrays of as many samples differ, bit by bit."""
    assert isinstance(a, np.ndarray)
    assert isinstance(b, np.ndarray)
    sides = a.astype(b.dtype, copy=False), b
    rows = [np.ascontiguousarray(side).view(np.uint8).reshape(len(side), -1) for side in sides]
    found: NDArray[np.bool_] = np.any(rows[0] != rows[1], axis=1)
    return found


def _encoded(samples: Samples, at: int, array: Array) -> bytes:
    return samples.slice(at, at + 1, [array]).encode(array).data


def keys_of(stored: Stored) -> NDArray[np.uint8]:
    """Keys of the samples of a record, uint8[n, 16]."""
    return np.frombuffer(stored.keys, np.uint8).reshape(-1, KEY_BYTES)


def _stored_dtype(array: Array) -> np.dtype[Any]:
    return np.dtype(np.uint8) if array.dtype == "bytes16" else numpy_dtype(array.dtype)


def _column(array: Array, raw: bytes) -> NDArray[Any]:
    found = np.frombuffer(raw, _stored_dtype(array))
    return found.reshape(-1, KEY_BYTES) if array.dtype == "bytes16" else found


def _loader(
    objects: ObjectStore, arrays: Sequence[Array], chunks: Mapping[str, Digest], lengths: NDArray[np.uint32]
) -> Callable[[], Samples]:
    """Loads the samples of stored chunks, should they have to be cut anew."""

    def load() -> Samples:
        columns: dict[str, Column] = {}
        for array in arrays:
            data = objects.get(chunks[array.name])
            if array.is_spans:
                columns[array.name] = SpanColumn.decode(data)
                continue
            values = decode_values(data, array.dtype)
            if values.sample_count != len(lengths) or values.item_count != int(lengths.sum(dtype=np.int64)):
                raise CorruptionError(
                    "a write record does not fit the chunks that it names: delete the folder 'writes'"
                )
            columns[array.name] = decode_column(values)
        return Samples(lengths, columns)

    return load
