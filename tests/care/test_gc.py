"""Collection: what stays, what goes, and what a crash or a writer at any moment does to it."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from castore.care import repack
from castore.care.fsck import check
from castore.care.gc import DAY_S, Collected, Policy, collect
from castore.errors import BackendError, CorruptionError, InvalidInputError
from castore.format.run import Run
from castore.ingest.assembly import Assembly
from castore.repository import Repository
from castore.store.backend import Backend, MemoryBackend
from castore.store.object_keys import object_key
from castore.store.refs import RefStore
from castore.store.units import UNITS
from castore.store.urls import open_backend
from tests.care.test_copy import opened
from tests.care.test_fsck import Reading
from tests.support.complete import check_complete
from tests.support.faults import FaultyBackend
from tests.support.jobs import ORIGIN, counted_tokenizing, example_rows, run_job, write_rows
from tests.support.layouts import Layout, flipped, forget, loose, objects_of, small_packs, units_of
from tests.support.olmo_core import documents, write_folder
from tests.support.sweep import sweep

NOW = Policy(0, 0, 0)


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.offset_s = -400.0 * DAY_S

    def __call__(self) -> float:
        import time

        return time.time() + self.offset_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def mixes(tmp_path: Path) -> dict[str, Path]:
    rows = example_rows()
    return {
        "a": write_rows(tmp_path / "a.jsonl", rows[:60]),
        "b": write_rows(tmp_path / "b.jsonl", rows[40:90]),
    }


@pytest.fixture(params=[loose, small_packs], ids=["loose", "packed"])
def layout(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """How objects lie; a pack is worth its place only if all of it is in use."""
    monkeypatch.setattr(repack, "UNUSED_SHARE", 1e-9)
    chosen: Layout = request.param
    return chosen


@pytest.fixture
def backend(clock: Clock, mixes: dict[str, Path], layout: Layout) -> MemoryBackend:
    """Names a and b, made 400 days ago; it is today now."""
    backend = MemoryBackend(clock=clock)
    for name, path in mixes.items():
        run_job(layout(backend), [(path, "1.0")], name=name)
    clock.offset_s = 0
    return backend


def test_what_a_dead_collection_left_aside_stays_if_it_is_in_use(mixes: dict[str, Path], tmp_path: Path) -> None:
    """It may have been renewed and named in the moment before, and is old by the next collection."""
    backend = loose(open_backend(str(tmp_path / "r")))
    run_job(backend, [(mixes["a"], "1.0")], name="a")
    held = max((tmp_path / "r" / key for key in objects_of(backend)), key=lambda path: path.stat().st_size)
    run_job(backend, [(mixes["b"], "1.0")], name="b")
    Repository(backend).remove("b", ORIGIN)
    aside = tmp_path / "r/tmp/.castore-expired/objects" / held.parent.name / f"{held.name}.99-ab"
    aside.parent.mkdir(parents=True)
    held.rename(aside)
    os.utime(aside, (1000, 1000))
    assert collect(open_backend(str(tmp_path / "r")), NOW, force=True).records_removed > 0
    assert held.exists()
    assert check_complete(Repository(open_backend(str(tmp_path / "r")))).keys() == {"a"}


def test_what_names_hold_stays(backend: MemoryBackend) -> None:
    before = objects_of(backend)
    Repository(backend).tag("a", "also", ORIGIN)
    done = collect(backend, Policy())
    assert (done.listed, done.removed, done.spared) == (len(before), len(before) - done.marked, 0)
    assert done.records_removed > 10
    assert check(backend).findings.listed == []
    assert check(backend).unreferenced == 0
    assert check_complete(Repository(backend)).keys() == {"a", "b", "also"}
    assert collect(backend, Policy()).removed == 0
    assert not list(backend.list("clock"))


def test_only_what_is_above_the_chunks_is_read(backend: MemoryBackend) -> None:
    collect(backend, Policy())  # which reads what it stores on relatives
    reading = Reading(backend)
    done = collect(reading, Policy())
    read = reading.objects_read()
    assert len(read) == len(set(read)) == done.read < done.listed / 2


def test_a_log_that_outlives_what_it_names_stops_nothing(backend: MemoryBackend) -> None:
    """What one collection took, since it kept logs for no time, the next one with its 90 days does without."""
    repository = Repository(backend)
    repository.tag("b", "a", ORIGIN)
    repository.remove("b", ORIGIN)
    assert collect(backend, NOW, force=True).records_removed > 0
    for kept in list(backend.list("trash")):
        backend.delete(kept)  # as collections do when the grace period is over
    assert collect(backend, Policy(grace_s=0), force=True).removed == 0
    assert check_complete_of(Repository(backend), "a")


def test_what_a_name_means_is_missed_all_the_same(backend: MemoryBackend) -> None:
    for name in ("a", "b"):
        target = RefStore(backend).entry(name, 0).target
        assert target is not None
        forget(backend, object_key(target))
    with pytest.raises(CorruptionError, match="nothing was removed"):
        collect(backend, NOW, force=True)


def test_what_a_removed_name_meant_goes_in_its_time(backend: MemoryBackend, clock: Clock) -> None:
    repository = Repository(backend)
    collect(backend, Policy())
    both = len(objects_of(backend))
    repository.remove("b", ORIGIN)
    assert collect(backend, Policy()).removed == 0
    clock.offset_s = 89 * DAY_S
    assert collect(backend, Policy(), force=True).removed == 0
    repository.tag("b@{1}", "b", ORIGIN)
    repository.remove("b", ORIGIN)
    clock.offset_s = 170 * DAY_S
    assert collect(backend, Policy(), force=True).removed == 0, "kept from when it ended, not from when it began"
    clock.offset_s = 180 * DAY_S
    done = collect(backend, Policy(), force=True)
    assert 0 < done.removed < both
    assert check(backend).findings.clean
    assert {finding.name for finding in check(backend).findings.listed} == {"log-target-missing"}
    assert check_complete_of(repository, "a")


def check_complete_of(repository: Repository, name: str) -> bool:
    from tests.support.complete import check_dataset

    target = repository.refs.current(name)
    assert target is not None
    return bool(check_dataset(repository, target).rows)


def test_records_keep_what_they_name_until_they_are_old(backend: MemoryBackend, mixes: dict[str, Path]) -> None:
    repository = Repository(backend)
    run_job(backend, [(mixes["a"], "1.0")], name="c")  # uses all records of a
    for name in ("a", "b", "c"):
        repository.remove(name, ORIGIN)
    keep = Policy(0, 0, 30 * DAY_S)
    done = collect(backend, keep, force=True)
    assert done.removed > 0
    assert done.records_removed > 0
    left = objects_of(backend)
    assert left, "the chunks of a"
    assert collect(backend, keep, force=True).removed == 0
    with counted_tokenizing() as calls:
        run_job(backend, [(mixes["a"], "1.0")], name="d")
    assert not calls
    assert left <= objects_of(backend)
    repository.remove("d", ORIGIN)
    collect(backend, NOW, force=True)
    assert not objects_of(backend)
    assert not units_of(backend)


def test_what_was_stored_or_reused_lately_stays(backend: MemoryBackend, mixes: dict[str, Path]) -> None:
    repository = Repository(backend)
    for name in ("a", "b"):
        repository.remove(name, ORIGIN)
    reached = objects_of(backend)
    run_job(backend, [(mixes["a"], "1.0")], name="c")
    repository.remove("c", ORIGIN)
    done = collect(backend, Policy(14 * DAY_S, 0, 0), force=True)
    assert done.young > 0
    assert done.removed > 0
    repository.tag("c@{1}", "c", ORIGIN)
    assert check_complete_of(repository, "c")
    assert reached - objects_of(backend)


def test_a_rehearsal_changes_nothing(backend: MemoryBackend) -> None:
    Repository(backend).remove("b", ORIGIN)
    before = backend.snapshot()
    faulty = FaultyBackend(backend)
    planned = collect(faulty, NOW, dry_run=True, force=True)
    assert faulty.writes == 0
    assert backend.snapshot() == before
    done = collect(backend, NOW, force=True)
    assert planned.removed == done.removed > 0
    assert planned.removed_bytes == done.removed_bytes
    assert planned.records_removed == done.records_removed


def test_unsafe_periods_are_refused(backend: MemoryBackend, clock: Clock) -> None:
    for policy in (Policy(grace_s=3599), Policy(grace_s=100 * DAY_S), Policy(keep_log_s=DAY_S), Policy(-1, 0, 0)):
        with pytest.raises(InvalidInputError):
            collect(backend, policy)
    for offset_s in (2 * 3600, -2 * 3600):
        clock.offset_s = offset_s
        with pytest.raises(InvalidInputError, match="clock"):
            collect(backend, Policy())


def test_a_clock_that_goes_back_keeps_everything(backend: MemoryBackend, clock: Clock) -> None:
    Repository(backend).remove("b", ORIGIN)
    clock.offset_s = -500 * DAY_S
    assert collect(backend, Policy(), force=True).removed == 0
    assert collect(backend, NOW, force=True).removed == 0, "all is of a time to come"


def test_a_damaged_repository_is_left_alone(backend: MemoryBackend) -> None:
    Repository(backend).remove("b", ORIGIN)
    snapshot = backend.snapshot()
    target = Repository(backend).refs.current("a")
    assert target is not None
    log = f"refs/b/{0:020d}"
    for key, value in ((object_key(target), b"?"), (log, b"?"), (log, None)):
        other = MemoryBackend(clock=lambda: 1e9)
        harmed = snapshot if key == object_key(target) else {**snapshot, key: value}
        for name, content in sorted(harmed.items(), key=lambda pair: pair[0]):
            if name.startswith("refs/"):  # after the objects
                other.clock = MemoryBackend().clock
            if content is not None:
                other.put(name, content)
        other.flush()
        if key == object_key(target):
            flipped(other, key, 30)
        before = objects_of(other)
        with pytest.raises(CorruptionError, match="nothing was removed"):
            collect(other, Policy())
        assert objects_of(other) == before


@pytest.mark.parametrize("layout", [loose])
def test_a_record_that_is_too_large_holds_nothing(backend: MemoryBackend) -> None:
    key = next(iter(backend.list("units")))
    before = collect(backend, Policy(), dry_run=True)
    backend.put(key, bytes(UNITS.bytes_max + 1))
    backend.flush()
    assert collect(backend, Policy(), dry_run=True).listed == before.listed


def test_damage_that_a_record_leads_to_first(
    clock: Clock, layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record of an import and a name lead to one dataset, which has a damaged node: nobody knows what is below."""
    small = partial(Assembly, chunk_bytes=256, fanout=4)
    monkeypatch.setattr("castore.ingest.import_folder.Assembly", small)
    backend = MemoryBackend(clock=clock)
    repository = opened(layout(backend))
    clock.offset_s = -20.0 * DAY_S  # the record is young enough to be kept, and the objects are not
    repository.import_folder(str(write_folder(tmp_path / "out", documents(500))), "golden/a", ORIGIN)
    clock.offset_s = 0
    for name in ("token_ids", "length"):
        node = repository.dataset("golden/a").manifest.arrays[name][1].entries[0].digest
        before = objects_of(backend)
        clock.offset_s = -20.0 * DAY_S
        flipped(backend, object_key(node), 5)
        clock.offset_s = 0
        with pytest.raises(CorruptionError, match="nothing was removed"):
            collect(backend, Policy())
        assert objects_of(backend) == before
        clock.offset_s = -20.0 * DAY_S
        flipped(backend, object_key(node), 5)
        clock.offset_s = 0
    assert collect(backend, Policy()).removed == 0


