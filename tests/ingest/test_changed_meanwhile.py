"""A directory that somebody writes to while it is imported or compared: one line, and nothing wrong is remembered."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from castore.diff.compare import compare
from castore.diff.open_folders import open_folders
from castore.errors import SourceError
from castore.format.run import RunOrigin
from castore.ingest.import_folder import ImportResult, Like, import_folder
from castore.olmo import equal, scan
from castore.olmo.directory import directory_dataset
from castore.olmo.folder import OlmoCoreFolder
from castore.olmo.parts import Parts
from castore.repository import Repository
from castore.store.backend import MemoryBackend
from castore.store.imports import ImportStore
from castore.store.marker import open_layout
from tests.support.olmo_core import documents, write_folder

PART = "token_ids_part_0000.npy"
MADE = documents(200, 1)
ORIGIN = RunOrigin("a tester", "0", "somewhere", "", 1_700_000_000)


def _other_bytes(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[::97] = bytes(byte ^ 1 for byte in data[::97])
    with path.open("r+b") as file:  # in place: the file is the same one
        file.write(data)


def _rewritten_with_its_time(path: Path) -> None:
    status = path.stat()
    _other_bytes(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _replaced(path: Path) -> None:
    other = path.with_name("other")
    shutil.copy(path, other)
    _other_bytes(other)
    other.rename(path)


def _shrunk(path: Path) -> None:
    os.truncate(path, 40)


def _grown(path: Path) -> None:
    with path.open("ab") as file:
        file.write(bytes(4000))


WAYS = [_other_bytes, _rewritten_with_its_time, _replaced, _shrunk, _grown]
FILES = [PART, "labels_mask_part_0000.npy", "token_ids_part_0000.csv.gz", "dataset_statistics.json"]


@pytest.fixture
def repository() -> Repository:
    backend = MemoryBackend()
    open_layout(backend, create=True)
    return Repository(backend)


def _import(
    repository: Repository, path: Path, meanwhile: Callable[[], None] | None = None, **options: Any
) -> ImportResult:
    """Import, and do something once when a part of it is done."""
    todo = [meanwhile] if meanwhile is not None else []

    def report(done: int, total: int) -> None:
        while todo:
            todo.pop()()

    objects, imports = repository.objects, ImportStore(repository.backend)
    return import_folder(OlmoCoreFolder(str(path)), objects, imports, ORIGIN, report=report, **options)


def _records(repository: Repository) -> list[str]:
    return list(repository.backend.list("imports"))


@pytest.mark.parametrize("seed", [None, 42])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", FILES)
def test_what_changes_while_it_is_imported_ends_the_import(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    repository: Repository,
    way: Callable[[Path], None],
    name: str,
    seed: int | None,
) -> None:
    monkeypatch.setattr(scan, "BATCH_TOKENS", 100)
    path = write_folder(tmp_path / "out", MADE)
    with pytest.raises(SourceError) as caught:
        _import(repository, path, lambda: way(path / name), shuffle_seed=seed)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert _records(repository) == []


@pytest.mark.parametrize("seed", [None, 42])
@pytest.mark.parametrize("name", FILES[:2])
def test_a_change_that_no_time_tells_is_not_remembered_as_the_quiet_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Repository, name: str, seed: int | None
) -> None:
    """What is remembered is named by the bytes that were stored, whatever the file system says."""
    monkeypatch.setattr(scan, "BATCH_TOKENS", 100)
    monkeypatch.setattr(Parts, "check_unchanged", lambda self: None)
    path = write_folder(tmp_path / "out", MADE)
    made = MADE if name == PART else [(ids, [1 - label for label in labels]) for ids, labels in MADE]
    other = write_folder(tmp_path / "other", made)
    if name == PART:
        _other_bytes(other / name)
    copy = (other / name).read_bytes()

    def rewrite() -> None:
        with (path / name).open("r+b") as file:
            file.write(copy)

    if seed is None:
        _import(repository, path, rewrite)  # a mixture, under a name that no quiet folder has
    else:
        with pytest.raises(SourceError, match="changed while it was read"):
            _import(repository, path, rewrite, shuffle_seed=seed)
    fresh = Repository(MemoryBackend())
    open_layout(fresh.backend, create=True)
    truth = _import(fresh, path, shuffle_seed=seed).root
    assert _import(repository, path, shuffle_seed=seed).root == truth
    assert _import(repository, path, shuffle_seed=seed).objects_new == 0


@pytest.mark.parametrize("name", FILES[:2])
def test_the_two_readings_of_like_must_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Repository, name: str
) -> None:
    monkeypatch.setattr(Parts, "check_unchanged", lambda self: None)
    path = write_folder(tmp_path / "out", MADE)
    like = Like.of(directory_dataset(str(path)))
    plan = scan.Reading.of

    def read_then_rewritten(folder: OlmoCoreFolder) -> scan.Reading:
        found = plan(folder)
        data = np.fromfile(path / name, np.uint8)
        data[0] ^= 1
        data.tofile(path / name)
        return found

    monkeypatch.setattr(scan.Reading, "of", read_then_rewritten)
    with pytest.raises(SourceError, match="changed while it was read"):
        _import(repository, path, like=like)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", FILES[:3])
def test_what_changes_while_directories_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Callable[[Path], None], name: str
) -> None:
    """Between the comparison of the files and the answer."""
    a, b = (write_folder(tmp_path / side, MADE) for side in "ab")
    front = equal._front

    def compared_then_changed(*args: Any) -> int:
        found = front(*args)
        if args[2] == 1:  # the labels, which come last
            way(b / name)
        return found

    monkeypatch.setattr(equal, "_front", compared_then_changed)
    with pytest.raises(SourceError, match="while it was read") as caught:
        open_folders(str(a), str(b))
    assert name in str(caught.value)


@pytest.mark.parametrize("name", FILES[:2])
def test_a_part_that_shrinks_before_it_is_compared(tmp_path: Path, name: str) -> None:
    a, b = (write_folder(tmp_path / side, MADE, statistics=side == "a") for side in "ab")
    opened = open_folders(str(a), str(b))
    os.truncate(b / name, 40)
    with pytest.raises(SourceError, match=f"{name}: became shorter while it was read"):
        compare(*opened)
    with pytest.raises(SourceError, match="bytes for the"):
        directory_dataset(str(b))


@pytest.mark.parametrize("way", WAYS)
def test_what_changes_after_its_front_was_found_equal(tmp_path: Path, way: Callable[[Path], None]) -> None:
    a, b = (write_folder(tmp_path / side, MADE) for side in "ab")
    data = bytearray((b / PART).read_bytes())
    data[-8] ^= 1
    (b / PART).write_bytes(data)
    opened = open_folders(str(a), str(b))
    way(a / PART)
    with pytest.raises(SourceError, match=f"{PART}: .* while it was read"):
        compare(*opened)


def test_text_of_a_directory_that_changed_since_its_trees_were_built(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "out", MADE)
    data = directory_dataset(str(path))
    _other_bytes(path / PART)
    with pytest.raises(SourceError, match=f"{PART}: changed while it was read"):
        data.reader.tokens(0, 5)
