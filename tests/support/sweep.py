"""One job under a fault at every write: what is left is whole, and going on comes to what an undisturbed run does.

::

    def copy(backend: Backend) -> set[str]:
        source.copy("two", opened(backend), "two", ORIGIN)
        return set(backend.list("objects"))

    sweep(copy)

The job is run once undisturbed, to count its writes (put, create, flush, touch, delete, expire) and to learn what it
returns; a job that writes nothing fails the test. Then it is run again and again from the same start, each time with
one fault at one write:

``DIES``
    The process is dead before the write. As a dead process changes nothing between two writes, this is also a death
    after the write before it; the last write has one of its own after it.
``TORN``
    The process dies in the midst of a flush, of which the newest half has become durable, as disks reorder.
``FAILS``
    The write does not happen and raises a BackendError, which must reach the caller as itself.
``LOSES_ANSWER``
    The same, but the write happened.
``INTERRUPTED``
    Ctrl-C: a KeyboardInterrupt before the write; a flush that it falls into loses what it had not made durable.

Of what such a run leaves, another process sees what is durable. That is checked: every name can be read to its last
array, all that it reaches is there and follows from its tokens, and ``fsck`` finds nothing (``whole``). Then the job is
started again on it and must return what the undisturbed run returned, and what it leaves must be whole too. What is the
same in all its bytes is checked once, whichever faults lead there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import count
from typing import Any, TypeVar

import pytest

from castore.care.fsck import check as fsck
from castore.errors import BackendError
from castore.repository import Repository
from castore.store.backend import Backend, MemoryBackend
from castore.store.marker import FORMAT_KEY
from tests.support.complete import check_complete
from tests.support.faults import FaultyBackend, SimulatedCrash

R = TypeVar("R")
T = TypeVar("T")

VALUE_BYTES_MAX = 1 << 30


class Fault(Enum):
    """What happens at a write; told of above."""

    DIES = "dies"
    TORN = "torn"
    FAILS = "fails"
    LOSES_ANSWER = "loses answer"
    INTERRUPTED = "interrupted"

    def __str__(self) -> str:
        return self.value


ON_ANY_BACKEND = (Fault.DIES, Fault.FAILS, Fault.LOSES_ANSWER)
"""Faults that need no MemoryBackend under them."""

FAILURES = [BackendError("cannot write /repo/tmp/x: disk full"), BackendError("cannot delete /repo/x: no permission")]


@dataclass(frozen=True)
class Swept:
    """How large a sweep was.

    Attributes:
        operations: The writes of an undisturbed run, by name, in order.
        runs: How many runs met a fault.
        places: How many different sets of files they left, all of them checked.
    """

    operations: list[str]
    runs: int
    places: int


def whole(backend: Backend) -> None:
    """A repository is sound, or has not been made yet: all names readable and complete, and fsck finds nothing."""
    if not backend.has(FORMAT_KEY):
        assert not list(backend.list("refs"))
        return
    check_complete(Repository(backend))
    found = fsck(backend).findings
    assert found.clean, found.listed


def sweep(
    job: Callable[[Backend], R],
    start: Callable[[], Any] = MemoryBackend,
    *,
    faults: Iterable[Fault] = tuple(Fault),
    check: Callable[[Backend], None] = whole,
    go_on: Callable[[Backend], R] | None = None,
    reopen: Callable[[Any], Backend] = MemoryBackend.other,
    every: int = 1,
    touches: int = 1,
) -> Swept:
    """Run ``job`` with each of ``faults`` at its writes, and check what is left.

    Args:
        job: Does all its writing through the backend it is given; what it returns is compared.
        start: Makes a fresh backend as the job finds it, the same every time; a MemoryBackend, but for ON_ANY_BACKEND.
        faults: Which faults.
        check: What must hold of what a fault leaves, seen by another process.
        go_on: What is done afterwards; the job itself unless given.
        reopen: What another process opens at the place of a backend.
        every: At which writes: 1 for each of them, 3 for the first and each third after it.
        touches: Of touches, of which there may be hundreds in a row, only each so manieth.
    """
    rehearsal = FaultyBackend(start())
    wanted = job(rehearsal)
    operations = rehearsal.operations
    assert operations, "the job writes nothing: nothing was swept"
    runs = 0
    left: set[frozenset[tuple[str, bytes | None]]] = set()
    ends: set[frozenset[tuple[str, bytes | None]]] = set()
    for fault in faults:
        for n in _moments(operations, fault, every, touches):
            backend = start()
            _meet(job, backend, fault, n, len(operations))
            runs += 1
            survivor = reopen(backend)
            try:
                if _is_new(survivor, left):
                    check(survivor)
                    assert (go_on or job)(reopen(survivor)) == wanted, "going on came to something else"
                    end = reopen(survivor)
                    if _is_new(end, ends):
                        whole(end)
            except BaseException as error:
                error.add_note(f"{fault} at write {n} of {len(operations)}, {[*operations, 'the end'][n - 1]}")
                raise
    assert runs, "no write of the job is one at which these faults can happen"
    return Swept(operations, runs, len(left))


def _is_new(backend: Backend, seen: set[frozenset[tuple[str, bytes | None]]]) -> bool:
    content = frozenset((key, backend.get(key, VALUE_BYTES_MAX)) for key in backend.list(""))
    is_new = content not in seen
    seen.add(content)
    return is_new


def _moments(operations: list[str], fault: Fault, every: int, touches: int) -> Iterator[int]:
    """Numbers of writes, from 1; one more than there are is the end."""
    touched = count()
    chosen = [
        n
        for n, operation in enumerate(operations, 1)
        if (operation == "flush" or fault is not Fault.TORN) and (operation != "touch" or next(touched) % touches == 0)
    ]
    if fault is Fault.DIES:
        chosen.append(len(operations) + 1)
    yield from chosen[::every]


def _meet(job: Callable[[Backend], R], backend: Any, fault: Fault, n: int, writes: int) -> None:
    """Run the job into a fault, and see that it hears of it."""
    kind: type[BaseException]
    if fault is Fault.DIES:
        past_end = n > writes
        kind, faulty = SimulatedCrash, FaultyBackend(backend).crash_at(n - past_end, after=past_end)
    elif fault is Fault.TORN:
        kind, faulty = SimulatedCrash, _Torn(backend, n)
    elif fault is Fault.INTERRUPTED:
        kind, faulty = KeyboardInterrupt, _Interrupting(backend, n)
    else:
        kind = BackendError
        faulty = FaultyBackend(backend).fail_at(n, FAILURES[n % 2], after=fault is Fault.LOSES_ANSWER)
    with pytest.raises(kind) as caught:
        job(faulty)
    if kind is BackendError:
        assert caught.value is FAILURES[n % 2]


class _Interrupting(FaultyBackend):
    def __init__(self, inner: MemoryBackend, n: int) -> None:
        super().__init__(inner)
        self._memory, self._n = inner, n

    def _write(self, operation: str, key: str, act: Callable[[], T]) -> T:
        if self.writes + 1 == self._n:
            self.operations.append(operation)
            if operation == "flush":
                self._memory.crash()
            raise KeyboardInterrupt
        return super()._write(operation, key, act)


class _Torn(FaultyBackend):
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
