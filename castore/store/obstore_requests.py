"""The requests of obstore that castore makes, each with its answer; what a store's library raises becomes one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import obstore
from obstore import exceptions

from castore.errors import BackendError, CastoreError, CorruptionError
from castore.store.backend import ListingEntry, check_size, is_key, part_bounds
from castore.store.obstore_errors import is_no_bucket, is_no_part, is_transient, reason

_LIST_PAGE = 1000  # what stores give in one answer
_OFFSET_MAX = 2**63 - 1  # of a request


class Requests:
    """Single requests to a store, from any thread.

    Args:
        store: The store of obstore, with the root of the keys as its prefix.
        url: What it is called in messages.
    """

    def __init__(self, store: Any, url: str) -> None:
        self._store = store
        self._url = url

    def get(self, key: str, max_bytes: int) -> bytes | None:
        """As ``Backend.get``."""
        with self.asking("read", key):
            try:
                answer = obstore.get(self._store, key)
            except FileNotFoundError as error:
                self._check_bucket(error)
                return None
            check_size(answer.meta["size"], max_bytes, f"{self._url}: {key}")
            return bytes(answer.bytes())

    def get_part(self, key: str, start: int, length: int) -> bytes | None:
        """As ``Backend.get_part``.

        An empty answer takes two requests. So does what is counted from the end and does not reach it, and all that is
        counted from the end in Azure: the answer is of the value's size at the first of them.
        """
        with self.asking("read", key):
            refusal: Exception | None = None
            if length and -length <= start < _OFFSET_MAX:
                end = min(start + length, _OFFSET_MAX)
                try:
                    return self._get_range(key, (start, end) if start >= 0 else {"suffix": min(-start, _OFFSET_MAX)})
                except exceptions.BaseError as error:
                    if not is_no_part(error):
                        raise
                    refusal = error
            found = self.head(key)
            if found is None:
                return None
            begin, end = part_bounds(found["size"], start, length)
            if begin == end:
                return b""
            if start >= 0 and refusal is not None:
                raise refusal
            return self._get_range(key, (begin, end))

    def head(self, key: str) -> Any:
        """Size and age of a value; None if there is none."""
        with self.asking("look at", key):
            try:
                return obstore.head(self._store, key)
            except FileNotFoundError as error:
                self._check_bucket(error)
                return None

    def put(self, key: str, data: bytes) -> bool:
        """Store a value; True, since it is a new one."""
        with self.asking("write", key):
            obstore.put(self._store, key, data, use_multipart=False)
        return True

    def holds(self, key: str, data: bytes) -> bool | None:
        """Whether a value is stored under ``key`` and is ``data``; None if there is none."""
        try:
            found = self.get(key, len(data))
        except CorruptionError:
            return False
        return None if found is None else found == data

    def entries(self, prefix: str, *, is_sorted: bool) -> Iterator[ListingEntry]:
        """What is below a prefix, in the order of the store.

        Raises:
            BackendError: That is not the order of the names, and ``is_sorted`` says that it is.
        """
        last = ""
        with self.asking("list", prefix):
            for page in obstore.list(self._store, prefix or None, chunk_size=_LIST_PAGE):
                for each in page:
                    key = each["path"]
                    if not is_key(key):
                        continue
                    if is_sorted and key < last:
                        raise BackendError(f"{self._url}: the store does not list in the order of names")
                    last = key
                    yield ListingEntry(key, each["size"], each["last_modified"].timestamp())

    @contextmanager
    def asking(self, action: str, key: str) -> Iterator[None]:
        """Whatever is raised meanwhile becomes a ``BackendError`` of one line."""
        try:
            yield
        except CastoreError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a store's library raises becomes one line
            self.fail(action, key, error)

    def fail(self, action: str, key: str, error: BaseException) -> NoReturn:
        """Raise the ``BackendError`` for one of obstore: what could not be done, where, and why."""
        if isinstance(error, FileNotFoundError):
            self._check_bucket(error)
        place = f"{self._url}: {key}" if key else self._url
        raise BackendError(f"cannot {action} {place}: {reason(error)}", transient=is_transient(error)) from error

    def _get_range(self, key: str, wanted: Any) -> bytes | None:
        try:
            return bytes(obstore.get(self._store, key, options={"range": wanted}).bytes())
        except FileNotFoundError as error:
            self._check_bucket(error)
            return None

    def _check_bucket(self, error: FileNotFoundError) -> None:
        """A value that is not there is an answer; a bucket that is not there is not."""
        if is_no_bucket(error):
            raise BackendError(f"{self._url}: there is no such bucket or container") from error
