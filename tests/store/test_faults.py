"""The faulty backend of the tests, and the sweep that uses it, are themselves believed by many of them."""

from __future__ import annotations

import pytest

from castore.errors import BackendError
from castore.store.backend import Backend, MemoryBackend
from tests.support.faults import FaultyBackend, SimulatedCrash
from tests.support.sweep import Fault, sweep


def run(backend: FaultyBackend) -> None:
    backend.put("a", b"1")
    backend.flush()
    backend.create("b", b"2")
    backend.touch("a")
    backend.delete("b")


STATES: list[dict[str, bytes]] = [{}, {}, {"a": b"1"}, {"a": b"1", "b": b"2"}, {"a": b"1", "b": b"2"}, {"a": b"1"}]


def test_without_faults_it_only_counts() -> None:
    backend = FaultyBackend(MemoryBackend())
    run(backend)
    backend.get("a", 10)
    assert backend.calls == [
        ("put", "a"),
        ("flush", ""),
        ("create", "b"),
        ("touch", "a"),
        ("delete", "b"),
        ("get", "a"),
    ]
    assert backend.writes == 5


@pytest.mark.parametrize("n", range(1, 6))
@pytest.mark.parametrize("after", [False, True])
def test_a_crash_at_every_write(n: int, after: bool) -> None:
    inner = MemoryBackend()
    backend = FaultyBackend(inner).crash_at(n, after=after)
    with pytest.raises(SimulatedCrash):
        run(backend)
    assert inner.snapshot() == STATES[n if after else n - 1]
    for act in (backend.flush, lambda: backend.get("a", 10), lambda: backend.has("a"), lambda: backend.list("")):
        with pytest.raises(SimulatedCrash):
            act()
    inner.crash()
    assert {key: inner.get(key, 10) for key in inner.list("")} == inner.snapshot()


@pytest.mark.parametrize("after", [False, True])
def test_a_failure_happens_once(after: bool) -> None:
    inner = MemoryBackend()
    backend = FaultyBackend(inner).fail_at(3, BackendError("full"), after=after)
    with pytest.raises(BackendError, match="full"):
        run(backend)
    assert inner.has("b") is after
    run(backend)
    assert inner.snapshot() == {"a": b"1"}


def test_a_listing_dies_with_its_process() -> None:
    backend = FaultyBackend(MemoryBackend())
    backend.put("a", b"")
    backend.put("b", b"")
    keys = backend.list("")
    assert next(keys) == "a"
    with pytest.raises(SimulatedCrash):
        backend.crash_at(3).flush()
    with pytest.raises(SimulatedCrash):
        next(keys)


def test_a_job_that_writes_nothing_is_no_sweep() -> None:
    with pytest.raises(AssertionError, match="writes nothing"):
        sweep(lambda backend: backend.get("a", 10))
    with pytest.raises(AssertionError, match="no write of the job"):
        sweep(lambda backend: backend.create("a", b"") or True, faults=[Fault.TORN])


def careless(backend: Backend) -> None:
    """``a`` says that ``b`` is there, and is stored before it."""
    if not backend.has("a"):
        backend.create("a", b"1")
        backend.put("b", b"2")
        backend.flush()


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.TORN], ids=str)
def test_a_sweep_finds_what_is_not_whole(fault: Fault) -> None:
    def check(survivor: Backend) -> None:
        assert survivor.has("b") or not survivor.has("a"), "b is lost"

    with pytest.raises(AssertionError, match="b is lost") as caught:
        sweep(careless, faults=[fault], check=check)
    assert caught.value.__notes__ == [
        f"{fault} at write {1 if fault is Fault.LOSES_ANSWER else 2} of 3, "
        f"{'create' if fault is Fault.LOSES_ANSWER else 'put'}"
    ]


def test_a_sweep_finds_a_job_that_goes_on_to_something_else() -> None:
    def lasting(backend: Backend) -> set[str]:
        careless(backend)
        return set(backend.list(""))

    with pytest.raises(AssertionError, match="something else"):
        sweep(lasting, check=lambda survivor: None)
