"""The part of a check that looks at packs.

A value that is damaged is found by whoever reads it, in a pack as elsewhere. What is looked at here is what nobody
would miss: copies that are never read since others come first, and what a lost index would be made from.
"""

from __future__ import annotations

from castore.care.findings import Findings
from castore.errors import CastoreError
from castore.format.digest import Digest, digest_hex
from castore.format.pack import OBJECT_KIND, PACK_BYTES_MAX
from castore.format.pack_writer import entries_of, rebuilt
from castore.store.frames import Frames
from castore.store.objects import ObjectStore
from castore.store.pack_catalog import StoredPack, pack_key
from castore.store.pack_entries import read_entries
from castore.store.packed_keys import value_key
from castore.store.packs import PackedBackend


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
            elif whole:
                bad = _count_bad(backend, pack)
                if bad:
                    repaired = repair and _replace(backend, pack)
                    text = f"{bad} of its {len(pack.index)} values are not as they were stored"
                    findings.add("pack-damaged", pack.key, text, repaired=repaired)
        except CastoreError as error:
            findings.add("pack-unreadable", pack.key, str(error).partition(": run ")[0])


def _count_bad(backend: PackedBackend, pack: StoredPack) -> int:
    """How many values are not as the index has them, or need other objects than that says: a collection believes it."""
    needed: dict[int, set[Digest]] = {}
    for row, base in pack.index.bases():
        needed.setdefault(row, set()).add(base)
    bad = 0
    for read in read_entries(backend.raw, pack, range(len(pack.index))):
        is_object = read.entry is not None and read.entry.kind == OBJECT_KIND
        bases = Frames.bases_of(read.entry.value) if read.entry is not None and is_object else ()
        bad += read.entry is None or not read.is_headed or {*bases} != needed.get(read.row, set())
    return bad


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
    """Store what is whole of a pack in another, and remove it, if all that is not is whole elsewhere."""
    objects = ObjectStore(backend)
    lost = []
    for read in read_entries(backend.raw, pack, range(len(pack.index))):
        if read.entry is None:
            lost.append(pack.index.key(read.row))
        else:
            backend.put(value_key(pack.index.key(read.row)), read.entry.value, read.entry.features)
    backend.flush()
    for name in lost:
        # A record can be made again; an object may be in use.
        if name[0] == OBJECT_KIND:
            try:
                objects.get(Digest(name[1:]))
            except CastoreError:
                return False
    backend.raw.delete(pack.key)
    backend.raw.flush()
    backend.catalog.forget(pack)
    return True