def test_an_import_that_is_damaged_holds_up_nobody(backend: MemoryBackend, tmp_path: Path) -> None:
    repository = Repository(backend)
    repository.import_folder(str(write_folder(tmp_path / "out", documents(30))), "c", ORIGIN)
    forget(backend, object_key(repository.dataset("c").root))
    repository.remove("c", ORIGIN)
    assert collect(backend, Policy(grace_s=0, keep_log_s=0), force=True).removed > 0
    assert check_complete(repository).keys() == {"a", "b"}


def test_a_name_that_takes_a_manifest_for_a_file(backend: MemoryBackend) -> None:
    """What a run wrongly names hides nothing from a walk that meets it as what it is, whichever comes first."""
    repository = Repository(backend)
    for name in ("a", "b"):
        manifest = repository.dataset(name).root
        for target in ("a", "b"):
            run = Run.decode(repository.objects.get(repository.resolve(target)))
            evil = replace(run, files={"x": manifest}).encode()
            repository.objects.put(evil.digest, evil.data)
            repository.refs.update(f"evil-{target}", evil.digest, time_s=1, author="m", message="")
        repository.objects.flush()
        collect(backend, Policy(0, 0, 0), force=True)
        assert check_complete_of(repository, "a")
        assert check_complete_of(repository, "b")


