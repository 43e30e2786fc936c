"""A run that dies at any write leaves a whole repository, and goes on to the same root.

The sweep kills a small job before and after every single write. The job has all that a run can have: a source taken one
and a half times, picks of another, blocks that several chunks hold and chunks that hold several blocks, and a name that
meant something before.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from castore.errors import BackendError, CastoreError
from castore.ingest.tokenizer import ChatTokenizer, TokenizedRows
from castore.repository import Repository
from castore.store.backend import Backend, MemoryBackend
from castore.store.local import LocalBackend
from castore.tree.build import SequenceBuilder
from tests.support.complete import check_complete, check_units
from tests.support.faults import FaultyBackend, SimulatedCrash, T
from tests.support.jobs import counted_tokenizing, example_rows, run_job, write_rows


@dataclass
class Setting:
    """The job, what was in the repository before, and how an undisturbed run goes."""

    mix: list[tuple[Path, str]]
    base: dict[str, bytes]
    memory: dict[Any, TokenizedRows] = field(default_factory=dict)
    root_before: bytes = b""
    root: bytes = b""
    operations: list[str] = field(default_factory=list)
    units_before: int = 0
    unit_count: int = 0

    def run(self, backend: Backend) -> tuple[bytes, int]:
        """The root, and how many units were tokenized."""
        with counted_tokenizing(self.memory) as calls:
            result = run_job(backend, self.mix)
        return result.root, len(calls)


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    folder = tmp_path_factory.mktemp("mix")
    rows = example_rows()
    before = write_rows(folder / "before.jsonl", rows[100:130])
    mix = [
        (write_rows(folder / "a.jsonl", rows[:44]), "1.5"),
        (write_rows(folder / "b.jsonl", rows[60:90]), "0.5"),
    ]
    backend = MemoryBackend()
    root_before = run_job(backend, [(before, "1.0")]).root
    made = Setting(mix, backend.snapshot(), root_before=root_before)
    made.units_before = units_of(backend)
    faulty = FaultyBackend(filled(made.base))
    made.root, made.unit_count = made.run(faulty)
    made.operations = [what for what, _ in faulty.calls if what in ("put", "flush", "create", "touch", "delete")]
    assert len(made.operations) == faulty.writes
    return made


def filled(content: dict[str, bytes]) -> MemoryBackend:
    backend = MemoryBackend()
    for key, value in content.items():
        backend.put(key, value)
    backend.flush()
    return backend


def units_of(backend: Backend) -> int:
    return len(list(backend.list("units")))


def check_then_resume(setting: Setting, backend: Backend, survived: Backend) -> None:
    """What a crash left is whole; the next run comes to the same root and tokenizes only what is not recorded."""
    found = check_complete(Repository(survived))
    assert set(found) == {"out"}
    assert Repository(survived).dataset("out").root in (setting.root_before, setting.root)
    recorded = units_of(survived) - setting.units_before
    root, calls = setting.run(backend)
    assert root == setting.root
    assert calls == setting.unit_count - recorded
    assert Repository(backend).dataset("out").root == setting.root


def test_the_job_is_worth_the_sweep(setting: Setting) -> None:
    assert len(setting.operations) > 120
    assert {"put", "flush", "create", "touch"} == set(setting.operations)
    assert setting.unit_count > 8
    backend = filled(setting.base)
    setting.run(backend)
    data = check_complete(Repository(backend))["out"]
    assert len(data.rows) > 75
    assert Repository(backend).dataset("out").manifest.arrays["token_ids"][1].level >= 1


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_at_every_write(setting: Setting, after: bool) -> None:
    for n in range(1, len(setting.operations) + 1):
        inner = filled(setting.base)
        with pytest.raises(SimulatedCrash):
            setting.run(FaultyBackend(inner).crash_at(n, after=after))
        survivor = inner.other()  # what another process finds: all that was flushed, and nothing else
        check_then_resume(setting, survivor.other(), survivor)


@pytest.mark.slow
def test_a_crash_of_the_resumed_run_too(setting: Setting) -> None:
    for n in range(10, len(setting.operations), 23):
        inner = filled(setting.base)
        with pytest.raises(SimulatedCrash):
            setting.run(FaultyBackend(inner).crash_at(n))
        again = FaultyBackend(inner.other()).crash_at(7)
        with pytest.raises(SimulatedCrash):
            setting.run(again)
        survivor = inner.other()
        check_then_resume(setting, survivor.other(), survivor)


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_on_a_disk(setting: Setting, tmp_path: Path, after: bool) -> None:
    temporaries = 0
    for n in range(3 + after, len(setting.operations) + 1, 29):
        folder = tmp_path / str(n)
        place = LocalBackend(str(folder))
        for key, value in setting.base.items():
            place.put(key, value)
        place.flush()
        with pytest.raises(SimulatedCrash):
            setting.run(FaultyBackend(LocalBackend(str(folder))).crash_at(n, after=after))
        temporaries += len(list(folder.rglob(".castore-tmp-*")))
        check_then_resume(setting, LocalBackend(str(folder)), LocalBackend(str(folder)))
        shutil.rmtree(folder)
    assert temporaries, "a process that is dead leaves the files that it did not flush"


def test_old_temporary_files_go_with_the_next_run(setting: Setting, tmp_path: Path) -> None:
    rehearsal = FaultyBackend(MemoryBackend())
    setting.run(rehearsal)
    writes = [what for what, _ in rehearsal.calls if what in ("put", "flush", "create", "touch", "delete")]
    # At a flush that has something to do.
    n = next(n for n, pair in enumerate(pairwise(writes), 2) if pair == ("put", "flush"))
    with pytest.raises(SimulatedCrash):
        setting.run(FaultyBackend(LocalBackend(str(tmp_path))).crash_at(n))
    left = list(tmp_path.rglob(".castore-tmp-*"))
    assert left
    yesterday = time.time() - 2 * 24 * 3600
    for path in left:
        os.utime(path, (yesterday, yesterday))
    setting.run(LocalBackend(str(tmp_path)))
    assert not list(tmp_path.rglob(".castore-tmp-*"))


DISK_FULL = BackendError("cannot write /repo/tmp/x: disk full")


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_failure_of_every_write(setting: Setting, after: bool) -> None:
    """An error, unlike a crash, reaches the caller as itself, and the same process may try again."""
    for n in range(1, len(setting.operations) + 1, 5 if after else 1):
        inner = filled(setting.base)
        faulty = FaultyBackend(inner).fail_at(n, DISK_FULL, after=after)
        with pytest.raises(CastoreError) as caught:
            setting.run(faulty)
        assert caught.value is DISK_FULL
        survivor = inner.other()
        check_then_resume(setting, survivor.other(), survivor)


class Interrupting(FaultyBackend):
    """Ctrl-C at the ``n``-th write; a flush that it falls into loses what it had not made durable."""

    def __init__(self, inner: MemoryBackend, n: int) -> None:
        super().__init__(inner)
        self._memory, self._n = inner, n

    def _write(self, operation: str, key: str, act: Callable[[], T]) -> T:
        if self.writes + 1 == self._n:
            self.writes += 1
            if operation == "flush":
                self._memory.crash()
            raise KeyboardInterrupt
        return super()._write(operation, key, act)


class Torn(FaultyBackend):
    """Dies in the ``n``-th write; of a flush only the newest half becomes durable, as disks may reorder."""

    def __init__(self, inner: MemoryBackend, n: int) -> None:
        super().__init__(inner)
        self._memory = inner
        self.crash_at(n)
        self._unflushed: dict[str, bytes] = {}

    def put(self, key: str, data: bytes) -> None:
        super().put(key, data)
        self._unflushed[key] = data

    def flush(self) -> None:
        try:
            super().flush()
        except SimulatedCrash:
            self._memory.crash()
            newest = list(self._unflushed.items())
            for key, data in newest[len(newest) // 2 :]:
                self._memory.put(key, data)
            self._memory.flush()
            raise
        self._unflushed.clear()


@pytest.mark.slow
def test_a_crash_in_the_middle_of_every_flush(setting: Setting) -> None:
    for n in (n for n, what in enumerate(setting.operations, 1) if what == "flush"):
        inner = filled(setting.base)
        with pytest.raises(SimulatedCrash):
            setting.run(Torn(inner, n))
        survivor = inner.other()
        check_then_resume(setting, survivor.other(), survivor)


@pytest.mark.slow
def test_an_interrupt_at_every_write(setting: Setting) -> None:
    """The run tidies up after Ctrl-C; what it records then must be as true as everything else."""
    for n in range(1, len(setting.operations) + 1):
        inner = filled(setting.base)
        with pytest.raises(KeyboardInterrupt):
            setting.run(Interrupting(inner, n))
        survivor = inner.other()
        check_then_resume(setting, survivor.other(), survivor)


@pytest.mark.parametrize("method", ["_take", "_keep_scalars", "_push", "_end_node"])
def test_an_interrupt_inside_the_builder(setting: Setting, method: str) -> None:
    """Half a step was taken: samples are out of the queue and in no chunk yet."""
    real = getattr(SequenceBuilder, method)
    for n in range(1, 60, 3):
        count = 0

        def interrupted(*arguments: Any, n: int = n) -> Any:
            nonlocal count
            count += 1
            result = real(*arguments)
            if count == n:
                raise KeyboardInterrupt
            return result

        inner = filled(setting.base)
        with mock.patch.object(SequenceBuilder, method, interrupted):
            try:
                setting.run(inner)
            except KeyboardInterrupt:
                pass
            else:
                assert count < n
                break
        survivor = inner.other()
        check_then_resume(setting, survivor.other(), survivor)
    assert n > 1


def test_an_interrupt_between_two_units_loses_nothing(setting: Setting) -> None:
    """What was tokenized is recorded, even if its chunk was not full."""
    for n in range(2, setting.unit_count, 3):
        calls = 0
        real = ChatTokenizer.tokenize

        def tokenize(self: ChatTokenizer, rows: Any, *, on_error: str, n: int = n, real: Any = real) -> Any:
            nonlocal calls
            calls += 1
            if calls == n:
                raise KeyboardInterrupt
            return real(self, rows, on_error=on_error)

        inner = filled(setting.base)
        with mock.patch.object(ChatTokenizer, "tokenize", tokenize), pytest.raises(KeyboardInterrupt):
            run_job(inner, setting.mix)
        survivor = inner.other()
        assert units_of(survivor) - setting.units_before == n - 1
        check_then_resume(setting, survivor.other(), survivor)


def test_a_record_never_names_what_is_not_durable(setting: Setting) -> None:
    """Each record of a unit appears together with its chunks, whatever flush makes it visible."""
    inner = filled(setting.base)
    faulty = FaultyBackend(inner)
    seen = []
    real = faulty.flush

    def flush() -> None:
        real()
        seen.append(check_units(Repository(inner.other())))

    faulty.flush = flush  # type: ignore[method-assign]
    setting.run(faulty)
    assert seen[-1] == setting.unit_count + setting.units_before
    assert len(set(seen)) > 5
