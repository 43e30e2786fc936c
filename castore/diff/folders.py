"""Two output directories of open-instruct without trees: read once side by side, nothing hashed that is equal.

Documents stand across from each other where their lengths agree, from the front and from the back. Only what differs
then, and what is between, is hashed and aligned by keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from castore.diff.keys import Keys, align_keys
from castore.diff.unequal_values import read_values, unequal_samples
from castore.olmo.folder_dataset import FolderDataset
from castore.olmo.parts import IDS, LABELS
from castore.olmo.unequal import unequal_elements
from castore.tree.align import Gap
from castore.tree.diff import joined


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
        found = next(self._unequal_elements(LABELS, 0, 0, self._folders[0].tokens), None) is None
        self._check_unchanged()
        return found

    @cached_property
    def _gaps(self) -> list[tuple[Gap, Keys, Keys]]:
        found = []
        for stretch in self._stretches():
            keys_a = Keys.computed(self.a.reader, stretch.a_lo, stretch.a_hi)
            keys_b = Keys.computed(self.b.reader, stretch.b_lo, stretch.b_hi)
            for gap in align_keys(keys_a, keys_b):
                sides = keys_a[gap.a_lo : gap.a_hi], keys_b[gap.b_lo : gap.b_hi]
                found.append((gap.shifted(stretch.a_lo, stretch.b_lo), *sides))
        self._check_unchanged()
        return found

    def _check_unchanged(self) -> None:
        """Make sure that all of the answer is of one state of both directories, also what was found before."""
        if self._equal is not None:
            self._equal.check_unchanged()
        for folder in self._folders:
            folder.check_unchanged()

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
        return joined(gaps)

    def unequal(self, name: str, a_lo: int, b_lo: int, count: int) -> Iterator[int]:
        """Offsets of samples whose elements of an array differ, of ``count`` whose tokens do not."""
        if name == "labels_mask":
            yield from self._unequal(LABELS, a_lo, b_lo, count)
        elif name in ("key", "length"):
            values = (read_values(data, name, lo, lo + count) for data, lo in ((self.a, a_lo), (self.b, b_lo)))
            every = np.arange(count)
            yield from np.flatnonzero(unequal_samples(next(values), every, next(values), every)).tolist()

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
