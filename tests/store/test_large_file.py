"""Files written past the page cache are those that were asked for, whatever the file system takes."""

from __future__ import annotations

import errno
import mmap
import os
import random
import resource
import signal
import threading
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from castore.store import large_file
from castore.store.large_file import LargeFile

BLOCK = 1 << 14


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_file, "BLOCK_BYTES", BLOCK)


@pytest.fixture(params=["direct", "no flag", "refused at open", "refused at write", "in pieces"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Systems that differ in what they take: the real one, and others that are it but for one call."""
    real_open, real_pwrite = os.open, os.pwrite
    flag = large_file._O_DIRECT or 0
    opened: set[int] = set()

    def opening(path: Any, flags: int, mode: int = 0o777) -> int:
        if flag and flags & flag and request.param == "refused at open":
            raise OSError(errno.EINVAL, "Invalid argument")
        fd = real_open(path, flags, mode)
        (opened.add if flag and flags & flag else opened.discard)(fd)
        return fd

    def writing(fd: int, data: Any, at: int) -> int:
        if fd in opened and request.param == "refused at write":
            raise OSError(errno.EINVAL, "Invalid argument")
        if fd not in opened and request.param == "in pieces":
            return real_pwrite(fd, memoryview(data)[:100], at)
        return real_pwrite(fd, data, at)

    if request.param == "no flag":
        monkeypatch.setattr(large_file, "_O_DIRECT", None)
    monkeypatch.setattr(os, "open", opening)
    monkeypatch.setattr(os, "pwrite", writing)


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 7 * BLOCK + 4097])
def test_what_was_written_is_there(tmp_path: Path, size: int) -> None:
    draw = random.Random(size)
    content = draw.randbytes(size)
    file = LargeFile(tmp_path / "file")
    at = 0
    while at < size:
        count = draw.choice([1, 100, BLOCK // 2, 3 * BLOCK])
        file.write(memoryview(content)[at : at + count])
        at += count
    file.finish()
    assert (tmp_path / "file").read_bytes() == content
    file.close()


def test_items_of_any_width_are_bytes(tmp_path: Path) -> None:
    with LargeFile(tmp_path / "file") as file:
        file.write(memoryview(bytes(range(16))).cast("I"))
        file.finish()
    assert (tmp_path / "file").read_bytes() == bytes(range(16))


def test_a_file_that_is_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError):
        LargeFile(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_closing_twice_and_too_early(tmp_path: Path) -> None:
    file = LargeFile(tmp_path / "file")
    fds = [fd for fd in (file._fd, file._direct) if fd is not None]
    file.write(memoryview(bytes(3 * BLOCK)))
    file.close()
    file.close()
    for fd in fds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def write_and_finish(file: LargeFile, data: bytes) -> None:
    with file:
        file.write(memoryview(data))
        file.finish()


@pytest.mark.parametrize("blocks", [0, 1, 2, 5])
def test_a_limit_of_the_system_is_told(tmp_path: Path, blocks: int) -> None:
    """A real error of a real write, in the thread or at the end; nothing hangs, and the file is closed."""
    limit = blocks * BLOCK + 100
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        file = LargeFile(tmp_path / "file")
        with pytest.raises(OSError, match="File too large"):
            write_and_finish(file, bytes(limit + 1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert file._fd == -1


def test_a_sync_that_fails_closes_the_file(tmp_path: Path) -> None:
    file = LargeFile(tmp_path / "file")
    with mock.patch.object(os, "fsync", side_effect=OSError(5, "it broke")), pytest.raises(OSError, match="broke"):
        file.finish()
    assert file._fd == -1


@pytest.mark.parametrize("call", [1, 2])
def test_a_file_that_cannot_be_begun_is_closed(tmp_path: Path, call: int) -> None:
    calls: list[int] = []
    real = mmap.mmap

    def mapping(*args: int) -> mmap.mmap:
        calls.append(len(calls))
        if len(calls) == call:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        return real(*args)

    before = len(list(Path("/proc/self/fd").iterdir()))
    with mock.patch.object(mmap, "mmap", mapping), pytest.raises(OSError, match="allocate"):
        LargeFile(tmp_path / "file")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_no_thread_is_an_error_of_the_system(tmp_path: Path) -> None:
    file = LargeFile(tmp_path / "file")
    no_thread = mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("can't start new thread"))
    with no_thread, pytest.raises(OSError, match="can't start new thread"):
        write_and_finish(file, bytes(2 * BLOCK))
    assert file._fd == -1
