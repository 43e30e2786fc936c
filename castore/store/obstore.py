"""A backend over obstore: S3, Google Cloud Storage and Azure, several requests at a time.

A value appears whole or not at all there, and is durable when the store answers. ``put`` hands a value to a bounded
number of threads and ``flush`` waits for all of them. A request that may be repeated is repeated by obstore, with
growing pauses and jitter. ``create`` is sent once: when its answer is lost, the value that is stored is read and
compared, since sending it again would find our own value and call it a rival's.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import obstore
from obstore import exceptions

from castore.errors import BackendError, CastoreError
from castore.store.backend import (
    ListingEntry,
    Part,
    SweptError,
    check_key,
    check_part,
    check_prefix,
)
from castore.store.obstore_errors import is_transient
from castore.store.obstore_requests import Requests
from castore.store.pipelined_requests import answers

T = TypeVar("T")

REQUESTS_AT_ONCE = 16
_AHEAD_MAX = 2 * REQUESTS_AT_ONCE  # of many that are asked for in order
# Values that wait for a thread or are being sent: bounds memory, and is enough to keep all threads busy.
_PENDING_MAX = 4 * REQUESTS_AT_ONCE
_PENDING_BYTES_MAX = 128 * 2**20

_CREATE_ATTEMPTS = 5
_CREATE_PAUSE_S = 0.1

# A sweep looks at an age and removes then (``expire``), for lack of a conditional delete in all stores. What was
# renewed between the two is looked at once more, when a sweep that had seen the old age must be through with it. What
# was young before the renewal no sweep is after.
_YOUNG_S = 5.0
_SWEEP_S = 1.0
_LOOK_AGAIN_S = 1.0  # after a removal that failed: what was written at that moment is there by then


class _Pending:
    """A write that was handed to a thread."""

    __slots__ = ("future", "note", "size")

    def __init__(self, future: Future[bool], size: int, note: Callable[[bool], None] | None) -> None:
        self.future, self.size, self.note = future, size, note


class ObstoreBackend:
    """A ``Backend`` on a store of obstore.

    Args:
        store: The store, with the root of the keys as its prefix.
        once: The same one, without any repetition of requests.
        url: The place as one would spell it to open it again.
        identity: The place with its server: one URL means another store where the environment differs.
        sorted_listing: Whether the store lists in the order of the names.
        self_copy: Whether a value may be copied onto itself, which makes it young.
    """

    is_far = True
    """Whether a request takes as long as a round trip, and reading what is there costs more than making it again."""

    needs_probe = True
    """Whether a conditional create here is atomic, only a race can tell."""

    def __init__(
        self,
        store: Any,
        once: Any,
        url: str,
        *,
        identity: str = "",
        sorted_listing: bool = True,
        self_copy: bool = False,
    ) -> None:
        self.url = url
        self.identity = identity or url
        self._requests = Requests(store, url)
        self._store = store
        self._once = once
        self._sorted = sorted_listing
        self._self_copy = self_copy
        self._pool: ThreadPoolExecutor | None = None
        self._pending: dict[str, _Pending] = {}
        self._pending_bytes = 0
        self._renewed: dict[str, float] = {}  # keys that were old when they were renewed, and when that was
        self._failure: BaseException | None = None

    def get(self, key: str, max_bytes: int) -> bytes | None:
        check_key(key)
        self._settle(key)
        return self._requests.get(key, max_bytes)

    def get_many(self, keys: Iterable[str], max_bytes: int) -> Iterator[tuple[str, bytes | None]]:
        return self._ask_many(keys, lambda key: self._requests.get(key, max_bytes))

    def get_part(self, key: str, start: int, length: int) -> bytes | None:
        check_part(key, length)
        self._settle(key)
        return self._requests.get_part(key, start, length)

    def get_parts(self, parts: Iterable[Part]) -> Iterator[tuple[Part, bytes | None]]:
        def submit(part: Part) -> Future[bytes | None]:
            check_part(part[0], part[2])
            return self._submit(part[0], lambda: self._requests.get_part(*part))

        return answers(parts, submit, _AHEAD_MAX)

    def _ask_many(self, keys: Iterable[str], ask: Callable[[str], T]) -> Iterator[tuple[str, T]]:
        return answers(keys, lambda key: self._submit(key, lambda: ask(key)), _AHEAD_MAX)

    def _submit(self, key: str, ask: Callable[[], T]) -> Future[T]:
        """Have a thread ask, after what was handed over for the key."""
        check_key(key)
        self._settle(key)
        return self._threads().submit(ask)

    def put(self, key: str, data: bytes) -> None:
        check_key(key)
        data = bytes(data)
        self._hand_over(key, len(data), lambda: self._requests.put(key, data))

    def flush(self) -> None:
        while self._pending:
            self._settle(next(iter(self._pending)))
        failure, self._failure = self._failure, None
        renewed, self._renewed = self._renewed, {}
        if failure is not None:
            raise failure
        if renewed:
            time.sleep(max(0.0, max(renewed.values()) + _SWEEP_S - time.monotonic()))
            there = self._threads().map(self._requests.head, renewed)
            swept = [key for key, found in zip(renewed, there, strict=True) if found is None]
            if swept:
                raise SweptError(self.url, swept)

    def create(self, key: str, data: bytes) -> bool:
        check_key(key)
        self._settle(key)
        data = bytes(data)
        unsure = False
        for attempt in range(_CREATE_ATTEMPTS):
            if attempt:
                time.sleep(_CREATE_PAUSE_S * 2**attempt * (0.5 + random.random()))
            try:
                obstore.put(self._once, key, data, mode="create", use_multipart=False)
                return True
            except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
                # A store may also say so of two requests that came together, of which none was taken.
                found = self._requests.holds(key, data)
                if found is not None:
                    return unsure and found
            except exceptions.BaseError as error:
                if not is_transient(error) or attempt == _CREATE_ATTEMPTS - 1:
                    self._requests.fail("create", key, error)
                # The answer may be lost and the value stored. Never guess: look.
                unsure = True
                found = self._requests.holds(key, data)
                if found is not None:
                    return found
            except Exception as error:  # noqa: BLE001 - obstore also raises built-in errors
                self._requests.fail("create", key, error)
        raise BackendError(f"cannot create {self.url}: {key}: the store calls it taken, and it is not", transient=True)

    def try_create(self, key: str, data: bytes) -> bool:
        """``create`` by one request: False says only that the store refused; of some that come together it may all."""
        check_key(key)
        try:
            obstore.put(self._once, key, data, mode="create", use_multipart=False)
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
            return False
        except Exception as error:  # noqa: BLE001 - as in create
            if not is_transient(error):
                self._requests.fail("create", key, error)
            return self.create(key, data)
        return True

    def has(self, key: str) -> bool:
        check_key(key)
        self._settle(key)
        return self._requests.head(key) is not None

    def touch(self, key: str) -> bool:
        check_key(key)
        self._settle(key)
        found = self._requests.head(key)
        if found is None:
            return False
        self._hand_over(key, found["size"], lambda: self._renew(key, found, None))
        return True

    def touch_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bool]]:
        return self._ask_many(keys, self._touch)

    def list(self, prefix: str) -> Iterator[str]:
        return (entry.key for entry in self.entries(prefix))

    def entries(self, prefix: str) -> Iterator[ListingEntry]:
        check_prefix(prefix)
        for key in [*self._pending]:
            self._settle(key)
        entries = self._requests.entries(prefix, is_sorted=self._sorted)
        return entries if self._sorted else iter(sorted(entries))

    def delete(self, key: str) -> bool:
        check_key(key)
        self._settle(key)
        self._renewed.pop(key, None)
        if self._requests.head(key) is None:
            return False
        with self._requests.asking("delete", key):
            try:
                obstore.delete(self._store, key)
            except FileNotFoundError:
                return False
        return True

    def expire(self, key: str, before_s: float) -> bool:
        """As the protocol says, but in two steps: a writer that renews a value between them finds it gone at flush."""
        check_key(key)
        self._settle(key)
        begin = time.monotonic()
        found = self._requests.head(key)
        if found is None or _latest(found["last_modified"].timestamp()) >= before_s:
            return False
        if time.monotonic() - begin > _SWEEP_S / 2:
            return False  # the answer is too old to act on; a later sweep will find the value again
        try:
            obstore.delete(self._once, key)
        except FileNotFoundError:
            return False
        except Exception as error:  # noqa: BLE001 - as in _asking
            return self._refused(key, found, error)
        return True

    def _refused(self, key: str, before: Any, error: Exception) -> bool:
        """What came of a removal that failed; whether the value is gone.

        Ceph refuses to remove what is written at that moment, and an answer can be lost. A value that is the same still
        was refused.
        """
        time.sleep(_LOOK_AGAIN_S)
        now = self._requests.head(key)
        if now is not None and (now["e_tag"], now["last_modified"]) == (before["e_tag"], before["last_modified"]):
            self._requests.fail("delete", key, error)
        return now is None

    # ---- what threads do

    def _touch(self, key: str) -> bool:
        found = self._requests.head(key)
        if found is None:
            return False
        self._renew(key, found, None)
        return True

    def _renew(self, key: str, found: Any, make: Callable[[], bytes] | None) -> bool:
        """Make a value young that was found; False, since it is not a new one."""
        if self._self_copy:
            with self._requests.asking("touch", key):
                try:
                    obstore.copy(self._store, key, key)
                except FileNotFoundError:
                    self._renewed[key] = time.monotonic()  # flush finds that it is gone
        else:
            data = make() if make is not None else self._requests.get(key, found["size"])
            if data is None:
                self._renewed[key] = time.monotonic()
                return False
            self._requests.put(key, data)
        if not 0 <= time.time() - found["last_modified"].timestamp() < _YOUNG_S:
            self._renewed[key] = time.monotonic()
        return False

    # ---- threads, and what they could not do

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(REQUESTS_AT_ONCE, "castore-obstore")
        return self._pool

    def _hand_over(
        self, key: str, size: int, act: Callable[[], bool], note: Callable[[bool], None] | None = None
    ) -> None:
        self._settle(key)
        while self._pending and (len(self._pending) >= _PENDING_MAX or self._pending_bytes + size > _PENDING_BYTES_MAX):
            self._settle(next(iter(self._pending)))
        self._pending_bytes += size
        self._pending[key] = _Pending(self._threads().submit(act), size, note)

    def _settle(self, key: str) -> None:
        """Wait for the write of a key that was handed over, if there is one; the next flush tells its failure."""
        pending = self._pending.get(key)
        if pending is None:
            return
        try:
            new = pending.future.result()
        except CastoreError as error:
            self._failure = self._failure or error
        else:
            if pending.note is not None:
                pending.note(new)
        self._pending.pop(key, None)
        self._pending_bytes -= pending.size


def _latest(told_s: float) -> float:
    """The latest time that a store may mean: some tell whole seconds, cut, of what they keep more exactly."""
    return told_s if told_s % 1 else told_s + 0.999
