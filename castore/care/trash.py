"""Where looking at an age and removing are two steps: what is removed is kept for a while, and given back if used."""

from __future__ import annotations

from collections.abc import Iterable

from castore.format.digest import Digest
from castore.format.pack import OBJECT_KIND, PACK_BYTES_MAX
from castore.store.backend import ListingEntry
from castore.store.object_keys import digest_of_key, object_key
from castore.store.objects import FRAME_BYTES_MAX
from castore.store.pack_catalog import is_pack_key
from castore.store.packs import PackedBackend
from castore.store.trash import TRASH_FOLDER, trash_key


def fill_trash(backend: PackedBackend, digests: Iterable[Digest]) -> None:
    """Keep objects that are about to be removed: a writer may renew one between the look at its age and the removal."""
    keys = {object_key(digest): trash_key(digest) for digest in digests}
    for key, frame in backend.get_many(keys, FRAME_BYTES_MAX):
        if frame is not None:
            backend.put(keys[key], frame)
    backend.flush()


def settle_trash(backend: PackedBackend, late: set[Digest], before_s: float) -> None:
    """Give back what is in use after all, and empty what is not and was there for the grace period.

    Args:
        backend: The repository.
        late: Objects in use that were not listed.
        before_s: When the grace period began.
    """
    for entry in backend.entries(TRASH_FOLDER):
        key = entry.key.removeprefix(f"{TRASH_FOLDER}/")
        if digest_of_key(key) is None and not is_pack_key(key):
            continue
        if _is_late(backend, key, entry, late):
            data = backend.get(entry.key, PACK_BYTES_MAX)
            if data is not None:
                backend.raw.put(key, data)
                backend.flush()
        elif entry.modified_s is not None and entry.modified_s < before_s:
            backend.expire(entry.key, before_s)


def _is_late(backend: PackedBackend, key: str, entry: ListingEntry, late: set[Digest]) -> bool:
    """Whether something that was removed is in use and not there, or holds what is."""
    digest = digest_of_key(key)
    if digest is not None:
        return digest in late and not backend.has(key)
    pack = backend.catalog.opened(entry) if late else None
    if pack is None:
        return False
    held = (Digest(pack.index.key(row)[1:]) for row in pack.index.starting(OBJECT_KIND))
    return any(digest in late and not backend.has(object_key(digest)) for digest in held)
