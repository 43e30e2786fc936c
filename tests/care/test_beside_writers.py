"""Collection in a loop while four processes tokenize mixes that overlap, on a disk and in a store."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from castore.care import repack
from castore.care.fsck import check
from castore.care.gc import Policy, collect
from castore.repository import Repository
from castore.store.local import LocalBackend
from castore.store.urls import open_backend
from tests.care.stored import reach
from tests.support.commands import SMALL_CASTORE, castore, start
from tests.support.complete import check_dataset
from tests.support.jobs import ORIGIN, TOKENIZER, example_rows, write_rows
from tests.support.servers import Server

ROUNDS = 3
POLICY = Policy(3600, 3600, 3600)


def tokenize(repo: Path | str, mix: Path, name: str, *more: str) -> tuple[str | Path, ...]:
    arguments = ("tokenize", "--mix", mix, "1.0", "--tokenizer", TOKENIZER, "--as", name, "-q", "--workers", "1")
    return ("--repo", repo, *arguments, *more)


def age(folder: Path) -> None:
    """Let everything be a year old."""
    long_ago = time.time() - 365 * 24 * 3600
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (long_ago, long_ago))


@pytest.mark.slow
@pytest.mark.parametrize("pack_bytes", ["0", "20000"], ids=["loose", "packed"])
def test_four_tokenizers_and_a_collection(tmp_path: Path, pack_bytes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that the tokenizers want is there at the start of each round, old and unused: they reuse it as it goes."""
    monkeypatch.setattr(repack, "UNUSED_SHARE", 1e-9)
    env = {"CASTORE_TEST_PACK_BYTES": pack_bytes}
    repo = tmp_path / "repo"
    rows = example_rows()
    mixes = [write_rows(tmp_path / f"{n}.jsonl", rows[40 * n : 40 * n + 160]) for n in range(4)]
    roots = {}
    for n, mix in enumerate(mixes):
        castore(*tokenize(repo, mix, f"user-{n}"), command=SMALL_CASTORE, env=env)
        roots[f"user-{n}"] = Repository.open(str(repo)).dataset(f"user-{n}").root
    removed = collections = 0
    for _ in range(ROUNDS):
        repository = Repository.open(str(repo))
        for name in repository.refs.names():
            repository.remove(name, ORIGIN)
        age(repo)
        slow = {**env, "CASTORE_TEST_SLEEP": "0.02"}
        processes = [start(*tokenize(repo, mix, f"user-{n}"), **slow) for n, mix in enumerate(mixes)]
        while any(process.poll() is None for process in processes):
            done = collect(LocalBackend(str(repo)), POLICY)
            removed, collections = removed + done.removed, collections + 1
        for process in processes:
            _, said = process.communicate()
            assert process.returncode == 0, said
        found = check(LocalBackend(str(repo)))
        assert found.findings.clean, found.findings.listed
        repository = Repository.open(str(repo))
        assert {name: repository.dataset(name).root for name in repository.refs.names()} == roots
        for name in roots:
            target = repository.refs.current(name)
            assert target is not None
            assert len(check_dataset(repository, target).rows) > 100
    assert removed > 100
    assert collections > ROUNDS


@pytest.mark.slow
@pytest.mark.server
def test_four_tokenizers_and_a_collection_in_a_store(
    rgw: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same where looking at an age and removing are two steps; what was stored before a moment counts as old."""
    url = reach(rgw, monkeypatch, tmp_path)
    env = {**rgw.env, "CASTORE_CACHE": str(tmp_path / "cache")}
    rows = example_rows()
    mixes = [write_rows(tmp_path / f"{n}.jsonl", rows[10 * n : 10 * n + 40]) for n in range(4)]

    def tokenize_all() -> Iterator[None]:
        """Four at once; goes on while any of them runs."""
        processes = [start(*tokenize(url, mix, f"user-{n}"), **env) for n, mix in enumerate(mixes)]
        while any(process.poll() is None for process in processes):
            yield
        for process in processes:
            _, said = process.communicate()
            assert process.returncode == 0, said

    for _ in tokenize_all():
        time.sleep(0.1)
    # What nobody makes again, in a pack of its own.
    rest = write_rows(tmp_path / "rest.jsonl", rows[100:140])
    castore(*tokenize(url, rest, "rest"), env=env)
    repository = Repository.open(url)
    repository.remove("rest", ORIGIN)
    roots = {name: repository.dataset(name).root for name in repository.refs.names()}
    assert len(roots) == 4
    for name in roots:
        repository.remove(name, ORIGIN)
    old = time.time() + 1  # ages are told in whole seconds
    time.sleep(2.2)

    def collect_old() -> int:
        kept_s = time.time() - old
        return collect(open_backend(url), Policy(kept_s, kept_s, kept_s), force=True).removed

    removed = [collect_old() for _ in tokenize_all()]
    found = check(open_backend(url))
    assert found.findings.clean, found.findings.listed
    repository = Repository.open(url)
    assert {name: repository.dataset(name).root for name in repository.refs.names()} == roots
    collect_old()  # gives back what is in the trash and in use
    for key in open_backend(url).list("trash"):
        open_backend(url).delete(key)
    assert check(open_backend(url)).findings.clean
    for name in roots:
        target = repository.refs.current(name)
        assert target is not None
        assert len(check_dataset(repository, target).rows) > 30
    assert sum(removed) > 5
    assert len(removed) >= 2
