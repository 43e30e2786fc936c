"""What a place for bytes promises (``Backend``), and the executable meaning of that promise (``MemoryBackend``).

A backend holds values under keys. It knows no castore type. Keys are ``/``-separated ASCII names; every backend accepts
the same ones (``check_key``), and a listing never shows a name that is not a key, whoever put it there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from time import time
from typing import NamedTuple, Protocol

from castore.errors import BackendError, CorruptionError, InvalidInputError

KEY_BYTES_MAX = 1024  # S3's limit, the smallest of the stores that castore is meant for
PART_BYTES_MAX = 255  # NAME_MAX of every common file system

Part = tuple[str, int, int]
"""A part of a value: its key, where the part starts, and how many bytes it has."""


class SweptError(BackendError):
    """Values that a ``touch`` has found were removed by a sweep that had seen their old age.

    Attributes:
        keys: What is gone.
    """

    def __init__(self, url: str, keys: list[str]) -> None:
        super().__init__(
            f"{url}: {keys[0]} was removed as garbage while it was being used again: run the same again", transient=True
        )
        self.keys = keys


class NotAValueError(BackendError):
    """Something that is no value has the name of one, or stands where values would be: a dangling link, a pipe.

    Never the same as absence: what it stands for may come back.
    """


class ListingEntry(NamedTuple):
    """One line of a detailed listing.

    Attributes:
        key: The key.
        size_bytes: Bytes of its value as stored.
        modified_s: When the value was stored or last renewed: seconds since 1970 by the clock of the place (of the file
            server, of the object store), which need not be the clock of this machine. None where the place does not
            tell.
        fault: Of ``everything`` alone: what has the name in place of a value, such as a link that leads nowhere, or why
            what is below a folder cannot be listed; empty for a value.
        is_folder: Of ``everything`` alone: it is a folder, whether it can be listed or not.
    """

    key: str
    size_bytes: int
    modified_s: float | None
    fault: str = ""
    is_folder: bool = False


class Backend(Protocol):
    """Values under keys, with two ways of writing: many at once and lasting (``put``, ``flush``), or atomically first.

    Writing: ``put`` is for values that nobody reads before something names them. It may delay; a ``flush`` makes all
    puts of this instance visible to everybody and durable. A reader never sees half a value. What another process can
    see under a key is durable already, so a key that exists need not be written again; ``touch`` it and ``flush``.
    ``create`` is for values whose *presence* is the message. It delays nothing and exactly one of any number of racing
    writers is told True. Mixing ``put`` and ``create`` on one key is allowed and makes no sense.

    Absence is an answer only where it is certain. What cannot be seen, since a permission, a link that leads nowhere or
    a folder in its place is in the way, is an error of every method that is asked for it; nothing that is no value is
    ever replaced or removed.

    An instance is used by one thread at a time and by the process that made it; any number of instances, processes and
    machines may work on one place at once.

    Every method raises InvalidInputError for a key that ``check_key`` refuses, and BackendError, one line, naming the
    place, if the place fails. After an error a write may or may not have landed; repeating it is safe.

    Attributes:
        url: The place as one would spell it to open it again.
    """

    @property
    def url(self) -> str: ...

    def get(self, key: str, max_bytes: int) -> bytes | None:
        """The value under ``key``, or None if there is none.

        Raises:
            CorruptionError: The value is larger than ``max_bytes``; decided before memory is taken for it.
        """
        ...

    def get_many(self, keys: Iterable[str], max_bytes: int) -> Iterator[tuple[str, bytes | None]]:
        """``get`` of many keys, each with its answer, in the order asked; several at once where that helps.

        ``keys`` is read as results are taken, a bounded number ahead, and so many values at most are held in memory.

        Raises:
            CorruptionError: As ``get``, when the value in question is reached.
        """
        ...

    def get_part(self, key: str, start: int, length: int) -> bytes | None:
        """Bytes ``start`` to ``start + length`` of the value under ``key``, or None if there is no value.

        Fewer where the value ends before, none where it ends at ``start`` or before. A negative ``start`` counts from
        the end of the value, at most to its beginning. No more is transferred, and no more memory taken, than for that
        part, in one request where the place can be asked so.

        Raises:
            InvalidInputError: ``length`` is negative.
        """
        ...

    def get_parts(self, parts: Iterable[Part]) -> Iterator[tuple[Part, bytes | None]]:
        """``get_part`` of many, each with its answer, in the order asked; several at once where that helps.

        ``parts`` is read as ``get_many`` reads its keys.
        """
        ...

    def put(self, key: str, data: bytes) -> None:
        """Store a value whole or not at all, in place of any earlier one.

        Visible to this instance on return; visible to others and durable at the latest when ``flush`` returns.
        """
        ...

    def flush(self) -> None:
        """Make all earlier puts (and touches) of this instance durable and visible to everybody.

        Raises:
            SweptError: All puts are durable, but some values that were touched are gone.
            BackendError: Some of the puts are lost, none is visible in part. They must be put again.
        """
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Store a value if there is none under ``key``, atomically.

        Returns:
            True if this call stored it; it is then durable and visible to everybody. False if another value was first,
            which then stays as it is.
        """
        ...

    def has(self, key: str) -> bool:
        """Whether there is a value under ``key``."""
        ...

    def touch(self, key: str) -> bool:
        """Renew the age of a value, so that a running sweep spares it. False if there is none.

        The next ``flush`` makes sure that the value is durable, also if another process has stored it just now.
        """
        ...

    def touch_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bool]]:
        """``touch`` of many keys, each with its answer, in the order asked; several at once where that helps.

        ``keys`` is read as ``get_many`` reads them. An answer that nobody takes may be of a touch that never was.
        """
        return ((key, self.touch(key)) for key in keys)

    def list(self, prefix: str) -> Iterator[str]:
        """All keys below ``prefix`` at any depth, in ascending order, each once.

        ``prefix`` is the leading parts of a key, or empty for everything: ``a`` has ``a/b`` below it, but neither ``a``
        nor ``ab``. Temporary files and names that are no keys are left out. Keys that come or go while the listing runs
        may or may not be in it.
        """
        ...

    def entries(self, prefix: str) -> Iterator[ListingEntry]:
        """As ``list``, with sizes and ages."""
        ...

    def delete(self, key: str) -> bool:
        """Remove a value. False if there was none. Durable at the latest when ``flush`` returns."""
        ...

    def expire(self, key: str, before_s: float) -> bool:
        """Remove a value that was neither stored nor renewed since ``before_s``, by the clock of the place.

        A ``touch`` or ``put`` by another that happens meanwhile either spares the value or finds it gone, and a value
        that is spared can be read all the time. A place that cannot do that in one step keeps the moment between
        looking and removing as short as it can; one that can says so by an attribute ``expires_in_one_step`` that is
        True.

        Returns:
            True if this call removed it; False if there is none, or a younger one, which stays.
        """
        ...


