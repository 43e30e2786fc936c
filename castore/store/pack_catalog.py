"""The packs of a place: which there are, what they hold, and where in them a value is found.

Of a pack its index is read, and kept; those of a place that is far away are kept in the user's cache too. A pack never
changes, so what is known of one stays true until it is gone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from time import monotonic, time
from typing import TYPE_CHECKING, NamedTuple

from castore.errors import CastoreError, CorruptionError
from castore.format.digest import Digest, digest_from_hex, digest_hex, digest_of, is_digest_hex
from castore.format.pack import OBJECT_KIND, PACK_BYTES_MAX, PackIndex, index_bytes, read_index
from castore.store.backend import Backend, ListingEntry, check_size

if TYPE_CHECKING:
    from castore.store.cache import ObjectCache
    from castore.store.pack_lookup import PackLookup

PACKS_FOLDER = "packs"

SINGLE_MAX = 16
"""Packs that are looked up one by one."""

ASKED_MAX = 64
"""Lookups in a pack after which its names are put into a table."""

_TAIL_BYTES = 64 * 1024  # the index of most packs
_CACHED = "objects/packs/"  # keys in the cache
_RENEWED_S = 300.0  # a pack that was renewed in this time is young enough


class StoredPack:
    """A pack of the place.

    Attributes:
        name: Its digits.
        index: What it holds.
        size_bytes: Its bytes.
        modified_s: When it was stored or last renewed, None if the place does not tell.
        damage: What is wrong with it, empty if nothing is known.
    """

    __slots__ = ("_asked", "_features", "_rows", "damage", "index", "modified_s", "name", "size_bytes")

    def __init__(
        self, name: str, index: PackIndex, size_bytes: int, modified_s: float | None, damage: str = ""
    ) -> None:
        self.name, self.index, self.size_bytes, self.modified_s = name, index, size_bytes, modified_s
        self.damage = damage
        self._features: dict[int, tuple[int, ...]] | None = None
        self._asked = 0
        self._rows: dict[bytes, int] | None = None

    def find(self, name: bytes) -> int | None:
        """The row of a value, by kind and name; None if the pack does not have it."""
        self._asked += 1
        if self._rows is None and self._asked > ASKED_MAX:
            self._rows = {self.index.key(row): row for row in range(len(self.index))}
        return self.index.find(name) if self._rows is None else self._rows.get(name)

    @property
    def features(self) -> dict[int, tuple[int, ...]]:
        """The features of every row that has some, ascending."""
        if self._features is None:
            self._features = self.index.features()
        return self._features

    @property
    def key(self) -> str:
        """The key of the pack."""
        return pack_key(self.name)


class FoundValue(NamedTuple):
    """A value in a pack: its row in the index, offset and size of its bytes."""

    pack: StoredPack
    row: int
    offset: int
    size: int


class PackCatalog:
    """What packs there are.

    Args:
        backend: The place.
        cache: Where indexes are kept that were read, of a place that is far away.

    Attributes:
        unseen: Packs of which not everything can be known: by name, why. A value that is not found may be in one.
    """

    def __init__(self, backend: Backend, cache: ObjectCache | None = None) -> None:
        self._backend, self._cache = backend, cache
        self._packs: dict[str, StoredPack] | None = None
        # Of many packs most are looked up together, the others one by one: first that in which something was found.
        self._lookup: PackLookup | None = None
        self._merged: list[str] = []
        self._single: dict[str, StoredPack] = {}
        self._recent: tuple[list[str], PackLookup] | None = None  # the same, for features
        self._lost: dict[str, StoredPack] = {}  # those that went: a collection may have put them into the trash
        self._renewed: dict[str, float] = {}
        self.unseen: dict[str, CastoreError] = {}

    def packs(self) -> dict[str, StoredPack]:
        """The packs by name, as they were at the last look."""
        if self._packs is None:
            self.look()
        assert self._packs is not None
        return self._packs

    def look_anew(self) -> None:
        """Take nothing that was known for true."""
        self._packs, self._lookup, self._recent = None, None, None
        self._merged, self._single, self._renewed = [], {}, {}

    def fresh(self) -> list[StoredPack]:
        """The packs as they are now, by name."""
        self.look()
        return sorted(self.packs().values(), key=lambda pack: pack.name)

    def look(self) -> bool:
        """List the packs, and read the indexes of those that are new; whether any is."""
        packs = self._packs = {} if self._packs is None else self._packs
        listed = {
            name: entry
            for entry in self._backend.entries(PACKS_FOLDER)
            if is_digest_hex(name := entry.key.partition("/")[2])
        }
        for name in [name for name in packs if name not in listed]:
            self.forget(packs[name])
        self.unseen = {name: error for name, error in self.unseen.items() if name in listed}
        for name, pack in packs.items():
            pack.modified_s = listed[name].modified_s
        new = [entry for name, entry in listed.items() if name not in packs and name not in self.unseen]
        for pack in self._opened(new):
            self._have(pack)
        return bool(new)

    def _have(self, pack: StoredPack) -> None:
        packs = self.packs()
        packs[pack.name] = pack
        self._single = {pack.name: pack, **self._single}
        self._recent = None
        if len(self._single) > SINGLE_MAX and "numpy" in sys.modules:
            from castore.store.pack_lookup import PackLookup

            self._merged = list(packs)
            self._lookup = PackLookup([pack.index for pack in packs.values()])
            self._single = {}

    def find(self, name: bytes) -> FoundValue | None:
        """Where a value is, by kind and name, 33 bytes; None if no pack is known to have it.

        Raises:
            CorruptionError: An index is wrong.
        """
        packs = self.packs()
        for number, pack in enumerate(self._single.values()):
            row = pack.find(name)
            if row is not None:
                if number:  # its neighbours are likely to be asked for next
                    self._single = {pack.name: pack, **self._single}
                return _found(pack, row)
        place = None if self._lookup is None else self._lookup.find(name)
        return None if place is None else _found(packs[self._merged[place[0]]], place[1])

    def all(self, name: bytes) -> list[FoundValue]:
        """Every place where a value is."""
        packs = self.packs()
        single = [_found(pack, row) for pack in self._single.values() if (row := pack.find(name)) is not None]
        places = () if self._lookup is None else self._lookup.all(name)
        return single + [_found(packs[self._merged[number]], row) for number, row in places]

    def in_trash(self, name: bytes) -> FoundValue | None:
        """Where a value was in a pack that went; an object also if it went before this instance came."""
        if name[0] == OBJECT_KIND:  # a record can be made again
            listed = self._backend.entries(f"trash/{PACKS_FOLDER}")
            new = [entry for entry in listed if is_digest_hex(entry.key[-64:]) and entry.key[-64:] not in self._lost]
            self._lost.update((pack.name, pack) for pack in self._opened(new))
        found = ((pack, pack.index.find(name)) for pack in self._lost.values())
        return next((_found(pack, row) for pack, row in found if row is not None), None)

    def similar(self, features: tuple[int, ...]) -> dict[bytes, int]:
        """Objects that share features and need no others: by name, which, a bit for each."""
        from castore.store.pack_lookup import PackLookup

        packs = self.packs()
        if self._recent is None:
            self._recent = [*self._single], PackLookup([pack.index for pack in self._single.values()])
        shared: dict[bytes, int] = {}
        for names, lookup in (self._recent, (self._merged, self._lookup)):
            for number, pack, row in () if lookup is None else lookup.similar(features):
                name = packs[names[pack]].index.key(row)[1:]
                shared[name] = shared.get(name, 0) | 1 << number
        return {name: some for name, some in shared.items() if not self._needs_others(name)}

    def _needs_others(self, name: bytes) -> bool:
        """Whether any frame of an object needs others, though one does not: that may go."""
        return any(found.pack.index.has_bases(found.row) for found in self.all(bytes([OBJECT_KIND]) + name))

    def renew(self, pack: StoredPack) -> bool:
        """Renew the age of a pack, now and then; False if it went."""
        now = monotonic()
        if now - self._renewed.get(pack.name, float("-inf")) < _RENEWED_S:
            return True
        if not self._backend.touch(pack.key):
            self.forget(pack)
            return False
        self._renewed[pack.name] = now
        pack.modified_s = time()
        return True

    def forget(self, pack: StoredPack) -> None:
        """A pack proved to be gone."""
        self._lost[pack.name] = pack
        self.packs().pop(pack.name, None)
        self._single.pop(pack.name, None)
        self._recent = None
        if pack.name in self._merged:
            self._single = dict(self.packs())
            self._lookup, self._merged = None, []

    def add(self, name: Digest, pack: bytes) -> None:
        """A pack that was stored just now."""
        index = read_index(pack, name)
        assert index is not None
        stored = StoredPack(digest_hex(name), index, len(pack), time())
        self._have(stored)
        self._renewed[stored.name] = monotonic()

    def opened(self, entry: ListingEntry) -> StoredPack | None:
        """The pack that a listing shows; None if it is gone."""
        return next(self._opened([entry]), None)

    def _opened(self, listed: list[ListingEntry]) -> Iterator[StoredPack]:
        """Packs by what a listing says of them, but those that are gone or cannot be seen."""
        asked = []
        for entry in listed:
            pack = self._from_cache(entry)
            if pack is not None:
                yield pack
            else:
                asked.append(entry)
        at = 0
        while at < len(asked):
            try:
                for _, tail in self._backend.get_parts([(each.key, -_TAIL_BYTES, _TAIL_BYTES) for each in asked[at:]]):
                    at += 1
                    pack = None if tail is None else self._open(asked[at - 1], tail)
                    if pack is not None:
                        yield pack
            except CastoreError as error:
                self.unseen[_name(asked[at])] = error
                at += 1

    def _from_cache(self, entry: ListingEntry) -> StoredPack | None:
        name = _name(entry)
        data = None if self._cache is None else self._cache.get(_CACHED + name, PACK_BYTES_MAX)
        if data is None or digest_of(data) != digest_from_hex(name):
            return None
        return StoredPack(name, PackIndex(data), entry.size_bytes, entry.modified_s)

    def _open(self, entry: ListingEntry, tail: bytes) -> StoredPack | None:
        name = _name(entry)
        try:
            return self._open_tail(entry, name, tail)
        except CastoreError as error:
            self.unseen[name] = error
            return None

    def _open_tail(self, entry: ListingEntry, name: str, tail: bytes) -> StoredPack | None:
        check_size(entry.size_bytes, PACK_BYTES_MAX, f"{self._backend.url}: {entry.key}")
        size = index_bytes(tail)
        if size is not None and len(tail) < size <= entry.size_bytes:
            tail = self._backend.get_part(entry.key, -size, size) or b""
        index = read_index(tail, digest_from_hex(name))
        if index is not None:
            if self._cache is not None:
                self._cache.put(_CACHED + name, index.data)
            return StoredPack(name, index, entry.size_bytes, entry.modified_s)
        # Its entries say all that an index does. Values that are wrong are found so by whoever reads them.
        from castore.format.pack_writer import entries_of, rebuilt

        data = self._backend.get(entry.key, PACK_BYTES_MAX)
        if data is None:
            return None
        made, pack = rebuilt(entries_of(data))
        index = read_index(pack, made)
        assert index is not None
        damage = "its index is damaged" if digest_hex(made) == name else "its index is damaged, and entries are lost"
        if digest_hex(made) != name:
            self.unseen[name] = CorruptionError(
                f"{entry.key} in {self._backend.url} is damaged: run 'castore fsck --repair-from URL'"
            )
        return StoredPack(name, index, entry.size_bytes, entry.modified_s, damage)


def pack_key(name: str) -> str:
    """The key of a pack with these digits."""
    return f"{PACKS_FOLDER}/{name}"


def is_pack_key(key: str) -> bool:
    """Whether a pack may be stored under a key."""
    folder, _, name = key.partition("/")
    return folder == PACKS_FOLDER and is_digest_hex(name)


def _name(entry: ListingEntry) -> str:
    return entry.key.rpartition("/")[2]


def _found(pack: StoredPack, row: int) -> FoundValue:
    place = pack.index.place(row)
    return FoundValue(pack, row, place.offset, place.size)
