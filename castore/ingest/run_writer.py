"""The one loop from raw rows to a manifest: unit by unit, resumable at any moment.

Blocks of rows become units, found in the repository by their name or tokenized; units enter the builder in mixer order;
what the builder finishes is stored; a unit whose samples are all stored gets its record. A run that is killed leaves
the records of the units it finished, and the next run finds them. Nothing here depends on how far an earlier run came,
so neither can the root.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from castore.errors import InvalidInputError, SourceError, WorkerDiedError
from castore.format.codec import Value
from castore.format.digest import Digest
from castore.format.files import DroppedRow
from castore.format.manifest import Root
from castore.format.object import Object
from castore.format.samples import Column, Piece, Samples, sample_keys
from castore.format.schema import DATA_ARRAYS, KEY_BYTES, PROVENANCE_ARRAYS, TOKEN_IDS
from castore.format.unit import Slice, Unit, recipe_digest, unit_name
from castore.ingest.mix import Amount, Selection, select
from castore.ingest.pool import Pool, Result
from castore.ingest.source import Block, Source
from castore.ingest.tokenizer import RowError
from castore.ingest.unit_samples import FINE_ARRAYS, UnitPart, UnitSamples, stored_unit, tokenized_unit
from castore.store.objects import ObjectStore
from castore.store.reorder import Reorder
from castore.store.units import UnitStore
from castore.tree.build import Cut, SequenceBuilder
from castore.tree.split import CHUNK_BYTES, FANOUT

BAD_ROW = "bad-row"
"""Reason code of rows that were skipped because they could not be read; followed by a colon and what is wrong."""

_ROW_ERROR = re.compile(r"(?:((?:messages|tools)\S*): )?(.*)", re.DOTALL)
"""What is wrong with a row, as ``RowError`` and records of units spell it: the field if it is in one, and the fault."""


@dataclass(frozen=True, slots=True)
class MixItem:
    """A source and how much of it is taken."""

    source: Source
    amount: Amount


@dataclass(slots=True)
class Progress:
    """How far a run has come; counts of rows as the mix takes them."""

    rows_total: int = 0
    rows_done: int = 0
    rows_reused: int = 0
    samples: int = 0
    tokens: int = 0
    units: int = 0
    units_reused: int = 0


@dataclass(slots=True)
class SourceCounts:
    """What one entry of the mix contributed."""

    rows: int
    selected: int
    samples: int = 0
    tokens: int = 0
    trainable: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Written:
    """The result: roots of all arrays, the counts by source, and the rows that were dropped."""

    samples: int
    roots: Mapping[str, Root]
    counts: Sequence[SourceCounts]
    dropped: Sequence[DroppedRow]


@dataclass(slots=True)
class _Place:
    """A unit in its place: the rows it came from."""

    name: Digest
    source: int
    numbers: NDArray[np.int64]
    lines: NDArray[np.int64]
    raw_keys: NDArray[np.uint8]


@dataclass(slots=True)
class _Open:
    """A unit in the builder whose samples are not all stored yet: where it begins, in samples and tokens."""

    name: Digest
    ready: UnitSamples
    start: int
    item_start: int


def _selection(item: MixItem, seed: int) -> Selection:
    try:
        return select(item.source.row_count(), item.amount, seed)
    except SourceError:
        raise
    except InvalidInputError as error:
        raise SourceError(item.source.name, str(error)) from error


class RunWriter:
    """Writes one run.

    Args:
        objects: Where chunks and nodes go.
        units: Where unit records are found and go.
        pool: Tokenizes.
        recipe: All that can change tokens.
        on_error: ``stop`` at the first bad row, or ``skip`` it.
        report: Called after every unit.
        chunk_bytes, fanout: As ``SequenceBuilder`` takes them.
    """

    def __init__(
        self,
        objects: ObjectStore,
        units: UnitStore,
        pool: Pool,
        recipe: Mapping[str, Value],
        *,
        on_error: str = "stop",
        report: Callable[[Progress], None] = lambda progress: None,
        chunk_bytes: int = CHUNK_BYTES,
        fanout: int = FANOUT,
    ) -> None:
        self._objects, self._units, self._pool = objects, units, pool
        self._recipe = recipe_digest(recipe)
        self._stop = on_error == "stop"
        self._report = report
        self._progress = Progress()
        self._sizes = {"chunk_bytes": chunk_bytes, "fanout": fanout}
        self._builder = SequenceBuilder((*DATA_ARRAYS, *PROVENANCE_ARRAYS), **self._sizes)
        self._torn = False  # a change of the builder, the queues below or the store began and has not ended
        self._samples = self._items = 0  # handed to the builder
        self._waiting = 0  # tokens of picked rows that are tokenized and not yet put in order
        self._open: deque[_Open] = deque()
        self._open_by_name: dict[Digest, UnitSamples] = {}
        self._cuts: deque[Cut] = deque()
        self._counts: list[SourceCounts] = []
        self._dropped: list[DroppedRow] = []
        self._names: list[str] = []
        self._bytes_left = 0  # of rows that are not known to be tokenized; about, since files may be compressed

    def write(self, mix: Sequence[MixItem], seed: int) -> Written:
        """Tokenize and store a mix.

        Args:
            mix: Sources in order.
            seed: Seed of the random choice of rows for shares and counts.

        Raises:
            SourceError: A file or row is wrong; everything before it is kept for the next run.
        """
        selections = [_selection(item, seed) for item in mix]
        targets = [item.amount.target(item.source.row_count()) for item in mix]
        self._progress.rows_total = sum(targets)
        self._names = [item.source.name for item in mix]
        self._bytes_left = sum(item.source.byte_count for item in mix)
        try:
            for index, (item, selection) in enumerate(zip(mix, selections, strict=True)):
                self._counts.append(SourceCounts(item.source.row_count(), targets[index]))
                self._add_source(index, item.source, selection)
        except (KeyboardInterrupt, SourceError, WorkerDiedError):
            # An interrupt may come between any two instructions. One that fell into a change of the builder leaves it
            # in a state of which no record may be made.
            if not self._torn:
                self._park()
            raise
        roots = self._finish()
        return Written(self._samples, roots, self._counts, self._dropped)

    def _finish(self) -> Mapping[str, Root]:
        roots, objects = self._builder.finish()
        self._store(objects)
        self._objects.flush()
        return roots

    def _park(self) -> None:
        """Store what is in the builder, so that the units that went into it need not be tokenized again."""
        self._finish()

    # ---- one source

    def _add_source(self, index: int, source: Source, selection: Selection) -> None:
        places: list[_Place] = []
        if selection.full_copies:
            for place, ready in self._tokenized(index, source.blocks()):
                places.append(place)
                self._append(place, ready, first=True)
        for _ in range(selection.full_copies - 1):
            for place in places:
                self._append(place, self._again(place, source), first=False)
        if len(selection.extra):
            self._add_picked(index, source, places, selection)

    def _tokenized(self, index: int, blocks: Iterator[Block]) -> Iterator[tuple[_Place, UnitSamples]]:
        """Units of blocks in order, each found or tokenized, a bounded number ahead."""
        ahead: deque[tuple[_Place, UnitSamples | Result]] = deque()
        for block in blocks:
            name = unit_name(self._recipe, block.keys)
            raw_keys = np.frombuffer(block.keys, np.uint8).reshape(-1, KEY_BYTES)
            place = _Place(name, index, block.numbers, block.lines, raw_keys)
            known = self._find(name)
            self._bytes_left -= 0 if known is None else block.byte_count
            ahead.append((place, self._pool.submit(block.rows, self._bytes_left) if known is None else known))
            # Units that are known cost nothing while they wait, so only the depth of the pool limits the queue.
            while len(ahead) > self._pool.depth:
                yield self._settle(*ahead.popleft())
        while ahead:
            yield self._settle(*ahead.popleft())

    def _find(self, name: Digest) -> UnitSamples | None:
        if name in self._open_by_name:
            return self._open_by_name[name]
        unit = self._units.get(name)
        if unit is None:
            return None
        # A chunk may have been deleted because it was damaged. Whatever a ref will name must be there, and stay.
        chunks = {chunk for part in unit.slices for chunk in part.chunks.values()}
        return stored_unit(unit, self._objects) if all(found for _, found in self._objects.renew_many(chunks)) else None

    def _settle(self, place: _Place, ready: UnitSamples | Result) -> tuple[_Place, UnitSamples]:
        if not isinstance(ready, UnitSamples):
            try:
                ready = tokenized_unit(ready.result(), len(place.numbers))
            except RowError as error:
                raise self._bad_row(place, error.index, str(error)) from error
        elif self._stop:
            # The record may be of a run that was told to skip bad rows; this one was not.
            for position, reason in ready.dropped:
                if reason.startswith(BAD_ROW):
                    raise self._bad_row(place, position, reason.partition(": ")[2])
        return place, ready

    def _bad_row(self, place: _Place, position: int, text: str) -> SourceError:
        found = _ROW_ERROR.fullmatch(text)
        assert found is not None
        name, line = self._names[place.source], int(place.lines[position])
        return SourceError(name, found[2], row=line, field=found[1])

    def _again(self, place: _Place, source: Source) -> UnitSamples:
        """A unit that an earlier copy of the same source went through."""
        ready = self._find(place.name)
        if ready is None:  # its record was removed under our feet: the rows are still there
            blocks = source.blocks_of(place.numbers)
            rows = [row for block in blocks for row in block.rows]
            ready = self._settle(place, self._pool.submit(rows, self._bytes_left))[1]
        return ready

    # ---- rows picked at random

    def _add_picked(self, index: int, source: Source, places: list[_Place], selection: Selection) -> None:
        """Append the extra rows in the order they were picked."""
        picked = selection.extra
        if not places:
            numbers = np.sort(picked)
            for place, ready in self._tokenized(index, self._blocks_with(source, numbers)):
                places.append(place)
                self._park_unit(place, ready)
                wanted = np.isin(place.numbers[ready.kept], numbers, assume_unique=True)
                self._waiting += int(ready.lengths[wanted].sum(dtype=np.int64))
                self._count_unit(len(np.intersect1d(place.numbers, numbers, assume_unique=True)), reused=ready.stored)
        else:
            self._progress.rows_done += len(picked)
            self._progress.rows_reused += len(picked)
        units = [(place, self._again(place, source)) for place in places]
        numbers = np.concatenate([place.numbers[ready.kept] for place, ready in units])
        lengths = np.concatenate([ready.lengths for _, ready in units])
        raw_keys = np.concatenate([place.raw_keys[ready.kept] for place, ready in units])
        at = np.searchsorted(numbers, picked)
        kept = (at < len(numbers)) & (numbers[np.minimum(at, len(numbers) - 1)] == picked) if len(numbers) else at < 0
        chosen = at[kept]  # sample of the source at each position of the result
        self._count_dropped_picks(index, units, picked, first=not selection.full_copies)
        positions = np.full(len(numbers), -1, np.int64)
        positions[chosen] = np.arange(len(chosen))
        reorder = Reorder(lengths[chosen])
        try:
            base = 0
            for _, ready in units:
                for lo, samples in ready.load():
                    reorder.add(positions[base + lo : base + lo + len(samples)], samples)
                base += len(ready.lengths)
            done = 0
            for window in reorder.windows():
                which = chosen[done : done + len(window)]
                self._append_picked(index, window, numbers[which], raw_keys[which])
                done += len(window)
        finally:
            reorder.close()

    def _blocks_with(self, source: Source, numbers: NDArray[np.int64]) -> Iterator[Block]:
        """Blocks that hold the rows ``numbers`` (ascending): whole where they are units already, else those rows."""
        for block in source.blocks():
            wanted = np.isin(block.numbers, numbers, assume_unique=True)
            if wanted.all() or (wanted.any() and self._find(unit_name(self._recipe, block.keys)) is not None):
                yield block
            elif wanted.any():
                yield block.take(np.flatnonzero(wanted))

    def _park_unit(self, place: _Place, ready: UnitSamples) -> None:
        """Store the samples of a unit that is only picked from, so that it is found again."""
        if ready.stored or place.name in self._open_by_name:
            return
        self._torn = True
        builder = SequenceBuilder(FINE_ARRAYS, **self._sizes)
        objects = [made for part in ready.parts for made in builder.add(self._piece(ready, part, {}))]
        objects += builder.finish()[1]
        self._objects.put_all(objects)
        slices = [Slice(cut.chunks, cut.stop - cut.start, 0, cut.stop - cut.start, 0) for cut in builder.take_cuts()]
        self._commit([(place.name, ready, slices)])
        self._torn = False

    def _append_picked(
        self, index: int, samples: Samples, numbers: NDArray[np.int64], raw_keys: NDArray[np.uint8]
    ) -> None:
        token_ids = samples.columns[TOKEN_IDS.name]
        assert isinstance(token_ids, np.ndarray)
        keys = sample_keys(token_ids, samples.lengths)
        scalars: dict[str, Column] = {
            "source": np.full(len(samples), index, np.uint32),
            "row": numbers.astype(np.uint64),
            "raw_key": raw_keys,
        }
        self._torn = True
        self._add(Piece(samples.lengths, keys, scalars, lambda: samples))
        self._torn = False
        self._waiting = max(self._waiting - len(token_ids), 0)
        counts = self._counts[index]
        counts.samples += len(samples)
        counts.tokens += len(token_ids)
        spans = samples.columns["labels_mask"]
        assert not isinstance(spans, np.ndarray)
        counts.trainable += int((spans.stops - spans.starts).sum(dtype=np.int64))
        self._tell()

    def _count_dropped_picks(
        self, index: int, units: list[tuple[_Place, UnitSamples]], picked: NDArray[np.int64], *, first: bool
    ) -> None:
        wanted = set(picked.tolist())
        for place, ready in units:
            for position, reason in ready.dropped:
                if int(place.numbers[position]) in wanted:
                    self._count_dropped(place, position, reason, first)

    def _count_dropped(self, place: _Place, position: int, reason: str, first: bool) -> None:
        self._counts[place.source].dropped[reason.partition(":")[0]] += 1
        if first:
            row, line = int(place.numbers[position]), int(place.lines[position])
            self._dropped.append(DroppedRow(place.source, row, line, reason))

    # ---- into the builder

    def _append(self, place: _Place, ready: UnitSamples, *, first: bool) -> None:
        """Append a unit to the sequence; ``first`` unless an earlier copy of it was counted for the report of rows."""
        fresh_unit = not ready.stored and place.name not in self._open_by_name
        self._torn = True
        if fresh_unit:
            self._open.append(_Open(place.name, ready, self._samples, self._items))
            self._open_by_name[place.name] = ready
        scalars: dict[str, NDArray[Any]] = {
            "source": np.full(len(ready.lengths), place.source, np.uint32),
            "row": place.numbers[ready.kept].astype(np.uint64),
            "raw_key": place.raw_keys[ready.kept],
        }
        for part in ready.parts:
            self._add(self._piece(ready, part, scalars))
        self._settle_open()
        self._torn = False
        tokens = int(ready.lengths.sum(dtype=np.int64))
        counts = self._counts[place.source]
        counts.samples += len(ready.lengths)
        counts.tokens += tokens
        counts.trainable += ready.trainable
        for position, reason in ready.dropped:
            self._count_dropped(place, position, reason, first)
        self._count_unit(ready.row_count, reused=not fresh_unit)

    @staticmethod
    def _piece(ready: UnitSamples, part: UnitPart, scalars: Mapping[str, NDArray[Any]]) -> Piece:
        lo, hi, place = part.lo, part.hi, part.stored
        piece = Piece(ready.lengths[lo:hi], ready.keys[lo:hi], {n: c[lo:hi] for n, c in scalars.items()}, part.load)
        if place is not None:
            piece.chunks, piece.chunk_lo, piece.chunk_count = place.chunks, place.lo, place.count
        return piece

    def _add(self, piece: Piece) -> None:
        self._store(self._builder.add(piece))
        self._samples += len(piece.lengths)
        self._items += int(piece.lengths.sum(dtype=np.int64))

    def _store(self, objects: list[Object]) -> None:
        self._objects.put_all(objects)
        self._cuts.extend(self._builder.take_cuts())
        self._settle_open()

    def _settle_open(self) -> None:
        """Write the records of the units whose samples have all been stored."""
        done = []
        while self._open and self._open[0].start + len(self._open[0].ready.lengths) <= self._builder.cut_at:
            unit = self._open.popleft()
            del self._open_by_name[unit.name]
            done.append((unit.name, unit.ready, self._slices(unit)))
        if done:
            self._commit(done)
        first_needed = self._open[0].start if self._open else self._builder.cut_at
        while self._cuts and self._cuts[0].stop <= first_needed:
            self._cuts.popleft()

    def _slices(self, unit: _Open) -> list[Slice]:
        """Where the samples of a unit lie in the chunks that were cut over it."""
        stop = unit.start + len(unit.ready.lengths)
        slices = []
        for cut in self._cuts:
            lo, hi = max(cut.start, unit.start), min(cut.stop, stop)
            if lo < hi:
                item_lo = unit.item_start - cut.item_start if lo > cut.start else 0
                slices.append(Slice(cut.chunks, cut.stop - cut.start, lo - cut.start, hi - cut.start, item_lo))
        return slices

    def _commit(self, done: list[tuple[Digest, UnitSamples, list[Slice]]]) -> None:
        """Objects first, then the records that name them."""
        self._objects.flush()
        for name, ready, slices in done:
            unit = Unit(
                ready.row_count,
                ready.kept.astype("<u4").tobytes(),
                ready.lengths.astype("<u4").tobytes(),
                ready.keys.tobytes(),
                ready.trainable,
                ready.dropped,
                slices,
            )
            self._units.put(name, unit)
        self._units.flush()

    def _count_unit(self, row_count: int, *, reused: bool) -> None:
        progress = self._progress
        progress.rows_done += row_count
        progress.units += 1
        if reused:
            progress.rows_reused += row_count
            progress.units_reused += 1
        self._tell()

    def _tell(self) -> None:
        self._progress.samples, self._progress.tokens = self._samples, self._items + self._waiting
        self._report(self._progress)
