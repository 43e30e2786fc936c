"""A process that is killed or interrupted, for real, and the run after it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from castore.repository import Repository
from castore.store.backend import MemoryBackend
from tests.support.commands import SMALL_CASTORE, castore, session_members, start, trouble, wait_until
from tests.support.complete import check_complete
from tests.support.jobs import PROCESS_SIZES, TOKENIZER, example_rows, run_job, write_rows

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")

SLEEP = "0.1"
"""Seconds a batch, of which there are dozens: what is met after some of them is not done for seconds."""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", example_rows())


@pytest.fixture(scope="module")
def root(path: Path) -> str:
    return run_job(MemoryBackend(), [(path, "1.5")], sizes=PROCESS_SIZES).root.hex()


def arguments(path: Path, repo: Path, workers: int, amount: str = "1.5") -> list[str | Path]:
    options = ["--tokenizer", str(TOKENIZER), "--workers", str(workers), "--as", "out", "-q"]
    return ["--repo", repo, "tokenize", "--mix", path, amount, *options]


def units(repo: Path) -> int:
    """Records of units that other processes see."""
    return sum(1 for _ in Repository.open(str(repo)).backend.list("units"))


SMALL_PACKS = "3000"
"""Bytes of values after which a pack is closed: some units each."""


def resume(path: Path, repo: Path, workers: int) -> dict[str, object]:
    done = castore(*arguments(path, repo, workers), "--json", command=SMALL_CASTORE)
    summary: dict[str, object] = json.loads(done.stdout)
    check_complete(Repository.open(str(repo)))
    return summary


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "recorded"), [(1, 0), (1, 8), (2, 0), (2, 5)])
def test_killed_and_resumed(path: Path, root: str, tmp_path: Path, workers: int, recorded: int) -> None:
    repo = tmp_path / "repo"
    process = start(*arguments(path, repo, workers), CASTORE_TEST_SLEEP=SLEEP, CASTORE_TEST_PACK_BYTES=SMALL_PACKS)
    wait_until(lambda: (repo / "format").exists() and units(repo) >= recorded)
    if workers > 1:
        wait_until(lambda: len(session_members(process.pid)) > 1)
    process.kill()
    process.communicate()
    # Workers notice that their parent is gone.
    wait_until(lambda: not session_members(process.pid))
    kept = units(repo)
    assert kept >= recorded
    repository = Repository.open(str(repo))
    assert repository.refs.names() == []
    check_complete(repository)
    summary = resume(path, repo, workers)
    assert summary["root"] == root
    assert summary["units"]["reused"] >= kept  # type: ignore[index]


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "recorded"), [(1, 0), (1, 6), (2, 6)])
def test_interrupted_and_resumed(path: Path, root: str, tmp_path: Path, workers: int, recorded: int) -> None:
    repo = tmp_path / "repo"
    process = start(*arguments(path, repo, workers), CASTORE_TEST_SLEEP=SLEEP, CASTORE_TEST_PACK_BYTES=SMALL_PACKS)
    wait_until(lambda: (repo / "format").exists() and units(repo) >= recorded)
    if workers > 1:
        wait_until(lambda: len(session_members(process.pid)) > 1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to everybody
    began = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - began < 20
    done = subprocess.CompletedProcess([], process.returncode, out, err)
    said = trouble(done, 130)
    if recorded:
        assert "run the same command again to go on" in said
    wait_until(lambda: not session_members(process.pid))
    kept = units(repo)
    assert kept >= recorded
    check_complete(Repository.open(str(repo)))
    summary = resume(path, repo, workers)
    assert summary["root"] == root
    assert summary["units"]["reused"] >= kept  # type: ignore[index]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3, 4])
def test_interrupted_while_the_workers_start(path: Path, tmp_path: Path, processes: int) -> None:
    """Between the first and the second process beside it, which watches over shared things, and the two workers."""
    repo = tmp_path / "repo"
    process = start(*arguments(path, repo, 2), CASTORE_TEST_SLEEP="0.5")
    wait_until(lambda: len(session_members(process.pid)) >= processes)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    trouble(subprocess.CompletedProcess([], process.returncode, out, err), 130)
    wait_until(lambda: not session_members(process.pid))


@pytest.mark.slow
def test_a_worker_that_dies_is_one_line_and_the_next_run_goes_on(tmp_path: Path) -> None:
    rows = list(example_rows())
    rows[200] = rows[200].replace(b'"content": "', b'"content": "fatal words ', 1)
    path = write_rows(tmp_path / "rows.jsonl", rows)
    repo = tmp_path / "repo"
    env = {"CASTORE_TEST_DIE": "fatal words"}
    began = time.monotonic()
    done = castore(*arguments(path, repo, 2, "1.0"), command=SMALL_CASTORE, env=env, check=None)
    assert time.monotonic() - began < 60
    assert "a worker process died" in trouble(done)
    kept = units(repo)
    assert kept >= 3
    again = castore(*arguments(path, repo, 1, "1.0"), "--json", command=SMALL_CASTORE)
    assert json.loads(again.stdout)["units"]["reused"] >= kept
    check_complete(Repository.open(str(repo)))


@pytest.mark.slow
def test_the_second_part_of_a_run_costs_the_rest(path: Path, tmp_path: Path) -> None:
    """Counted in batches: half of the units stored, half of the work left."""
    repo = tmp_path / "repo"
    process = start(*arguments(path, repo, 1, "1.0"), CASTORE_TEST_SLEEP=SLEEP, CASTORE_TEST_PACK_BYTES=SMALL_PACKS)
    wait_until(lambda: (repo / "format").exists() and units(repo) >= 12)
    process.kill()
    process.communicate()
    kept = units(repo)
    done = castore(*arguments(path, repo, 1, "1.0"), "--json", command=SMALL_CASTORE)
    summary = json.loads(done.stdout)
    assert summary["units"]["reused"] == kept
    assert summary["units"]["total"] - kept <= 0.6 * summary["units"]["total"]
