"""Values of the encoding in JSON, which has neither byte strings nor, for most readers, integers beyond 2**53.

Byte strings are ``{"$bytes": "<hex>"}``, integers beyond 2**53 are ``{"$int": "<decimal>"}``, all else is itself.
"""

from __future__ import annotations

from typing import Any

_EXACT = 2**53


def to_json(value: Any) -> Any:
    """A value as JSON can hold it."""
    if type(value) is bytes:
        return {"$bytes": value.hex()}
    if type(value) is int and abs(value) > _EXACT:
        return {"$int": str(value)}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    return value


def from_json(value: Any) -> Any:
    """The value that ``to_json`` was given, tuples as lists."""
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if isinstance(value, dict):
        if value.keys() == {"$bytes"}:
            return bytes.fromhex(value["$bytes"])
        if value.keys() == {"$int"}:
            return int(value["$int"])
        return {key: from_json(item) for key, item in value.items()}
    return value
