"""Under which keys objects are stored.

::

    objects/<first 2 of the 64 hexadecimal digits>/<the 64 digits>     a frame (``frames``) of the canonical bytes
"""

from __future__ import annotations

from castore.format.digest import DIGEST_BYTES, Digest, digest_from_hex, digest_hex, is_digest_hex

OBJECTS_FOLDER = "objects"

_DIGITS = 2 * DIGEST_BYTES


def object_key(digest: Digest) -> str:
    """The key under which an object is stored."""
    name = digest_hex(digest)
    return f"{OBJECTS_FOLDER}/{name[:2]}/{name}"


def digest_of_key(key: str) -> Digest | None:
    """The digest of the object that is stored under ``key``; None if no object would be."""
    name = key[-_DIGITS:]
    if not is_digest_hex(name) or key != f"{OBJECTS_FOLDER}/{name[:2]}/{name}":
        return None
    return digest_from_hex(name)
