"""Collection in a loop while four processes tokenize mixes that overlap, on a disk."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from castore.care.check import check
from castore.care.collect import Policy, collect
from castore.repository import Repository
from castore.store.local import LocalBackend
from tests.support.commands import SMALL_CASTORE, castore, start
from tests.support.complete import check_dataset
from tests.support.jobs import ORIGIN, TOKENIZER, example_rows, write_rows

ROUNDS = 3
POLICY = Policy(3600, 3600, 3600)


def tokenize(repo: Path, mix: Path, name: str, *more: str) -> tuple[str | Path, ...]:
    arguments = ("tokenize", "--mix", mix, "1.0", "--tokenizer", TOKENIZER, "--as", name, "-q", "--workers", "1")
    return ("--repo", repo, *arguments, *more)


def age(folder: Path) -> None:
    """Let everything be a year old."""
    long_ago = time.time() - 365 * 24 * 3600
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (long_ago, long_ago))


@pytest.mark.slow
def test_four_tokenizers_and_a_collection(tmp_path: Path) -> None:
    """All that the tokenizers want is there at the start of each round, old and unused: they reuse it as it goes."""
    repo = tmp_path / "repo"
    rows = example_rows()
    mixes = [write_rows(tmp_path / f"{n}.jsonl", rows[40 * n : 40 * n + 160]) for n in range(4)]
    roots = {}
    for n, mix in enumerate(mixes):
        castore(*tokenize(repo, mix, f"user-{n}"), command=SMALL_CASTORE)
        roots[f"user-{n}"] = Repository.open(str(repo)).dataset(f"user-{n}").root
    removed = collections = 0
    for _ in range(ROUNDS):
        repository = Repository.open(str(repo))
        for name in repository.refs.names():
            repository.remove(name, ORIGIN)
        age(repo)
        processes = [start(*tokenize(repo, mix, f"user-{n}"), CASTORE_TEST_SLEEP="0.02") for n, mix in enumerate(mixes)]
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
