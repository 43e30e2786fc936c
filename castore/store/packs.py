"""Objects and unit records in packs: a layer between a backend and all that stores or reads them by key.

::

    packs/<64 digits>       a pack (``format/pack``) under the digest of its index
    objects/…, units/…      single values, where a few are stored at once in a folder

Above this layer nothing knows of packs: a value has its key, and is renewed, listed and read by it. Below it many
values are one: written, made durable, renewed and transferred together. A pack is immutable and seals itself: it
appears whole or not at all, and packs in the order of their values, so that nothing is ever seen without what was put
before it.

What a collection does with packs is in ``care/repack``.
"""

from __future__ import annotations

import builtins
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from time import monotonic, time
from typing import TYPE_CHECKING, Any, TypeVar

from castore.errors import BackendError
from castore.format.digest import Digest, digest_hex
from castore.format.pack_writer import Entry
from castore.store.backend import Backend, ListingEntry, check_prefix, check_size, everything
from castore.store.pack_catalog import FoundValue, PackCatalog, pack_key
from castore.store.packed_keys import FOLDERS, merged, name_of, value_key
from castore.store.similarity import most_similar

if TYPE_CHECKING:
    from castore.store.cache import ObjectCache
    from castore.store.held_values import HeldValues

T = TypeVar("T")

PACK_BYTES = 32 * 2**20
"""Bytes of values after which a pack is closed."""

PACK_AGE_S = 30.0
"""Seconds after which one is closed that still grows: what a kill may cost."""

LOOSE_MAX = 16
"""Values that are stored one by one in a folder if no more come together: a pack for each of them would be as many
files, and say less to whoever looks."""

_WINDOW = 256  # keys that are asked for together
_LOOSE_S = 5.0
_LOOSE_LISTED = 4096


