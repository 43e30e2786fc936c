"""An output directory of open-instruct as a dataset that can be read but has no trees and no root."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from castore.errors import NotFoundError
from castore.format.manifest import Manifest
from castore.format.run import Run, RunConfiguration
from castore.format.samples import Samples, SpanColumn, offsets_of, sample_keys
from castore.format.schema import KEY, KEY_BYTES, LABELS_MASK, LENGTH, SOURCE, TOKEN_IDS
from castore.olmo.equal import Agreement
from castore.olmo.folder import OlmoCoreFolder, check_statistics
from castore.olmo.rootless import NO_ROOT, folder_manifest, no_objects
from castore.olmo.scan import FolderScan, folder_sources
from castore.read.columns import Columns

BATCH_TOKENS = 1 << 20
"""Tokens that are read at once."""


class FolderDataset(Columns):
    """An output directory as a dataset that can be read but has no trees and no root.

    Args:
        path: The directory.
        beside: The directory that it is compared with: boundaries that are stored alike are read once.
        equal: What is known to be equal of the two.

    Raises:
        SourceError: The directory is incomplete or contradicts itself.
    """

    def __init__(self, path: str, beside: FolderDataset | None = None, equal: Agreement | None = None) -> None:
        self.folder: OlmoCoreFolder = OlmoCoreFolder(path, None if beside is None else beside.folder)
        check_statistics(self.folder)
        self.beside, self.equal = beside, equal
        super().__init__(no_objects, NO_ROOT, None)
        self.part_items = self.folder.part_items
        self._scan = FolderScan(self.folder, None)

    @cached_property
    def manifest(self) -> Manifest:
        """Arrays and counts; the entries name nothing."""
        return folder_manifest(len(self.folder.lengths), self.folder.tokens)

    @cached_property
    def run(self) -> Run | None:
        """What the directory tells of itself."""
        sources = [source for source, _ in folder_sources(self.folder, self._scan, undone=False)]
        configuration = RunConfiguration(vocab_size=self.folder.vocab_size)
        return Run(NO_ROOT, len(self.folder.lengths), configuration=configuration, sources=sources)

    @cached_property
    def reader(self) -> FolderReader:
        """Reads documents of the directory; keeps nothing."""
        return FolderReader(self.folder)


class FolderReader:
    """Ranges of a directory's documents, as ``RangeReader`` has them.

    Args:
        folder: The directory.
    """

    def __init__(self, folder: OlmoCoreFolder) -> None:
        self._folder = folder

    def tokens(self, lo: int, hi: int) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Token ids of documents ``lo`` to ``hi``, uint32[m], and where each begins and ends in them, int64[n + 1]."""
        return _tokens_of(self._folder.samples(lo, hi))

    def token_batches(self, lo: int, hi: int) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.int64]]]:
        """The same, about ``BATCH_TOKENS`` or one document at a time."""
        yield from map(_tokens_of, self._batches(lo, hi))

    def spans(self, name: str, lo: int, hi: int) -> SpanColumn:
        """Trainable spans of documents ``lo`` to ``hi``."""
        return SpanColumn.concat([_spans_of(samples) for samples in self._batches(lo, hi)])

    def elements(self, name: str, lo: int, hi: int) -> NDArray[Any]:
        """Elements ``lo`` to ``hi`` of an array with one a document; keys are computed, the source is 0 for all."""
        if name == LENGTH.name:
            return self._folder.lengths[lo:hi]
        if name == SOURCE.name:
            return np.zeros(hi - lo, np.uint32)
        if name == KEY.name:
            keys = (sample_keys(ids, np.diff(offsets)) for ids, offsets in self.token_batches(lo, hi))
            return np.concatenate([np.zeros((0, KEY_BYTES), np.uint8), *keys])
        raise NotFoundError(f"a directory has no array {name}")

    def sample_offsets(self, lo: int, hi: int) -> NDArray[np.int64]:
        """Elements ``lo`` to ``hi`` of the n + 1 places where documents begin and end among all tokens."""
        return np.append(self._folder.starts[lo:hi], [self._folder.tokens] if hi > len(self._folder.starts) else [])

    def _batches(self, lo: int, hi: int) -> Iterator[Samples]:
        """Documents with about ``BATCH_TOKENS`` tokens, or one."""
        starts = self._folder.starts
        while lo < hi:
            stop = int(np.searchsorted(starts, starts[lo] + BATCH_TOKENS, side="right")) - 1
            stop = min(max(stop, lo + 1), hi)
            yield self._folder.samples(lo, stop)
            lo = stop


def _tokens_of(samples: Samples) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    ids = samples.columns[TOKEN_IDS.name]
    assert isinstance(ids, np.ndarray)
    return ids, offsets_of(samples.lengths)


def _spans_of(samples: Samples) -> SpanColumn:
    spans = samples.columns[LABELS_MASK.name]
    assert isinstance(spans, SpanColumn)
    return spans
