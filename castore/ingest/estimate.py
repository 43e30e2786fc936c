"""What a job would come to, without writing anything: ``castore tokenize --dry-run``.

All rows are read and cut into units as the job would, and the units that the repository has are counted exactly. Of the
other rows a sample is tokenized and stored in memory, by the loop that a job runs; from what it comes to the rest is
reckoned by the bytes of the rows.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from castore.format.digest import Digest
from castore.format.schema import DATA_ARRAYS, KEY_BYTES, PROVENANCE_ARRAYS
from castore.format.unit import recipe_digest, unit_name
from castore.ingest.assembly import Assembly
from castore.ingest.job import Prepared, Sizes, TokenizeJob, prepare
from castore.ingest.mix import Amount
from castore.ingest.pool import WORKERS_BYTES_MIN, InlinePool, processors
from castore.ingest.readers import IntArray, RowBatch, RowReader
from castore.ingest.run_writer import MixItem, RunWriter
from castore.ingest.source import Block, Source
from castore.ingest.unit_feed import blocks_with, recipe_of
from castore.ingest.unit_samples import UnitSamples
from castore.ingest.units import RunUnits
from castore.store.backend import Backend, MemoryBackend
from castore.store.compress import pack
from castore.store.objects import ObjectStore
from castore.store.read_only import ReadOnly
from castore.store.units import UnitStore

SAMPLE_BYTES = 4 * 1024 * 1024
"""Bytes of rows that are tokenized for an estimate, over all sources: about a second of work."""

_SAMPLE_BYTES_MIN = 64 * 1024  # of a source, however many there are
_WORKERS_START_S = 0.6
_SIZES = Sizes()


@dataclass(frozen=True, slots=True)
class SourceEstimate:
    """What one entry of the mix would contribute.

    Attributes:
        name: In the user's words.
        rows: Rows that it has.
        selected: Rows that are taken, copies counted.
        tokens: About as many; exactly, if ``tokens_known`` is as many.
        tokens_known: Tokens of the rows that were tokenized before.
    """

    name: str
    rows: int
    selected: int
    tokens: int
    tokens_known: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job would come to.

    Attributes:
        sources: By entry of the mix.
        rows, rows_reused: Rows that are taken, copies counted; those of them that need not be tokenized.
        units, units_reused: Runs of rows that are looked for in the repository; those of them that are found.
        tokens, tokens_known: About as many in all; those that are known exactly, of what was tokenized before.
        bytes_new: About what the repository would grow by for the rows that are new, without what copies of them add.
        seconds: About what it would take on this machine.
    """

    sources: Sequence[SourceEstimate]
    rows: int
    rows_reused: int
    units: int
    units_reused: int
    tokens: int
    tokens_known: int
    bytes_new: int
    seconds: float


@dataclass(slots=True)
class _Drawn:
    """A sample of rows: those with the smallest keys, which are digests. As many as have some bytes in all."""

    bytes_max: int
    size: int = 0
    heap: list[tuple[int, int, int, bytes]] = field(default_factory=list)

    def offer(self, block: Block, heads: NDArray[np.uint64]) -> None:
        """Consider the rows of a block; ``heads`` are the heads of their keys."""
        limit = -self.heap[0][0] if self.size >= self.bytes_max else 1 << 64
        for at in np.flatnonzero(heads < limit).tolist() if limit < 1 << 64 else range(len(block.rows)):
            data = block.rows[at]
            heappush(self.heap, (-int(heads[at]), int(block.numbers[at]), int(block.lines[at]), data))
            self.size += len(data)
            while len(self.heap) > 1 and self.size - len(self.heap[0][3]) >= self.bytes_max:
                self.size -= len(heappop(self.heap)[3])

    def source(self, drawn_from: Source) -> Source:
        """The rows, in the order of the file."""
        name = drawn_from.name
        source = Source(name, reader=_DrawnReader(name, sorted(row[1:] for row in self.heap)))
        source.format = drawn_from.format
        return source


