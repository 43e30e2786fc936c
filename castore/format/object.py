"""An immutable object: canonical bytes together with their digest."""

from __future__ import annotations

from typing import NamedTuple

from castore.format.digest import Digest, digest_of


class Object(NamedTuple):
    """Canonical bytes and their digest.

    Attributes:
        digest: BLAKE3-256 of ``data``.
        data: The canonical, uncompressed bytes.
        u32_tail: Offset from which ``data`` is a run of little-endian uint32, a hint for the compressor that is no
            part of the object; None if there is no such run.
        features: By which relatives of it are found (``tree/features``), no part of it either.
    """

    digest: Digest
    data: bytes
    u32_tail: int | None = None
    features: tuple[int, ...] = ()

    @classmethod
    def of(cls, data: bytes, u32_tail: int | None = None) -> Object:
        """The object of canonical bytes."""
        return cls(digest_of(data), data, u32_tail)
