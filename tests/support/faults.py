"""A backend that fails or dies at a chosen write: faults as data. ``tests.support.sweep`` sweeps them over a job."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Self, TypeVar

from castore.store.backend import Backend, ListingEntry, Part

T = TypeVar("T")


class SimulatedCrash(BaseException):
    """The process is dead: not an Exception, so that no handler of the code under test survives it."""


class FaultyBackend:
    """Any backend, with faults at chosen writes.

    Writes are the calls of put, create, flush, touch, delete and expire, counted from 1 over the life of this object.

    Attributes:
        inner: The backend under it, which stays usable after a crash.
        calls: All calls so far as (operation, key), reads too; the key of a flush is empty.
        writes: How many of them were writes.
        dead: Whether a crash has happened.
        operations: The writes among ``calls``, by name.
    """

    def __init__(self, inner: Backend) -> None:
        self.inner = inner
        self.calls: list[tuple[str, str]] = []
        self.operations: list[str] = []
        self.dead = False
        self._faults: dict[int, tuple[BaseException | None, bool]] = {}

    @property
    def writes(self) -> int:
        return len(self.operations)

    def fail_at(self, n: int, exc: Exception, *, after: bool = False) -> Self:
        """Raise ``exc`` at the ``n``-th write, which does not happen, or, ``after``, loses its answer."""
        self._faults[n] = (exc, after)
        return self

    def crash_at(self, n: int, *, after: bool = False) -> Self:
        """Die before the ``n``-th write takes effect, or after it. From then on every call raises SimulatedCrash."""
        self._faults[n] = (None, after)
        return self

    @property
    def expires_in_one_step(self) -> bool:
        return getattr(self.inner, "expires_in_one_step", False)

    @property
    def url(self) -> str:
        return self.inner.url

    def get(self, key: str, max_bytes: int) -> bytes | None:
        self._note("get", key)
        return self.inner.get(key, max_bytes)

    def get_many(self, keys: Iterable[str], max_bytes: int) -> Iterator[tuple[str, bytes | None]]:
        return ((key, self.get(key, max_bytes)) for key in keys)

    def get_part(self, key: str, start: int, length: int) -> bytes | None:
        self._note("get_part", key)
        return self.inner.get_part(key, start, length)

    def get_parts(self, parts: Iterable[Part]) -> Iterator[tuple[Part, bytes | None]]:
        return ((part, self.get_part(*part)) for part in parts)

    def has(self, key: str) -> bool:
        self._note("has", key)
        return self.inner.has(key)

    def list(self, prefix: str) -> Iterator[str]:
        self._note("list", prefix)
        return self._alive(self.inner.list(prefix))

    def entries(self, prefix: str) -> Iterator[ListingEntry]:
        self._note("entries", prefix)
        return self._alive(self.inner.entries(prefix))

    def put(self, key: str, data: bytes) -> None:
        self._write("put", key, lambda: self.inner.put(key, data))

    def flush(self) -> None:
        self._write("flush", "", self.inner.flush)

    def create(self, key: str, data: bytes) -> bool:
        return self._write("create", key, lambda: self.inner.create(key, data))

    def touch(self, key: str) -> bool:
        return self._write("touch", key, lambda: self.inner.touch(key))

    def touch_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bool]]:
        return ((key, self.touch(key)) for key in keys)

    def delete(self, key: str) -> bool:
        return self._write("delete", key, lambda: self.inner.delete(key))

    def expire(self, key: str, before_s: float) -> bool:
        return self._write("expire", key, lambda: self.inner.expire(key, before_s))

    def _note(self, operation: str, key: str) -> None:
        if self.dead:
            raise SimulatedCrash(f"{operation} {key} by a dead process")
        self.calls.append((operation, key))

    def _alive(self, keys: Iterator[T]) -> Iterator[T]:
        for key in keys:
            if self.dead:
                raise SimulatedCrash("list by a dead process")
            yield key

    def _write(self, operation: str, key: str, act: Callable[[], T]) -> T:
        self._note(operation, key)
        self.operations.append(operation)
        if self.writes not in self._faults:
            return act()
        exc, after = self._faults[self.writes]
        self.dead = exc is None
        if after:
            act()
        raise exc or SimulatedCrash(f"at write {self.writes}, {operation} {key}")
