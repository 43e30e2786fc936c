"""Records of unfinished writes under fsck and gc: what they name stays while they are young, and they are checked."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from castore.care.fsck import check
from castore.care.gc import DAY_S, Policy, collect
from castore.ingest import sample_writer as writer_module
from castore.repository import Repository
from castore.store.backend import MemoryBackend
from castore.store.marker import open_layout
from tests.care.test_gc import Clock
from tests.support.complete import check_complete

ARRAYS = {"weight": ("float32", "token")}
ROWS = [{"token_ids": range(i, i + 400), "weight": np.full(400, i, np.float32)} for i in range(1200)]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def backend(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> MemoryBackend:
    """A write that was interrupted 400 days ago; it is today now."""
    monkeypatch.setattr(writer_module, "RECORD_SAMPLES", 200)
    monkeypatch.setattr(writer_module, "BATCH_SAMPLES", 100)
    backend = MemoryBackend(clock=clock)
    open_layout(backend, create=True)
    go_on(backend, ROWS[:1000])
    clock.offset_s = 0
    return backend


def go_on(backend: MemoryBackend, rows: list[dict[str, Any]]) -> int:
    with suppress(EOFError), Repository(backend).writer("x", arrays=ARRAYS, resume_key="k") as writer:
        position = writer.position
        for row in rows[position:]:
            writer.append(**row)
        raise EOFError
    return position


def finished(backend: MemoryBackend) -> bytes:
    root = Repository(backend).write(ROWS, "x", arrays=ARRAYS, resume_key="k").root
    check_complete(Repository(backend))
    return root


def test_a_check_knows_them_and_what_they_name(backend: MemoryBackend) -> None:
    assert len(list(backend.list("writes"))) > 2
    found = check(backend)
    assert found.findings.listed == []
    assert found.unreferenced == 0
    key = next(backend.list("writes"))
    backend.put(key, b"torn")
    backend.put("writes/x", b"stray")
    backend.flush()
    kinds = {(finding.key, finding.name) for finding in check(backend).findings.listed}
    assert kinds == {(key, "record-damaged"), ("writes/x", "unknown-file")}


def test_a_finished_write_leaves_nothing_behind(backend: MemoryBackend) -> None:
    root = finished(backend)
    assert not list(backend.list("writes"))
    assert check(backend).findings.listed == []
    other = MemoryBackend()
    open_layout(other, create=True)
    assert finished(other) == root


def test_what_young_records_name_is_kept(backend: MemoryBackend) -> None:
    known = go_on(backend, ROWS[:1000])  # its chunks are of today again, its records are not
    assert known > 500
    before = set(backend.list("objects"))
    collect(backend, Policy(grace_s=0, keep_log_s=0, keep_records_s=1000 * DAY_S), force=True)
    assert set(backend.list("objects")) == before
    assert go_on(backend, ROWS[:1000]) == known


def test_old_records_go_and_nothing_is_lost_but_time(backend: MemoryBackend) -> None:
    assert collect(backend, Policy()).records_removed > 2
    assert not list(backend.list("writes"))
    assert go_on(backend, ROWS[:10]) == 0
    finished(backend)
    assert check(backend).findings.listed == []
