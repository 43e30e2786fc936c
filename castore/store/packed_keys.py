"""Keys of the values that packs may hold, and their names there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from castore.format.digest import is_digest_hex
from castore.format.pack import OBJECT_KIND, UNIT_KIND

T = TypeVar("T")

FOLDERS = {"objects": OBJECT_KIND, "units": UNIT_KIND}

_NAMES = {kind: folder for folder, kind in FOLDERS.items()}


def name_of(key: str) -> bytes | None:
    """Kind and name of a value that packs may hold, 33 bytes; None of any other key."""
    folder, _, rest = key.partition("/")
    kind = FOLDERS.get(folder)
    if kind is None or len(rest) != 67 or rest[2] != "/" or rest[:2] != rest[3:5] or not is_digest_hex(rest[3:]):
        return None
    return bytes([kind]) + bytes.fromhex(rest[3:])


def value_key(name: bytes) -> str:
    """The key of a value by its kind and name, 33 bytes."""
    digits = name[1:].hex()
    return f"{_NAMES[name[0]]}/{digits[:2]}/{digits}"


def merged(lists: Iterable[Iterable[T]], key: Callable[[T], str]) -> Iterator[T]:
    """What some ascending lists have, ascending; of what has one key the first."""
    from heapq import merge

    last = None
    for value in merge(*lists, key=key):
        if key(value) != last:
            last = key(value)
            yield value