def everything(backend: Backend, prefix: str, *, details: bool) -> Iterator[ListingEntry]:
    """As ``Backend.entries``, and beside the values all that may hide some: for whoever must not take that for absence.

    A place that can hold other things than values (``LocalBackend.everything``) tells of folders, and of what is in a
    value's or folder's place, in no order among the values. Nothing below ``prefix`` raises; the folder itself does.

    Args:
        backend: The place.
        prefix: As of ``Backend.list``.
        details: Whether sizes and times are wanted; else they are 0 and None.
    """
    own = getattr(backend, "everything", None)
    if own is not None:
        found: Iterator[ListingEntry] = own(prefix, details=details)
        return found
    return backend.entries(prefix) if details else (ListingEntry(key, 0, None) for key in backend.list(prefix))


def check_key(key: str) -> None:
    """Refuse what is not a key: parts of printable ASCII, joined by ``/``.

    No part is empty, longer than 255 characters or begins with a dot (which excludes ``.`` and ``..`` and leaves dot
    names to temporary files and to the operating system). No backslash. 1024 characters in all.

    Raises:
        InvalidInputError: ``key`` is not a key.
    """
    if not is_key(key):
        raise InvalidInputError(f"{key[:200]!r} is not a key")


def is_key(key: str) -> bool:
    """Whether ``check_key`` accepts ``key``."""
    if not 0 < len(key) <= KEY_BYTES_MAX or not key.isascii() or not key.isprintable() or "\\" in key:
        return False
    return all(0 < len(part) <= PART_BYTES_MAX and part[0] != "." for part in key.split("/"))


def check_prefix(prefix: str) -> None:
    """Refuse what cannot be given to ``Backend.list``: anything but a key or the empty string.

    Raises:
        InvalidInputError: ``prefix`` is neither.
    """
    if prefix:
        check_key(prefix)


def check_size(size: int, max_bytes: int, place: str) -> None:
    """Refuse a value that is larger than its reader permits.

    Raises:
        CorruptionError: ``size`` exceeds ``max_bytes``.
    """
    if size > max_bytes:
        raise CorruptionError(f"{place} has {size} bytes, more than the {max_bytes} that can be right for it")


