"""A backend over any fsspec filesystem: object stores, and memory.

It relies on what object stores give: a value appears whole or not at all, and is durable when the call returns. So
``put`` delays nothing and ``flush`` has nothing to do. Ages cannot be set there: ``touch`` stores the value again.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from castore.errors import BackendError, CastoreError
from castore.store.backend import check_key, check_prefix, check_size, is_key

# Filesystems whose pipe_file(mode="create") was seen to be, or is by its source, one conditional request. Judged by
# module and not by protocol: obstore.fsspec serves "s3" as well and ignores the mode; fsspec's own local one looks
# first and writes then; and what wraps another filesystem cannot be known.
_ATOMIC_CREATE = ("fsspec.implementations.memory", "s3fs.", "gcsfs.", "adlfs.")

# fsspec's memory looks and then stores. It belongs to one process, so a lock of this process makes that atomic.
_memory_lock = allocate_lock()


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

    def put(self, key: str, data: bytes) -> None:
        path = self._path(key)
        with self._asking("write", key):
            self._fs.pipe_file(path, bytes(data))

    def flush(self) -> None:
        """Nothing is delayed."""

    def create(self, key: str, data: bytes) -> bool:
        path = self._path(key)
        module = type(self._fs).__module__
        if not (module + ".").startswith(_ATOMIC_CREATE):
            raise BackendError(f"{self.url}: {module} is not known to create atomically, which a repository needs")
        with self._asking("create", key):
            try:
                with _memory_lock:
                    self._fs.pipe_file(path, bytes(data), mode="create")
            except FileExistsError:
                return False
            except Exception:
                # The answer may be lost and the value stored. Never guess: look.
                if self._size(path) != len(data) or self.get(key, len(data)) != data:
                    raise
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

    def list(self, prefix: str) -> Iterator[str]:
        check_prefix(prefix)
        start = self._root + "/"
        folder = start + prefix if prefix else self._root
        with self._asking("list", prefix):
            self._fs.invalidate_cache()
            try:
                paths = self._fs.find(folder)
            except FileNotFoundError:
                paths = []
        # A file called as the prefix itself is found too, and is not below it.
        below = start + prefix + "/" if prefix else start
        keys = (path[len(start) :] for path in map(self._fs._strip_protocol, paths) if path.startswith(below))
        return iter(sorted(key for key in keys if is_key(key)))

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

    def _path(self, key: str) -> str:
        check_key(key)
        return f"{self._root}/{key}"

    def _size(self, path: str) -> int | None:
        """The size of a value now, not as a listing said it was; None if there is none."""
        self._fs.invalidate_cache(path)
        try:
            info = self._fs.info(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if info["type"] != "file":
            return None
        if info["size"] is None:
            raise BackendError(f"{self.url}: the store does not say how large {path} is")
        return int(info["size"])

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
