"""Which place a URL means, and whether there is a repository in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import fsspec
import pytest

from castore.errors import (
    BackendError,
    FormatError,
    InvalidInputError,
    MissingExtraError,
    NotFoundError,
    UnsupportedVersionError,
)
from castore.store.backend import Backend, MemoryBackend
from castore.store.fsspec import FsspecBackend
from castore.store.local import LocalBackend
from castore.store.marker import FORMAT_KEY, open_layout
from castore.store.refs import RefStore
from castore.store.urls import open_backend
from tests.support.faults import FaultyBackend, SimulatedCrash


def test_a_repository_is_made_once() -> None:
    backend = MemoryBackend("place")
    with pytest.raises(NotFoundError, match=r"^there is no castore repository at place$"):
        open_layout(backend, create=False)
    assert backend.snapshot() == {}
    open_layout(backend, create=True)
    assert backend.snapshot() == {"format": b"castore repository, format 1\n"}
    open_layout(backend, create=True)
    open_layout(backend, create=False)


def test_two_first_writers() -> None:
    backend = MemoryBackend()

    class Late(FaultyBackend):
        def create(self, key: str, data: bytes) -> bool:
            open_layout(backend.other(), create=True)
            return super().create(key, data)

    open_layout(Late(backend), create=True)

    class Later(FaultyBackend):
        looks = 0

        def get(self, key: str, max_bytes: int) -> bytes | None:
            self.looks += 1
            return None if self.looks == 1 else super().get(key, max_bytes)

    open_layout(Later(backend), create=True)


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_while_making_one(after: bool) -> None:
    backend = MemoryBackend()
    with pytest.raises(SimulatedCrash):
        open_layout(FaultyBackend(backend).crash_at(1, after=after), create=True)
    open_layout(backend.other(), create=True)


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    for create in (False, True):
        with pytest.raises(FormatError, match="neither empty nor a castore repository"):
            open_layout(LocalBackend(str(tmp_path)), create=create)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_with_dot_files_alone_is_empty(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").write_text("")
    open_layout(LocalBackend(str(tmp_path)), create=True)


@pytest.mark.parametrize(
    "marker",
    [b"", b"x", b"castore repository, format \n", b"castore repository, format 1", b"castore repository, format 01\n",
     b"castore repository, format 0\n", b"castore repository, format -1\n", b"castore repository, format 1\n\n"],
)  # fmt: skip
def test_other_markers(marker: bytes) -> None:
    backend = MemoryBackend()
    backend.put(FORMAT_KEY, marker)
    with pytest.raises(FormatError, match="is no castore repository"):
        open_layout(backend, create=True)


def test_a_later_format() -> None:
    backend = MemoryBackend()
    backend.put(FORMAT_KEY, b"castore repository, format 2\n")
    with pytest.raises(UnsupportedVersionError, match="format version 2"):
        open_layout(backend, create=False)


@pytest.mark.parametrize("spelling", ["{}", "file://{}"])
def test_folders(tmp_path: Path, spelling: str) -> None:
    url = spelling.format(tmp_path / "r")
    backend = open_backend(url)
    assert isinstance(backend, LocalBackend)
    backend.create("a", b"x")
    assert (tmp_path / "r/a").read_bytes() == b"x"
    assert open_backend(backend.url).get("a", 10) == b"x"


def test_a_folder_that_looks_odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a:b", "with space", "100%25", "ünï"):
        open_backend(name).create("k", b"")
        assert (tmp_path / name / "k").exists()


def test_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    open_layout(open_backend("~/repo"), create=True)
    assert (tmp_path / "home" / "repo" / "format").is_file()
    open_layout(open_backend("./~"), create=True)
    assert (tmp_path / "~" / "format").is_file()
    assert open_backend("~x/y").url == "~x/y"


def test_memory() -> None:
    backend = open_backend("memory://urls/a")
    assert isinstance(backend, FsspecBackend)
    backend.put("k", b"x")
    assert open_backend("memory://urls/a").get("k", 10) == b"x"
    assert open_backend("memory://urls/b").get("k", 10) is None
    assert list(open_backend("memory://urls").list("")) == ["a/k"]


@pytest.mark.parametrize("url", ["", "a\0b", "file://relative", "nosuchthing://a"])
def test_no_places(url: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        open_backend(url)
    assert "\n" not in str(caught.value)


def test_a_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """fsspec is not asked, whatever libraries it would find."""
    monkeypatch.setitem(sys.modules, "obstore", None)
    for protocol, extra in (("s3", "s3"), ("gs", "gcs"), ("az", "azure"), ("abfs", "azure")):
        with pytest.raises(MissingExtraError) as caught:
            open_backend(f"{protocol}://bucket/repository")
        assert str(caught.value) == f"obstore is not installed: pip install 'castore[{extra}]'"


def test_a_local_place_needs_no_fsspec(tmp_path: Path) -> None:
    program = f"""
import sys
sys.path[:0] = {sys.path!r}
from castore.store.refs import RefStore
from castore.store.urls import open_backend
open_backend({str(tmp_path)!r}).create("k", b"")
open_backend("file://" + {str(tmp_path)!r}).get("k", 1)
assert not {{"fsspec", "numpy", "pathlib"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-S", "-c", program], check=True)


class Refusing:
    """An fsspec filesystem all of whose calls fail in the words of some library."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def invalidate_cache(self, path: str | None = None) -> None:
        pass

    def __getattr__(self, name: str) -> object:
        raise self._error


def acts(backend: Backend) -> list[object]:
    return [
        lambda: backend.get("a", 1), lambda: backend.put("a", b""), lambda: backend.has("a"),
        lambda: backend.touch("a"),
        lambda: list(backend.list("")), lambda: backend.delete("a"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (RuntimeError("two\nlines"), False),
        (ConnectionResetError("reset"), True),
        (TimeoutError(), True),
        (OSError(5, "x"), False),
    ],
)
def test_errors_of_a_store_are_one_line(error: Exception, transient: bool) -> None:
    for act in acts(FsspecBackend(Refusing(error), "/r", "odd://r")):
        with pytest.raises(BackendError, match="odd://r") as caught:
            act()  # type: ignore[operator]
        assert "\n" not in str(caught.value)
        assert caught.value.transient is transient
        assert caught.value.__cause__ is error


def test_a_store_that_cannot_create_atomically_is_refused(tmp_path: Path) -> None:
    for filesystem in (fsspec.filesystem("file"), fsspec.filesystem("dir", path="/x", fs=fsspec.filesystem("memory"))):
        backend = FsspecBackend(filesystem, str(tmp_path), "odd://r")
        with pytest.raises(BackendError, match="not known to create atomically"):
            backend.create("a", b"")
    assert list(tmp_path.iterdir()) == []


def test_where_no_name_can_be_written_is_known_before_the_work() -> None:
    backend = FsspecBackend(fsspec.filesystem("dir", path="/x", fs=fsspec.filesystem("memory")), "/r", "odd://r")
    with pytest.raises(BackendError, match="not known to create atomically"):
        RefStore(backend).require_writable()
