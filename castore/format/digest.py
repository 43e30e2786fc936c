"""Digests: the names of objects.

A digest is BLAKE3-256 over an object's canonical uncompressed bytes. It depends on those bytes alone, never on how,
where, when or by which version they were stored.
"""

from __future__ import annotations

from typing import NewType

from blake3 import blake3

from castore.errors import FormatError

Digest = NewType("Digest", bytes)
"""32 bytes, BLAKE3-256 of an object's canonical uncompressed bytes."""

DIGEST_BYTES = 32

_HEX_DIGITS = frozenset("0123456789abcdef")


def digest_of(data: bytes | memoryview) -> Digest:
    """The digest of an object's canonical bytes."""
    return Digest(blake3(data).digest())


def digest_hex(digest: bytes) -> str:
    """A digest as 64 lower-case hexadecimal digits, its one spelling in text."""
    return digest.hex()


def is_digest_hex(text: str) -> bool:
    """Whether a text is the one spelling of a digest: 64 lower-case hexadecimal digits."""
    return len(text) == 2 * DIGEST_BYTES and _HEX_DIGITS.issuperset(text)


def digest_from_hex(text: str) -> Digest:
    """The digest that ``text`` spells.

    Raises:
        FormatError: ``text`` is not exactly 64 lower-case hexadecimal digits. Upper case is refused as well, so that a
            digest has one spelling and one key.
    """
    if not is_digest_hex(text):
        raise FormatError(f"{text[:80]!r} is not a digest: it takes {2 * DIGEST_BYTES} lower-case hexadecimal digits")
    return Digest(bytes.fromhex(text))
