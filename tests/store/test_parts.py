"""Parts of values: how much is read for them, in how many requests; what they mean is in the conformance suite."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from castore.errors import BackendError
from castore.store.backend import Backend, MemoryBackend
from castore.store.fsspec import FsspecBackend
from castore.store.local import LocalBackend
from castore.store.read_only import ReadOnly
from castore.store.urls import open_backend
from tests.support.commands import wait_until
from tests.support.gcs_stub import GcsStub
from tests.support.servers import free_port

DATA = bytes(range(256)) * 4096  # 1 MiB


def filled(backend: Backend) -> Backend:
    backend.put("p/a", DATA)
    backend.flush()
    return backend


def test_no_more_than_the_part_is_read_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = filled(LocalBackend(str(tmp_path)))
    read: list[tuple[int, int]] = []
    real = os.pread

    def pread(fd: int, size: int, at: int) -> bytes:
        read.append((size, at))
        return real(fd, size, at)

    monkeypatch.setattr(os, "pread", pread)
    assert backend.get_part("p/a", 1000, 7) == DATA[1000:1007]
    assert backend.get_part("p/a", -8, 8) == DATA[-8:]
    assert backend.get_part("p/a", len(DATA) - 5, 1 << 50) == DATA[-5:]
    assert read == [(7, 1000), (8, len(DATA) - 8), (5, len(DATA) - 5)]


def test_a_file_that_is_read_in_small_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system may give less than asked at a time, and a file may become shorter."""
    backend = filled(LocalBackend(str(tmp_path)))
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, at: real(fd, min(size, 1000), at) if at < 9000 else b"")
    assert backend.get_part("p/a", 100, 5000) == DATA[100:5100]
    assert backend.get("p/a", len(DATA)) == DATA[:9000]


def test_what_lies_aside_is_read_in_part(tmp_path: Path) -> None:
    aside = tmp_path / "tmp/.castore-expired/p/a.1-ab"
    aside.parent.mkdir(parents=True)
    aside.write_bytes(b"0123456789")
    backend = LocalBackend(str(tmp_path))
    assert backend.get_part("p/a", 2, 3) == b"234"
    assert list(backend.get_parts([("p/a", -2, 2), ("p/b", 0, 1)])) == [(("p/a", -2, 2), b"89"), (("p/b", 0, 1), None)]


def test_what_is_no_value_has_no_parts(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder").mkdir()
    backend = LocalBackend(str(tmp_path))
    for key in ("dangling", "folder"):
        with pytest.raises(BackendError, match=key):
            backend.get_part(key, 0, 1)


def test_a_repository_that_is_only_looked_at() -> None:
    backend = ReadOnly(filled(MemoryBackend()))
    assert backend.get_part("p/a", 5, 3) == DATA[5:8]
    assert list(backend.get_parts([("p/a", -1, 1)])) == [(("p/a", -1, 1), DATA[-1:])]


def test_a_filesystem_that_sends_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    fs = fsspec.filesystem("memory")
    backend = filled(FsspecBackend(fs, "/parts", "memory://parts"))
    monkeypatch.setattr(fs, "cat_file", lambda *_, **__: DATA)
    assert backend.get_part("p/a", 5, 3) == DATA[5:8]
    monkeypatch.setattr(fs, "cat_file", lambda *_, **__: DATA[:4])
    with pytest.raises(BackendError, match=r"^memory://parts: p/a: 3 bytes were asked for, and 4 came$"):
        backend.get_part("p/a", 5, 3)


@pytest.mark.server
def test_a_web_server_that_knows_no_parts(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="fsspec reads http through aiohttp, which is not installed")
    filled(LocalBackend(str(tmp_path)))
    (tmp_path / "p/empty").write_bytes(b"")
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    server = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    backend = open_backend(f"http://127.0.0.1:{port}")

    def is_up() -> bool:
        try:
            return backend.has("p/a")
        except BackendError:
            return False

    try:
        wait_until(is_up)
        parts = {
            ("p/a", 5, 3): DATA[5:8],
            ("p/a", -3, 3): DATA[-3:],
            ("p/a", len(DATA), 3): b"",
            ("p/a", 0, len(DATA)): DATA,
            ("p/empty", 0, 1): b"",
            ("p/none", 0, 1): None,
        }
        assert list(backend.get_parts(parts)) == list(parts.items())
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[GcsStub]:
    pytest.importorskip("obstore", reason="obstore is not installed")
    stub = GcsStub()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", stub.endpoint)
    yield stub
    stub.close()


@pytest.mark.server
def test_a_part_is_one_request_and_no_more_is_sent(stub: GcsStub) -> None:
    backend = filled(open_backend("gs://bucket/folder"))
    for start, length in ((5, 3), (-3, 3), (len(DATA) - 4, 100)):
        stub.sent.clear()
        part = backend.get_part("p/a", start, length)
        assert part == DATA[start:][:length]
        assert stub.sent == [("GET", len(part))]
    stub.sent.clear()
    assert backend.get_part("p/a", -100, 3) == DATA[-100:-97]
    assert stub.sent == [("HEAD", 0), ("GET", 3)], "what does not reach the end is looked for first"
    stub.sent.clear()
    assert backend.get_part("p/a", 5, 0) == b""
    assert backend.get_part("p/none", 5, 0) is None
    assert [method for method, _ in stub.sent] == ["HEAD", "HEAD"]


@pytest.mark.server
def test_a_store_that_knows_no_parts_is_an_error(stub: GcsStub) -> None:
    backend = filled(open_backend("gs://bucket/folder"))
    backend.put("p/empty", b"")
    stub.give_no_parts()
    for start in (5, -5, 0):
        assert backend.get_part("p/empty", start, 5) == b""
        assert backend.get_part("p/none", start, 5) is None
        with pytest.raises(BackendError, match=r"^cannot read gs://bucket/folder: p/a: .*non-partial response"):
            backend.get_part("p/a", start, 5)
    assert backend.get_part("p/a", len(DATA), 5) == b""
