"""What the checks of a backend work with.

A check gets a ``StorePlace`` with nothing in it, and raises ``BrokenPromiseError`` or whatever the backend raises. It
looks behind the store through ``StorePlace`` wherever it can, so that a backend which agrees with itself and with
nobody else does not pass. The first line of a check's docstring is the promise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from castore.errors import BackendError, CastoreError
from castore.store.backend import Backend

LIMIT = 1 << 20
"""Bytes that no value of a check exceeds."""


class BrokenPromiseError(BackendError):
    """A backend does not do what it must."""


class StorePlace(Protocol):
    """A place for bytes with two doors: backends, and one of its own that goes around them."""

    def open(self) -> Backend:
        """A new instance, as another process would have it."""
        ...

    def raw_get(self, key: str) -> bytes | None:
        """What is stored under a name, by the other door."""
        ...

    def raw_put(self, key: str, data: bytes) -> None:
        """Store under any name, valid as a key or not."""
        ...


Check = Callable[[StorePlace], None]


def same(found: object, expected: object, what: str) -> None:
    """Require what a backend answered.

    Raises:
        BrokenPromiseError: It is something else.
    """
    if found != expected:
        raise BrokenPromiseError(f"{what}: {_short(found)}, not {_short(expected)}")


def refuses(error: type[CastoreError], ask: Callable[[], object], what: str) -> None:
    """Require an error.

    Raises:
        BrokenPromiseError: There was none.
    """
    try:
        ask()
    except error:
        return
    raise BrokenPromiseError(f"does not refuse {what}")


def _short(value: object) -> str:
    return text if len(text := repr(value)) <= 200 else text[:200] + "…"
