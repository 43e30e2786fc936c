"""Who stores again what is rotten in a repository puts it right, whichever object it is and whichever way it came."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from castore.care.fsck import check
from castore.repository import Repository
from castore.store.local import LocalBackend
from castore.store.object_keys import digest_of_key
from tests.support.jobs import ORIGIN, example_rows, run_job, write_rows

Make = Callable[[Path, LocalBackend], None]


def tokenized(folder: Path, backend: LocalBackend) -> None:
    run_job(backend, [(write_rows(folder / "rows.jsonl", example_rows()[:60]), "1.0")], name="m")


def imported(folder: Path, backend: LocalBackend) -> None:
    if not (folder / "exported").exists():
        elsewhere = LocalBackend(str(folder / "elsewhere"))
        tokenized(folder, elsewhere)
        Repository(elsewhere).export("m", folder / "exported", layout="olmo-core")
    Repository.open(backend.url, create=True).import_folder(folder / "exported", "m", ORIGIN)


def written(folder: Path, backend: LocalBackend) -> None:
    samples = [{"token_ids": range(i, i + 700)} for i in range(300)]
    Repository.open(backend.url, create=True).write(samples, "m", origin=ORIGIN)


HOW: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda frame: b"",
    "cut short": lambda frame: frame[: len(frame) // 2],
    "zeros": lambda frame: bytes(len(frame)),
    "a flipped bit": lambda frame: frame[:-5] + bytes([frame[-5] ^ 1]) + frame[-4:],
}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("make", [tokenized, imported, written])
def test_making_it_again_heals_every_object(tmp_path: Path, make: Make, how: str) -> None:
    repo = tmp_path / "repo"
    make(tmp_path, LocalBackend(str(repo)))
    root = Repository.open(str(repo)).dataset("m").root
    harmed = [key for key in LocalBackend(str(repo)).list("objects") if digest_of_key(key) is not None]
    assert len(harmed) > 8
    for key in harmed:
        (repo / key).write_bytes(HOW[how]((repo / key).read_bytes()))
    (repo / "refs").rename(tmp_path / "refs")  # its run record is rotten, and of another time than a new one
    make(tmp_path, LocalBackend(str(repo)))
    assert Repository.open(str(repo)).dataset("m").root == root
    bad = {finding.key for finding in check(LocalBackend(str(repo))).findings.listed}
    data = Repository.open(str(repo)).dataset("m")
    assert data.run is not None
    assert len(bad) <= 1, "all but the run record of the first time"
