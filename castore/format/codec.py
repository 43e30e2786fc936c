"""Canonical msgpack: every value has exactly one encoding, and ``decode`` refuses all others.

Values are ``None``, booleans, integers from -2**63 to 2**64 - 1, UTF-8 text, byte strings, lists, and maps whose keys
are text in ascending order of their UTF-8 bytes. There are no floats and no extension types. Integers and lengths take
their shortest form. See ``docs/format/encoding.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, TypeVar

import msgpack

from castore.errors import FormatError, InvalidInputError, NotCanonicalError

Value: TypeAlias = "bool | int | str | bytes | list[Value] | tuple[Value, ...] | dict[str, Value] | None"

T = TypeVar("T", list[Any], dict[str, Any])

DEPTH_MAX = 16
"""Nesting of lists and maps. Our deepest document needs 6; the bound keeps hostile bytes from deep recursion."""


ELEMENTS_MAX = 1 << 22
"""Elements of lists and entries of maps in one value. A node needs 8192. An empty list takes a byte of an object, next
to nothing of a stored frame, and a hundred bytes of memory."""


def encode(value: Value) -> bytes:
    """Encode a value, the only way it may be encoded.

    Raises:
        InvalidInputError: A type or range that has no canonical form (a float, a map key that is not text, ...).
    """
    try:
        packed: bytes = msgpack.packb(_ordered(value, DEPTH_MAX), use_bin_type=True)
    except (OverflowError, ValueError, TypeError) as error:
        raise InvalidInputError(f"value has no canonical encoding: {error}") from error
    return packed


def decode(data: bytes) -> Value:
    """Decode canonical bytes; memory taken is a small multiple of ``len(data)``, and of ``ELEMENTS_MAX`` for the rest.

    Raises:
        FormatError: Not msgpack, truncated, trailing bytes, a type that castore does not use, or too many elements.
        NotCanonicalError: A value spelled otherwise than ``encode`` spells it.
    """
    value = _unpacked(data)
    try:
        canonical = _is_spelled(value, data)
    except InvalidInputError as error:
        raise FormatError(str(error)) from error
    if not canonical:
        raise NotCanonicalError("bytes are msgpack but not the canonical encoding of their value")
    return value


def encode_before(values: Sequence[Value], size: int) -> bytes:
    """The encoding of a list of ``values`` and a byte string of ``size`` bytes, up to that string's content.

    So a long string need not be copied to be encoded or compared. At most 14 values.
    """
    # msgpack's headers: 0x90 and the count for a short list; 0xc4, 0xc5, 0xc6 and the length for bytes.
    width = 1 if size < 1 << 8 else 2 if size < 1 << 16 else 4
    kind = {1: 0xC4, 2: 0xC5, 4: 0xC6}[width]
    head = bytes([0x90 | (len(values) + 1)])
    return b"".join([head, *map(encode, values), bytes([kind]), size.to_bytes(width, "big")])


def _is_spelled(value: Value, data: bytes) -> bool:
    """Whether data are the encoding of a value; quick for a list that ends in a long byte string."""
    if type(value) is not list or not 1 <= len(value) < _SHORT_LIST or type(value[-1]) is not bytes:
        return encode(value) == data
    payload = value[-1]
    head = encode_before(value[:-1], len(payload))
    return len(head) + len(payload) == len(data) and data.startswith(head) and data.endswith(payload)


_SHORT_LIST = 16


def _unpacked(data: bytes) -> Value:
    left = ELEMENTS_MAX

    def counted(container: T) -> T:
        nonlocal left
        left -= len(container)
        if left < 0:
            raise FormatError(f"more than {ELEMENTS_MAX} elements")
        return container

    most = min(ELEMENTS_MAX, len(data))
    try:
        value: Value = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            ext_hook=_refuse_extension,
            use_list=True,
            list_hook=counted,
            object_hook=counted,
            max_array_len=most,
            max_map_len=most,
        )
    except FormatError:
        raise
    except Exception as error:  # msgpack raises a dozen unrelated types for bad bytes
        raise FormatError(f"not msgpack: {type(error).__name__}: {error}") from error
    return value


def _ordered(value: Value, depth: int) -> Value:
    """The same value with map keys in order, refusing what has no canonical form."""
    kind = type(value)
    if kind is str or kind is bytes or kind is int or value is None or kind is bool:
        return value
    if depth == 0:
        raise ValueError(f"nested deeper than {DEPTH_MAX}")
    if isinstance(value, list | tuple):
        return [_ordered(item, depth - 1) for item in value]
    if isinstance(value, dict):
        for key in value:
            if type(key) is not str:
                raise TypeError(f"map key {key!r} is not text")
        # Code point order is UTF-8 byte order, so sorting the strings sorts the bytes.
        return {key: _ordered(value[key], depth - 1) for key in sorted(value)}
    raise TypeError(f"{kind.__name__} has no canonical form")


def _refuse_extension(code: int, data: bytes) -> Value:
    raise FormatError(f"extension type {code} ({len(data)} bytes) is not used here")
