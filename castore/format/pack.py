"""Packs: many stored values in one immutable value, and the index by which one of them is found.

::

    pack     magic, entries, index, size of the index: u32, magic
    entry    kind: u8   name: 32 bytes   size: u32   n: u8   features: n times u32   value: size bytes
    index    rows: u32   features: u32   bases: u32   end of the entries: u32
             rows, ascending      kind: u8   name: 32   offset of the value: u32   size: u32   check: 16
             features, ascending  feature: u32, big-endian   row: u32, big-endian
             bases, ascending     row: u32, big-endian   name of the object: 32

Integers are little-endian but where said. ``check`` is the beginning of the BLAKE3 of the value, and the name of a pack
is the BLAKE3-256 of its index: so the name seals every byte that is read by it. Entries say all that the index says, so
that a lost index can be made again (``docs/format/packs.md``).
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct, error
from typing import TYPE_CHECKING, Final, NamedTuple

from blake3 import blake3

from castore.errors import CorruptionError, FormatError, UnsupportedVersionError
from castore.format.digest import DIGEST_BYTES, Digest, digest_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAGIC: Final = b"castore pack 1\n"

OBJECT_KIND, UNIT_KIND = 0, 1

PACK_BYTES_MAX: Final = 512 * 2**20
"""Bytes of the largest pack: a reader holds one whose index is lost. The largest object takes half of it."""

FEATURES_MAX: Final = 16
CHECK_BYTES: Final = 16

HEAD = Struct("<IIII")
PLACE = Struct("<II16s")
FOOTER = Struct("<I15s")
_KEY_BYTES = 1 + DIGEST_BYTES
ROW_BYTES: Final = _KEY_BYTES + PLACE.size
ROWS_AT: Final = HEAD.size
FEATURE_BYTES: Final = 8
BASE_BYTES: Final = 4 + DIGEST_BYTES
FOOTER_BYTES: Final = FOOTER.size


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


def check_of(value: bytes) -> bytes:
    """What the index says of a value beside its size."""
    return blake3(value).digest(CHECK_BYTES)


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
            self._rows, self._features, self._bases, self.end = HEAD.unpack_from(data)
        except error:
            raise FormatError(f"an index of {len(data)} bytes") from None
        self._features_at = HEAD.size + self._rows * ROW_BYTES
        self._bases_at = self._features_at + self._features * FEATURE_BYTES
        if len(data) != self._bases_at + self._bases * BASE_BYTES:
            raise FormatError("an index of another size than it says")
        self.data = data

    def __len__(self) -> int:
        return self._rows

    def key(self, row: int) -> bytes:
        """Kind and name of a row, 33 bytes."""
        at = HEAD.size + row * ROW_BYTES
        return self.data[at : at + _KEY_BYTES]

    def place(self, row: int) -> Place:
        """Where the value of a row is.

        Raises:
            CorruptionError: Nowhere in the pack.
        """
        place = Place(*PLACE.unpack_from(self.data, HEAD.size + row * ROW_BYTES + _KEY_BYTES))
        if place.offset < len(MAGIC) or place.offset + place.size > self.end:
            raise CorruptionError("an index that leads out of its pack")
        return place

    def find(self, key: bytes) -> int | None:
        """The row of a kind and name, 33 bytes; None if it has none."""
        row = self._bisect(HEAD.size, ROW_BYTES, self._rows, key)
        return row if row < self._rows and self.key(row) == key else None

    def starting(self, kind: int) -> range:
        """The rows of a kind."""
        first = self._bisect(HEAD.size, ROW_BYTES, self._rows, bytes([kind]))
        return range(first, self._bisect(HEAD.size, ROW_BYTES, self._rows, bytes([kind + 1])))

    def similar(self, feature: int) -> Iterator[int]:
        """The rows that have a feature."""
        wanted = feature.to_bytes(4, "big")
        number = self._bisect(self._features_at, FEATURE_BYTES, self._features, wanted)
        while number < self._features:
            at = self._features_at + number * FEATURE_BYTES
            if self.data[at : at + 4] != wanted:
                return
            row = int.from_bytes(self.data[at + 4 : at + 8], "big")
            if row < self._rows:
                yield row
            number += 1

    def rows_table(self) -> NDArray[np.uint8]:
        """The rows as they are, uint8[n, ROW_BYTES]."""
        import numpy as np

        return np.frombuffer(self.data, np.uint8, self._rows * ROW_BYTES, ROWS_AT).reshape(-1, ROW_BYTES)

    def feature_columns(self) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Features, ascending, and their rows; uint32[m] each."""
        import numpy as np

        table = np.frombuffer(self.data, ">u4", 2 * self._features, self._features_at).reshape(-1, 2)
        known = table[table[:, 1] < self._rows].astype(np.uint32)
        return known[:, 0], known[:, 1]

    def features(self) -> dict[int, tuple[int, ...]]:
        """The features of every row that has some, ascending."""
        found: dict[int, tuple[int, ...]] = {}
        for at in range(self._features_at, self._bases_at, FEATURE_BYTES):
            feature, row = (
                int.from_bytes(self.data[at : at + 4], "big"),
                int.from_bytes(self.data[at + 4 : at + 8], "big"),
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
    size, magic = FOOTER.unpack(tail[-FOOTER_BYTES:])
    if magic != MAGIC:
        if magic[:13] + magic[14:] == MAGIC[:13] + MAGIC[14:] and magic[13:14].isdigit():
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
