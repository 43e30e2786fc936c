"""Small checked files that are no objects: they have a name of their own, so their bytes must vouch for themselves.

::

    record   payload, then 32 bytes: the BLAKE3-256 of the payload
"""

from __future__ import annotations

from castore.errors import CorruptionError
from castore.format.digest import DIGEST_BYTES, Digest, digest_hex, digest_of


def seal(payload: bytes) -> bytes:
    """The record of a payload."""
    return payload + digest_of(payload)


def record_key(folder: str, name: Digest) -> str:
    """The key of a record whose name is a digest: ``<folder>/<first 2 of the 64 hex digits>/<the 64 digits>``."""
    text = digest_hex(name)
    return f"{folder}/{text[:2]}/{text}"


def unseal(data: bytes, what: str) -> bytes:
    """The payload of a record.

    Args:
        data: The stored bytes.
        what: The place they come from, for the message.

    Raises:
        CorruptionError: The bytes are not a payload followed by its digest.
    """
    payload = data[:-DIGEST_BYTES]
    if len(data) < DIGEST_BYTES or digest_of(payload) != data[-DIGEST_BYTES:]:
        raise CorruptionError(f"{what} is damaged: its checksum does not match its {len(data)} bytes")
    return payload