def test_a_store_that_does_not_tell_ages_is_left_alone(backend: MemoryBackend) -> None:
    class Ageless(FaultyBackend):
        def entries(self, prefix: str) -> object:  # type: ignore[override]
            return (entry._replace(modified_s=None) for entry in super().entries(prefix))

    before = objects_of(backend)
    with pytest.raises(BackendError, match="old"):
        collect(Ageless(backend), Policy())
    assert objects_of(backend) == before


def aged(content: dict[str, bytes]) -> MemoryBackend:
    """A backend with files of long ago, stored one after another."""
    times = count(10**9)
    old = MemoryBackend(clock=lambda: float(next(times)))
    for key, value in content.items():
        old.put(key, value)
    old.flush()
    old.clock = MemoryBackend().clock
    return old


def test_a_fault_at_every_write(backend: MemoryBackend) -> None:
    Repository(backend).remove("b", ORIGIN)
    snapshot = backend.snapshot()

    def collected(backend: Backend) -> set[str]:
        collect(backend, NOW, force=True)
        assert check_complete_of(Repository(backend), "a")
        return objects_of(backend)

    done = sweep(collected, lambda: aged(snapshot))
    assert done.operations.count("delete") + done.operations.count("expire") > 10


def test_the_next_collection_keeps_logs_for_longer(backend: MemoryBackend) -> None:
    """What one that was killed has left of a removed dataset is no reason for the next one to stop."""
    repository = Repository(backend)
    repository.remove("b", ORIGIN)
    target = repository.refs.entry("b", 0).target
    assert target is not None
    manifest = Run.decode(repository.objects.get(target)).manifest
    chunk = repository.dataset("a").manifest.arrays["token_ids"][1].entries[0].digest
    forget(backend, object_key(manifest))
    assert collect(backend, Policy(grace_s=0), force=True).removed > 0
    assert repository.objects.has(target), "of what is left the log holds what it reaches"
    assert check(backend).findings.clean
    assert check_complete_of(repository, "a")
    forget(backend, object_key(chunk), object_key(repository.dataset("a").root))
    with pytest.raises(CorruptionError, match="nothing was removed"):
        collect(backend, Policy(grace_s=0), force=True)


