"""One raw JSON row to a conversation: messages and tools, checked once so that nobody checks again."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from castore.errors import InvalidInputError
from castore.ingest.defaults import MESSAGES_FORMAT
from castore.ingest.readers import orjson_library
from castore.ingest.rows import (
    NO_FORM,
    InexactError,
    NoForm,
    NoFormError,
    clean,
    clean_message,
    parsed,
    parsed_exactly,
    place_of,
)
from castore.ingest.shapes import ShapeError, as_messages, joined_parts, missing

MESSAGES = "messages"
TOOLS = "tools"

Message = dict[str, Any]


class RowError(InvalidInputError):
    """One row cannot be used.

    Attributes:
        index: Position of the row in its batch.
        field: The field at fault, for example ``messages[2].role``; None if it is the whole row.
        reason: What is wrong, one line, without the place.
        is_final: The row must not be passed over: whether it is at fault depends on the machine.
    """

    code = "bad-row"

    def __init__(self, reason: str, *, field: str | None = None, index: int = 0, is_final: bool = False) -> None:
        super().__init__(reason, field, index)
        self.index, self.field, self.reason, self.is_final = index, field, reason, is_final

    def __str__(self) -> str:
        return self.reason if self.field is None else f"{self.field}: {self.reason}"

    def __reduce__(self) -> tuple[Any, ...]:
        # Worker processes send it home; the default would call __init__ with keyword-only arguments by position.
        return _rebuild_row_error, (self.reason, self.field, self.index, self.is_final)


def _rebuild_row_error(reason: str, field: str | None, index: int, is_final: bool) -> RowError:
    return RowError(reason, field=field, index=index, is_final=is_final)


class Conversation(NamedTuple):
    """A row that passed: messages (at least one, every role a string, every content a string or None) and tools."""

    messages: list[Message]
    tools: list[Message] | None


def json_parser() -> tuple[Callable[[bytes], Any], type[ValueError]]:
    """Return the parser of raw rows and the error it raises; MissingExtraError if orjson is not installed."""
    orjson = orjson_library()
    return orjson.loads, orjson.JSONDecodeError


def parse_row(
    raw: bytes, loads: Callable[[bytes], Any], json_error: type[ValueError], format_name: str = MESSAGES_FORMAT
) -> Conversation:
    """Parse and check one row, and bring it to the normal form (``rows``).

    Args:
        raw: One JSON object, UTF-8.
        loads: From :func:`json_parser`, with the error that it raises.
        format_name: The shape of the row.

    Raises:
        RowError: With the field at fault; its ``index`` is the caller's to set.
    """
    try:
        row, exact = parsed(raw, loads, json_error)
    except json_error as error:
        raise RowError(f"not valid JSON: {_one_line(error)}") from None
    try:
        return _conversation(row, format_name, exact)
    except InexactError:
        pass
    try:
        row = parsed_exactly(raw)
    except (ValueError, RecursionError) as error:
        raise RowError(f"has a number that cannot be read exactly: {_one_line(error)}") from None
    return _conversation(row, format_name, True)


def _conversation(row: Any, format_name: str, exact: bool) -> Conversation:
    if type(row) is not dict:
        raise RowError(f"must be a JSON object, not {_kind(row)}")
    if format_name == MESSAGES_FORMAT:
        messages = row.get(MESSAGES)
        if MESSAGES not in row:
            said = missing([name for name, value in row.items() if value is not None], format_name)
            raise RowError("this column is missing" + ((said and f": {said}") or ""), field=MESSAGES)
    else:
        messages = _reshaped(row, format_name)
    if type(messages) is not list:
        raise RowError(f"must be a list of messages, not {_kind(messages)}", field=MESSAGES)
    if not messages:
        raise RowError("must not be empty", field=MESSAGES)
    for position, message in enumerate(messages):
        if (
            type(message) is not dict
            or type(message.get("role")) is not str
            or type(message.setdefault("content", None)) not in (str, type(None))
        ) and not _joins_parts(position, message):
            raise _bad_message(position, message)
        if len(message) > 2 or message["content"] is None:
            clean_message(message, exact=exact)
    tools = row.get(TOOLS)
    if tools is None:
        return Conversation(messages, None)
    if type(tools) is not str:
        # What is in a list can be changed where it is; a dict or number by itself cannot.
        held = [tools]
        clean(held, exact=exact)
        tools = held[0]
    return Conversation(messages, parse_tools(tools))


def _reshaped(row: dict[str, Any], format_name: str) -> list[Message]:
    try:
        return as_messages(row, format_name)
    except ShapeError as error:
        raise RowError(error.reason, field=error.field) from None


def _joins_parts(position: int, message: Any) -> bool:
    """Make one text of a content in parts, if that is what is unusual about a message."""
    if type(message) is not dict or type(message.get("role")) is not str or type(message["content"]) is not list:
        return False
    try:
        message["content"] = joined_parts(message["content"], f"{MESSAGES}[{position}].content")
    except ShapeError as error:
        raise RowError(error.reason, field=error.field) from None
    return True


def parse_tools(tools: Any) -> list[Message] | None:
    """Bring a ``tools`` cell to the list that templates take: a JSON string is parsed, one object becomes a list of
    it, and everything that means "none" becomes None.

    Raises:
        RowError: Not JSON, or not a list of objects.
    """
    if isinstance(tools, str) and tools != "":
        try:
            tools = json.loads(tools)
        except (ValueError, RecursionError) as error:
            raise RowError(f"not valid JSON: {_one_line(error)}", field=TOOLS) from None
    if isinstance(tools, dict):
        tools = [tools]
    if tools is None or tools == "" or tools == [] or tools != tools:  # the last: NaN
        return None
    if not isinstance(tools, list):
        raise RowError(f"must be a list of objects, not {_kind(tools)}", field=TOOLS)
    for position, tool in enumerate(tools):
        if not isinstance(tool, dict):
            raise RowError(f"must be an object, not {_kind(tool)}", field=f"{TOOLS}[{position}]")
    return tools


def explain_render_failure(
    messages: list[Message],
    error: Exception,
    render: Callable[[list[Message]], object],
    tools: list[Message] | None = None,
) -> RowError:
    """Turn what a template raised into a row error that names the field most likely at fault.

    Args:
        messages: The conversation.
        error: What the template raised.
        render: Renders a conversation, to try messages one by one.
        tools: The tools that it had.
    """
    if isinstance(error, NoFormError):
        field = place_of(error.value, messages, MESSAGES) or place_of(error.value, tools, TOOLS)
        return RowError(f"{error.value.kind} has no form in JSON, and the chat template reads it", field=field)
    if isinstance(error, TypeError):
        for position, message in enumerate(messages):
            for field in ("functions", "function_calls"):
                if not isinstance(message.get(field), str | None):
                    return RowError(
                        f"must be a string or null, not {_kind(message[field])}",
                        field=f"{MESSAGES}[{position}].{field}",
                    )
        for position, message in enumerate(messages):
            if message["content"] is None and _fails(render, message):
                return RowError("the chat template needs text here, not null", field=f"{MESSAGES}[{position}].content")
    return RowError(f"the chat template refused the row: {_one_line(error)}", field=MESSAGES)


def _fails(render: Callable[[list[Message]], object], message: Message) -> bool:
    try:
        render([message])
    except TypeError:
        return True
    except Exception:  # noqa: BLE001  a template may refuse a message alone for any reason: no verdict on its content
        return False
    return False


def _bad_message(position: int, message: Any) -> RowError:
    place = f"{MESSAGES}[{position}]"
    if not isinstance(message, dict):
        return RowError(f"must be an object, not {_kind(message)}", field=place)
    if "role" not in message:
        return RowError("is missing", field=f"{place}.role")
    if not isinstance(message["role"], str):
        return RowError(f"must be a string, not {_kind(message['role'])}", field=f"{place}.role")
    return RowError(f"must be a string or null, not {_kind(message['content'])}", field=f"{place}.content")


def _kind(value: Any) -> str:
    """Name a JSON value's type in JSON's words."""
    if isinstance(value, NoForm):
        return value.kind
    if isinstance(value, dict) and NO_FORM in value:
        return str(value[NO_FORM])
    names = {type(None): "null", bool: "a boolean", str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), "a number")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
