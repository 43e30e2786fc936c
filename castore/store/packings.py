"""Packing records: which packing a dataset has under a rule, so that it is computed once and shared.

``packings/<first 2 of the 64 hexadecimal digits>/<the 64 digits>``, sealed (``records``); the payload is the digest of
the packing's document. Accelerators, as unit records are: a packing can be computed again.
"""

from __future__ import annotations

from castore.errors import CorruptionError
from castore.format.digest import DIGEST_BYTES, Digest, digest_hex
from castore.store.backend import Backend
from castore.store.records import seal, unseal

PACKING_BYTES = 2 * DIGEST_BYTES
"""Bytes of a record."""


class PackingStore:
    """What has been packed already, by what went in."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def get(self, name: Digest) -> Digest | None:
        """Digest of the packing's document, or None. A record that is damaged counts as absent."""
        key = packing_key(name)
        try:
            data = self._backend.get(key, PACKING_BYTES)
            payload = None if data is None else unseal(data, key)
        except CorruptionError:
            return None
        return Digest(payload) if payload is not None and len(payload) == DIGEST_BYTES else None

    def put(self, name: Digest, document: Digest) -> None:
        """Store a record, durably; what it names must be durable before."""
        self._backend.put(packing_key(name), seal(document))
        self._backend.flush()


def packing_key(name: Digest) -> str:
    """The key of a packing's record."""
    text = digest_hex(name)
    return f"packings/{text[:2]}/{text}"
