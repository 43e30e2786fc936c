"""Records of packings under fsck and gc: what they name stays while they are used, and they are checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from castore.care.fsck import check
from castore.care.gc import DAY_S, Policy, collect
from castore.repository import Repository
from castore.store.backend import MemoryBackend
from tests.care.test_gc import Clock
from tests.support.jobs import example_rows, run_job, write_rows


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def backend(clock: Clock, tmp_path: Path) -> MemoryBackend:
    """A dataset and its packing, made 400 days ago; it is today now."""
    backend = MemoryBackend(clock=clock)
    run_job(backend, [(write_rows(tmp_path / "a.jsonl", example_rows()[:60]), "1.0")], name="a")
    Repository(backend)["a"].pack(64)
    clock.offset_s = 0
    return backend


def test_a_check_knows_them_and_what_they_name(backend: MemoryBackend) -> None:
    found = check(backend)
    assert found.findings.listed == []
    assert found.unreferenced == 0
    (key,) = backend.list("packings")
    backend.put(key, b"torn")
    backend.put("packings/x", b"stray")
    backend.flush()
    kinds = {(finding.key, finding.name) for finding in check(backend).findings.listed}
    assert kinds == {(key, "record-damaged"), ("packings/x", "unknown-file")}


def test_what_is_used_is_kept(backend: MemoryBackend) -> None:
    packing = Repository(backend)["a"].pack(64)  # renews its record
    before = set(backend.list("objects"))
    collect(backend, Policy(grace_s=0, keep_log_s=0, keep_records_s=30 * DAY_S), force=True)
    assert set(backend.list("objects")) == before
    other = Repository(backend)
    assert other["a"].pack(64).digest == packing.digest
    assert other.objects.writes == 0


def test_what_nobody_used_for_long_goes_and_can_be_made_again(backend: MemoryBackend) -> None:
    before = set(backend.list("objects"))
    done = collect(backend, Policy())
    assert done.records_removed >= 1
    assert not list(backend.list("packings"))
    assert set(backend.list("objects")) < before
    Repository(backend)["a"].pack(64)
    assert check(backend).findings.listed == []