class Disturbed(FaultyBackend):
    """Lets a writer act just before the ``n``-th call, whatever it is."""

    def __init__(self, inner: Backend, n: int, act: object) -> None:
        super().__init__(inner)
        self._n, self._act = n, act

    def _note(self, operation: str, key: str) -> None:
        super()._note(operation, key)
        if len(self.calls) == self._n:
            self._act()  # type: ignore[operator]


class TwoSteps(FaultyBackend):
    """A place that looks at an age and removes then; a writer acts between the two at the ``n``-th time."""

    expires_in_one_step = False  # type: ignore[assignment]

    def __init__(self, inner: Backend, n: int, act: object) -> None:
        super().__init__(inner)
        self._n, self._act = n, act

    def expire(self, key: str, before_s: float) -> bool:
        old = any(entry.key == key and (entry.modified_s or 0) < before_s for entry in self.inner.entries(""))
        if key.startswith("objects/"):
            self._n -= 1
            if self._n == 0:
                self._act()  # type: ignore[operator]
        return old and self.inner.delete(key)


@pytest.mark.slow
def test_a_renewal_between_looking_and_removing(backend: MemoryBackend, mixes: dict[str, Path], layout: Layout) -> None:
    """Where that can happen the object is in the trash: readers find it, and the next collection gives it back."""
    source = Repository(backend)
    other = MemoryBackend()
    source.copy("b", opened(other), "b", ORIGIN)
    source.remove("b", ORIGIN)
    snapshot = {key: value for key, value in backend.snapshot().items() if not key.startswith("refs/b/")}

    policy = Policy(3600, 3600, 0)
    torn = 0
    for n in range(1, 60, 2):
        inner = aged(snapshot)

        def writer(inner: MemoryBackend = inner) -> None:
            Repository(other).copy("b", Repository(inner.other()), "b", ORIGIN)

        collect(TwoSteps(inner, n, writer), policy, force=True)
        named = Repository(inner).refs.current("b") is not None
        assert check(inner).findings.clean
        assert not named or check_complete_of(Repository(inner), "b")
        if named:
            whole = objects_of(other)
            torn += not whole <= objects_of(inner)
            collect(TwoSteps(inner, 0, None), policy, force=True)
            assert whole <= objects_of(inner)
            assert check_complete_of(Repository(inner), "b")
    assert torn or layout is not loose  # of packs see tests/care/test_relatives.py


