"""The part of a check that looks at packs.

A value that is damaged is found by whoever reads it, in a pack as elsewhere. What is looked at here is what nobody
would miss: copies that are never read since others come first, and what a lost index would be made from.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, repeat

import numpy as np

from castore.care.census import Census, object_table
from castore.care.findings import Findings
from castore.errors import CastoreError, CorruptionError, NotFoundError
from castore.format.delta import delta_of
from castore.format.digest import Digest, digest_from_hex, digest_hex, digest_of
from castore.format.pack import MAGIC, OBJECT_KIND, PACK_BYTES_MAX, UNIT_KIND, Place, check_of
from castore.format.pack_writer import Entry, IndexBuilder, entries_of, rebuilt
from castore.store.compress import unpack
from castore.store.object_keys import object_key
from castore.store.objects import OBJECT_BYTES_MAX, ObjectStore
from castore.store.pack_catalog import StoredPack, pack_key
from castore.store.pack_entries import read_entries
from castore.store.packed_keys import value_key
from castore.store.packs import PackedBackend
from castore.store.records import unseal


def check_packs(backend: PackedBackend, findings: Findings, *, whole: bool, repair: bool) -> None:
    """Check all packs.

    Args:
        backend: The repository.
        findings: Where what is found goes.
        whole: Read all of them, and not their indexes alone.
        repair: Put right what needs no other repository: objects that did were repaired before.
    """
    packs = backend.catalog.fresh()
    for name, error in backend.catalog.unseen.items():
        if name not in backend.catalog.packs():
            findings.add("pack-unreadable", pack_key(name), str(error).partition(": run ")[0])
    for pack in packs:
        try:
            if pack.damage:
                repaired = repair and (_put_again(backend, pack) or _replace(backend, pack))
                findings.add("pack-index-damaged", pack.key, pack.damage, repaired=repaired)
            elif whole and (text := _fault_of(backend, pack)):
                findings.add("pack-damaged", pack.key, text, repaired=repair and _replace(backend, pack))
        except CorruptionError as error:
            findings.add("pack-damaged", pack.key, str(error), repaired=repair and _replace(backend, pack))
        except CastoreError as error:
            findings.add("pack-unreadable", pack.key, str(error).partition(": run ")[0])


def check_copies(backend: PackedBackend, census: Census, findings: Findings, *, repair: bool) -> None:
    """Check the single values of objects that packs have too, which are never read since these come first.

    Args:
        backend: The repository.
        census: Its listing.
        findings: Where what is found goes.
        repair: Remove what is damaged.
    """
    objects = ObjectStore(backend.raw)
    for digest in _stored_twice(backend, census):
        key = object_key(digest)
        try:
            objects.get(digest)
        except NotFoundError:
            continue
        except CorruptionError as error:
            is_elsewhere = _is_whole(backend, digest)
            if is_elsewhere and repair:
                backend.raw.delete(key)
                backend.raw.flush()
            if is_elsewhere:  # else it was found before
                text = f"{str(error).partition(': run ')[0]}; another copy is whole"
                findings.add("object-damaged", key, text, repaired=repair)
        except CastoreError as error:
            findings.add("object-unreadable", key, str(error))


def _stored_twice(backend: PackedBackend, census: Census) -> Iterator[Digest]:
    seen = np.zeros(len(census), np.bool_)
    for pack in backend.catalog.packs().values():
        at = census.find(object_table(pack.index)["name"].tobytes())
        seen[at[at >= 0]] = True
    return map(census.digest, np.flatnonzero(seen & ~census.packed).tolist())


def _fault_of(backend: PackedBackend, pack: StoredPack) -> str:
    """What is wrong with a pack whose index is as it was sealed."""
    if backend.raw.get_part(pack.key, 0, len(MAGIC)) != MAGIC:
        return "it does not begin as a pack"
    builder, bad = IndexBuilder(), 0
    for read in read_entries(backend.raw, pack, range(len(pack.index))):
        if read.entry is None or not read.is_headed:
            bad += 1
        else:
            builder.add(read.entry)
    if bad:
        return f"{bad} of its {len(pack.index)} values are not as they were stored"
    if digest_of(builder.index()) != digest_from_hex(pack.name):
        # Of two entries under one name it has the later: that is told by all of them alone.
        name, _ = rebuilt(entries_of(backend.raw.get(pack.key, PACK_BYTES_MAX) or b""))
        if digest_hex(name) != pack.name:
            return "its index is not that of what is in it"
    return ""


def _put_again(backend: PackedBackend, pack: StoredPack) -> bool:
    """Put a pack in place whose index alone was damaged: made from its entries, it is the same one."""
    data = backend.raw.get(pack.key, PACK_BYTES_MAX)
    if data is None:
        return False
    name, made = rebuilt(entries_of(data))
    if digest_hex(name) != pack.name:
        return False
    backend.raw.put(pack.key, made)
    backend.raw.flush()
    pack.damage = ""
    return True


def _replace(backend: PackedBackend, pack: StoredPack) -> bool:
    """Store what is whole of a pack in others, and remove it, if every object that is not is whole elsewhere.

    What is whole is what its digest says: the index may be wrong. Records can be made again where they are damaged.
    """
    data = backend.raw.get(pack.key, PACK_BYTES_MAX)
    if data is None:
        return False
    stored: set[bytes] = set()
    for entry, is_told in chain(_entries_by_index(pack, data), zip(entries_of(data), repeat(False))):
        name = bytes([entry.kind]) + entry.name
        if name not in stored and _is_right(entry, is_told):
            backend.put(value_key(name), entry.value, entry.features)
            stored.add(name)
    backend.flush()
    objects = {pack.index.key(row) for row in pack.index.starting(OBJECT_KIND)}
    if not all(_is_whole(backend, Digest(name[1:])) for name in objects - stored):
        return False
    if backend.raw.get(pack.key, PACK_BYTES_MAX) == data:
        backend.raw.delete(pack.key)
        backend.raw.flush()
        backend.catalog.forget(pack)
    # Else all of it was whole but what stands between: the same pack was stored again, in its own place.
    return True


def _entries_by_index(pack: StoredPack, data: bytes) -> Iterator[tuple[Entry, bool]]:
    """Values where the index says that they are, and whether they are what it says."""
    index, features = pack.index, pack.features
    places: list[tuple[Place, int]] = []
    for row in range(len(index)):
        with suppress(CorruptionError):
            places.append((index.place(row), row))
    for (start, size, check), row in sorted(places):
        key, value = index.key(row), data[start : start + size]
        yield Entry(key[0], key[1:], value, features.get(row, ())), check_of(value) == check


def _is_right(entry: Entry, is_told: bool) -> bool:
    """Whether a value is what its name says; of one that needs others, what the index says of it must do."""
    try:
        if entry.kind == UNIT_KIND:
            unseal(entry.value, value_key(bytes([entry.kind]) + entry.name))
            return True
        if entry.kind != OBJECT_KIND or delta_of(entry.value) is not None:
            return is_told and entry.kind == OBJECT_KIND
        return digest_of(unpack(entry.value, OBJECT_BYTES_MAX)) == entry.name
    except CastoreError:
        return False


def _is_whole(backend: PackedBackend, digest: Digest) -> bool:
    try:
        ObjectStore(backend).get(digest)
    except CastoreError:
        return False
    return True
