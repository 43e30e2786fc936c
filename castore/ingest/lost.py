"""What a row that became a sample lost on the way: nothing here changes a token, it is counted and told.

A template writes what it likes of a conversation. Whether it wrote a text is asked in two steps. First cheaply: all
texts of the row stand in the rendering, one behind the other, and the template is known to write messages of such roles
and fields at such places, from conversations made up for the purpose. Where that is not sure, exactly: the row is
rendered again with a mark in place of each text. Both answers depend on the row and the template alone, so that counts
are the same whatever was tokenized before, elsewhere or at once.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TypeAlias

from castore.ingest.labels import Message, trainable_indices
from castore.ingest.rows import NoForm
from castore.ingest.written import FIELDS, TemplateKnowledge, WrittenParts

ROLE_NOT_WRITTEN = "role-not-written"
CONTENT_NOT_WRITTEN = "content-not-written"
CONTENT_ALTERED = "content-altered"
CONTENT_TRIMMED = "content-trimmed"
FIELD_NOT_WRITTEN = "field-not-written"
WEIGHT_IGNORED = "weight-ignored"
AFTER_LAST_ANSWER = "after-last-answer"
TOKEN_MISSING = "special-token-missing"
CUT = "cut-at-max-length"

LOST_TEXTS = {
    ROLE_NOT_WRITTEN: "the chat template writes no message of this role",
    CONTENT_NOT_WRITTEN: "the chat template leaves this message out",
    CONTENT_ALTERED: "the chat template writes another text for this message",
    CONTENT_TRIMMED: "the chat template strips white space off this message",
    FIELD_NOT_WRITTEN: "the chat template does not write this field",
    WEIGHT_IGNORED: "this field asks for another weight in training, and the turn is trained on all the same",
    AFTER_LAST_ANSWER: "this message stands behind the last assistant turn: nothing that is trained on follows it",
    TOKEN_MISSING: "the chat template writes this token, which the tokenizer lacks",
    CUT: "the cut by max_seq_length took the end of the row",
}
"""What each reason means, for one row."""

LostKey: TypeAlias = tuple[str, str]
"""Reason, and what was lost: a role, ``role.field``, ``tools``, a special token, or ``rows``, ``tokens`` and
``trainable tokens`` of a cut."""

Lost: TypeAlias = Mapping[LostKey, int]

_Text: TypeAlias = tuple[int, str]
"""A text of a row: number of the message, and field."""

ROLE_CHARACTERS_MAX = 80
TOOLS = "tools"

_WEIGHTS = ("weight", "train", "trainable", "loss")
"""Fields by which datasets ask that a turn be trained on less, or not at all."""

_UNWEIGHTED = frozenset(_WEIGHTS).isdisjoint
_WATCHED = frozenset((*FIELDS, *_WEIGHTS))

_REACH = 1 << 16
_FULL_SCANS_MAX = 16
_BEGINNING = 32


class LostCounter:
    """Counts what rows lost under one template.

    Args:
        render: Text of messages and tools under the template; raises whatever the template raises.
        last_turn_only: Whether the last assistant turn alone is trained on.
    """

    def __init__(
        self, render: Callable[[list[Message], list[Message] | None], str], *, last_turn_only: bool = False
    ) -> None:
        self._template, self._last_turn_only = TemplateKnowledge(render), last_turn_only

    def count(self, messages: list[Message], tools: list[Message] | None, text: str) -> dict[LostKey, int]:
        """What a row lost in its rendering.

        Args:
            messages: The conversation.
            tools: Its tools.
            text: Its rendering.
        """
        roles = tuple([message["role"] for message in messages])
        plain = tools is None and self._template.writes_all(roles)
        at = 0
        for message in messages:
            content = message["content"]
            if len(message) > 2 and _is_filled(message) and not _WATCHED.isdisjoint(message):
                plain = False
                break
            if content:
                at = _find(text, content, at)
                if at < 0:
                    plain = False
                    break
                at += len(content)
        if plain and roles[-1] == "assistant":
            return {}
        lost: Counter[LostKey] = Counter()
        if not plain:
            self._not_written(messages, tools, text, lost)
            self._weights(messages, lost)
        answers = [index for index, role in enumerate(roles) if role == "assistant"]
        if answers:
            lost.update((AFTER_LAST_ANSWER, _said(role)) for role in roles[answers[-1] + 1 :])
        return dict(lost)

    # ---- what the template wrote of a row

    def _not_written(
        self, messages: list[Message], tools: list[Message] | None, text: str, lost: Counter[LostKey]
    ) -> None:
        present = tuple(map(_present, messages))
        roles = tuple([message["role"] for message in messages])
        known, is_sure = self._template.knows(roles, present)
        if tools is not None and not self._template.writes_tools() and self._template.attempt(messages, None) == text:
            lost[FIELD_NOT_WRITTEN, TOOLS] += 1
        if is_sure and _in_order(messages, present, text):
            return
        marks = self._marks(messages, present, tools, text)
        needed = cache(lambda role, field: self._needs(messages, tools, text, role, field))
        reader = _Reader(text)
        for index, (message, fields) in enumerate(zip(messages, present, strict=True)):
            if content := message["content"]:
                reason = self._content(content, roles[index], marks, (index, "content"), known[index], reader)
                if reason is not None:
                    lost[reason, _said(roles[index])] += 1
            for field in fields:
                value = message[field]
                if isinstance(value, str) and marks is not None:
                    written = (index, field) in marks
                else:
                    written = field in known[index].fields or needed(roles[index], field)
                if not written:
                    lost[FIELD_NOT_WRITTEN, f"{_said(roles[index])}.{field}"] += 1

    def _content(
        self,
        content: str,
        role: str,
        marks: set[_Text] | None,
        text: _Text,
        known: WrittenParts,
        reader: _Reader,
    ) -> str | None:
        """How a content was lost, if it was."""
        if marks is None or text in marks:
            reason = reader.reason(content)
            if marks is not None or known.content or reason != CONTENT_ALTERED:
                return reason
        return CONTENT_NOT_WRITTEN if self._template.writes_role(role) else ROLE_NOT_WRITTEN

    def _marks(
        self, messages: list[Message], present: Sequence[tuple[str, ...]], tools: list[Message] | None, text: str
    ) -> set[_Text] | None:
        """Which texts of a row are written, by message and field: those whose marks are, in the row with a mark in
        place of each text. None if the template refuses it so."""
        stem = "castoremark"
        while stem in text:
            stem += "x"
        changed = []
        for index, (message, fields) in enumerate(zip(messages, present, strict=True)):
            texts = [field for field in ("content", *fields) if message[field] and isinstance(message[field], str)]
            changed.append({**message, **{field: f"{stem}{index}{field}0" for field in texts}})
        rendering = self._template.attempt(changed, tools)
        if rendering is None:
            return None
        return {(int(index), field) for index, field in re.findall(stem + "([0-9]+)([a-z_]+)0", rendering)}

    def _needs(self, messages: list[Message], tools: list[Message] | None, text: str, role: str, field: str) -> bool:
        """Whether the row renders otherwise without a field in the messages of a role."""
        without = [
            {name: value for name, value in message.items() if name != field} if message["role"] == role else message
            for message in messages
        ]
        return self._template.attempt(without, tools) != text

    def _weights(self, messages: list[Message], lost: Counter[LostKey]) -> None:
        for index in trainable_indices(messages, self._last_turn_only):
            if _UNWEIGHTED(messages[index]):
                continue
            for field in _WEIGHTS:
                value = messages[index].get(field)
                if value is not None and isinstance(value, int | float) and value != 1:
                    lost[WEIGHT_IGNORED, f"assistant.{field}"] += 1


class _Reader:
    """Looks for the texts of a row in its rendering, one behind the other; linear in the row for all that is common."""

    def __init__(self, text: str) -> None:
        self._text, self._at, self._scans = text, 0, 0

    def reason(self, value: str) -> str | None:
        """How a text that was written reads in the rendering; None if as it is, or as JSON spells it."""
        bare = value.strip()
        if not bare:
            return None if self._find(value) >= 0 else CONTENT_TRIMMED
        at = self._find(bare)
        if at < 0:
            spelled = json.dumps(bare, ensure_ascii=False)[1:-1]
            return None if spelled != bare and self._find(spelled) >= 0 else CONTENT_ALTERED
        begin = at - value.index(bare)
        self._at = at + len(bare)
        return None if begin >= 0 and self._text.startswith(value, begin) else CONTENT_TRIMMED

    def _find(self, value: str) -> int:
        at = self._text.find(value, self._at, self._at + _REACH + len(value))
        if at < 0 and self._scans < _FULL_SCANS_MAX:
            self._scans += 1
            at = self._text.find(value)
        return at


def told(key: LostKey) -> str:
    """What a row lost, in one line."""
    reason, subject = key
    shown = "".join(character if character.isprintable() else repr(character)[1:-1] for character in subject)
    return f"{reason} ({shown}): {LOST_TEXTS.get(reason, 'something of the row is not in its sample')}"


def totals(lost: Mapping[LostKey, int], subjects_max: int = 64) -> dict[str, dict[str, int]]:
    """Counts by reason and by what was lost, the most of each reason; what is over the limit is counted together."""
    by_reason: dict[str, dict[str, int]] = {}
    for (reason, subject), count in sorted(lost.items(), key=lambda item: (item[0][0], -item[1], item[0][1])):
        counts = by_reason.setdefault(reason, {})
        name = subject if len(counts) < subjects_max else "others"
        counts[name] = counts.get(name, 0) + count
    return {reason: dict(sorted(counts.items())) for reason, counts in by_reason.items()}


def _is_filled(message: Message) -> bool:
    """Whether a message has more than role and content that is not null; most have not."""
    return len(message) > 2  # nulls are absent, but for the content (rows)


def _present(message: Message) -> tuple[str, ...]:
    if len(message) == 2 or not _is_filled(message):
        return ()
    return tuple([field for field in FIELDS if type(value := message.get(field)) is NoForm or value])


def _in_order(messages: Sequence[Message], present: Sequence[tuple[str, ...]], text: str) -> bool:
    """Whether all texts stand in the rendering, those of a message behind those of the one before."""
    at = 0
    for message, fields in zip(messages, present, strict=True):
        end = at
        for field in ("content", *fields):
            value = message[field]
            if value and isinstance(value, str):
                found = _find(text, value, at)
                if found < 0:
                    return False
                end = max(end, found + len(value))
        at = end
    return True


def _find(text: str, value: str, at: int) -> int:
    """``text.find(value, at)``; Python prepares itself for a long value, which costs more than the look."""
    found = text.find(value[:_BEGINNING], at)
    return found if found < 0 or text.startswith(value, found) else text.find(value, found)


def _said(role: str) -> str:
    return role[:ROLE_CHARACTERS_MAX]
