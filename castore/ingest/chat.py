"""One raw JSON row to a conversation: messages and tools, checked once so that nobody checks again."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from castore.errors import InvalidInputError
from castore.ingest.readers import orjson_library

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


def parse_row(raw: bytes, loads: Callable[[bytes], Any], json_error: type[ValueError]) -> Conversation:
    """Parse and check one row.

    Args:
        raw: One JSON object, UTF-8.
        loads: From :func:`json_parser`, with the error that it raises.

    Raises:
        RowError: With the field at fault; its ``index`` is the caller's to set.
    """
    try:
        row = loads(raw)
    except json_error as error:
        row = _with_nan(raw)
        if row is None:
            raise RowError(f"not valid JSON: {_one_line(error)}") from None
    if type(row) is not dict:
        raise RowError(f"must be a JSON object, not {_kind(row)}")
    messages = row.get(MESSAGES)
    if type(messages) is not list:
        if MESSAGES not in row:
            raise RowError("this column is missing", field=MESSAGES)
        raise RowError(f"must be a list of messages, not {_kind(messages)}", field=MESSAGES)
    if not messages:
        raise RowError("must not be empty", field=MESSAGES)
    for position, message in enumerate(messages):
        if (
            type(message) is not dict
            or type(message.get("role")) is not str
            or type(message.setdefault("content", None)) not in (str, type(None))
        ):
            raise _bad_message(position, message)
    tools = row.get(TOOLS)
    return Conversation(messages, None if tools is None else parse_tools(tools))


def _with_nan(raw: bytes) -> Any:
    """Parse a row with NaN or an infinity in it, as Python's json writes them; None if something else is wrong."""
    if b"NaN" not in raw and b"Infinity" not in raw:
        return None
    try:
        row = json.loads(raw)
        json.dumps(row, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError):
        return None
    return row


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
    messages: list[Message], error: Exception, render: Callable[[list[Message]], object]
) -> RowError:
    """Turn what a template raised into a row error that names the field most likely at fault.

    Args:
        messages: The conversation.
        error: What the template raised.
        render: Renders a conversation, to try messages one by one.
    """
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
    names = {type(None): "null", bool: "a boolean", str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), "a number")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