class PackedBackend:
    """A ``Backend`` that keeps objects and unit records in packs.

    The promises are those of ``Backend``, but for these values: ``put`` holds them back until a pack is full, old, or
    flushed, and a single one in a pack is neither deleted nor expires.

    Args:
        backend: The place.
        pack_bytes: Bytes of values after which a pack is closed.
        loose_max: Values that a flush stores one by one if no more come together; none in a place that is far away.
        cache: Where indexes of packs are kept that were read, of a place that is far away.

    Attributes:
        raw: The place itself.
        catalog: Its packs.
        is_far: Whether every request costs a round trip, so that what is there is not read to be compared.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        pack_bytes: int = PACK_BYTES,
        loose_max: int = LOOSE_MAX,
        cache: ObjectCache | None = None,
    ) -> None:
        self.raw = backend
        self.catalog = PackCatalog(backend, cache)
        self.is_far: bool = getattr(backend, "is_far", False)
        self._pack_bytes = pack_bytes
        self._loose_max = 0 if self.is_far else loose_max
        self._loose: set[str] | None = set()  # keys of values that are stored by themselves, None if they are many
        self._looked_at = float("-inf")
        self._pid = os.getpid()
        self._held: HeldValues | None = None
        self._sent: tuple[str, bytes] | None = None  # the pack that is put and not known to be durable
        self._is_unsure = False  # whether a flush failed, so that it may be lost

    def __getattr__(self, name: str) -> Any:
        # What a place says of itself. While one is copied or unpickled it has none yet.
        if name == "raw":
            raise AttributeError(name)
        return getattr(self.raw, name)

    @property
    def url(self) -> str:
        """The place as one would spell it to open it again."""
        return self.raw.url

    # ---- reading

    def get(self, key: str, max_bytes: int) -> bytes | None:
        """As ``Backend.get``."""
        name = name_of(key)
        if name is None:
            return self.raw.get(key, max_bytes)
        held = self._waiting(key)
        if held is not None:
            check_size(len(held), max_bytes, f"{self.url}: {key}")
            return held
        data = self._get_packed(key, name, max_bytes)
        if data is None:
            data = self.raw.get(key, max_bytes)
        if data is None and self.catalog.look():
            data = self._get_packed(key, name, max_bytes)
        return self._get_in_trash(name, max_bytes) if data is None else data

    def _get_packed(self, key: str, name: bytes, max_bytes: int) -> bytes | None:
        while (found := self.catalog.find(name)) is not None:
            check_size(found.size, max_bytes, f"{self.url}: {key}")
            data = self.raw.get_part(found.pack.key, found.offset, found.size)
            if data is not None:
                return data
            # A collection writes what it keeps of a pack before it removes it.
            self.catalog.forget(found.pack)
            self.catalog.look()
        return None

    def _get_in_trash(self, name: bytes, max_bytes: int) -> bytes | None:
        """A value of a pack that was removed a moment too soon; None if it is certain that there is none."""
        found = self.catalog.in_trash(name)
        if found is not None and found.size <= max_bytes:
            data = self.raw.get_part(f"trash/{found.pack.key}", found.offset, found.size)
            if data is not None:
                return data
        for error in self.catalog.unseen.values():
            raise error
        return None

    def copies(self, key: str, max_bytes: int) -> Iterator[bytes]:
        """Every stored value of a key: one that is damaged may have been stored again elsewhere."""
        name = name_of(key)
        if name is None:
            return
        self.catalog.look()
        for found in self.catalog.all(name):
            if found.size <= max_bytes:
                data = self.raw.get_part(found.pack.key, found.offset, found.size)
                if data is not None:
                    yield data
        data = self.raw.get(key, max_bytes)
        if data is not None:
            yield data

    def get_many(self, keys: Iterable[str], max_bytes: int) -> Iterator[tuple[str, bytes | None]]:
        """As ``Backend.get_many``; of neighbours in a pack that is far away several by one request."""
        if not self.is_far:
            return ((key, self.get(key, max_bytes)) for key in keys)
        return self._get_together(iter(keys), max_bytes)

    def _get_together(self, keys: Iterator[str], max_bytes: int) -> Iterator[tuple[str, bytes | None]]:
        from castore.store.pack_entries import read_together

        while window := list(islice(keys, _WINDOW)):
            found: dict[str, FoundValue] = {}
            for key in window:
                name = name_of(key)
                place = None if name is None or self._waiting(key) is not None else self.catalog.find(name)
                if place is not None and place.size <= max_bytes:
                    found[key] = place
            others = dict(self.raw.get_many([key for key in window if name_of(key) is None], max_bytes))
            values = {**others, **dict(read_together(self.raw, found))}
            for key in window:
                yield key, values[key] if key in values else self.get(key, max_bytes)

    def has(self, key: str) -> bool:
        """As ``Backend.has``."""
        name = name_of(key)
        if name is None:
            return self.raw.has(key)
        if self._waiting(key) is not None or self.catalog.find(name) is not None or self.raw.has(key):
            return True
        return self.catalog.look() and self.catalog.find(name) is not None

    def list(self, prefix: str) -> Iterator[str]:
        """As ``Backend.list``."""
        return merged([self.raw.list(prefix), self._keys_below(prefix)], str)

    def entries(self, prefix: str) -> Iterator[ListingEntry]:
        """As ``Backend.entries``; a value in a pack is as old as that."""
        packed = (entry for key in self._keys_below(prefix) if (entry := self._described(key)) is not None)
        return merged([self.raw.entries(prefix), packed], lambda entry: entry.key)

    def everything(self, prefix: str, *, details: bool) -> Iterator[ListingEntry]:
        """As ``backend.everything``, of the place itself, in which a pack is one value."""
        return everything(self.raw, prefix, details=details)

    # ---- writing

    def put(self, key: str, data: bytes, features: tuple[int, ...] = ()) -> None:
        """As ``Backend.put``; ``features`` are those by which relatives of an object are found."""
        name = name_of(key)
        if name is None:
            self.raw.put(key, data)
            return
        from castore.store.held_values import HeldValues

        self._after_fork()
        held = self._held
        if held is not None and (held.size + len(data) > self._pack_bytes or monotonic() - held.since > PACK_AGE_S):
            self._close()
        if self._held is None:
            self._held = HeldValues()
        self._held.add(key, Entry(name[0], name[1:], bytes(data), features))

    def look_again(self) -> None:
        """See what others have stored by now; else it may be some seconds until values of theirs are renewed."""
        self.catalog.look()
        self._looked_at = float("-inf")

    def barrier(self) -> None:
        """Whatever is put from here on is never to be seen without all that was put before."""
        if self._held is not None:
            self._held.barrier()

    def flush(self) -> None:
        """As ``Backend.flush``."""
        self._after_fork()
        self._close()
        self._flush_raw()

    def create(self, key: str, data: bytes) -> bool:
        """As ``Backend.create``."""
        return self.raw.create(key, data)

    def touch(self, key: str) -> bool:
        """As ``Backend.touch``: the pack is renewed in which the value is."""
        name = name_of(key)
        if name is None:
            return self.raw.touch(key)
        if self._waiting(key) is not None:
            return True
        while (found := self.catalog.find(name)) is not None:
            if self.catalog.renew(found.pack):
                return True
            self.catalog.look()
        return self._may_be_loose(key) and self.raw.touch(key)

    def touch_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bool]]:
        """As ``Backend.touch_many``; of values that are stored by themselves several at once."""
        keys = iter(keys)
        while window := list(islice(keys, _WINDOW)):
            single = [key for key in window if not self._is_known(key) and self._may_be_loose(key)]
            found = dict(self.raw.touch_many(single))
            for key in window:
                yield key, found[key] if key in found else self.touch(key)

    def _is_known(self, key: str) -> bool:
        name = name_of(key)
        return name is not None and (self._waiting(key) is not None or self.catalog.find(name) is not None)

    def delete(self, key: str) -> bool:
        """As ``Backend.delete``, of a value that is not in a pack."""
        self._refuse_packed(key, "deleted")
        self._after_fork()
        was_held = self._held is not None and self._held.take_back(key)
        return self.raw.delete(key) or was_held

    def expire(self, key: str, before_s: float) -> bool:
        """As ``Backend.expire``, of a value that is not in a pack."""
        self._refuse_packed(key, "removed")
        return self.raw.expire(key, before_s)

    def get_part(self, key: str, start: int, length: int) -> bytes | None:
        """As ``Backend.get_part``, of a value of the place itself."""
        return self.raw.get_part(key, start, length)

    def get_parts(self, parts: Iterable[tuple[str, int, int]]) -> Iterator[tuple[tuple[str, int, int], bytes | None]]:
        """As ``Backend.get_parts``, of values of the place itself."""
        return self.raw.get_parts(parts)

    # ---- relatives

    def similar(self, features: tuple[int, ...]) -> builtins.list[Digest]:
        """Objects that share the most features and need no others: one, or two that together share more."""
        self._after_fork()
        shared = self.catalog.similar(features)
        if self._held is not None:
            for name, some in self._held.similar(features).items():
                shared[name] = some | shared.get(name, 0)
            for name in self._held.needing({*shared}):
                del shared[name]
        return [Digest(name) for name in most_similar(dict(sorted(shared.items())), len(features))]

    def features(self, key: str) -> tuple[int, ...]:
        """The features that a value was put with, in ascending order; none of one that is in no pack."""
        name = name_of(key)
        if name is None:
            return ()
        held = None if self._held is None else self._held.get(key)
        if held is not None:
            return tuple(sorted(held.features))
        found = self.catalog.find(name)
        return () if found is None else found.pack.features.get(found.row, ())

    # ---- where a value is

    def _waiting(self, key: str) -> bytes | None:
        """A value that is in no pack yet."""
        self._after_fork()
        found = None if self._held is None else self._held.get(key)
        return None if found is None else found.value

    def _may_be_loose(self, key: str) -> bool:
        """Whether a value is stored by itself, of late: one listing for all of them is cheaper than asking for each."""
        now = monotonic()
        if now - self._looked_at > _LOOSE_S:
            keys = (key for folder in FOLDERS for key in self.raw.list(folder))
            found = {*islice(keys, _LOOSE_LISTED + 1)}
            self._loose = found if len(found) <= _LOOSE_LISTED else None
            self._looked_at = now
        return self._loose is None or key in self._loose

    def _keys_below(self, prefix: str) -> Iterator[str]:
        """Keys of values in packs, and of those that are held back, ascending."""
        check_prefix(prefix)
        self._after_fork()
        start = prefix + "/" if prefix else ""
        lists: list[Iterable[str]] = [sorted(key for key in self._held or () if key.startswith(start))]
        for folder, kind in FOLDERS.items():
            if folder.startswith(start) or start.startswith(folder + "/"):
                for pack in self.catalog.packs().values():
                    keys = map(value_key, map(pack.index.key, pack.index.starting(kind)))
                    lists.append(key for key in keys if key.startswith(start))
        return merged(lists, str)

    def _described(self, key: str) -> ListingEntry | None:
        held = self._waiting(key)
        if held is not None:
            return ListingEntry(key, len(held), time())
        name = name_of(key)
        found = None if name is None else self.catalog.find(name)
        return None if found is None else ListingEntry(key, found.size, found.pack.modified_s)

    def is_packed(self, key: str) -> bool:
        """Whether a value is in a pack and nowhere else."""
        name = name_of(key)
        return name is not None and self.catalog.find(name) is not None and not self.raw.has(key)

    def _refuse_packed(self, key: str, what: str) -> None:
        if self.is_packed(key):
            raise BackendError(f"{self.url}: {key} is in a pack, of which nothing is {what} alone")

    # ---- closing a pack

    def _after_fork(self) -> None:
        if self._pid != os.getpid():
            self._pid, self._held, self._sent = os.getpid(), None, None

    def _close(self) -> None:
        """Store what is held back, in its order, and not before what came earlier is durable; again if that failed."""
        if self._held is not None:
            self._store(self._held)
        self._held = None

    def _store(self, held: HeldValues) -> None:
        self._flush_raw()
        if len(held) <= self._loose_max and held.may_be_loose:
            self._looked_at = float("-inf")
            for group in held.groups():
                for key, value in group:
                    self.raw.put(key, value)
                self.raw.flush()
            return
        name, data = held.pack()
        self._sent = pack_key(digest_hex(name)), data
        self.raw.put(*self._sent)
        self.catalog.add(name, data)
        if not self.is_far:  # from where it is sent while the next one grows
            self._flush_raw()

    def _flush_raw(self) -> None:
        if self._sent is not None and self._is_unsure:
            self.raw.put(*self._sent)
        self._is_unsure = True
        try:
            self.raw.flush()
        except BaseException:
            self.catalog.look_anew()
            raise
        self._is_unsure, self._sent = False, None


def packed(backend: Backend, cache: ObjectCache | None = None) -> PackedBackend:
    """A backend whose packs are read and written; itself where that is so already."""
    return backend if isinstance(backend, PackedBackend) else PackedBackend(backend, cache=cache)
