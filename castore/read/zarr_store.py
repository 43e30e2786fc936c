"""A dataset as a read-only zarr store: the only module that knows zarr."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from functools import partial
from threading import Lock
from typing import Any, NoReturn, Protocol

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype

from castore.errors import InvalidInputError


class Content(Protocol):
    """What a store holds."""

    def get(self, key: str) -> bytes | None:
        """The value under a key, None if there is none."""

    def has(self, key: str) -> bool:
        """Whether there is a value under a key."""

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys that begin with ``prefix``."""


class CastoreStore(Store):
    """A zarr store that shows one dataset as a group, and refuses writes.

    It is made by ``castore.zarr_store``. Pickled, it is opened again by the place of the repository and the digest, so
    that the processes of dask see the same data whatever the name means by then.

    Args:
        identity: What makes two stores equal, and what ``opener`` takes.
        opener: Opens the content.
        read_only: What the store says of itself. ``zarr.open_group(store)`` takes no store that says True unless it is
            told ``mode="r"``, so that a store for users says False. Either refuses every write.
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = True
    supports_partial_writes = False

    def __init__(self, identity: tuple[str, ...], opener: Callable[..., Content], *, read_only: bool = True) -> None:
        super().__init__(read_only=read_only)
        self._identity, self._opener = identity, opener
        self._content: Content | None = None
        self._lock = Lock()  # a repository is used by one thread at a time

    def with_read_only(self, read_only: bool = False) -> CastoreStore:
        """The same store, not opened yet."""
        return type(self)(self._identity, self._opener, read_only=read_only)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), read_only=self.read_only), (self._identity, self._opener)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    def __str__(self) -> str:
        return "castore+" + "#".join(self._identity[:2])

    def __repr__(self) -> str:
        return f"CastoreStore('{self}')"

    # ---- reading

    def _opened(self) -> Content:
        if self._content is None:
            self._content = self._opener(*self._identity)
        return self._content

    def _get(self, key: str) -> bytes | None:
        with self._lock:
            return self._opened().get(key)

    def _has(self, key: str) -> bool:
        with self._lock:
            return self._opened().has(key)

    def _keys(self, prefix: str) -> Sequence[str]:
        with self._lock:
            return list(self._opened().keys(prefix))

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """The value under a key, or the bytes of it that are asked for; None if there is none."""
        await self._ensure_open()
        wanted = _slice_of(byte_range)
        # In a thread: the loop of zarr goes on while a chunk is fetched and decompressed.
        data = await asyncio.to_thread(self._get, key)
        return None if data is None else prototype.buffer.from_bytes(data[wanted(len(data))])

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Several values, as ``get``."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def exists(self, key: str) -> bool:
        """Whether there is a value under a key."""
        return await asyncio.to_thread(self._has, key)

    async def list(self) -> AsyncIterator[str]:
        """All keys."""
        for key in await asyncio.to_thread(self._keys, ""):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """All keys that begin with ``prefix``."""
        for key in await asyncio.to_thread(self._keys, prefix):
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """What is directly below ``prefix``: the next parts of the keys."""
        below = f"{prefix.rstrip('/')}/" if prefix.rstrip("/") else ""
        keys = await asyncio.to_thread(self._keys, below)
        for name in dict.fromkeys(key.removeprefix(below).partition("/")[0] for key in keys):
            yield name

    # ---- writing

    @staticmethod
    def _refuse() -> NoReturn:
        raise ValueError("a dataset is in read-only mode and does not support writing: write another one")

    async def set(self, key: str, value: Buffer) -> None:
        """Refused: ``ValueError``."""
        self._refuse()

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Refused: ``ValueError``."""
        self._refuse()

    async def set_partial_values(self, key_start_values: Iterable[tuple[str, int, Any]]) -> None:
        """Refused: ``ValueError``."""
        self._refuse()

    async def delete(self, key: str) -> None:
        """Refused: ``ValueError``."""
        self._refuse()

    async def delete_dir(self, prefix: str) -> None:
        """Refused: ``ValueError``."""
        self._refuse()

    async def clear(self) -> None:
        """Refused: ``ValueError``."""
        self._refuse()


def _slice_of(byte_range: ByteRequest | None) -> Callable[[int], slice]:
    """The slice that a request means, given the size of the value."""
    match byte_range:
        case None:
            return lambda size: slice(None)
        case RangeByteRequest(start, end):
            return lambda size: slice(start, end)
        case OffsetByteRequest(offset):
            return lambda size: slice(offset, None)
        case SuffixByteRequest(suffix):
            return lambda size: slice(max(size - suffix, 0), None)
    raise TypeError(f"Unexpected byte_range, got {byte_range}.")


def open_group(place: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays and attributes of the zarr group at a path or URL.

    Raises:
        InvalidInputError: There is none, or it cannot be read.
    """
    import zarr

    try:
        group = zarr.open_group(place, mode="r")
        return dict(group.arrays()), dict(group.attrs)
    except Exception as error:  # zarr, its codecs and the stores below raise what they like
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise InvalidInputError(f"{place} cannot be read as a zarr group: {reason}") from error


def check_grid(grid: str) -> None:
    """Refuse a grid that the installed zarr cannot read.

    Raises:
        InvalidInputError: In one line, with what to do.
    """
    if grid != "rectilinear":
        return
    import zarr

    if zarr.config.get("array.rectilinear_chunks", None) is None:
        raise InvalidInputError(
            f"zarr {zarr.__version__} cannot read a rectilinear grid: install zarr 3.2 or later, which takes Python "
            "3.12 or later, or leave the grid regular"
        )
