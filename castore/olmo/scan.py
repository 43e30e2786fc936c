"""The documents of an output directory in a given order, as pieces for a builder, and the sources they are of."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from castore.errors import SourceError
from castore.format.run import SourceRecord
from castore.format.samples import Piece, Samples, SpanColumn, offsets_of, sample_keys
from castore.format.schema import LABELS_MASK, TOKEN_IDS
from castore.olmo.folder import OlmoCoreFolder
from castore.olmo.parts import ContentHash
from castore.olmo.sources import (
    source_records,
    sources_in_mix_order,
    sources_of_names,
    sources_of_numbers,
    text_of,
)

BATCH_TOKENS = 1 << 20
"""Tokens handled together: enough for numpy to be fast, few enough to stay in the processor's cache and in memory."""

_MIXERS = np.frombuffer(os.urandom(24), np.uint64) | np.uint64(1)
"""Factors of this process alone, so that nobody can write labels whose prints are those of others."""

SourceCount = tuple[SourceRecord, int]
"""A source as a run record lists it, and how many documents in stored order are of it."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a folder held when all of it was read once, document by document.

    Attributes:
        keys: uint8[n, 16].
        prints: What stands for the labels within this process, uint64[n].
        content: Digest of all that was read, as ``OlmoCoreFolder.digest``.
    """

    keys: NDArray[np.uint8]
    prints: NDArray[np.uint64]
    content: str

    @classmethod
    def of(cls, folder: OlmoCoreFolder) -> Reading:
        """Read a folder."""
        seen = ContentHash()
        keys, prints = np.empty((len(folder.lengths), 16), np.uint8), np.empty(len(folder.lengths), np.uint64)
        for lo, some, samples in FolderScan(folder, None, seen=seen).batches():
            keys[lo : lo + len(some)], prints[lo : lo + len(some)] = some, _prints(samples)
        return cls(keys, prints, seen.digest(folder.shape))


class FolderScan:
    """The documents of a folder in an order of choice.

    Args:
        folder: The folder.
        documents: Document at each stored place, int64[n]; None for the folder's own order.
        before: What the folder held when it was read before: each document that is met must be what it was.
        seen: Sees what the batches are made of, in the folder's own order.

    Attributes:
        lengths: Tokens of each document in that order, uint32[n].
        trainable_total: Trainable tokens of the pieces given so far.
    """

    def __init__(
        self,
        folder: OlmoCoreFolder,
        documents: NDArray[np.int64] | None,
        before: Reading | None = None,
        seen: ContentHash | None = None,
    ) -> None:
        assert seen is None or documents is None
        self._folder, self._documents = folder, documents
        self._before, self._seen = before, seen
        self._trainable: NDArray[np.int64] | None = None
        self.lengths = folder.lengths if documents is None else folder.lengths[documents]
        self.trainable_total = 0

    def batches(self) -> Iterator[tuple[int, NDArray[np.uint8], Samples]]:
        """First document, keys and samples of every batch.

        Raises:
            SourceError: A document is not what it was before.
        """
        offsets = offsets_of(self.lengths)
        lo, count = 0, len(self.lengths)
        while lo < count:
            hi = max(int(np.searchsorted(offsets, offsets[lo] + BATCH_TOKENS, side="right")) - 1, lo + 1)
            samples = self._folder.samples(lo, hi, self._seen) if self._seen else self.samples(lo, hi)
            token_ids = samples.columns[TOKEN_IDS.name]
            assert isinstance(token_ids, np.ndarray)
            keys = sample_keys(token_ids, samples.lengths)
            self._check_before(lo, hi, keys, samples)
            yield lo, keys, samples
            lo = hi

    def samples(self, lo: int, hi: int) -> Samples:
        """Documents at places ``lo`` to ``hi``."""
        if self._documents is None:
            return self._folder.samples(lo, hi)
        return self._folder.chosen(self._documents[lo:hi])

    def trainable(self) -> NDArray[np.int64]:
        """Trainable tokens of every document, int64[n]; ``pieces`` makes sure that it meets the same."""
        if self._trainable is None:
            counts = [_trainable(self.samples(lo, hi)) for lo, hi in _ranges(len(self.lengths), 4096)]
            self._trainable = np.concatenate(counts) if counts else np.zeros(0, np.int64)
        return self._trainable

    def pieces(self, sources: Sequence[SourceCount], numbers: NDArray[np.uint32] | None = None) -> Iterator[Piece]:
        """Pieces for a builder.

        What came of an earlier reading, keys and trainable tokens, is what is read now, or this ends.

        Args:
            sources: Sources, whose documents follow one another unless ``numbers`` are given.
            numbers: Source of every document in this order, uint32[n].

        Raises:
            SourceError: The folder changed since it was read before.
        """
        source_stops = np.cumsum([count for _, count in sources], dtype=np.int64)
        for lo, keys, samples in self.batches():
            trainable, hi = _trainable(samples), lo + len(samples)
            if self._trainable is not None and not np.array_equal(trainable, self._trainable[lo:hi]):
                raise self.changed()
            self.trainable_total += int(trainable.sum())
            if numbers is None:
                source = np.searchsorted(source_stops, np.arange(lo, hi), side="right").astype(np.uint32)
            else:
                source = numbers[lo:hi]
            yield Piece(samples.lengths, keys, {"source": source}, _given(samples))

    def _check_before(self, lo: int, hi: int, keys: NDArray[np.uint8], samples: Samples) -> None:
        if self._before is None:
            return
        which = slice(lo, hi) if self._documents is None else self._documents[lo:hi]
        agree = np.array_equal(keys, self._before.keys[which])
        if not agree or not np.array_equal(_prints(samples), self._before.prints[which]):
            raise self.changed()

    def changed(self) -> SourceError:
        """What is raised where two readings of the folder do not agree."""
        self._folder.check_unchanged()  # which can name the file
        return SourceError(self._folder.path, "changed while it was read")


