"""Unit records: ``units/<first 2 of the 64 hexadecimal digits>/<the 64 digits>``, sealed (``records``)."""

from __future__ import annotations

from castore.errors import CorruptionError, FormatError
from castore.format.codec import decode
from castore.format.digest import DIGEST_BYTES, Digest
from castore.format.fields import expect
from castore.format.unit import UNIT_KIND, Unit
from castore.store.backend import Backend
from castore.store.objects import flush_restoring
from castore.store.records import record_key, seal, unseal

UNIT_BYTES_MAX = 64 * 1024 * 1024
"""Bytes of the largest record: far over a million rows."""


class UnitStore:
    """What has been tokenized already, by what went in."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def get(self, name: Digest) -> Unit | None:
        """The record of a unit, or None if it was not tokenized yet.

        A record that is damaged or of another version counts as absent: it can be made again. Its age is renewed: a
        collection removes records that are not used for long.
        """
        key = unit_key(name)
        try:
            if not self._backend.touch(key):
                return None
            data = self._backend.get(key, UNIT_BYTES_MAX)
            return None if data is None else Unit.decode(unseal(data, key))
        except (CorruptionError, FormatError):
            return None

    def put(self, name: Digest, unit: Unit) -> None:
        """Store a record; durable and visible to others after the next ``flush`` of the backend.

        All objects that it names must be durable before.
        """
        self._backend.put(unit_key(name), seal(unit.encode()))

    def flush(self) -> None:
        """Make all records put so far durable and visible."""
        flush_restoring(self._backend)


def unit_key(name: Digest) -> str:
    """The key of a unit's record."""
    return record_key("units", name)


def digests_of_unit(payload: bytes) -> list[Digest]:
    """The chunks that the payload of a record names, without all that ``Unit.decode`` checks.

    Raises:
        FormatError: It is no unit record.
    """
    fields = decode(payload)
    slices = fields.get("slices") if type(fields) is dict and fields.get("kind") == UNIT_KIND else None
    found: list[Digest] = []
    for part in expect(list, slices, "slices of a unit record"):
        chunks = expect(dict, (expect(list, part, "slice") or [None])[0], "chunks of a slice")
        found.extend(Digest(raw) for raw in chunks.values() if type(raw) is bytes and len(raw) == DIGEST_BYTES)
    return found
