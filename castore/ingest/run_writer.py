"""The one loop from raw rows to a sequence of samples: unit by unit, resumable at any moment.

Blocks of rows become units, found in the repository by their name or tokenized; units enter the builder in mixer order;
what the builder finishes is stored; a unit whose samples are all stored gets its record. A run that is killed leaves
the records of the units it finished, and the next run finds them. Nothing here depends on how far an earlier run came,
so neither can the root.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from castore.errors import BackendError, InvalidInputError, SourceError, WorkerDiedError
from castore.format.codec import Value
from castore.format.files import DroppedRow
from castore.format.samples import Piece, Samples, SpanColumn, sample_keys
from castore.format.schema import LABELS_MASK, TOKEN_IDS
from castore.ingest.assembly import Assembly
from castore.ingest.lost import LostKey, told
from castore.ingest.mix import Amount, Selection, select
from castore.ingest.pool import Pool
from castore.ingest.source import Source
from castore.ingest.unit_feed import UnitFeed, UnitPlace, provenance
from castore.ingest.unit_samples import UnitSamples
from castore.ingest.units import RunUnits
from castore.store.bucket_sort import BucketSort


@dataclass(frozen=True, slots=True)
class MixItem:
    """A source and how much of it is taken."""

    source: Source
    amount: Amount

    def selection(self, seed: int) -> Selection:
        """The rows that are taken, picked with a seed.

        Raises:
            SourceError: There are none.
        """
        try:
            return select(self.source.row_count(), self.amount, seed)
        except SourceError:
            raise
        except InvalidInputError as error:
            raise SourceError(self.source.name, str(error)) from error


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
    """What one entry of the mix contributed, what became of its other rows, and what its samples lost."""

    rows: int
    selected: int
    samples: int = 0
    tokens: int = 0
    trainable: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    lost: Counter[LostKey] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Written:
    """What a mix came to: samples, the counts by source, and the rows that were dropped."""

    samples: int
    counts: Sequence[SourceCounts]
    dropped: Sequence[DroppedRow]


class RunWriter:
    """Writes the samples of one run.

    Args:
        assembly: What they go into, with the arrays of data and provenance.
        units: Units that are known.
        pool: Tokenizes.
        recipe: All that can change tokens.
        on_error: ``stop`` at the first bad row, or ``skip`` it.
        strict: Whether a row that lost something stops the run, too.
        report: Called after every unit.
    """

    def __init__(
        self,
        assembly: Assembly,
        units: RunUnits,
        pool: Pool,
        recipe: Mapping[str, Value],
        *,
        on_error: str = "stop",
        strict: bool = False,
        report: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self._assembly, self._units, self._pool = assembly, units, pool
        self._recipe, self._stop, self._strict = recipe, on_error == "stop", strict
        self._report = report
        self._progress = Progress()
        self._waiting = 0  # tokens of picked rows that are tokenized and not yet put in order
        self._counts: list[SourceCounts] = []
        self._dropped: list[DroppedRow] = []
        self._names: list[str] = []

    def write(self, mix: Sequence[MixItem], seed: int) -> Written:
        """Tokenize and store a mix; the sequence is ended then.

        Args:
            mix: Sources in order.
            seed: Seed of the random choice of rows for shares and counts.

        Raises:
            SourceError: A file or row is wrong; everything before it is kept for the next run.
        """
        selections = [item.selection(seed) for item in mix]
        targets = [item.amount.target(item.source.row_count()) for item in mix]
        self._progress.rows_total = sum(targets)
        self._names = [item.source.name for item in mix]
        feed = UnitFeed(self._units, self._pool, self._recipe, [item.source for item in mix], stop=self._stop)
        try:
            for index, (item, selection) in enumerate(zip(mix, selections, strict=True)):
                self._counts.append(SourceCounts(item.source.row_count(), targets[index]))
                self._add_source(index, feed, selection)
        except (KeyboardInterrupt, SourceError, WorkerDiedError):
            # An interrupt may come between any two instructions. One that fell into a step of the assembly leaves it
            # in a state of which no record may be made. Else what is in it is stored, so that the units that went into
            # it need not be tokenized again.
            if not self._assembly.step.is_torn:
                self._end()
            self._assembly.flush()
            raise
        except Exception:
            with suppress(BackendError):  # that is told of which ended the run
                self._assembly.flush()
            raise
        self._end()
        return Written(self._assembly.samples, self._counts, self._dropped)

    def _end(self) -> None:
        self._assembly.end()
        self._settle()

    # ---- one source

    def _add_source(self, index: int, feed: UnitFeed, selection: Selection) -> None:
        places: list[UnitPlace] = []
        if selection.full_copies:
            for place, unit in feed.units(index):
                places.append(place)
                self._append(place, unit, first=True)
        for _ in range(selection.full_copies - 1):
            for place in places:
                self._append(place, feed.again(place), first=False)
        if len(selection.extra):
            self._add_picked(index, feed, places, selection)

    # ---- rows picked at random

    def _add_picked(self, index: int, feed: UnitFeed, places: list[UnitPlace], selection: Selection) -> None:
        """Append the extra rows in the order they were picked."""
        picked = selection.extra
        if places:
            self._progress.rows_done += len(picked)
            self._progress.rows_reused += len(picked)
        else:
            places = self._parked(index, feed, np.sort(picked))
        units = [(place, feed.again(place)) for place in places]
        numbers = np.concatenate([place.numbers[unit.kept] for place, unit in units])
        lengths = np.concatenate([unit.lengths for _, unit in units])
        raw_keys = np.concatenate([place.raw_keys[unit.kept] for place, unit in units])
        at = np.searchsorted(numbers, picked)
        kept = (at < len(numbers)) & (numbers[np.minimum(at, len(numbers) - 1)] == picked) if len(numbers) else at < 0
        chosen = at[kept]  # sample of the source at each position of the result
        self._count_dropped_picks(units, picked, first=not selection.full_copies)
        for place, unit in units:
            self._count_lost(place, unit, picked)
        positions = np.full(len(numbers), -1, np.int64)
        positions[chosen] = np.arange(len(chosen))
        reorder = BucketSort(lengths[chosen])
        try:
            base = 0
            for _, unit in units:
                for lo, samples in unit.load():
                    reorder.add(positions[base + lo : base + lo + len(samples)], samples)
                base += len(unit.lengths)
            done = 0
            for window in reorder.windows():
                which = chosen[done : done + len(window)]
                self._append_picked(index, window, numbers[which], raw_keys[which])
                done += len(window)
        finally:
            reorder.close()

    def _parked(self, index: int, feed: UnitFeed, numbers: NDArray[np.int64]) -> list[UnitPlace]:
        """Tokenize and store the units that hold the rows ``numbers`` (ascending), before they are put in order."""
        places = []
        for place, unit in feed.units_with(index, numbers):
            places.append(place)
            if self._units.is_new(place.name, unit):
                with self._assembly.step:
                    self._units.park(place.name, unit)
            wanted = np.isin(place.numbers[unit.kept], numbers, assume_unique=True)
            self._waiting += int(unit.lengths[wanted].sum(dtype=np.int64))
            self._count_unit(len(np.intersect1d(place.numbers, numbers, assume_unique=True)), reused=unit.stored)
        return places

    def _append_picked(
        self, index: int, samples: Samples, numbers: NDArray[np.int64], raw_keys: NDArray[np.uint8]
    ) -> None:
        token_ids, spans = samples.columns[TOKEN_IDS.name], samples.columns[LABELS_MASK.name]
        assert isinstance(token_ids, np.ndarray)
        assert isinstance(spans, SpanColumn)
        keys = sample_keys(token_ids, samples.lengths)
        with self._assembly.step:
            self._add(Piece(samples.lengths, keys, provenance(index, numbers, raw_keys), lambda: samples))
        self._waiting = max(self._waiting - len(token_ids), 0)
        counts = self._counts[index]
        counts.samples += len(samples)
        counts.tokens += len(token_ids)
        counts.trainable += int((spans.stops - spans.starts).sum(dtype=np.int64))
        self._tell()

    # ---- into the sequence

    def _append(self, place: UnitPlace, unit: UnitSamples, *, first: bool) -> None:
        """Append a unit to the sequence; ``first`` unless an earlier copy of it was counted for the report of rows."""
        is_new = self._units.is_new(place.name, unit)
        self._count_lost(place, unit)
        with self._assembly.step:
            if is_new:
                self._units.begin(place.name, unit, self._assembly.samples, self._assembly.tokens)
            for piece in unit.pieces(place.scalars(unit)):
                self._add(piece)
            self._settle()
        counts = self._counts[place.source]
        counts.samples += len(unit.lengths)
        counts.tokens += unit.tokens
        counts.trainable += unit.trainable
        for position, reason in unit.dropped:
            self._count_dropped(place, position, reason, first)
        self._count_unit(unit.row_count, reused=not is_new)

    def _add(self, piece: Piece) -> None:
        self._assembly.add(piece)
        self._settle()

    def _settle(self) -> None:
        self._units.settle(self._assembly.cuts(), self._assembly.cut_at)

    # ---- counts

    def _count_dropped_picks(
        self, units: list[tuple[UnitPlace, UnitSamples]], picked: NDArray[np.int64], *, first: bool
    ) -> None:
        wanted = set(picked.tolist())
        for place, unit in units:
            for position, reason in unit.dropped:
                if int(place.numbers[position]) in wanted:
                    self._count_dropped(place, position, reason, first)

    def _count_lost(self, place: UnitPlace, unit: UnitSamples, picked: NDArray[np.int64] | None = None) -> None:
        """Count what the rows of a unit lost, or those of them that were picked."""
        first: list[tuple[int, LostKey]] = []
        for column in unit.lost:
            rows, counts = np.frombuffer(column.rows, "<u4"), np.frombuffer(column.counts, "<u4")
            if picked is not None:
                taken = np.isin(place.numbers[rows], picked)
                rows, counts = rows[taken], counts[taken]
            if len(rows):
                self._counts[place.source].lost[column.reason, column.subject] += int(counts.sum(dtype=np.int64))
                first.append((int(rows[0]), (column.reason, column.subject)))
        if self._strict and first:
            position, key = min(first)
            raise SourceError(self._names[place.source], told(key), row=int(place.lines[position]))

    def _count_dropped(self, place: UnitPlace, position: int, reason: str, first: bool) -> None:
        self._counts[place.source].dropped[reason.partition(":")[0]] += 1
        if first:
            row, line = int(place.numbers[position]), int(place.lines[position])
            self._dropped.append(DroppedRow(place.source, row, line, reason))

    def _count_unit(self, row_count: int, *, reused: bool) -> None:
        progress = self._progress
        progress.rows_done += row_count
        progress.units += 1
        if reused:
            progress.rows_reused += row_count
            progress.units_reused += 1
        self._tell()

    def _tell(self) -> None:
        self._progress.samples = self._assembly.samples
        self._progress.tokens = self._assembly.tokens + self._waiting
        self._report(self._progress)
