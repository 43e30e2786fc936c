"""Small checked files that are no objects: they have a name of their own, so their bytes must vouch for themselves.

::

    record   payload, then 32 bytes: the BLAKE3-256 of the payload

What there are, and what a repository owes each, is the table in ``kinds``.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from castore.errors import CorruptionError
from castore.format.digest import DIGEST_BYTES, Digest, digest_hex, digest_of, is_digest_hex
from castore.frozen import frozen


class Holds(Enum):
    """What stays in a repository because a record names it."""

    NOTHING = 0
    OBJECTS = 1  # those that it names, and nothing below them
    DATASETS = 2  # runs and manifests, with all that they reach


def _is_named_by_digest(key: str) -> bool:
    folder, name = key.partition("/")[0], key[-64:]
    return is_digest_hex(name) and key == f"{folder}/{name[:2]}/{name}"


@frozen
class RecordKind:
    """One kind of record, and all that census, collection and check need to know of it.

    Attributes:
        folder: First part of its keys.
        bytes_max: Bytes of the largest.
        references: Gives the objects that a record holds, from its stored bytes and its key. Raises CorruptionError if
            the bytes are damaged or belong elsewhere, FormatError if they are no such record.
        holds: What a collection spares because of them.
        expires: They can be made again: a collection removes those that were not used for long.
        is_key: Whether a key of the folder is that of such a record; by default ``record_key`` of a digest.
        is_log: They are entries of logs, which are judged together (``refs``) and not one by one.
        damage: The finding of a check that one is damaged.
    """

    folder: str
    bytes_max: int
    references: Callable[[bytes, str], list[Digest]]
    holds: Holds
    expires: bool
    is_key: Callable[[str], bool] = _is_named_by_digest
    is_log: bool = False
    damage: str = "record-damaged"


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
