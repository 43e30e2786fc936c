"""Unit records: ``units/<first 2 of the 64 hexadecimal digits>/<the 64 digits>``, sealed (``records``)."""

from __future__ import annotations

from contextlib import suppress

from castore.errors import CorruptionError, FormatError
from castore.format.digest import Digest
from castore.format.unit import Unit
from castore.store.backend import Backend
from castore.store.packs import PackedBackend
from castore.store.records import Holds, RecordKind, record_key, seal, unseal

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
        with suppress(CorruptionError, FormatError):
            if not self._backend.touch(key):
                return None
            data = self._backend.get(key, UNIT_BYTES_MAX)
            return None if data is None else Unit.decode(unseal(data, key))
        if isinstance(self._backend, PackedBackend):
            for other in self._backend.copies(key, UNIT_BYTES_MAX):
                with suppress(CorruptionError, FormatError):
                    return Unit.decode(unseal(other, key))
        return None

    def put(self, name: Digest, unit: Unit) -> None:
        """Store a record; durable and visible to others after the next ``flush`` of the backend.

        All objects that it names must be durable before.
        """
        self._backend.put(unit_key(name), seal(unit.encode()))


def unit_key(name: Digest) -> str:
    """The key of a unit's record."""
    return record_key(UNITS.folder, name)


def _references(data: bytes, key: str) -> list[Digest]:
    return [digest for part in Unit.decode(unseal(data, key)).slices for digest in part.chunks.values()]


UNITS = RecordKind("units", UNIT_BYTES_MAX, _references, Holds.OBJECTS, expires=True)