def _given(samples: Samples) -> Callable[[], Samples]:
    return lambda: samples


def _ranges(count: int, step: int) -> list[tuple[int, int]]:
    return [(lo, min(lo + step, count)) for lo in range(0, count, step)]


def _trainable(samples: Samples) -> NDArray[np.int64]:
    spans = samples.columns[LABELS_MASK.name]
    assert isinstance(spans, SpanColumn)
    sums = np.concatenate([[0], np.cumsum(spans.stops - spans.starts, dtype=np.int64)])
    return np.diff(sums[offsets_of(spans.counts)])


def _prints(samples: Samples) -> NDArray[np.uint64]:
    """What stands for the labels of each document: a sum over its spans, each mixed to look like a random number."""
    spans = samples.columns[LABELS_MASK.name]
    assert isinstance(spans, SpanColumn)
    mixed = spans.starts.astype(np.uint64) * _MIXERS[0] + spans.stops.astype(np.uint64) * _MIXERS[1]
    mixed = (mixed ^ (mixed >> np.uint64(29))) * _MIXERS[2]
    mixed ^= mixed >> np.uint64(32)
    sums = np.zeros(len(mixed) + 1, np.uint64)
    np.cumsum(mixed, out=sums[1:])  # numbers that wrap around
    return np.diff(sums[offsets_of(spans.counts)])


def folder_sources(folder: OlmoCoreFolder, scan: FolderScan, *, undone: bool) -> list[SourceCount]:
    """Sources with their number of documents, in stored order.

    Documents of several sources are told apart only once the shuffle is undone; otherwise the directory is one source.

    Args:
        folder: The folder.
        scan: Its documents in stored order.
        undone: The shuffle was undone.
    """
    listed = folder.statistics.datasets
    if len(listed) == 1:
        return [(source_records(listed)[0], len(scan.lengths))]
    ordered = sources_in_mix_order(listed, scan.lengths, scan.trainable) if undone else None
    if ordered is not None:
        counts = [int(entry["final_instances_in_output"]) for entry in ordered]
        return list(zip(source_records(ordered), counts, strict=True))
    count = len(scan.lengths)
    return [(SourceRecord(text_of(folder.path), amount="1.0", rows=count, split="train"), count)]


def supposed_sources(
    folder: OlmoCoreFolder,
    scan: FolderScan,
    names: Sequence[str],
    numbers: NDArray[np.uint32],
    *,
    by_name: bool = False,
) -> list[SourceCount] | None:
    """Sources with their number of documents, if the statistics bear out what the documents are supposed to be of.

    Args:
        folder: The folder.
        scan: Its documents in stored order.
        names: Of the sources.
        numbers: Supposed source of every document in stored order, uint32[n].
        by_name: It is enough that the statistics list no datasets of other names.
    """
    listed = folder.statistics.datasets
    if len(names) < 2 or not len(numbers) or int(numbers.max()) >= len(names):
        return None
    found = sources_of_numbers(listed, names, numbers, scan.lengths, scan.trainable)
    if found is None and by_name:
        found = sources_of_names(listed, names)
    if found is None:
        return None
    counts = np.bincount(numbers, minlength=len(names)).tolist()
    return list(zip(source_records(found), counts, strict=True))
