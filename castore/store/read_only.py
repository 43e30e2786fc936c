"""A repository that is looked at and not written to, whatever the callers do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from castore.errors import BackendError
from castore.store.backend import Backend, ListingEntry


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
        return self._backend.url

    def get(self, key: str, max_bytes: int) -> bytes | None:
        return self._backend.get(key, max_bytes)

    def get_many(self, keys: Iterable[str], max_bytes: int) -> Iterator[tuple[str, bytes | None]]:
        return self._backend.get_many(keys, max_bytes)

    def has(self, key: str) -> bool:
        return self._backend.has(key)

    def touch(self, key: str) -> bool:
        return self._backend.has(key)

    def touch_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bool]]:
        return ((key, self._backend.has(key)) for key in keys)

    def list(self, prefix: str) -> Iterator[str]:
        return self._backend.list(prefix)

    def entries(self, prefix: str) -> Iterator[ListingEntry]:
        return self._backend.entries(prefix)

    def flush(self) -> None:
        """Nothing was put."""

    def put(self, key: str, data: bytes) -> None:
        raise self._refused(key)

    def create(self, key: str, data: bytes) -> bool:
        raise self._refused(key)

    def delete(self, key: str) -> bool:
        raise self._refused(key)

    def expire(self, key: str, before_s: float) -> bool:
        raise self._refused(key)

    def _refused(self, key: str) -> BackendError:
        return BackendError(f"{self.url} is only read here: {key} is not written")
