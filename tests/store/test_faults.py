"""The faulty backend of the tests is itself believed by many of them."""

from __future__ import annotations

import pytest

from castore.errors import BackendError
from castore.store.backend import MemoryBackend
from tests.support.faults import FaultyBackend, SimulatedCrash


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
