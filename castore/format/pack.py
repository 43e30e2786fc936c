"""Packs: many stored values in one immutable value, and the index by which one of them is found.

::

    pack     magic, entries, index, size of the index: u32, magic
    entry    kind: u8   name: 32 bytes   size: u32   n: u8   features: n times u64   value: size bytes
    index    rows: u32   features: u32   bases: u32   end of the entries: u32
             rows, ascending      kind: u8   name: 32   offset of the value: u32   size: u32   check: 16
             features, ascending  feature: u64, big-endian   row: u32, big-endian
             bases, ascending     row: u32, big-endian   name of the object: 32

Integers are little-endian but where said. ``check`` is the beginning of the BLAKE3 of the value, and the name of a pack
is the BLAKE3-256 of its index: so the name seals every byte that is read by it. Entries say all that the index says, so
that a lost index can be made again (``docs/format/packs.md``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct, error
from typing import Final, NamedTuple

from blake3 import blake3

from castore.errors import CorruptionError, FormatError, UnsupportedVersionError
from castore.format.digest import DIGEST_BYTES, Digest, digest_of

MAGIC: Final = b"castore pack 1\n"

OBJECT_KIND, UNIT_KIND = 0, 1

PACK_BYTES_MAX: Final = 2**32 - 1
"""Bytes of the largest pack: offsets are of 32 bits."""

FEATURES_MAX: Final = 16
BASES_MAX: Final = 4
CHECK_BYTES: Final = 16

DELTA_CODEC: Final = 4
"""First byte of a frame that names the objects whose bytes it needs."""

NO_TAIL: Final = 2**32 - 1

_ENTRY = Struct("<B32sIB")
_HEAD = Struct("<IIII")
_PLACE = Struct("<II16s")
_FOOTER = Struct("<I15s")
_DELTA = Struct("<BBI")
_KEY_BYTES = 1 + DIGEST_BYTES
ROW_BYTES: Final = _KEY_BYTES + _PLACE.size
ROWS_AT: Final = _HEAD.size
FEATURE_BYTES: Final = 12
BASE_BYTES: Final = 4 + DIGEST_BYTES
FOOTER_BYTES: Final = _FOOTER.size
HEAD_BYTES: Final = _ENTRY.size
"""Before a value without features; each of these takes 8 more."""


class Place(NamedTuple):
    """Where a value is in a pack.

    Attributes:
        offset: Of its first byte.
        size: Its bytes.
        check: The first ``CHECK_BYTES`` of its BLAKE3.
    """

    offset: int
    size: int
    check: bytes


class Entry(NamedTuple):
    """One value of a pack.

    Attributes:
        kind: ``OBJECT_KIND``: a frame under the digest of its object; ``UNIT_KIND``: a sealed record under a name.
        name: 32 bytes.
        value: The stored bytes.
        features: By which relatives of it are found, at most ``FEATURES_MAX`` integers below 2**64.
    """

    kind: int
    name: bytes
    value: bytes
    features: tuple[int, ...] = ()


def entry_head(kind: int, name: bytes, size: int, features: tuple[int, ...]) -> bytes:
    """What stands before a value of ``size`` bytes in a pack."""
    head = _ENTRY.pack(kind, name, size, len(features))
    return head + b"".join(feature.to_bytes(8, "little") for feature in features)


def check_of(value: bytes) -> bytes:
    """What the index says of a value beside its size."""
    return blake3(value).digest(CHECK_BYTES)


def delta_frame(bases: tuple[Digest, ...], tail: int | None, body: bytes) -> bytes:
    """The frame of an object that is told by what it shares with others (``compress``)."""
    return _DELTA.pack(DELTA_CODEC, len(bases), NO_TAIL if tail is None else tail) + b"".join(bases) + body


class Delta(NamedTuple):
    """A frame of ``DELTA_CODEC``, taken apart: the objects it needs, where a run of uint32 begins, and the rest."""

    bases: tuple[Digest, ...]
    tail: int | None
    body: memoryview


def delta_of(frame: bytes) -> Delta | None:
    """The parts of a frame that needs other objects; None of any other.

    Raises:
        CorruptionError: It ends too soon, or names none or too many.
    """
    if not frame or frame[0] != DELTA_CODEC:
        return None
    if len(frame) < _DELTA.size:
        raise CorruptionError("ends inside its header")
    _, count, tail = _DELTA.unpack_from(frame)
    end = _DELTA.size + count * DIGEST_BYTES
    if not 1 <= count <= BASES_MAX:
        raise CorruptionError(f"names {count} bases")
    if len(frame) < end:
        raise CorruptionError("ends inside its header")
    bases = tuple(Digest(frame[at : at + DIGEST_BYTES]) for at in range(_DELTA.size, end, DIGEST_BYTES))
    return Delta(bases, None if tail == NO_TAIL else tail, memoryview(frame)[end:])


class PackBuilder:
    """Puts values into one pack, in the order given; of two under one name the index has the later."""

    def __init__(self) -> None:
        self._parts: list[bytes] = [MAGIC]
        self.size = len(MAGIC)
        self._places: dict[bytes, tuple[Place, tuple[int, ...], tuple[Digest, ...]]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def add(self, entry: Entry) -> None:
        """Append a value."""
        features = tuple(sorted({*entry.features}))  # as the index has them
        head = entry_head(entry.kind, entry.name, len(entry.value), features)
        delta = delta_of(entry.value) if entry.kind == OBJECT_KIND else None
        self._parts += (head, entry.value)
        place = Place(self.size + len(head), len(entry.value), check_of(entry.value))
        self._places[bytes([entry.kind]) + entry.name] = place, features, delta.bases if delta else ()
        self.size = place.offset + place.size

    def finish(self) -> tuple[Digest, bytes]:
        """The name of the pack and its bytes."""
        rows = sorted(self._places.items())
        features = sorted(
            feature.to_bytes(8, "big") + number.to_bytes(4, "big")
            for number, (_, (_, some, _)) in enumerate(rows)
            for feature in some
        )
        bases = [
            number.to_bytes(4, "big") + base for number, (_, (_, _, some)) in enumerate(rows) for base in sorted(some)
        ]
        index = b"".join((
            _HEAD.pack(len(rows), len(features), len(bases), self.size),
            *(key + _PLACE.pack(*place) for key, (place, _, _) in rows),
            *features,
            *bases,
        ))  # fmt: skip
        return digest_of(index), b"".join((*self._parts, index, _FOOTER.pack(len(index), MAGIC)))


class PackIndex:
    """What a pack holds, looked up in the bytes of its index.

    Args:
        data: The index.

    Raises:
        FormatError: It is none.
    """

    def __init__(self, data: bytes) -> None:
        self._rows: int
        self._features: int
        self._bases: int
        self.end: int
        try:
            self._rows, self._features, self._bases, self.end = _HEAD.unpack_from(data)
        except error:
            raise FormatError(f"an index of {len(data)} bytes") from None
        self._features_at = _HEAD.size + self._rows * ROW_BYTES
        self._bases_at = self._features_at + self._features * FEATURE_BYTES
        if len(data) != self._bases_at + self._bases * BASE_BYTES:
            raise FormatError("an index of another size than it says")
        self.data = data

    def __len__(self) -> int:
        return self._rows

    def key(self, row: int) -> bytes:
        """Kind and name of a row, 33 bytes."""
        at = _HEAD.size + row * ROW_BYTES
        return self.data[at : at + _KEY_BYTES]

    def place(self, row: int) -> Place:
        """Where the value of a row is.

        Raises:
            CorruptionError: Nowhere in the pack.
        """
        place = Place(*_PLACE.unpack_from(self.data, _HEAD.size + row * ROW_BYTES + _KEY_BYTES))
        if place.offset < len(MAGIC) or place.offset + place.size > self.end:
            raise CorruptionError("an index that leads out of its pack")
        return place

    def find(self, key: bytes) -> int | None:
        """The row of a kind and name, 33 bytes; None if it has none."""
        row = self._bisect(_HEAD.size, ROW_BYTES, self._rows, key)
        return row if row < self._rows and self.key(row) == key else None

    def starting(self, kind: int) -> range:
        """The rows of a kind."""
        first = self._bisect(_HEAD.size, ROW_BYTES, self._rows, bytes([kind]))
        return range(first, self._bisect(_HEAD.size, ROW_BYTES, self._rows, bytes([kind + 1])))

    def similar(self, feature: int) -> Iterator[int]:
        """The rows that have a feature."""
        wanted = feature.to_bytes(8, "big")
        number = self._bisect(self._features_at, FEATURE_BYTES, self._features, wanted)
        while number < self._features:
            at = self._features_at + number * FEATURE_BYTES
            if self.data[at : at + 8] != wanted:
                return
            row = int.from_bytes(self.data[at + 8 : at + 12], "big")
            if row < self._rows:
                yield row
            number += 1

    def features(self) -> dict[int, tuple[int, ...]]:
        """The features of every row that has some, ascending."""
        found: dict[int, tuple[int, ...]] = {}
        for at in range(self._features_at, self._bases_at, FEATURE_BYTES):
            feature, row = (
                int.from_bytes(self.data[at : at + 8], "big"),
                int.from_bytes(self.data[at + 8 : at + 12], "big"),
            )
            if row < self._rows:
                found[row] = (*found.get(row, ()), feature)
        return found

    def bases(self) -> Iterator[tuple[int, Digest]]:
        """Rows whose frames need another object, each with that object."""
        for at in range(self._bases_at, self._bases_at + self._bases * BASE_BYTES, BASE_BYTES):
            row = int.from_bytes(self.data[at : at + 4], "big")
            if row < self._rows:
                yield row, Digest(self.data[at + 4 : at + BASE_BYTES])

    def has_bases(self, row: int) -> bool:
        """Whether the frame of a row needs another object."""
        wanted = row.to_bytes(4, "big")
        number = self._bisect(self._bases_at, BASE_BYTES, self._bases, wanted)
        at = self._bases_at + number * BASE_BYTES
        return number < self._bases and self.data[at : at + 4] == wanted

    def _bisect(self, start: int, width: int, count: int, key: bytes) -> int:
        """The first of some rows of one width that is not before a key."""
        data, size = self.data, len(key)
        low, high = 0, count
        while low < high:
            middle = (low + high) // 2
            at = start + middle * width
            if data[at : at + size] < key:
                low = middle + 1
            else:
                high = middle
        return low


def index_bytes(tail: bytes) -> int | None:
    """Bytes of the index and what follows it, from the end of a pack; None if that is no end of one.

    Raises:
        UnsupportedVersionError: It is one of another version.
    """
    if len(tail) < FOOTER_BYTES:
        return None
    size, magic = _FOOTER.unpack(tail[-FOOTER_BYTES:])
    if magic != MAGIC:
        if magic[:13] == MAGIC[:13] and magic[13:14].isdigit():
            raise UnsupportedVersionError.unknown("a pack")
        return None
    whole: int = size + FOOTER_BYTES
    return whole


def read_index(tail: bytes, name: Digest) -> PackIndex | None:
    """The index in the end of a pack; None if it is damaged.

    Args:
        tail: At least as many bytes as ``index_bytes`` says.
        name: Of the pack.
    """
    size = index_bytes(tail)
    if size is None or size > len(tail):
        return None
    data = tail[-size:-FOOTER_BYTES]
    if digest_of(data) != name:
        return None
    try:
        return PackIndex(data)
    except FormatError:
        return None


def entries_of(pack: bytes) -> Iterator[Entry]:
    """The values of a pack, read without its index, up to the first byte that is no beginning of one."""
    at = len(MAGIC)
    if pack[:at] != MAGIC:
        return
    while at + _ENTRY.size <= len(pack):
        if _HEAD.unpack_from(pack, at)[3] == at:  # the index, which may look like an entry, and says where it begins
            return
        kind, name, size, count = _ENTRY.unpack_from(pack, at)
        value_at = at + _ENTRY.size + 8 * count
        if kind not in (OBJECT_KIND, UNIT_KIND) or count > FEATURES_MAX or value_at + size > len(pack):
            return
        features = tuple(int.from_bytes(pack[lo : lo + 8], "little") for lo in range(at + _ENTRY.size, value_at, 8))
        yield Entry(kind, name, pack[value_at : value_at + size], features)
        at = value_at + size


def rebuilt(entries: Iterable[Entry]) -> tuple[Digest, bytes]:
    """The pack of entries, and its name: that of the pack they are from, if all of them are as they were."""
    builder = PackBuilder()
    for entry in entries:
        builder.add(entry)
    return builder.finish()
