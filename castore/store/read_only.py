"""A repository that is looked at and not written to, whatever the callers do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from castore.errors import BackendError
from castore.store.backend import Backend, ListingEntry, Part, everything


class ReadOnly:
    """A backend that shows another one. Nothing is renewed by ``touch``: what is found may be collected meanwhile.

    Args:
        backend: The other one.

    Raises:
        BackendError: From whatever writes.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @property
    def url(self) -> str:
        """The place of the other one."""
        return self._backend.url

    def get(self, key: str, max_bytes: int) -> bytes | None:
        """As the other one."""
        return self._backend.get(key, max_bytes)

    def get_many(self, keys: Iterable[str], max_bytes: int) -> Iterator[tuple[str, bytes | None]]:
        """As the other one."""
        return self._backend.get_many(keys, max_bytes)

    def get_part(self, key: str, start: int, length: int) -> bytes | None:
        """As the other one."""
        return self._backend.get_part(key, start, length)

    def get_parts(self, parts: Iterable[Part]) -> Iterator[tuple[Part, bytes | None]]:
        """As the other one."""
        return self._backend.get_parts(parts)

    def has(self, key: str) -> bool:
        """As the other one."""
        return self._backend.has(key)

    def touch(self, key: str) -> bool:
        """Whether there is a value; it is as old as before."""
        return self._backend.has(key)

    def touch_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bool]]:
        """``touch`` of many."""
        return ((key, self._backend.has(key)) for key in keys)

    def list(self, prefix: str) -> Iterator[str]:
        """As the other one."""
        return self._backend.list(prefix)

    def entries(self, prefix: str) -> Iterator[ListingEntry]:
        """As the other one."""
        return self._backend.entries(prefix)

    def everything(self, prefix: str, *, details: bool) -> Iterator[ListingEntry]:
        """As the other one, which may hold other things than values."""
        return everything(self._backend, prefix, details=details)

    def flush(self) -> None:
        """Nothing was put."""

    def put(self, key: str, data: bytes) -> None:
        """Refused."""
        raise self._refused(key)

    def create(self, key: str, data: bytes) -> bool:
        """Refused."""
        raise self._refused(key)

    def delete(self, key: str) -> bool:
        """Refused."""
        raise self._refused(key)

    def expire(self, key: str, before_s: float) -> bool:
        """Refused."""
        raise self._refused(key)

    def _refused(self, key: str) -> BackendError:
        return BackendError(f"{self.url} is only read here: {key} is not written")
