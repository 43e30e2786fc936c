"""A run that dies at any write leaves a whole repository, and goes on to the same root.

The sweep disturbs a small job at every single write. The job has all that a run can have: a source taken one
and a half times, picks of another, blocks that several chunks hold and chunks that hold several blocks, and a name that
meant something before.
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass, field
from itertools import count, pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from castore.ingest.tokenizer import ChatTokenizer, TokenizedRows
from castore.repository import Repository
from castore.store.backend import Backend, MemoryBackend
from castore.store.local import LocalBackend
from castore.tree.build import SequenceBuilder
from tests.support.complete import check_complete, check_units
from tests.support.faults import FaultyBackend, SimulatedCrash
from tests.support.jobs import counted_tokenizing, example_rows, run_job, write_rows
from tests.support.layouts import Layout, loose, small_packs, units_of
from tests.support.sweep import ON_ANY_BACKEND, Fault, sweep, whole


@dataclass
class Setting:
    """The job, what was in the repository before, and how an undisturbed run goes."""

    mix: list[tuple[Path, str]]
    base: dict[str, bytes]
    layout: Layout
    memory: dict[Any, TokenizedRows] = field(default_factory=dict)
    root_before: bytes = b""
    root: bytes = b""
    operations: list[str] = field(default_factory=list)
    units_before: int = 0
    unit_count: int = 0

    def run(self, backend: Backend) -> tuple[bytes, int]:
        """The root, and how many units were tokenized."""
        with counted_tokenizing(self.memory) as calls:
            result = run_job(self.layout(backend), self.mix)
        return result.root, len(calls)


@pytest.fixture(scope="module", params=[loose, small_packs], ids=["loose", "packed"])
def setting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Setting:
    folder = tmp_path_factory.mktemp("mix")
    rows = example_rows()
    before = write_rows(folder / "before.jsonl", rows[100:130])
    mix = [
        (write_rows(folder / "a.jsonl", rows[:44]), "1.5"),
        (write_rows(folder / "b.jsonl", rows[60:90]), "0.5"),
    ]
    backend = MemoryBackend()
    root_before = run_job(request.param(backend), [(before, "1.0")]).root
    made = Setting(mix, backend.snapshot(), request.param, root_before=root_before)
    made.units_before = units_of(backend)
    faulty = FaultyBackend(filled(made.base))
    made.root, made.unit_count = made.run(faulty)
    made.operations = faulty.operations
    return made


def filled(content: dict[str, bytes]) -> MemoryBackend:
    backend = MemoryBackend()
    for key, value in content.items():
        backend.put(key, value)
    backend.flush()
    return backend


@dataclass
class Sweeping:
    """A run as a sweep wants it: it returns the root, and tokenizes only what no record holds."""

    setting: Setting

    def __call__(self, backend: Backend) -> tuple[bytes, bytes]:
        setting = self.setting
        recorded = units_of(backend) - setting.units_before
        root, calls = setting.run(backend)
        assert calls == setting.unit_count - recorded
        return root, Repository(backend).dataset("out").root

    def start(self) -> MemoryBackend:
        return filled(self.setting.base)

    def check(self, survivor: Backend) -> None:
        """What a fault left is whole, and the name means what it did before, or what it was to mean."""
        whole(survivor)
        assert Repository(survivor).refs.names() == ["out"]
        assert Repository(survivor).dataset("out").root in (self.setting.root_before, self.setting.root)

    def check_then_resume(self, survivor: MemoryBackend) -> None:
        self.check(survivor)
        assert self(survivor.other()) == (self.setting.root, self.setting.root)


@pytest.fixture(scope="module")
def run(setting: Setting) -> Sweeping:
    return Sweeping(setting)


def test_the_job_is_worth_the_sweep(setting: Setting) -> None:
    assert len(setting.operations) > (90 if setting.layout is loose else 20)
    assert {"put", "flush", "create", "touch"} == set(setting.operations)
    assert setting.unit_count > 8
    backend = filled(setting.base)
    setting.run(backend)
    data = check_complete(Repository(backend))["out"]
    assert len(data.rows) > 75
    assert Repository(backend).dataset("out").manifest.arrays["token_ids"][1].level >= 1


@pytest.mark.slow
@pytest.mark.parametrize("fault", Fault, ids=str)
def test_a_fault_at_every_write(run: Sweeping, fault: Fault) -> None:
    done = sweep(run, run.start, faults=[fault], check=run.check, touches=12)
    if run.setting.layout is loose:
        assert done.runs > (20 if fault is Fault.TORN else 90)
    assert done.places > 1


def test_a_fault_at_some_writes(run: Sweeping) -> None:
    sweep(run, run.start, check=run.check, touches=12, every=13)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.4, 0.6, 0.9])
def test_a_crash_of_the_resumed_run_too(run: Sweeping, share: float) -> None:
    inner = run.start()
    n = int(share * len(run.setting.operations))
    with pytest.raises(SimulatedCrash):
        run(FaultyBackend(inner).crash_at(n))
    left = inner.snapshot()
    sweep(run, lambda: filled(left), faults=[Fault.DIES], check=run.check, every=9)


@pytest.mark.slow
def test_a_crash_on_a_disk(run: Sweeping, tmp_path: Path) -> None:
    numbers = count()

    def start() -> LocalBackend:
        for old in tmp_path.iterdir():
            temporaries.update(old.rglob(".castore-tmp-*"))
            shutil.rmtree(old)
        place = LocalBackend(str(tmp_path / str(next(numbers))))
        for key, value in run.setting.base.items():
            place.put(key, value)
        place.flush()
        return place

    temporaries: set[Path] = set()
    every = 29 if run.setting.layout is loose else 3
    sweep(run, start, faults=ON_ANY_BACKEND, check=run.check, reopen=lambda place: LocalBackend(place.url), every=every)
    assert temporaries, "a process that is dead leaves the files that it did not flush"


def test_old_temporary_files_go_with_the_next_run(setting: Setting, tmp_path: Path) -> None:
    rehearsal = FaultyBackend(MemoryBackend())
    setting.run(rehearsal)
    # At a flush that has something to do.
    n = next(n for n, pair in enumerate(pairwise(rehearsal.operations), 2) if pair == ("put", "flush"))
    with pytest.raises(SimulatedCrash):
        setting.run(FaultyBackend(LocalBackend(str(tmp_path))).crash_at(n))
    left = list(tmp_path.rglob(".castore-tmp-*"))
    assert left
    yesterday = time.time() - 2 * 24 * 3600
    for path in left:
        os.utime(path, (yesterday, yesterday))
    setting.run(LocalBackend(str(tmp_path)))
    assert not list(tmp_path.rglob(".castore-tmp-*"))


@pytest.mark.parametrize("method", ["_take", "_keep_scalars", "_append", "_split_levels", "_end_node"])
def test_an_interrupt_inside_the_builder(setting: Setting, run: Sweeping, method: str) -> None:
    """Half a step was taken: samples are out of the queue and in no chunk yet."""
    real = getattr(SequenceBuilder, method)
    for n in range(1, 60, 3):
        count = 0

        def interrupted(*arguments: Any, n: int = n, **options: Any) -> Any:
            nonlocal count
            count += 1
            result = real(*arguments, **options)
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
        run.check_then_resume(inner.other())
    assert n > 1


def test_an_interrupt_between_two_units_loses_nothing(setting: Setting, run: Sweeping) -> None:
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
            run_job(setting.layout(inner), setting.mix)
        survivor = inner.other()
        assert units_of(survivor) - setting.units_before == n - 1
        run.check_then_resume(survivor)


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
    assert len(set(seen)) > 4
