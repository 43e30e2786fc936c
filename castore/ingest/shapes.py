"""Shapes in which people have conversations, and how each becomes messages. The mappings are in docs/reference/rows.md.

Every row goes through here but those that have ``messages`` already, which is the shape that needs no name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from castore.errors import InvalidInputError
from castore.ingest.defaults import AUTO, FORMATS, MESSAGES_FORMAT

Message = dict[str, Any]

_NAMES_SHOWN = 8
_NAME_LENGTH_MAX = 40

ROLES = {
    "system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant",
    "chatgpt": "assistant", "bing": "assistant", "bard": "assistant", "tool": "tool", "observation": "tool",
}  # fmt: skip
"""Who speaks in ShareGPT, and the role of the message."""


class ShapeError(Exception):
    """A row is not of the shape; ``field`` is at fault."""

    def __init__(self, reason: str, field: str) -> None:
        super().__init__(reason)
        self.reason, self.field = reason, field


@dataclass(frozen=True, slots=True)
class Shape:
    """One way of writing a conversation.

    Attributes:
        title: As people call it.
        needed: Columns that make it this shape.
        columns: All columns that are read, ``needed`` among them.
        messages: Makes messages of a row whose needed columns are there; None: they are there already.
    """

    title: str
    needed: tuple[str, ...]
    columns: tuple[str, ...]
    messages: Callable[[Mapping[str, Any]], list[Message]] | None


def read_format(name: str) -> str:
    """Check the name of a format.

    Raises:
        InvalidInputError: There is none of this name.
    """
    if name not in FORMATS:
        raise InvalidInputError(f"format is {name!r:.80}: give one of {', '.join(FORMATS)}")
    return name


def columns_of(format_name: str) -> tuple[str, ...]:
    """The columns that a format reads, in the order in which they stand in a row; of ``auto`` those of all."""
    if format_name == AUTO:
        return tuple(dict.fromkeys(name for shape in SHAPES.values() for name in shape.columns))
    return SHAPES[format_name].columns


def shape_of(row: Mapping[str, Any]) -> str | None:
    """The format of a row, by the columns that are there and not null; None if it is of no known one.

    Raises:
        InvalidInputError: It could be two.
    """
    names = [name for name, value in row.items() if value is not None]
    found = [name for name, shape in SHAPES.items() if set(shape.needed) <= set(names)]
    if len(found) > 1:
        raise InvalidInputError(f"is of two shapes ({_listed(names)}): give --format {' or --format '.join(found)}")
    return found[0] if found else None


def missing(names: Iterable[str], format_name: str) -> str | None:
    """What to tell of columns that are not of a format, without the name of the column; None if they are.

    Args:
        names: Of the columns that are there.
        format_name: ``auto`` wants those of any format.
    """
    there = list(names)
    if format_name == AUTO:
        fits = any(set(shape.needed) <= set(there) for shape in SHAPES.values())
    else:
        fits = set(SHAPES[format_name].needed) <= set(there)
    if fits:
        return None
    if not there:
        return ""
    return f"there is {_listed(there)}{_likeness(there, format_name)}"


def missing_column(names: Iterable[str], format_name: str) -> str:
    """The first column that a format needs and that is not there."""
    there = set(names)
    needed = SHAPES[MESSAGES_FORMAT if format_name == AUTO else format_name].needed
    return next((name for name in needed if name not in there), needed[0])


def as_messages(row: Mapping[str, Any], format_name: str) -> list[Message]:
    """The messages of a row of another shape.

    Raises:
        ShapeError: It is not of this shape.
    """
    shape = SHAPES[format_name]
    names = [name for name, value in row.items() if value is not None]
    said = missing(names, format_name)
    if said is not None:
        raise ShapeError("this column is missing" + (said and f": {said}"), missing_column(names, format_name))
    assert shape.messages is not None
    return shape.messages(row)


def joined_parts(parts: list[Any], field: str) -> str:
    """Content in parts as one text: ``[{"type": "text", "text": "a"}, …]``.

    Raises:
        ShapeError: A part is no text.
    """
    texts = []
    for at, part in enumerate(parts):
        place = f"{field}[{at}]"
        if not isinstance(part, dict):
            raise ShapeError("must be a part such as {'type': 'text', 'text': ...}", place)
        kind = part.get("type")
        if kind != "text":
            said = "no type" if kind is None else f"the type {kind!r:.60}"
            raise ShapeError(f"is a part with {said}: castore tokenizes text alone", place)
        if not isinstance(part.get("text"), str):
            raise ShapeError("must be a string", f"{place}.text")
        texts.append(part["text"])
    return "".join(texts)


def _listed(names: list[str]) -> str:
    shown = [name if len(name) <= _NAME_LENGTH_MAX else name[:_NAME_LENGTH_MAX] + "…" for name in names]
    return ", ".join(shown[:_NAMES_SHOWN]) + (f" and {len(shown) - _NAMES_SHOWN} more" if shown[_NAMES_SHOWN:] else "")


def _likeness(names: list[str], format_name: str) -> str:
    """What these columns look like and what to do, as the end of a sentence."""
    there = set(names)
    for name, shape in SHAPES.items():
        if name != format_name and set(shape.needed) <= there:
            return f", which looks like {shape.title}: give --format {name}"
    if {"chosen", "rejected"} <= there:
        return ", which looks like preferences (DPO): castore takes one conversation a row: make messages of the chosen"
    if "text" in there:
        return ", which looks like plain text: castore tokenizes conversations, and trains on what the assistant says"
    return ""


def _text(row: Mapping[str, Any], name: str, *, optional: bool = False) -> str:
    value = row.get(name)
    if value is None and optional:
        return ""
    if not isinstance(value, str):
        raise ShapeError("must be a string", name)
    return value


def _system(row: Mapping[str, Any]) -> list[Message]:
    said = _text(row, "system", optional=True)
    return [{"role": "system", "content": said}] if said else []


def _list(row: Mapping[str, Any], name: str) -> list[Any]:
    value = row[name]
    if not isinstance(value, list):
        raise ShapeError("must be a list", name)
    return value


def _sharegpt(row: Mapping[str, Any]) -> list[Message]:
    messages = _system(row)
    for at, turn in enumerate(_list(row, "conversations")):
        place = f"conversations[{at}]"
        if not isinstance(turn, dict):
            raise ShapeError("must be an object", place)
        message = {key: value for key, value in turn.items() if value is not None}
        if ("from" in message or "value" in message) and ("role" in message or "content" in message):
            raise ShapeError("has both from and value, and role and content: it must be one of them", place)
        if "from" in message or "value" in message:
            who = message.pop("from", None)
            role = ROLES.get(who) if isinstance(who, str) else None
            if role is None:
                said = "is missing" if who is None else f"is {who!r:.60}, which is none of {', '.join(ROLES)}"
                raise ShapeError(said, f"{place}.from")
            if "value" not in message:
                raise ShapeError("is missing", f"{place}.value")
            message = {"role": role, "content": message.pop("value"), **message}
        messages.append(message)
    if len([message for message in messages[:2] if message.get("role") == "system"]) > 1:
        raise ShapeError("is there, and the conversation begins with a system turn: one must go", "system")
    if not messages:
        raise ShapeError("must not be empty", "conversations")
    return messages


def _alpaca(row: Mapping[str, Any]) -> list[Message]:
    messages = _system(row)
    for at, pair in enumerate(_list(row, "history") if row.get("history") is not None else []):
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(said, str) for said in pair):
            raise ShapeError("must be a list of two strings", f"history[{at}]")
        messages += _exchange(pair[0], pair[1])
    asked, more = _text(row, "instruction"), _text(row, "input", optional=True)
    return messages + _exchange(f"{asked}\n\n{more}" if more else asked, _text(row, "output"))


def _prompt_completion(row: Mapping[str, Any]) -> list[Message]:
    prompt, completion = row["prompt"], row["completion"]
    if isinstance(prompt, str) and isinstance(completion, str):
        return _exchange(prompt, completion)
    for name, value in (("prompt", prompt), ("completion", completion)):
        if not isinstance(value, list):
            raise ShapeError("must be a string, or a list of messages as the other is", name)
    for at, message in enumerate(prompt):
        if isinstance(message, dict) and message.get("role") == "assistant":
            raise ShapeError(
                "is of the assistant and would be trained on: only the completion is, so give rows of messages",
                f"prompt[{at}]",
            )
    return [*prompt, *completion]


def _exchange(asked: str, answered: str) -> list[Message]:
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]


SHAPES = {
    MESSAGES_FORMAT: Shape("messages", ("messages",), ("messages", "tools"), None),
    "sharegpt": Shape("ShareGPT", ("conversations",), ("conversations", "system", "tools"), _sharegpt),
    "alpaca": Shape(
        "Alpaca", ("instruction", "output"), ("instruction", "input", "output", "system", "history", "tools"), _alpaca
    ),
    "prompt-completion": Shape(
        "prompt and completion", ("prompt", "completion"), ("prompt", "completion", "tools"), _prompt_completion
    ),
}
"""By the name of the format."""
