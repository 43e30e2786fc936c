"""Two output directories of open-instruct without trees: read once side by side, nothing hashed that is equal.

Documents stand across from each other where their lengths agree, from the front and from the back. Only what differs
then, and what is between, is hashed and aligned by keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from castore.diff.folder_pair import NO_ROOT, folder_manifest, no_objects
from castore.diff.keys import Keys, align_keys
from castore.diff.keys import Run as KeyRun
from castore.diff.reordered import relabelled
from castore.format.chunk import uint32s
from castore.format.manifest import Manifest
from castore.format.run import Run, RunConfiguration
from castore.format.samples import Column, Samples, SpanColumn, offsets_of, sample_keys
from castore.format.schema import TOKEN_IDS
from castore.olmo.equal import Agreement
from castore.olmo.folder import OlmoCoreFolder, check_statistics
from castore.olmo.scan import FolderScan, folder_sources
from castore.olmo.unequal import IDS, LABELS, unequal_elements
from castore.read.columns import Columns
from castore.tree.align import Gap


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

    def documents(self, lo: int, hi: int) -> Samples:
        """Documents ``lo`` to ``hi``."""
        return self.folder.samples(lo, hi)

    def token_ids(self, lo: int, hi: int) -> list[Sequence[int]]:
        """Token ids of samples ``lo`` to ``hi``."""
        samples = self.documents(lo, hi)
        ids = samples.columns[TOKEN_IDS.name]
        assert isinstance(ids, np.ndarray)
        tokens, edges = uint32s(ids.astype("<u4").tobytes()), offsets_of(samples.lengths).tolist()
        return [tokens[start:stop] for start, stop in pairwise(edges)]

    def spans(self, lo: int, hi: int, name: str = "labels_mask") -> list[list[tuple[int, int]]]:
        """Trainable spans of samples ``lo`` to ``hi``, half-open within each sample."""
        spans = self.span_column(lo, hi)
        pairs = list(zip(spans.starts.tolist(), spans.stops.tolist(), strict=True))
        edges = offsets_of(spans.counts).tolist()
        return [pairs[start:stop] for start, stop in pairwise(edges)]

    def span_column(self, lo: int, hi: int) -> SpanColumn:
        """The same as arrays."""
        spans = self.documents(lo, hi).columns["labels_mask"]
        assert isinstance(spans, SpanColumn)
        return spans

    def integers(self, name: str, lo: int, hi: int) -> list[int]:
        """Elements of ``length``, or of ``source``, which is the same for all."""
        return [int(n) for n in self.folder.lengths[lo:hi]] if name == "length" else [0] * (hi - lo)

    def key_bytes(self, name: str, lo: int, hi: int) -> bytearray:
        """Keys of samples ``lo`` to ``hi``, computed."""
        out = bytearray()
        for first, last in _batches(self.folder, lo, hi):
            samples = self.documents(first, last)
            ids = samples.columns[TOKEN_IDS.name]
            assert isinstance(ids, np.ndarray)
            out += sample_keys(ids, samples.lengths).tobytes()
        return out

    def token_start(self, sample: int) -> int:
        """Tokens before a sample."""
        return int(self.folder.starts[sample])


def _batches(folder: OlmoCoreFolder, lo: int, hi: int, tokens: int = 1 << 20) -> Iterator[tuple[int, int]]:
    """Ranges of documents with about so many tokens."""
    while lo < hi:
        stop = int(np.searchsorted(folder.starts, folder.starts[lo] + tokens, side="right")) - 1
        stop = min(max(stop, lo + 1), hi)
        yield lo, stop
        lo = stop


class FolderPair:
    """Two output directories, read side by side.

    Args:
        a, b: The directories.
    """

    def __init__(self, a: FolderDataset, b: FolderDataset) -> None:
        self.a, self.b = a, b
        self._folders = a.folder, b.folder
        self._equal = b.equal if b.beside is a else None

    def equal(self) -> bool:
        """Whether all arrays are equal."""
        return self.same("token_ids") and self.same("labels_mask")

    def same(self, name: str) -> bool:
        """Whether an array is equal, element by element."""
        if name == "source":
            return self.a.samples == self.b.samples
        if name == "length":
            return self._same_lengths
        if name == "labels_mask":
            return self._same_labels
        return not self._gaps

    def gaps(self) -> list[tuple[Gap, Keys, Keys]]:
        """Samples whose tokens differ or that only one side has, in order, with their keys on both sides."""
        return self._gaps

    @cached_property
    def _same_lengths(self) -> bool:
        return np.array_equal(self._folders[0].lengths, self._folders[1].lengths)

    @cached_property
    def _same_labels(self) -> bool:
        if not self._same_lengths:
            return False
        return next(self._unequal_elements(LABELS, 0, 0, self._folders[0].tokens), None) is None

    @cached_property
    def _gaps(self) -> list[tuple[Gap, Keys, Keys]]:
        found = []
        for stretch in self._stretches():
            keys_a = Keys(self.a.key_bytes("key", stretch.a_lo, stretch.a_hi))
            keys_b = Keys(self.b.key_bytes("key", stretch.b_lo, stretch.b_hi))
            for gap in align_keys(keys_a, keys_b):
                sides = keys_a[gap.a_lo : gap.a_hi], keys_b[gap.b_lo : gap.b_hi]
                found.append((gap.shifted(stretch.a_lo, stretch.b_lo), *sides))
        return found

    def _stretches(self) -> list[Gap]:
        """Stretches outside of which all documents are equal, pair by pair."""
        lengths_a, lengths_b = (folder.lengths for folder in self._folders)
        count_a, count_b = len(lengths_a), len(lengths_b)
        head = _agreeing(lengths_a, lengths_b)
        most = min(count_a, count_b) - head
        tail = _agreeing(lengths_a[::-1][:most], lengths_b[::-1][:most])
        gaps = [Gap(at, at + 1, at, at + 1) for at in self._unequal(IDS, 0, 0, head)]
        if head < count_a - tail or head < count_b - tail:
            gaps.append(Gap(head, count_a - tail, head, count_b - tail))
        a_lo, b_lo = count_a - tail, count_b - tail
        gaps += [Gap(a_lo + i, a_lo + i + 1, b_lo + i, b_lo + i + 1) for i in self._unequal(IDS, a_lo, b_lo, tail)]
        return _joined(gaps)

    def changed(self, name: str, a_lo: int, b_lo: int, count: int) -> Iterator[int]:
        """Offsets of samples whose elements of an array differ, of ``count`` whose tokens do not."""
        if name == "labels_mask":
            yield from self._unequal(LABELS, a_lo, b_lo, count)
        elif name in ("key", "length"):
            values_a, values_b = (
                data.keys(name, lo, lo + count) if name == "key" else data.integers(name, lo, lo + count)
                for data, lo in ((self.a, a_lo), (self.b, b_lo))
            )
            yield from (i for i in range(count) if values_a[i] != values_b[i])

    def relabelled(self, name: str, runs: Sequence[KeyRun]) -> Iterator[tuple[int, int]]:
        """Samples in other places whose elements of an array differ."""
        if name == "labels_mask":
            column_a, column_b = (self._all_spans(data) for data in (self.a, self.b))
            yield from relabelled(column_a, column_b, runs)

    def _all_spans(self, data: FolderDataset) -> Column:
        bounds = _batches(data.folder, 0, data.samples)
        return SpanColumn.concat([data.span_column(lo, hi) for lo, hi in bounds])

    def _unequal(self, which: int, a_lo: int, b_lo: int, count: int) -> Iterator[int]:
        """Offsets of documents that differ, of ``count`` with equal lengths."""
        if count == 0:
            return
        a, b = self._folders
        starts = a.starts[a_lo : a_lo + count] - a.starts[a_lo]
        total = int(starts[-1]) + int(a.lengths[a_lo + count - 1])
        last = -1
        for elements in self._unequal_elements(which, int(a.starts[a_lo]), int(b.starts[b_lo]), total):
            documents = np.searchsorted(starts, elements, side="right") - 1  # ascending
            yield from documents[np.diff(documents, prepend=last) > 0].tolist()
            last = int(documents[-1])

    def _unequal_elements(self, which: int, a_lo: int, b_lo: int, count: int) -> Iterator[NDArray[np.int64]]:
        """The same for elements, without those at the front that are known to be equal."""
        known = 0
        if self._equal is not None and a_lo == b_lo:
            known = self._equal.ids if which == IDS else self._equal.labels
        done = min(max(known - a_lo, 0), count)
        for elements in unequal_elements(*self._folders, which, a_lo + done, b_lo + done, count - done):
            yield done + elements


def _agreeing(a: NDArray[np.uint32], b: NDArray[np.uint32]) -> int:
    """Equal elements at the front."""
    count = min(len(a), len(b))
    unequal = a[:count] != b[:count]
    at = int(unequal.argmax()) if count else 0
    return at if count and unequal[at] else count


def _joined(gaps: Sequence[Gap]) -> list[Gap]:
    """Gaps that adjoin on both sides, made one."""
    out: list[Gap] = []
    for gap in gaps:
        if out and (out[-1].a_hi, out[-1].b_hi) == (gap.a_lo, gap.b_lo):
            out[-1] = Gap(out[-1].a_lo, gap.a_hi, out[-1].b_lo, gap.b_hi)
        else:
            out.append(gap)
    return out
