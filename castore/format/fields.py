"""Checked access to decoded documents: every field that is read names its type, so bad bytes fail in one place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from castore.errors import FormatError, UnsupportedVersionError
from castore.format.codec import Value, decode
from castore.format.digest import DIGEST_BYTES, Digest

T = TypeVar("T")


def expect(kind: type[T], value: object, what: str) -> T:
    """Return ``value`` if it has exactly the type ``kind``; ``bool`` does not pass for ``int``."""
    if type(value) is not kind:
        raise FormatError(f"{what} is {type(value).__name__}, not {kind.__name__}")
    return value


def expect_count(value: object, what: str) -> int:
    """Return ``value`` if it is an integer from 0 to 2**63 - 1."""
    number = expect(int, value, what)
    if not 0 <= number < 1 << 63:
        raise FormatError(f"{what} is {number}, outside 0 to 2**63 - 1")
    return number


def expect_digest(value: object, what: str) -> Digest:
    """Return ``value`` if it is 32 bytes."""
    raw = expect(bytes, value, what)
    if len(raw) != DIGEST_BYTES:
        raise FormatError(f"{what} is {len(raw)} bytes, not the {DIGEST_BYTES} of a digest")
    return Digest(raw)


def decode_list(data: bytes, kind: str, length: int) -> list[Value]:
    """Decode an object that is a list ``[kind, ...]`` of ``length`` elements."""
    value = decode(data)
    if type(value) is not list or not value or value[0] != kind:
        raise FormatError(f"object is not a {kind}")
    if len(value) != length:
        raise FormatError(f"{kind} has {len(value)} elements, not {length}")
    return value


def decode_map(data: bytes, kind: str, version: int, names: frozenset[str]) -> dict[str, Value]:
    """Decode a document: a map whose entry ``kind`` is ``kind``, of a known version, with exactly the entries it has.

    Args:
        data: The document.
        kind: What it must be.
        version: The newest version of this kind that is known.
        names: Its entries beside ``kind`` and ``format``.

    Raises:
        UnsupportedVersionError: It is newer.
        FormatError: It is of another kind, lacks an entry, or has one that is not known.
    """
    value = decode(data)
    if type(value) is not dict or value.get("kind") != kind:
        raise FormatError(f"object is not a {kind}")
    found = expect_count(value.get("format"), f"format of the {kind}")
    if not 1 <= found <= version:
        raise UnsupportedVersionError(kind, found, version)
    expect_entries(value, names | {"format", "kind"}, kind)
    return value


def expect_entries(fields: Mapping[str, object], names: frozenset[str], what: str) -> None:
    """Refuse a map with an entry too few or too many: what is not understood cannot be passed over."""
    if fields.keys() != names:
        odd = sorted(fields.keys() ^ names)[0]
        raise FormatError(f"{what} {'has the unknown' if odd in fields else 'lacks the'} entry {odd[:80]!r}")


def kind_of(data: bytes) -> str | None:
    """The kind that an object's bytes name, or None if they name none."""
    value = decode(data)
    if type(value) is list and value and type(value[0]) is str:
        return value[0]
    if type(value) is dict and type(value.get("kind")) is str:
        return str(value["kind"])
    return None
