"""What a template is known to write, asked with conversations made up for the purpose.

The answers depend on the template alone, never on rows, so that they may be remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from castore.ingest.labels import Message

_MARK = "castoremark"
_FUNCTION: Message = {"name": _MARK, "arguments": {_MARK: _MARK}}
FIELDS: dict[str, Any] = {
    "function_call": _FUNCTION,
    "function_calls": _MARK,
    "functions": _MARK,
    "name": _MARK,
    "reasoning": _MARK,
    "reasoning_content": _MARK,
    "thinking": _MARK,
    "tool_calls": [{"id": "call00001", "type": "function", "function": _FUNCTION}],
}
"""Fields of a message that hold a part of the conversation, each with a value to try a template with."""

_TOOL: Message = {
    "type": "function",
    "function": {"name": _MARK, "description": _MARK, "parameters": {"type": "object", "properties": {}}},
}

_REMEMBERED_MAX = 4096  # a role may be any text: what is remembered of them is bounded

_HERE = "castoreplace"
_HEADS: tuple[tuple[str, ...], ...] = (
    (),
    ("user",),
    ("system",),
    ("system", "user"),
    ("user", "assistant"),
    ("user", "assistant", "user"),
    ("system", "user", "assistant"),
)
_TAILS: tuple[tuple[str, ...], ...] = (
    (),
    ("assistant",),
    ("user",),
    ("user", "assistant"),
    ("assistant", "user", "assistant"),
)


class MessagePlace(NamedTuple):
    """What decides whether a message is known to be written: its role, its fields of ``FIELDS``, where it stands."""

    role: str
    fields: tuple[str, ...]
    is_first: bool
    is_last: bool
    role_before: bool
    user_after: bool


class WrittenParts(NamedTuple):
    """What is sure to be written at a place: the content, and which of the fields."""

    content: bool
    fields: frozenset[str]


NOTHING_KNOWN = WrittenParts(False, frozenset())


class TemplateKnowledge:
    """What one template writes.

    Args:
        render: Text of messages and tools under the template; raises whatever the template raises.
    """

    def __init__(self, render: Callable[[list[Message], list[Message] | None], str]) -> None:
        self._render = render
        self._plain: dict[tuple[str, ...], bool] = {}
        self._talks: dict[tuple[tuple[str, ...], tuple[tuple[str, ...], ...]], tuple[list[WrittenParts], bool]] = {}
        self._places: dict[MessagePlace, WrittenParts] = {}
        self._roles: dict[str, bool] = {}
        self._tools: bool | None = None

    def attempt(self, messages: list[Message], tools: list[Message] | None) -> str | None:
        """The rendering, or None if the template refuses what it is given."""
        try:
            return self._render(messages, tools)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001  a template may refuse what is made up for any reason: nothing is known then
            return None

    def writes_all(self, roles: tuple[str, ...]) -> bool:
        """Whether all contents of messages of these roles, without fields, are sure to be written."""
        sure = self._plain.get(roles)
        if sure is None:
            sure = self.knows(roles, ((),) * len(roles))[1]
            if sum(map(len, roles)) < _REMEMBERED_MAX:
                _remember(self._plain, roles, sure)
        return sure

    def knows(self, roles: tuple[str, ...], fields: tuple[tuple[str, ...], ...]) -> tuple[list[WrittenParts], bool]:
        """What is sure to be written of each message of a conversation, and whether all of its contents and fields are.

        Args:
            roles: Of the messages.
            fields: Of the messages, those of ``FIELDS`` that are there.
        """
        known = self._talks.get((roles, fields))
        if known is None:
            some = [self._at(place) for place in _places(roles, fields)]
            known = (
                some,
                all(one.content and one.fields.issuperset(there) for one, there in zip(some, fields, strict=True)),
            )
            if sum(map(len, roles)) < _REMEMBERED_MAX:
                _remember(self._talks, (roles, fields), known)
        return known

    def _at(self, place: MessagePlace) -> WrittenParts:
        """What is sure to be written at a place."""
        known = self._places.get(place)
        if known is None:
            known = self._ask(place)
            _remember(self._places, place, known)
        return known

    def writes_role(self, role: str) -> bool:
        """Whether messages of a role are written anywhere."""
        written = self._roles.get(role)
        if written is None:
            talks = (_talk(role, {}, head, tail) for head in _heads(role) for tail in _TAILS)
            written = any(_HERE in (self.attempt(talk, None) or "") for talk in talks)
            _remember(self._roles, role, written)
        return written

    def writes_tools(self) -> bool:
        """Whether tools are sure to be written."""
        if self._tools is None:
            asked = (("user", "assistant"), ("system", "user", "assistant"))
            talks = [[{"role": role, "content": role} for role in roles] for roles in asked]
            pairs = [(self.attempt(talk, None), self.attempt(talk, [_TOOL])) for talk in talks]
            rendered = [(one, other) for one, other in pairs if one is not None and other is not None]
            self._tools = bool(rendered) and all(one != other for one, other in rendered)
        return self._tools

    def _ask(self, place: MessagePlace) -> WrittenParts:
        whole = {field: FIELDS[field] for field in place.fields}
        written, fields = [], dict.fromkeys(place.fields, True)
        for head, tail in _around(place):
            text = self.attempt(_talk(place.role, whole, head, tail), None)
            if text is None:
                continue
            written.append(_HERE in text)
            for field in place.fields:
                rest = {name: value for name, value in whole.items() if name != field}
                bare = self.attempt(_talk(place.role, rest, head, tail), None)
                fields[field] &= bare is not None and bare != text
        if not written:
            return NOTHING_KNOWN
        return WrittenParts(all(written), frozenset(field for field, used in fields.items() if used))


def _remember(known: dict[Any, Any], key: Any, value: Any) -> None:
    if len(known) >= _REMEMBERED_MAX:
        known.clear()
    known[key] = value


def _places(roles: Sequence[str], fields: Sequence[tuple[str, ...]]) -> Iterator[MessagePlace]:
    """Where the messages of a conversation stand, by their roles and fields."""
    last_user = max((index for index, role in enumerate(roles) if role == "user"), default=-1)
    seen: set[str] = set()
    for index, role in enumerate(roles):
        yield MessagePlace(role, fields[index], index == 0, index == len(roles) - 1, role in seen, index < last_user)
        seen.add(role)


def _heads(role: str) -> dict[tuple[str, ...], None]:
    return dict.fromkeys([*_HEADS, (role, "user"), ("user", role), ("user", "assistant", role)])


def _around(place: MessagePlace) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Conversations that a message of such a place may stand in: what is before it, and what behind."""
    for head in _heads(place.role):
        if bool(head) == place.is_first or (place.role in head) != place.role_before:
            continue
        for tail in _TAILS:
            if bool(tail) != place.is_last and ("user" in tail) == place.user_after:
                yield head, tail


def _talk(role: str, fields: Message, head: Sequence[str], tail: Sequence[str]) -> list[Message]:
    return [
        *({"role": other, "content": f"{other} {number}"} for number, other in enumerate(head)),
        {"role": role, "content": _HERE, **fields},
        *({"role": other, "content": f"{other}. {number}"} for number, other in enumerate(tail)),
    ]