def check_part(key: str, length: int) -> None:
    """Refuse what is no part of any value.

    Raises:
        InvalidInputError: ``key`` is not a key, or ``length`` is negative.
    """
    check_key(key)
    if length < 0:
        raise InvalidInputError(f"{key}: a part of {length} bytes")


def part_bounds(size: int, start: int, length: int) -> tuple[int, int]:
    """Where a part begins and ends in a value of ``size`` bytes: ``0 <= begin <= end <= size``."""
    begin = max(0, size + start) if start < 0 else min(start, size)
    return begin, min(begin + length, size)


class _Value:
    """One stored value. An object of its own, so that the winner of a race is known by identity."""

    __slots__ = ("data", "modified_s", "renewed")

    def __init__(self, data: bytes, modified_s: float) -> None:
        self.data = bytes(data)
        self.modified_s = modified_s
        self.renewed = 0


class MemoryBackend:
    """A backend in a dict: what ``Backend`` means, in few lines, and the usual place of tests.

    It delays as much as the contract permits: a ``put`` is invisible to ``other()`` and lost in a ``crash()`` until
    ``flush``. Several threads may each use an ``other()`` of it.

    Args:
        url: What it is called in messages.
        clock: The clock of the place, in seconds since 1970.
    """

    expires_in_one_step = True

    def __init__(self, url: str = "memory-backend", clock: Callable[[], float] = time) -> None:
        self.url = url
        self.clock = clock
        self._durable: dict[str, _Value] = {}
        self._pending: dict[str, _Value] = {}

    def get(self, key: str, max_bytes: int) -> bytes | None:
        check_key(key)
        value = self._find(key)
        if value is None:
            return None
        check_size(len(value.data), max_bytes, f"{self.url}: {key}")
        return value.data

    def get_many(self, keys: Iterable[str], max_bytes: int) -> Iterator[tuple[str, bytes | None]]:
        return ((key, self.get(key, max_bytes)) for key in keys)

    def get_part(self, key: str, start: int, length: int) -> bytes | None:
        check_part(key, length)
        value = self._find(key)
        if value is None:
            return None
        begin, end = part_bounds(len(value.data), start, length)
        return value.data[begin:end]

    def get_parts(self, parts: Iterable[Part]) -> Iterator[tuple[Part, bytes | None]]:
        return ((part, self.get_part(*part)) for part in parts)

    def put(self, key: str, data: bytes) -> None:
        check_key(key)
        self._pending[key] = _Value(data, self.clock())

    def flush(self) -> None:
        self._durable.update(self._pending)
        self._pending.clear()

    def create(self, key: str, data: bytes) -> bool:
        check_key(key)
        if key in self._pending:
            return False
        value = _Value(data, self.clock())
        return self._durable.setdefault(key, value) is value

    def has(self, key: str) -> bool:
        check_key(key)
        return self._find(key) is not None

    def touch(self, key: str) -> bool:
        check_key(key)
        value = self._find(key)
        if value is None:
            return False
        value.renewed += 1
        value.modified_s = self.clock()
        return True

    def touch_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bool]]:
        return ((key, self.touch(key)) for key in keys)

    def list(self, prefix: str) -> Iterator[str]:
        check_prefix(prefix)
        keys = {*self._durable.copy(), *self._pending}
        return iter(sorted(key for key in keys if not prefix or key.startswith(prefix + "/")))

    def entries(self, prefix: str) -> Iterator[ListingEntry]:
        found = ((key, self._find(key)) for key in self.list(prefix))
        return (ListingEntry(key, len(value.data), value.modified_s) for key, value in found if value is not None)

    def delete(self, key: str) -> bool:
        check_key(key)
        pending = self._pending.pop(key, None)
        durable = self._durable.pop(key, None)
        return pending is not None or durable is not None

    def expire(self, key: str, before_s: float) -> bool:
        check_key(key)
        value = self._find(key)
        return value is not None and value.modified_s < before_s and self.delete(key)

    def other(self) -> MemoryBackend:
        """Another instance on the same place, as another process would open it: it sees what is durable."""
        other = MemoryBackend(self.url, self.clock)
        other._durable = self._durable
        return other

    def crash(self) -> None:
        """Lose what a loss of power may lose: all that was not flushed."""
        self._pending.clear()

    def snapshot(self) -> dict[str, bytes]:
        """What others see now, as a plain dict of its own."""
        return {key: value.data for key, value in self._durable.copy().items()}

    def renewals(self, key: str) -> int:
        """How often the value under ``key`` was touched since it was stored."""
        value = self._find(key)
        return 0 if value is None else value.renewed

    def _find(self, key: str) -> _Value | None:
        value = self._pending.get(key)
        return self._durable.get(key) if value is None else value
