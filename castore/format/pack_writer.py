"""Writing packs, and reading them without their index (``pack``)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct
from typing import NamedTuple

from castore.format.delta import delta_of
from castore.format.digest import Digest, digest_of
from castore.format.pack import (
    FEATURES_MAX,
    FOOTER,
    HEAD,
    MAGIC,
    OBJECT_KIND,
    PLACE,
    UNIT_KIND,
    Place,
    check_of,
)

_ENTRY = Struct("<B32sIB")

HEAD_BYTES = _ENTRY.size
"""Before a value without features."""

FEATURE_HEAD_BYTES = 4
"""Before a value for each feature."""


class Entry(NamedTuple):
    """One value of a pack.

    Attributes:
        kind: ``OBJECT_KIND``: a frame under the digest of its object; ``UNIT_KIND``: a sealed record under a name.
        name: 32 bytes.
        value: The stored bytes.
        features: By which relatives of it are found, at most ``FEATURES_MAX`` integers below 2**32.
    """

    kind: int
    name: bytes
    value: bytes
    features: tuple[int, ...] = ()


def entry_head(kind: int, name: bytes, size: int, features: tuple[int, ...]) -> bytes:
    """What stands before a value of ``size`` bytes in a pack."""
    head = _ENTRY.pack(kind, name, size, len(features))
    return head + b"".join(feature.to_bytes(4, "little") for feature in features)


class IndexBuilder:
    """Makes the index of a pack of entries, in the order given; of two under one name it has the later.

    Attributes:
        size: Bytes of the pack up to where its index begins.
    """

    def __init__(self) -> None:
        self.size = len(MAGIC)
        self._places: dict[bytes, tuple[Place, tuple[int, ...], tuple[Digest, ...]]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def add(self, entry: Entry) -> bytes:
        """Append a value; what stands before it.

        Raises:
            CorruptionError: It is a frame that needs others, and does not say which.
        """
        features = tuple(sorted(set(entry.features)))
        head = entry_head(entry.kind, entry.name, len(entry.value), features)
        delta = delta_of(entry.value) if entry.kind == OBJECT_KIND else None
        place = Place(self.size + len(head), len(entry.value), check_of(entry.value))
        self._places[bytes([entry.kind]) + entry.name] = place, features, delta.bases if delta else ()
        self.size = place.offset + place.size
        return head

    def index(self) -> bytes:
        """The index, whose digest is the name of the pack."""
        rows = sorted(self._places.items())
        features = sorted(
            feature.to_bytes(4, "big") + number.to_bytes(4, "big")
            for number, (_, (_, some, _)) in enumerate(rows)
            for feature in some
        )
        bases = [
            number.to_bytes(4, "big") + base for number, (_, (_, _, some)) in enumerate(rows) for base in sorted(some)
        ]
        return b"".join((
            HEAD.pack(len(rows), len(features), len(bases), self.size),
            *(key + PLACE.pack(*place) for key, (place, _, _) in rows),
            *features,
            *bases,
        ))  # fmt: skip


class PackBuilder:
    """Puts values into one pack, in the order given."""

    def __init__(self) -> None:
        self._parts: list[bytes] = [MAGIC]
        self._index = IndexBuilder()

    def __len__(self) -> int:
        return len(self._index)

    @property
    def size(self) -> int:
        """Bytes up to where the index begins."""
        return self._index.size

    def add(self, entry: Entry) -> None:
        """Append a value."""
        self._parts += (self._index.add(entry), entry.value)

    def finish(self) -> tuple[Digest, bytes]:
        """The name of the pack and its bytes."""
        index = self._index.index()
        return digest_of(index), b"".join((*self._parts, index, FOOTER.pack(len(index), MAGIC)))


def entries_of(pack: bytes) -> Iterator[Entry]:
    """The values of a pack, read without its index, up to the first byte that is no beginning of one."""
    at = len(MAGIC)
    if pack[:at] != MAGIC:
        return
    while at + _ENTRY.size <= len(pack):
        if HEAD.unpack_from(pack, at)[3] == at:  # the index, which may look like an entry, and says where it begins
            return
        kind, name, size, count = _ENTRY.unpack_from(pack, at)
        value_at = at + _ENTRY.size + 4 * count
        if kind not in (OBJECT_KIND, UNIT_KIND) or count > FEATURES_MAX or value_at + size > len(pack):
            return
        features = tuple(int.from_bytes(pack[lo : lo + 4], "little") for lo in range(at + _ENTRY.size, value_at, 4))
        yield Entry(kind, name, pack[value_at : value_at + size], features)
        at = value_at + size


def rebuilt(entries: Iterable[Entry]) -> tuple[Digest, bytes]:
    """The pack of entries, and its name: that of the pack they are from, if all of them are as they were."""
    builder = PackBuilder()
    for entry in entries:
        builder.add(entry)
    return builder.finish()
