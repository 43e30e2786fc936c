"""Files are opened if they are files, and written whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from castore.store.files import NotRegularError, WholeFile, open_descriptor, open_regular, write_at, write_whole


def descriptors() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


def interrupted(path: Path) -> None:
    with WholeFile(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    with open_regular(tmp_path / "file") as file:
        assert file.read() == b"12345"
    fd, status = open_descriptor(str(tmp_path / "file"))
    os.close(fd)
    assert status.st_size == 5


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "link to a device"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "it"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    else:
        path.symlink_to("/dev/zero")
    opened = descriptors()
    with pytest.raises(NotRegularError) as caught:
        open_regular(path)
    assert caught.value.filename == str(path)
    assert caught.value.strerror == ("is a directory" if kind == "folder" else "is not a regular file")
    assert descriptors() == opened
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "nothing")


def test_a_pipe_is_read_where_one_may_be_given(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with open_regular(tmp_path / "pipe", pipes=True) as file:
        assert file.read() == b"", "nobody writes, and nobody is waited for"
    read, write = os.pipe()
    later = threading.Timer(0.1, lambda: (os.write(write, b"late"), os.close(write)))
    later.start()
    with open_regular(f"/dev/fd/{read}", pipes=True) as file:  # as a shell gives what a command writes
        assert file.read() == b"late"
    later.join()
    os.close(read)
    with pytest.raises(NotRegularError):
        open_regular("/dev/zero", pipes=True)


@pytest.mark.parametrize("durable", [True, False])
def test_a_whole_file_takes_the_place_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with WholeFile(path, durable=durable) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
        assert len(list(tmp_path.iterdir())) == 2
    assert path.read_bytes() == b"new"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert len(synced) == durable


def test_its_mode_is_what_the_user_gives_files(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_a_name_without_a_folder_is_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_whole("file", b"x")
    assert (tmp_path / "file").read_bytes() == b"x"


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_what_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "file"
    path.write_bytes(b"old")
    if call == "write":
        with pytest.raises(KeyboardInterrupt):
            interrupted(path)
    else:
        monkeypatch.setattr(os, call, fail)
        with pytest.raises(OSError, match="No space"):
            write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_full_device_leaves_no_descriptor_open(tmp_path: Path) -> None:
    opened = descriptors()
    whole = WholeFile(tmp_path / "file")
    with open("/dev/full", "wb") as full:
        os.dup2(full.fileno(), whole.file.fileno())
    whole.file.write(b"x")
    with pytest.raises(OSError, match="No space"):
        whole.finish()
    whole.close()
    assert descriptors() == opened
    assert list(tmp_path.iterdir()) == []


def test_bytes_go_to_their_place_in_pieces_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[:2], at))
    with (tmp_path / "file").open("wb") as file:
        write_at(file.fileno(), memoryview(b"abcde"), 3)
    assert (tmp_path / "file").read_bytes() == b"\0\0\0abcde"
