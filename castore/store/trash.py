"""What a collection has removed a moment too soon, where looking at an age and removing are two steps.

::

    trash/<key>     what was stored under the key of an object or pack
"""

from __future__ import annotations

from castore.format.digest import Digest
from castore.format.pack import PACK_BYTES_MAX
from castore.store.backend import Backend, SweptError
from castore.store.object_keys import digest_of_key, object_key
from castore.store.pack_catalog import is_pack_key

TRASH_FOLDER = "trash"


def trash_key(digest: Digest) -> str:
    """The key under which a collection keeps an object that it removes, where it cannot remove in one step."""
    return f"{TRASH_FOLDER}/{object_key(digest)}"


def flush_restoring(backend: Backend) -> None:
    """Flush; objects and packs that were swept while they were renewed are stored again, from the trash.

    Records that were swept so are let go: they can be made again.

    Raises:
        SweptError: One is not in the trash either.
    """
    try:
        backend.flush()
        return
    except SweptError as error:
        swept = error
    for key in swept.keys:
        if digest_of_key(key) is not None or is_pack_key(key):
            value = backend.get(f"{TRASH_FOLDER}/{key}", PACK_BYTES_MAX)
            if value is None:
                raise swept
            backend.put(key, value)
    backend.flush()
