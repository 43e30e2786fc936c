"""A backend over fsspec: memory, web servers, and whatever else there is to read; object stores are obstore's.

A value is taken to appear whole or not at all, and to be durable when the call returns. So ``put`` delays nothing and
``flush`` has nothing to do. Ages cannot be set there: ``touch`` stores the value again. Names can be written in memory
alone: no other filesystem is known to create atomically.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

from castore.errors import BackendError, CastoreError
from castore.store.backend import (
    ListingEntry,
    Part,
    check_key,
    check_part,
    check_prefix,
    check_size,
    is_key,
    part_bounds,
)
from castore.store.pipelined_requests import answers

K = TypeVar("K")

# Judged by module and not by protocol: what wraps another filesystem cannot be known.
_MEMORY = "fsspec.implementations.memory."
_READ_ONLY = "fsspec.implementations.http."

# fsspec's memory looks and then stores. It belongs to one process, so a lock of this process makes that atomic. Its
# local filesystem does the same, and obstore.fsspec ignores that a value may only be created.
_memory_lock = allocate_lock()

# Names under which filesystems tell when a value was stored.
_MODIFIED_NAMES = ("LastModified", "last_modified", "mtime", "updated", "modified", "created")

_REQUESTS_AT_ONCE = 16


class FsspecBackend:
    """A ``Backend`` on an fsspec filesystem.

    Args:
        filesystem: An instance of ``fsspec.AbstractFileSystem``.
        root: The path under which the keys are, as the filesystem spells it.
        url: The place as one would spell it to open it again.
    """

    def __init__(self, filesystem: Any, root: str, url: str) -> None:
        self.url = url
        self._fs = filesystem
        self._root = root.rstrip("/")
        self._module = type(filesystem).__module__ + "."
        self.is_far = self.needs_probe = not self._module.startswith(_MEMORY)
        """Whether names can be written is told by trying, before there is work to lose."""

    def get(self, key: str, max_bytes: int) -> bytes | None:
        path = self._path(key)
        with self._asking("read", key):
            size = self._size(path)
            if size is None:
                return None
            check_size(size, max_bytes, f"{self.url}: {key}")
            try:
                data = bytes(self._fs.cat_file(path, start=0, end=size)) if size else b""
            except FileNotFoundError:
                return None
        return data

    def get_many(self, keys: Iterable[str], max_bytes: int) -> Iterator[tuple[str, bytes | None]]:
        return self._read_many(keys, lambda key: self.get(key, max_bytes))

    def get_part(self, key: str, start: int, length: int) -> bytes | None:
        """As the protocol says, but in two requests; and a web server that knows no parts sends the value."""
        check_part(key, length)
        path = self._path(key)
        with self._asking("read", key):
            size = self._size(path)
            if size is None:
                return None
            begin, end = part_bounds(size, start, length)
            try:
                data = bytes(self._fs.cat_file(path, start=begin, end=end)) if begin < end else b""
            except FileNotFoundError:
                return None
        if len(data) <= end - begin:
            return data
        if len(data) == size:  # fsspec does not look at what a web server says that it sends
            return data[begin:end]
        raise BackendError(f"{self.url}: {key}: {end - begin} bytes were asked for, and {len(data)} came")

    def get_parts(self, parts: Iterable[Part]) -> Iterator[tuple[Part, bytes | None]]:
        return self._read_many(parts, lambda part: self.get_part(*part))

    def _read_many(self, asked: Iterable[K], read: Callable[[K], bytes | None]) -> Iterator[tuple[K, bytes | None]]:
        if not getattr(self._fs, "async_impl", False):
            for one in asked:
                yield one, read(one)
            return
        # The synchronous calls of an asynchronous filesystem hand over to one event loop and may come from any thread.
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
            yield from answers(asked, lambda one: pool.submit(read, one), _REQUESTS_AT_ONCE)

    def put(self, key: str, data: bytes) -> None:
        path = self._path(key)
        if self._module.startswith(_READ_ONLY):
            raise BackendError(f"{self.url} can only be read")
        with self._asking("write", key):
            self._fs.pipe_file(path, bytes(data))

    def flush(self) -> None:
        """Nothing is delayed."""

    def create(self, key: str, data: bytes) -> bool:
        path = self._path(key)
        if self._module.startswith(_READ_ONLY):
            raise BackendError(f"{self.url} can only be read")
        if not self._module.startswith(_MEMORY):
            raise BackendError(
                f"{self.url}: {self._module[:-1]} is not known to create atomically, which a repository needs"
            )
        with self._asking("create", key), _memory_lock:
            try:
                self._fs.pipe_file(path, bytes(data), mode="create")
            except FileExistsError:
                return False
        return True

    def has(self, key: str) -> bool:
        path = self._path(key)
        with self._asking("look at", key):
            return self._size(path) is not None

    def touch(self, key: str) -> bool:
        path = self._path(key)
        with self._asking("touch", key):
            size = self._size(path)
        data = None if size is None else self.get(key, size)
        if data is None:
            return False
        self.put(key, data)
        return True

    def touch_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bool]]:
        return ((key, self.touch(key)) for key in keys)

    def list(self, prefix: str) -> Iterator[str]:
        return (entry.key for entry in self.entries(prefix))

    def entries(self, prefix: str) -> Iterator[ListingEntry]:
        check_prefix(prefix)
        start = self._root + "/"
        folder = start + prefix if prefix else self._root
        with self._asking("list", prefix):
            self._fs.invalidate_cache()
            try:
                found = self._fs.find(folder, detail=True)
            except FileNotFoundError:
                found = {}
        # A file called as the prefix itself is found too, and is not below it.
        below = start + prefix + "/" if prefix else start
        paths = ((self._fs._strip_protocol(path), info) for path, info in found.items())
        keys = ((path[len(start) :], info) for path, info in paths if path.startswith(below))
        wanted = (ListingEntry(key, int(info["size"] or 0), _modified_s(info)) for key, info in keys if is_key(key))
        return iter(sorted(wanted))

    def delete(self, key: str) -> bool:
        path = self._path(key)
        with self._asking("delete", key):
            if self._size(path) is None:
                return False
            try:
                self._fs.rm_file(path)
            except FileNotFoundError:
                return False
        return True

    def expire(self, key: str, before_s: float) -> bool:
        """As the protocol says, but in two steps: a value renewed between looking and removing is removed."""
        path = self._path(key)
        with self._asking("look at", key):
            info = self._info(path)
        if info is None:
            return False
        modified_s = _modified_s(info)
        if modified_s is None:
            raise BackendError(f"{self.url}: the store does not say how old {key} is")
        return modified_s < before_s and self.delete(key)

    def _path(self, key: str) -> str:
        check_key(key)
        return f"{self._root}/{key}"

    def _size(self, path: str) -> int | None:
        """The size of a value now, not as a listing said it was; None if there is none."""
        info = self._info(path)
        if info is None:
            return None
        if info["size"] is None:
            raise BackendError(f"{self.url}: the store does not say how large {path} is")
        return int(info["size"])

    def _info(self, path: str) -> dict[str, Any] | None:
        """What the store tells of a value now; None if there is none."""
        self._fs.invalidate_cache(path)
        try:
            info = self._fs.info(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return None if info["type"] != "file" else dict(info)

    @contextmanager
    def _asking(self, action: str, key: str) -> Iterator[None]:
        """Whatever a store's library raises becomes one line."""
        try:
            yield
        except CastoreError:
            raise
        except Exception as error:
            transient = isinstance(error, (ConnectionError, TimeoutError)) or "Timeout" in type(error).__name__
            reason = " ".join(str(error).split())[:500] or type(error).__name__
            raise BackendError(f"cannot {action} {self.url}: {key}: {reason}", transient=transient) from error


def _modified_s(info: dict[str, Any]) -> float | None:
    """When a value was stored, by the clock of the store; None if the store does not tell."""
    found = next((info[name] for name in _MODIFIED_NAMES if info.get(name)), None)
    if isinstance(found, datetime):
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    if isinstance(found, str):
        return _modified_s({"mtime": datetime.fromisoformat(found)})
    return None if found is None else float(found)
