"""The samples of a unit on their way into a sequence: tokenized just now, or found in the repository."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from castore.errors import CorruptionError
from castore.format.chunk import decode_values
from castore.format.samples import Column, Piece, Samples, SpanColumn, sample_keys
from castore.format.schema import DATA_ARRAYS, KEY_BYTES, LABELS_MASK, TOKEN_IDS
from castore.format.unit import LostColumn, Slice, Unit
from castore.ingest.lost import Lost, LostKey
from castore.ingest.tokenizer import TokenizedRows
from castore.store.objects import ObjectStore

FINE_ARRAYS = tuple(array for array in DATA_ARRAYS if array.grain == 0)
"""The arrays whose chunks a unit's slices name."""


@dataclass(frozen=True, slots=True)
class UnitPart:
    """Consecutive samples of a unit that are loaded together.

    Attributes:
        lo: First sample, counted in the unit.
        hi: One past the last.
        load: Gives them with the arrays of ``FINE_ARRAYS``.
        stored: Where they lie in chunks of the repository, or None.
    """

    lo: int
    hi: int
    load: Callable[[], Samples]
    stored: Slice | None


@dataclass(frozen=True, slots=True)
class UnitSamples:
    """What became of a unit's rows.

    Attributes:
        row_count: Rows that went in.
        kept: Positions of the rows that became samples, uint32[n].
        lengths: Tokens of each sample, uint32[n].
        keys: Their keys, uint8[n, 16].
        trainable: Trainable tokens of all samples.
        dropped: Position and reason of every other row.
        lost: What rows lost that became samples.
        parts: All samples in order.
        stored: True if the repository has a record of the unit.
    """

    row_count: int
    kept: NDArray[np.uint32]
    lengths: NDArray[np.uint32]
    keys: NDArray[np.uint8]
    trainable: int
    dropped: list[tuple[int, str]]
    lost: list[LostColumn]
    parts: list[UnitPart]
    stored: bool

    @property
    def tokens(self) -> int:
        """Tokens of all samples."""
        return int(self.lengths.sum(dtype=np.int64))

    def load(self) -> Iterator[tuple[int, Samples]]:
        """The samples, a part at a time, each with its first sample's place in the unit."""
        for part in self.parts:
            yield part.lo, part.load()

    def pieces(self, scalars: Mapping[str, Column]) -> Iterator[Piece]:
        """The samples for a builder, with further arrays of one element a sample by name."""
        for part in self.parts:
            lo, hi, place = part.lo, part.hi, part.stored
            some: dict[str, Column] = {name: np.asarray(column)[lo:hi] for name, column in scalars.items()}
            piece = Piece(self.lengths[lo:hi], self.keys[lo:hi], some, part.load)
            if place is not None:
                piece.chunks, piece.chunk_lo, piece.chunk_count = place.chunks, place.lo, place.count
            yield piece

    def record(self, slices: list[Slice]) -> Unit:
        """The record of the unit, whose samples lie in these places."""
        return Unit(
            self.row_count,
            self.kept.astype("<u4").tobytes(),
            self.lengths.astype("<u4").tobytes(),
            self.keys.tobytes(),
            self.trainable,
            self.dropped,
            slices,
            self.lost,
        )


def tokenized_unit(rows: TokenizedRows, row_count: int) -> UnitSamples:
    """A unit that was tokenized just now."""
    spans = SpanColumn(rows.span_counts, rows.span_starts, rows.span_ends)
    samples = Samples(rows.lengths, {TOKEN_IDS.name: rows.token_ids, LABELS_MASK.name: spans})
    keys = sample_keys(rows.token_ids, rows.lengths)
    trainable = int((spans.stops - spans.starts).sum(dtype=np.int64))
    parts = [UnitPart(0, len(samples), lambda: samples, None)] if len(samples) else []
    return UnitSamples(
        row_count, rows.rows, rows.lengths, keys, trainable, rows.dropped, _columns(rows.lost), parts, False
    )


def _columns(lost: Sequence[tuple[int, Lost]]) -> list[LostColumn]:
    """What rows lost, by what it is."""
    by_key: dict[LostKey, list[tuple[int, int]]] = {}
    for row, some in lost:
        for key, count in some.items():
            by_key.setdefault(key, []).append((row, count))
    columns = []
    for (reason, subject), counted in sorted(by_key.items()):
        rows, counts = np.array(counted, dtype="<u4").T
        columns.append(LostColumn(reason, subject, rows.tobytes(), counts.tobytes()))
    return columns


def stored_unit(unit: Unit, objects: ObjectStore) -> UnitSamples:
    """A unit that the repository has; its chunks are read only if they must be cut anew."""
    lengths = np.frombuffer(unit.lengths, "<u4").astype(np.uint32, copy=False)
    parts = []
    at = 0
    for piece in unit.slices:
        count = piece.hi - piece.lo
        parts.append(UnitPart(at, at + count, _loader(objects, piece, lengths[at : at + count]), piece))
        at += count
    return UnitSamples(
        unit.row_count,
        np.frombuffer(unit.kept, "<u4").astype(np.uint32, copy=False),
        lengths,
        np.frombuffer(unit.keys, np.uint8).reshape(-1, KEY_BYTES),
        unit.trainable,
        list(unit.dropped),
        list(unit.lost),
        parts,
        True,
    )


def _loader(objects: ObjectStore, piece: Slice, lengths: NDArray[np.uint32]) -> Callable[[], Samples]:
    def load() -> Samples:
        values = decode_values(objects.get(piece.chunks[TOKEN_IDS.name]), TOKEN_IDS.dtype)
        spans = SpanColumn.decode(objects.get(piece.chunks[LABELS_MASK.name]))
        item_hi = piece.item_lo + int(lengths.sum(dtype=np.int64))
        if values.sample_count != piece.count or len(spans.counts) != piece.count or item_hi > values.item_count:
            raise CorruptionError("a unit record does not fit the chunks that it names: delete the folder 'units'")
        token_ids = np.frombuffer(values.items, "<u4")[piece.item_lo : item_hi].astype(np.uint32, copy=False)
        columns: dict[str, Column] = {TOKEN_IDS.name: token_ids, LABELS_MASK.name: spans.slice(piece.lo, piece.hi)}
        return Samples(lengths, columns)

    return load