@pytest.mark.slow
@pytest.mark.parametrize("what", ["tokenize", "tag", "copy"])
def test_a_writer_at_every_moment(backend: MemoryBackend, mixes: dict[str, Path], what: str) -> None:
    """All of b is old and unused. Somebody wants it again while it is being removed: before, between, or after."""
    source = Repository(backend)
    other = MemoryBackend()
    source.copy("b", opened(other), "b", ORIGIN)
    target = source.refs.current("b")
    assert target is not None
    source.remove("b", ORIGIN)
    snapshot = {key: value for key, value in backend.snapshot().items() if not key.startswith("refs/b/")}
    memory: dict[object, object] = {}

    def writer(inner: MemoryBackend) -> None:
        from castore.errors import NotFoundError

        repository = Repository(inner.other())
        if what == "copy":
            Repository(other).copy("b", repository, "b", ORIGIN)
        elif what == "tokenize":
            with counted_tokenizing(memory):  # type: ignore[arg-type]
                run_job(inner.other(), [(mixes["b"], "1.0")], name="b")
        else:
            try:
                repository.tag(target.hex(), "b", ORIGIN)
            except NotFoundError:
                outcomes.add("refused")
            else:
                outcomes.add("held")

    outcomes: set[str] = set()
    rehearsal = FaultyBackend(aged(snapshot))
    collect(rehearsal, Policy(3600, 3600, 0), force=True)
    moments = len(rehearsal.calls)
    for n in range(1, moments + 1, 1 if what == "tag" else 3):
        inner = aged(snapshot)
        done: Collected = collect(
            Disturbed(inner, n, lambda inner=inner: writer(inner)), Policy(3600, 3600, 0), force=True
        )
        assert done.listed
        found = check(inner)
        assert found.findings.clean, (n, found.findings.listed)
        assert check_complete_of(Repository(inner), "a")
        if Repository(inner).refs.current("b") is not None:
            assert check_complete_of(Repository(inner), "b")
    assert what != "tag" or outcomes == {"held", "refused"}


def test_over_fsspec(tmp_path: Path, layout: Layout) -> None:
    """The whole life of a repository in a store that fsspec knows."""
    url = f"memory://care-{tmp_path.name}"
    mix = write_rows(tmp_path / "a.jsonl", example_rows()[:40])
    run_job(layout(open_backend(url)), [(mix, "1.0")], name="a")
    run_job(layout(open_backend(url)), [(mix, "0.5")], name="b")
    assert collect(open_backend(url), Policy()).removed == 0
    Repository(open_backend(url)).remove("b", ORIGIN)
    done = collect(open_backend(url), NOW, force=True)
    assert 0 < done.removed < done.listed
    gone = done.removed if layout is loose else done.packs.removed
    assert len(list(open_backend(url).list("trash"))) == gone > 0
    collect(open_backend(url), NOW, force=True)
    assert not list(open_backend(url).list("trash"))
    assert check(open_backend(url)).findings.clean
    target = opened(MemoryBackend())
    Repository(open_backend(url)).copy("a", target, "a", ORIGIN)
    flipped(open_backend(url), min(objects_of(open_backend(url))), 5)
    assert not check(open_backend(url)).findings.clean
    assert check(open_backend(url), source=target.backend).findings.clean
    assert check(open_backend(url)).findings.clean
