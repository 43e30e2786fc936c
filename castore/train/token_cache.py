"""Decoded tokens of a dataset in local files that several processes map into memory: reading at random, fast.

A chunk is verified and decoded when a sample of it is asked for first, and written to its place in the files; from
then on its samples are slices of mapped memory, in every process that shares the cache. Two processes may decode one
chunk at once: they write the same bytes. A chunk is marked after its bytes are written, and the files live no longer
than the process that made them, so there is nothing to recover after a crash.
"""

from __future__ import annotations

import mmap
import os
import re
import shutil
import tempfile
import weakref
from bisect import bisect_right
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from castore.errors import BackendError
from castore.format.samples import offsets_of
from castore.read.reader import Reader
from castore.read.whole import whole_lengths
from castore.store.files import is_full, write_at
from castore.store.processes import OWNER, is_dead, this_process
from castore.tree.walk import leaves

if TYPE_CHECKING:
    from castore.read.columns import Columns

Tokens: TypeAlias = tuple[NDArray[np.uint32], NDArray[np.bool_]]
"""Token ids uint32[t] and labels bool[t]."""

BYTES_A_TOKEN = 5
"""Four of the id and one of the label."""

READER_BYTES = 16 << 20
"""Bytes of decoded chunks that are kept beside the files, for samples that have no room in them."""

_PREFIX = "castore-cache-"
_NAME = re.compile(rf"{_PREFIX}({OWNER})-.*", re.DOTALL)


class TokenCache:
    """Token ids and labels of any sample, as they are stored.

    May be pickled and inherited by a fork: a process opens the repository for itself when it must read from it.

    Args:
        data: The dataset, of a repository.
        bytes_max: Bytes that the files may take. Samples from the start of the stored order have room in them; the
            others are decoded whenever they are asked for. None: half of what is free.
        folder: Where the files go: a folder of their own in it, or in the system's folder for temporary files.

    Raises:
        BackendError: The files cannot be made.
    """

    def __init__(self, data: Columns, bytes_max: int | None = None, folder: str | None = None) -> None:
        self._data = data
        self.tokens = data.manifest.tokens
        starts = [leaf.start for leaf in leaves(data.fetch, data.tree("token_ids"))]
        offsets = offsets_of(whole_lengths(data))
        place = Path(folder or tempfile.gettempdir())
        try:
            _sweep(place)
            if bytes_max is None:
                bytes_max = shutil.disk_usage(place).free // 2
            self.folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{this_process()}-", dir=place))
            weakref.finalize(self, _remove, self.folder, os.getpid())
            offsets.tofile(self.folder / "offsets")
            np.array([*starts, len(data)], np.int64).tofile(self.folder / "starts")
            room = min(self.tokens, bytes_max // BYTES_A_TOKEN)
            for name, size in (("token_ids", 4 * room), ("labels_mask", room), ("filled", len(starts))):
                with (self.folder / name).open("wb") as file:
                    file.truncate(max(size, 1))  # an empty file cannot be mapped
        except OSError as error:
            raise BackendError(
                f"{place}: no files for a cache: {error.strerror or error}", full=is_full(error)
            ) from error
        self._room = room
        self._open()

    def _open(self) -> None:
        """Map the files into this process."""
        self._pid = os.getpid()
        self._files: dict[str, int] = {}
        self.offsets: NDArray[np.int64] = self._mapped("offsets", np.dtype(np.int64))
        self._ids: NDArray[np.uint32] = self._mapped("token_ids", np.dtype("<u4"), writable=True)
        self._mask: NDArray[np.bool_] = self._mapped("labels_mask", np.dtype(np.bool_), writable=True)
        self._filled = self._mapped("filled", np.dtype(np.uint8), writable=True).data
        self._starts: list[int] = self._mapped("starts", np.dtype(np.int64)).tolist()
        self._reader: Reader | None = None
        weakref.finalize(self, _close, list(self._files.values()))

    def _mapped(self, name: str, dtype: np.dtype[Any], *, writable: bool = False) -> NDArray[Any]:
        handle = os.open(self.folder / name, os.O_RDWR if writable else os.O_RDONLY)
        mapped = mmap.mmap(handle, 0, prot=mmap.PROT_READ)
        if writable:
            self._files[name] = handle
        else:
            os.close(handle)
        return np.frombuffer(mapped, dtype, count=len(mapped) // dtype.itemsize)

    def __getstate__(self) -> dict[str, Any]:
        return {"_data": self._data, "tokens": self.tokens, "folder": self.folder, "_room": self._room}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def read(self, sample: int, start: int = 0, stop: int | None = None) -> Tokens:
        """Token ids and labels of a sample, or of its tokens ``start`` to ``stop``; not to be changed.

        Raises:
            CorruptionError: What is stored is damaged.
        """
        if self._pid != os.getpid():  # after a fork
            self._open()
        first = int(self.offsets[sample])
        lo, hi = first + start, int(self.offsets[sample + 1]) if stop is None else first + stop
        chunk = bisect_right(self._starts, sample) - 1
        if self._filled[chunk] or self._fill(chunk):
            return self._ids[lo:hi], self._mask[lo:hi]
        batch = self._own_reader().read(sample, sample + 1)
        return batch.token_ids[lo - first : hi - first], batch.labels_mask[lo - first : hi - first]

    def _fill(self, chunk: int) -> bool:
        """Write a chunk to the files; False if it has no room there."""
        lo, hi = self._starts[chunk], self._starts[chunk + 1]
        at, end = int(self.offsets[lo]), int(self.offsets[hi])
        if end > self._room:
            return False
        batch = self._own_reader().read(lo, hi)
        try:
            # Not through the mapping: a full disk would end the process there, and here is an error.
            write_at(self._files["token_ids"], _bytes_of(batch.token_ids.astype("<u4", copy=False)), 4 * at)
            write_at(self._files["labels_mask"], _bytes_of(batch.labels_mask), at)
            write_at(self._files["filled"], memoryview(b"\1"), chunk)
        except OSError:
            self._room = 0
            return False
        return True

    def _own_reader(self) -> Reader:
        """A reader of a repository that this process has opened itself."""
        if self._reader is None:
            reopen, arguments = self._data.__reduce__()[:2]
            self._reader = Reader(reopen(*arguments), READER_BYTES)
        return self._reader


def _bytes_of(array: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).data.cast("B")


def _close(handles: list[int]) -> None:
    for handle in handles:
        os.close(handle)


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # a fork inherits this, and must leave the files to others
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(place: Path) -> None:
    """Remove what processes left that were killed."""
    for folder in place.glob(f"{_PREFIX}*"):
        named = _NAME.fullmatch(folder.name)
        if named and is_dead(named[1]) and not folder.is_symlink():
            shutil.rmtree(folder, ignore_errors=True)
