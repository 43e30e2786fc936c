"""A large file that is written from front to back, past the page cache where the system can do that.

What is exported is made durable before it gets its name, and is larger than memory as often as not. Through the cache
every page of it is taken from the system, copied into, and pushes out a page that somebody else is reading: 1.4 GB
cost 1.5 to 3.5 s of the kernel so, and 0.1 s with ``O_DIRECT`` (open(2); Linux 6.18, ext4).
"""

from __future__ import annotations

import errno
import mmap
import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from castore.store.files import write_at

BLOCK_BYTES = 1 << 22
"""Bytes that are written at once: a multiple of every block size, at an offset that is one, from whole pages."""

_O_DIRECT = getattr(os, "O_DIRECT", None)


class LargeFile:
    """A new file. As a context manager it is closed, and only ``finish`` makes it complete and durable.

    A thread writes one block while the next is filled, so that a disk that takes its time costs none of the processor.

    Args:
        path: Must not exist.

    Raises:
        OSError: In any call, of this or an earlier write.
    """

    def __init__(self, path: Path) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._under_way: Future[None] | None = None  # the write of the other block
        self._filled = 0  # bytes in the block
        self._at = 0  # where in the file the block goes
        self._direct: int | None = None
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            self._direct = _open_direct(path)
            # Anonymous maps, since what goes past the cache begins where a page does. Pages cost when they are touched.
            self._block = mmap.mmap(-1, BLOCK_BYTES)
            self._other = mmap.mmap(-1, BLOCK_BYTES)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> LargeFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def write(self, data: memoryview) -> None:
        """Append bytes: a contiguous view of any format."""
        data = data.cast("B")
        while len(data):
            count = min(len(data), BLOCK_BYTES - self._filled)
            self._block[self._filled : self._filled + count] = data[:count]
            self._filled += count
            data = data[count:]
            if self._filled == BLOCK_BYTES:
                self._hand_over()

    def finish(self) -> None:
        """Write what is left, make the file durable and close it."""
        try:
            self._wait()
            with memoryview(self._block) as view:
                write_at(self._fd, view[: self._filled], self._at)
            os.fsync(self._fd)
        finally:
            self.close()

    def close(self) -> None:
        """Give up what is not written yet."""
        self._thread.shutdown()
        for fd in (self._fd, self._direct):
            if fd is not None and fd >= 0:
                with suppress(OSError):
                    os.close(fd)
        self._fd, self._direct = -1, None

    def _hand_over(self) -> None:
        """Let the thread write the block, and go on with the other one."""
        self._wait()
        try:
            self._under_way = self._thread.submit(self._put, self._block, self._at)
        except RuntimeError as error:  # the system has no thread left, which Python does not tell as an OSError
            raise OSError(errno.EAGAIN, str(error)) from error
        self._block, self._other = self._other, self._block
        self._at += BLOCK_BYTES
        self._filled = 0

    def _wait(self) -> None:
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()

    def _put(self, block: mmap.mmap, at: int) -> None:
        with memoryview(block) as view:
            done = 0
            if self._direct is not None:
                try:
                    done = os.pwrite(self._direct, view, at)
                except OSError as error:
                    # Some file systems take the flag and refuse the write.
                    if error.errno != errno.EINVAL:
                        raise
                    os.close(self._direct)
                    self._direct = None
            write_at(self._fd, view[done:], at + done)


def _open_direct(path: Path) -> int | None:
    """The file once more, for writes past the cache; None where there are none."""
    if _O_DIRECT is None:
        return None
    try:
        return os.open(path, os.O_WRONLY | _O_DIRECT)
    except OSError:
        return None
