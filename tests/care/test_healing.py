"""Who stores again what is rotten in a repository puts it right, whichever object it is and whichever way it came."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from castore.care.fsck import check
from castore.format.pack import OBJECT_KIND
from castore.repository import Repository
from castore.store.local import LocalBackend
from castore.store.packs import PackedBackend, packed
from tests.care.stored import opened
from tests.support.jobs import ORIGIN, example_rows, run_job, write_rows
from tests.support.layouts import LAYOUTS, Layout

Make = Callable[[Path, PackedBackend], None]


def tokenized(folder: Path, backend: PackedBackend) -> None:
    run_job(backend, [(write_rows(folder / "rows.jsonl", example_rows()[:60]), "1.0")], name="m")


def imported(folder: Path, backend: PackedBackend) -> None:
    if not (folder / "exported").exists():
        elsewhere = packed(LocalBackend(str(folder / "elsewhere")))
        tokenized(folder, elsewhere)
        Repository(elsewhere).export("m", folder / "exported", layout="olmo-core")
    opened(backend).import_folder(folder / "exported", "m", ORIGIN)


def written(folder: Path, backend: PackedBackend) -> None:
    samples = [{"token_ids": range(i, i + 700)} for i in range(300)]
    opened(backend).write(samples, "m", origin=ORIGIN)


HOW: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda frame: b"",
    "cut short": lambda frame: frame[: len(frame) // 2],
    "zeros": lambda frame: bytes(len(frame)),
    "a flipped bit": lambda frame: frame[:-5] + bytes([frame[-5] ^ 1]) + frame[-4:],
}


def harm(repo: Path, how: str) -> int:
    """Damage every object, in a file of its own or in a pack; how many there are."""
    backend = packed(LocalBackend(str(repo)))
    for path in (repo / "objects").rglob("*/*"):
        path.write_bytes(HOW[how](path.read_bytes()))
    for pack in backend.catalog.fresh():
        data = bytearray((repo / pack.key).read_bytes())
        for row in pack.index.starting(OBJECT_KIND):
            start, size, _ = pack.index.place(row)
            data[start : start + size] = HOW[how](bytes(data[start : start + size])).ljust(size, b"\0")
        (repo / pack.key).write_bytes(data)
    return len([*backend.list("objects")])


@LAYOUTS
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("make", [tokenized, imported, written])
def test_making_it_again_heals_every_object(tmp_path: Path, make: Make, how: str, layout: Layout) -> None:
    repo = tmp_path / "repo"
    make(tmp_path, layout(LocalBackend(str(repo))))
    root = Repository.open(str(repo)).dataset("m").root
    assert harm(repo, how) > 8
    (repo / "refs").rename(tmp_path / "refs")  # its run record is rotten, and of another time than a new one
    make(tmp_path, layout(LocalBackend(str(repo))))
    assert Repository.open(str(repo)).dataset("m").root == root
    listed = check(LocalBackend(str(repo))).findings.listed
    bad = {finding.key for finding in listed if finding.name != "pack-damaged"}
    data = Repository.open(str(repo)).dataset("m")
    assert data.run is not None
    assert len(bad) <= 1, "all but the run record of the first time"