class _DrawnReader(RowReader):
    """Rows that are in memory, with the numbers of their lines in the file that they are of."""

    def __init__(self, name: str, rows: list[tuple[int, int, bytes]]) -> None:
        super().__init__(name)
        self._rows = rows

    @property
    def byte_count(self) -> int:
        return sum(len(data) for _, _, data in self._rows)

    def batches(self, wanted: IntArray | None) -> Iterator[RowBatch]:
        lines = np.array([line for _, line, _ in self._rows], np.int64)
        yield RowBatch([data for _, _, data in self._rows], np.arange(len(lines), dtype=np.int64), lines)

    def count(self) -> int:
        return len(self._rows)

    def scan_digest(self) -> str:
        return ""


@dataclass(slots=True)
class _EntryCount:
    """What is known of one entry of the mix when its rows were read.

    Attributes:
        drawn: Of the rows that must be tokenized.
        tokens: Of the rows that were tokenized before, copies counted.
        bytes_taken: Of the other rows, copies counted, by the entry of the mix in which they are met first.
        bytes_new: Of the rows that must be tokenized.
    """

    drawn: _Drawn
    tokens: int = 0
    bytes_taken: Counter[int] = field(default_factory=Counter)
    bytes_new: int = 0


def estimate(
    job: TokenizeJob,
    backend: Backend,
    time_s: int,
    *,
    report: Callable[[int, int], None] = lambda done, total: None,
    warn: Callable[[str], None] = lambda message: None,
    sizes: Sizes = _SIZES,
) -> Estimate:
    """Reckon what a job would come to; nothing is written.

    Args:
        job: What would be done.
        backend: The repository.
        time_s: When the run would begin, in seconds since 1970.
        report: Called with the rows that were looked at, and how many there are.
        warn: Called with one line for each thing that the user should know.
        sizes: Of blocks, chunks and nodes.

    Raises:
        InvalidInputError: The job, the tokenizer or a source is wrong, or a row of the sample.
    """
    began = time.perf_counter()
    prepared = prepare(job, time_s, sizes, warn)
    kept = ReadOnly(backend)
    objects = ObjectStore(kept)
    reading = _Reading(prepared, RunUnits(objects, UnitStore(kept), sizes.chunk_bytes, sizes.fanout), report)
    counted = [reading.source(at, item, job.mix_seed) for at, item in enumerate(prepared.mix)]
    read_s = time.perf_counter() - began
    sample = _Sample(job, prepared, counted, sizes)
    files = prepared.folder.kept_files().values()
    files_bytes = sum(len(pack(each.data, u32_tail=None)) for each in files if not objects.has(each.digest))
    bytes_new = sum(each.bytes_new for each in counted)
    sources = [
        SourceEstimate(
            item.source.name,
            item.source.row_count(),
            item.amount.target(item.source.row_count()),
            each.tokens + round(sum(count * sample.tokens_a_byte[at] for at, count in each.bytes_taken.items())),
            each.tokens,
        )
        for item, each in zip(prepared.mix, counted, strict=True)
    ]
    return Estimate(
        sources,
        sum(each.selected for each in sources),
        reading.rows_reused,
        reading.units,
        reading.units_reused,
        sum(each.tokens for each in sources),
        sum(each.tokens_known for each in sources),
        round(bytes_new * sample.stored_a_byte) + files_bytes,
        read_s + _tokenizing_s(bytes_new * sample.seconds_a_byte, bytes_new, job.workers),
    )


def _tokenizing_s(alone_s: float, byte_count: int, workers: int | None) -> float:
    """About how long so many processes need for what one needs ``alone_s`` for."""
    workers = workers or processors()
    if workers == 1 or byte_count < WORKERS_BYTES_MIN:
        return alone_s
    return _WORKERS_START_S + alone_s / min(workers, processors())


