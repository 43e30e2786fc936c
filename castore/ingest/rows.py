"""The normal form of a row: what of it a template may see, whichever kind of file it came from.

JSON lines, arrays and columns spell the same row differently. A column has one set of keys for all rows, so that it
adds nulls, and it has values for which JSON has no form; JSON has integers of any size. Here is the one rule for all:

* a key whose value is null is absent, in messages, tools and everything in them; ``content`` alone is always there,
  null if nothing else, and then it is the last key of its message;
* an item of a list stays, null or not, and text stays text: what is written in a string of JSON is not looked into;
* a value without a form in JSON (a decimal, a time, bytes) is an error if the template reads it, and else nothing;
* an integer has all its digits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, NoReturn

NO_FORM = "\0castore: no form in JSON"
"""The only key of the object that stands in a row's bytes for a value without a form in JSON; with it, the type."""

# From here on, what orjson gives as a float may be an integer that it rounded.
_FLOAT_EXACT = float(1 << 63)


class NoFormError(Exception):
    """A template reads a value that has no form in JSON.

    Attributes:
        value: Which one.
    """

    def __init__(self, value: NoForm) -> None:
        super().__init__(f"the chat template reads {value.kind}, which has no form in JSON")
        self.value = value


class InexactError(Exception):
    """A number in a row may not be what its digits say."""


class NoForm:
    """A value without a form in JSON: may be passed along and asked for its type; all else is a ``NoFormError``.

    Args:
        kind: Of value, as messages name it: ``a decimal``.
    """

    __slots__ = ("kind",)

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise NoFormError(self)

    __str__ = __repr__ = __format__ = __bool__ = __len__ = __iter__ = __contains__ = __getitem__ = __call__ = _refuse
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __hash__ = __int__ = __float__ = __index__ = _refuse
    __add__ = __radd__ = __mul__ = __rmul__ = __mod__ = __rmod__ = __sub__ = __rsub__ = __neg__ = _refuse

    def __getattr__(self, name: str) -> NoReturn:
        raise NoFormError(self)


def clean_message(message: dict[str, Any], *, exact: bool) -> None:
    """Bring a message, which has a role, to the normal form; its content is left as it is.

    Args:
        message: Changed in place.
        exact: The row was parsed so that integers have all their digits.

    Raises:
        InexactError: It was not, and this may matter.
    """
    content = message.pop("content", None) if message.get("content") is None else None
    clean(message, exact=exact)
    message.setdefault("content", content)


def clean(value: Any, *, exact: bool) -> None:
    """Bring what is in an object or a list to the normal form, in place; ``exact`` as for ``clean_message``."""
    waiting = [value]
    while waiting:
        node = waiting.pop()
        is_object = type(node) is dict
        nulls = []
        for key, item in node.items() if is_object else enumerate(node):
            kind = type(item)
            if kind is str:
                continue
            if item is None:
                nulls.append(key)
            elif kind is dict and NO_FORM in item:
                node[key] = NoForm(str(item[NO_FORM]))
            elif kind is dict or kind is list:
                waiting.append(item)
            elif kind is float and not exact and not -_FLOAT_EXACT < item < _FLOAT_EXACT:
                raise InexactError
        if is_object:
            for key in nulls:
                del node[key]


def place_of(value: NoForm, within: Any, name: str) -> str | None:
    """The field that holds a value, as ``messages[2].tool_calls[0].id``; None if it is not there."""
    waiting = [(within, name)]
    while waiting:
        node, place = waiting.pop()
        if node is value:
            return place
        if type(node) is dict:
            waiting += [(item, f"{place}.{key}") for key, item in node.items()]
        elif type(node) is list:
            waiting += [(item, f"{place}[{at}]") for at, item in enumerate(node)]
    return None


# ---- rows of columns, as bytes


def row_bytes(row: dict[str, Any], orjson: Any, *, floats: bool) -> bytes:
    """A row of columns as JSON, nulls kept.

    Args:
        row: Of values as pyarrow gives them, keys of objects are text.
        orjson: The library.
        floats: Whether there may be floats: such as are no numbers get the spelling that Python's json has for them.
    """
    try:
        data: bytes = orjson.dumps(row, default=stand_in, option=orjson.OPT_PASSTHROUGH_DATETIME)
    except orjson.JSONEncodeError:  # nested deeper than it goes
        return _python_bytes(row)
    # It writes null for these, which would be another row than in JSON lines.
    return _python_bytes(row) if floats and b"null" in data and _has_nonfinite(row) else data


def stand_in(value: object) -> dict[str, str]:
    """What stands in a row's bytes for a value without a form in JSON."""
    words = {
        "Decimal": "a decimal", "bytes": "bytes", "date": "a date", "time": "a time", "timedelta": "a duration",
        "datetime": "a timestamp", "Timestamp": "a timestamp", "UUID": "a UUID",
    }  # fmt: skip
    name = type(value).__name__
    return no_form(words.get(name, f"a value of type {name}"))


def no_form(kind: str) -> dict[str, str]:
    """As ``stand_in``, of a kind of value in words."""
    return {NO_FORM: kind}


def _python_bytes(row: dict[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"), default=stand_in).encode()


def _has_nonfinite(value: Any) -> bool:
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if type(node) is dict:
            waiting.extend(node.values())
        elif type(node) is list:
            waiting.extend(node)
        elif type(node) is float and not math.isfinite(node):
            return True
    return False


# ---- rows as bytes, parsed


def parsed_exactly(raw: bytes) -> Any:
    """Parse a row with Python's json, which keeps every digit of integers, NaN and infinities.

    Raises:
        ValueError: Not JSON, half a surrogate pair, or an integer with more digits than Python takes.
        RecursionError: Nested too deeply.
    """
    row = json.loads(raw)
    json.dumps(row, ensure_ascii=False).encode()  # half a surrogate pair is no text
    return row


def parsed(raw: bytes, loads: Callable[[bytes], Any], json_error: type[ValueError]) -> tuple[Any, bool]:
    """Parse a row, and say whether its integers are exact.

    Raises:
        ValueError: Not JSON; the text says why.
    """
    try:
        return loads(raw), False
    except json_error:
        if b"NaN" not in raw and b"Infinity" not in raw:
            raise
        try:
            return parsed_exactly(raw), True
        except (ValueError, RecursionError):
            pass
        raise
