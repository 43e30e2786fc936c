"""Repositories whose objects and unit records lie one by one, and such whose every value is in a pack."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from castore.format.digest import Digest, digest_hex
from castore.format.pack_writer import entries_of, rebuilt
from castore.store.backend import Backend, MemoryBackend
from castore.store.packed_keys import value_key
from castore.store.packs import PACK_BYTES, PackedBackend, packed

NEVER = 10**9


class Loose(PackedBackend):
    """Stores each value by itself, however many come together: no object has relatives, who would need a pack."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend, loose_max=NEVER)

    def similar(self, features: tuple[int, ...]) -> list[Digest]:
        """None."""
        return []


def loose(backend: Backend) -> PackedBackend:
    """A backend of single values."""
    return Loose(backend)


def in_packs(backend: Backend, pack_bytes: int = PACK_BYTES) -> PackedBackend:
    """A backend that stores no value by itself."""
    return PackedBackend(backend, loose_max=0, pack_bytes=pack_bytes)


def small_packs(backend: Backend) -> PackedBackend:
    """As ``in_packs``, of a few KiB each: several for whatever a test stores."""
    return in_packs(backend, 4096)


Layout = Callable[[Backend], PackedBackend]

LAYOUTS = pytest.mark.parametrize("layout", [loose, in_packs], ids=["loose", "packed"])
"""Runs a test, which takes ``layout``, for both."""


def filled(content: dict[str, bytes], layout: Layout = loose) -> MemoryBackend:
    """A place with these values, of which objects and unit records lie as ``layout`` has them."""
    backend = MemoryBackend()
    door = layout(backend)
    for key, value in content.items():
        door.put(key, value)
    door.flush()
    return backend


def objects_of(backend: Backend) -> set[str]:
    """The keys of all objects, wherever they lie."""
    return set(packed(backend).list("objects"))


def units_of(backend: Backend) -> int:
    """How many units are recorded."""
    return len([*packed(backend).list("units")])


def flipped(backend: Backend, key: str, at: int = -1, bit: int = 0) -> None:
    """Turn a bit of a stored value, wherever it lies."""
    door = packed(backend)
    found = door.catalog.find(bytes([key.startswith("units/")]) + bytes.fromhex(key[-64:]))
    place = key if found is None else found.pack.key
    data = bytearray(backend.get(place, 1 << 30) or b"")
    start, size = (0, len(data)) if found is None else (found.offset, found.size)
    data[start + at % size] ^= 1 << bit
    backend.put(place, bytes(data))
    backend.flush()


def lose(backend: Backend, every: int) -> set[str]:
    """Delete each so manieth stored value that holds objects; which objects are gone."""
    before = objects_of(backend)
    for key in [*backend.list("objects"), *backend.list("packs")][::every]:
        backend.delete(key)
    backend.flush()
    return before - objects_of(backend)


def forget(backend: MemoryBackend, *keys: str) -> None:
    """Let objects be gone, wherever they lie; all else is as old as it was."""
    clock = backend.clock
    for key in keys:
        backend.delete(key)
    for pack in packed(backend).catalog.fresh():
        entries = [*entries_of(backend.get(pack.key, 1 << 30) or b"")]
        left = [entry for entry in entries if value_key(bytes([entry.kind]) + entry.name) not in keys]
        if len(left) < len(entries):
            age = pack.modified_s or 0.0
            backend.clock = lambda age=age: age  # type: ignore[misc]
            name, data = rebuilt(left)
            backend.delete(pack.key)
            backend.put(f"packs/{digest_hex(name)}", data)
    backend.flush()
    backend.clock = clock
