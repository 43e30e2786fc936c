"""Packing records: which packing a dataset has under a rule, so that it is computed once and shared.

``packings/<first 2 of the 64 hexadecimal digits>/<the 64 digits>``, sealed (``records``); the payload is the digest of
the packing's document and those of the chunks of its columns, so that what a record holds is known without reading
objects. Accelerators, as unit records are: a packing can be computed again.
"""

from __future__ import annotations

from collections.abc import Iterable

from castore.errors import CorruptionError, FormatError
from castore.format.digest import DIGEST_BYTES, Digest
from castore.store.backend import Backend
from castore.store.records import Holds, RecordKind, record_key, seal, unseal

PACKING_BYTES_MAX = 1024 * 1024
"""Bytes of the largest record: six thousand million documents."""


class PackingStore:
    """What has been packed already, by what went in."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def get(self, name: Digest) -> Digest | None:
        """Digest of the packing's document, or None. A record that is damaged counts as absent."""
        key = packing_key(name)
        try:
            data = self._backend.get(key, PACKING_BYTES_MAX)
            return None if data is None else _references(data, key)[0]
        except (CorruptionError, FormatError):
            return None

    def renew(self, name: Digest) -> None:
        """Renew the age of a record that was used, so that a collection keeps what it names."""
        self._backend.touch(packing_key(name))

    def put(self, name: Digest, document: Digest, chunks: Iterable[Digest]) -> None:
        """Store a record, durably; what it names must be durable before."""
        self._backend.put(packing_key(name), seal(b"".join([document, *chunks])))
        self._backend.flush()


def _references(data: bytes, key: str) -> list[Digest]:
    """The packing's document, then chunks."""
    payload = unseal(data, key)
    if not payload or len(payload) % DIGEST_BYTES:
        raise FormatError(f"packing record of {len(payload)} bytes")
    return [Digest(payload[at : at + DIGEST_BYTES]) for at in range(0, len(payload), DIGEST_BYTES)]


PACKINGS = RecordKind("packings", PACKING_BYTES_MAX, _references, Holds.OBJECTS, expires=True)


def packing_key(name: Digest) -> str:
    """The key of a packing's record."""
    return record_key(PACKINGS.folder, name)