class _Reading:
    """Reads the rows of a mix, looks for their units, and draws from those that are not found.

    Attributes:
        units, units_reused, rows_reused: As in ``Estimate``.
    """

    def __init__(self, prepared: Prepared, units: RunUnits, report: Callable[[int, int], None]) -> None:
        self.units = self.units_reused = self.rows_reused = 0
        self._find, self._report = units.find, report
        self._recipes = prepared.recipe
        self._recipe = recipe_digest(prepared.recipe)  # that of the source that is read
        self._met: dict[Digest, int] = {}
        self._done = 0
        self._total = sum(item.amount.target(item.source.row_count()) for item in prepared.mix)
        self._drawn_bytes = max(SAMPLE_BYTES // len(prepared.mix), _SAMPLE_BYTES_MIN)

    def source(self, index: int, item: MixItem, seed: int) -> _EntryCount:
        """Read what is taken of a source, an entry of the mix."""
        counted = _EntryCount(_Drawn(self._drawn_bytes))
        self._recipe = recipe_digest(recipe_of(self._recipes, item.source.format))
        selection = item.selection(seed)
        picked = np.sort(selection.extra)
        whole = selection.full_copies > 0
        blocks = item.source.blocks() if whole else blocks_with(item.source, picked, self._is_known)
        for block in blocks:
            copies = selection.full_copies + np.isin(block.numbers, picked, assume_unique=True)
            self._block(block, copies.astype(np.int64), index, counted)
        return counted

    def _is_known(self, keys: bytes) -> bool:
        return self._find(unit_name(self._recipe, keys)) is not None

    def _block(self, block: Block, copies: NDArray[np.int64], index: int, counted: _EntryCount) -> None:
        name = unit_name(self._recipe, block.keys)
        found = self._find(name)
        taken, met = int(copies.sum()), name in self._met
        self.units += 1
        self.units_reused += found is not None or met
        # A further copy of a row is never tokenized again.
        self.rows_reused += taken if found is not None or met else taken - int((copies > 0).sum())
        self._done += taken
        self._report(self._done, self._total)
        if found is not None:
            counted.tokens += _tokens_of(found, copies)
            return
        lengths = np.fromiter(map(len, block.rows), np.int64, len(block.rows))
        counted.bytes_taken[self._met.setdefault(name, index)] += int((lengths * copies).sum())
        if not met:
            counted.bytes_new += block.byte_count
            counted.drawn.offer(block, np.frombuffer(block.keys, "<u8")[:: KEY_BYTES // 8])


def _tokens_of(unit: UnitSamples, copies: NDArray[np.int64]) -> int:
    return int((unit.lengths.astype(np.int64) * copies[unit.kept]).sum())


class _Sample:
    """What tokenizing and storing the drawn rows comes to.

    Attributes:
        stored_a_byte: Bytes that the repository grows by for each byte of the rows.
        seconds_a_byte: What one process takes for it.
        tokens_a_byte: Tokens for each byte of the rows, by entry of the mix; dropped rows have none.
    """

    def __init__(self, job: TokenizeJob, prepared: Prepared, counted: Sequence[_EntryCount], sizes: Sizes) -> None:
        self.stored_a_byte = self.seconds_a_byte = 0.0
        self.tokens_a_byte = [0.0] * len(counted)
        at = [number for number, each in enumerate(counted) if each.drawn.heap]
        if not at:
            return
        mix = [MixItem(counted[n].drawn.source(prepared.mix[n].source), Amount("1.0")) for n in at]
        pool = InlinePool(prepared.make, job.on_error)
        pool.load()
        backend = MemoryBackend()
        objects = ObjectStore(backend)
        tree_sizes = {"chunk_bytes": sizes.chunk_bytes, "fanout": sizes.fanout}
        assembly = Assembly(objects, DATA_ARRAYS, PROVENANCE_ARRAYS, **tree_sizes)
        units = RunUnits(objects, UnitStore(backend), **tree_sizes)
        began = time.perf_counter()
        writer = RunWriter(assembly, units, pool, prepared.recipe, on_error=job.on_error, strict=job.strict)
        written = writer.write(mix, job.mix_seed)
        spent_s = time.perf_counter() - began
        size = sum(counted[number].drawn.size for number in at)
        self.seconds_a_byte = spent_s / size
        self.stored_a_byte = sum(map(len, backend.snapshot().values())) / size
        for number, counts in zip(at, written.counts, strict=True):
            self.tokens_a_byte[number] = counts.tokens / counted[number].drawn.size
