"""Hand-compiled forms of the registered templates that large jobs use, and the renderings that labels need.

A template of the families here writes each message by itself: a conversation is a prelude, the messages in their
middle form, and the last one in its last form. So the rendering of the first k messages shares all but its end with
the rendering of the whole, and costs nothing: it is written down as :class:`~castore.ingest.labels.Prefix`. Any
other template is rendered by jinja2 once for each prefix. What this saves is in decision 0013; tests hold these
forms to the text of the templates.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

from castore.ingest.labels import Prefix, Rendered, trainable_indices
from castore.ingest.limits import TemplateLimitError
from castore.ingest.render import JinjaRenderer, head_variables
from castore.ingest.templates import BOS_PREFIX, REGISTERED, part_text, registered_text

Message = dict[str, Any]


class RowRenderer(Protocol):
    """Renders a conversation and the prefixes that its labels need; raises whatever the template raises."""

    def __call__(self, messages: list[Message], tools: list[Message] | None, last_turn_only: bool) -> Rendered: ...

    def text(self, messages: list[Message], tools: list[Message] | None) -> str:
        """The conversation alone."""


@dataclass(frozen=True)
class Family:
    """How one template writes messages.

    Attributes:
        preludes: What stands in front if a system message is there, and if none is.
        middle: A message that others follow.
        last: A message that none follows.
        opener: The generation prompt.
    """

    preludes: tuple[str, str]
    middle: Callable[[Message], str]
    last: Callable[[Message], str]
    opener: str


def row_renderer(
    text: str, special_tokens: dict[str, str], now: datetime.datetime | None = None, *, jinja_only: bool = False
) -> RowRenderer:
    """Return the cheapest renderer that is known to write what the template text says."""
    if not jinja_only and "eos_token" in special_tokens:
        bos = special_tokens.get("bos_token", "") if text.startswith(BOS_PREFIX) else ""
        bare = text.removeprefix(BOS_PREFIX)
        for name, parts in REGISTERED.items():
            if parts[-1] in _FAMILIES and registered_text(name) == bare:
                head = head_variables(part_text(parts[0])) if len(parts) > 1 else {}
                return CompiledRows(_FAMILIES[parts[-1]](head, special_tokens["eos_token"], bos))
    return JinjaRows(JinjaRenderer(text, special_tokens, now))


class JinjaRows:
    """Rendering by jinja2: once for the whole, and once more for all prefixes if the template never looks ahead, else
    twice for each assistant message."""

    def __init__(self, render: JinjaRenderer) -> None:
        self._render = render

    def __call__(self, messages: list[Message], tools: list[Message] | None, last_turn_only: bool) -> Rendered:
        text = self._render(messages, tools)
        missing = tuple(sorted(self._render.missing))
        indices = trainable_indices(messages, last_turn_only)
        turns = self._together(messages, tools, indices, text)
        if turns is not None:
            return Rendered(text, turns, missing)
        turns = []
        try:
            for index in indices:
                header = Prefix(0, "")
                if index:
                    header = _prefix(text, self._render(messages[:index], tools, add_generation_prompt=True))
                through = Prefix(len(text), "")
                if index + 1 < len(messages):
                    through = _prefix(text, self._render(messages[: index + 1], tools))
                turns.append((index, header, through))
        except (MemoryError, TemplateLimitError):
            raise
        except Exception:  # noqa: BLE001  templates raise anything; such a row has no labels and is counted as dropped
            return Rendered(text, None, missing)
        return Rendered(text, turns, missing)

    def text(self, messages: list[Message], tools: list[Message] | None) -> str:
        """The conversation alone."""
        return self._render(messages, tools)

    def _together(
        self, messages: list[Message], tools: list[Message] | None, indices: Sequence[int], text: str
    ) -> list[tuple[int, Prefix, Prefix]] | None:
        """The prefixes from one rendering; None where it does not have them, or raises."""
        try:
            found = self._render.turns(messages, tools)
        except (MemoryError, TemplateLimitError):
            raise
        except Exception:  # noqa: BLE001  a prefix that cannot be rendered: found again, and told, one by one
            return None
        if found is None or found.text != text:
            return None
        turns = []
        for index in indices:
            header = found.header(index) if index else Prefix(0, "")
            through = found.through(index + 1) if index + 1 < len(messages) else Prefix(len(text), "")
            if header is None or through is None:
                return None
            turns.append((index, header, through))
        return turns


class CompiledRows:
    """Rendering by a :class:`Family`: each message is written once, or twice if its last form differs."""

    def __init__(self, family: Family) -> None:
        self._family = family

    def __call__(self, messages: list[Message], tools: list[Message] | None, last_turn_only: bool) -> Rendered:
        family = self._family
        with_system, without_system = family.preludes
        roles = [message["role"] for message in messages]
        first_system = roles.index("system") if "system" in roles else len(messages)
        prelude = with_system if first_system < len(messages) else without_system
        pieces = [family.middle(message) for message in messages[:-1]]
        final = family.last(messages[-1])
        text = prelude + "".join(pieces) + final
        starts = [*accumulate(map(len, pieces), initial=len(prelude))]

        def prefix(count: int, ending: str) -> Prefix:
            tail = (final if count == len(messages) else family.last(messages[count - 1])) + ending
            if prelude is without_system or first_system < count:
                return Prefix(starts[count - 1], tail)
            # A later system message changes how the conversation begins, so nothing is shared.
            return Prefix(0, without_system + text[len(prelude) : starts[count - 1]] + tail)

        turns = []
        for index in trainable_indices(messages, last_turn_only):
            header = prefix(index, family.opener) if index else Prefix(0, "")
            through = prefix(index + 1, "") if index + 1 < len(messages) else Prefix(len(text), "")
            turns.append((index, header, through))
        return Rendered(text, turns)

    def text(self, messages: list[Message], tools: list[Message] | None) -> str:
        """The conversation alone."""
        return self(messages, tools, True).text


def _prefix(text: str, rendering: str) -> Prefix:
    """Split a rendering into what it shares with the text and its own end."""
    if text.startswith(rendering):
        return Prefix(len(rendering), "")
    # Bisection on slices compares at memory speed; a loop over characters would cost more than tokenizing them.
    low, high = 0, min(len(text), len(rendering))
    while low < high:
        middle = (low + high + 1) // 2
        if text.startswith(rendering[low:middle], low):
            low = middle
        else:
            high = middle - 1
    return Prefix(low, rendering[low:])


def _chatml(head: dict[str, Any], eos: str, bos: str) -> Family:
    drop_thoughts: bool = head["drop_thoughts"]

    def assistant(message: Message, ending: str, is_last: bool) -> str:
        said = message.get("content")
        if said is None:
            said = ""
        elif drop_thoughts and not is_last and "<think>" in said and "</think>" in said:
            said = said.split("</think>")[-1].lstrip("\n")
        calls = message.get("function_calls")
        if calls is not None:
            said += "<function_calls>" + calls + "</function_calls>"
        return "<|im_start|>assistant\n" + said + ending

    def other(message: Message) -> str:
        role = message["role"]
        functions = message.get("functions")
        listed: str = ""
        if role == "user":
            if functions is not None:
                listed = "\n<functions>" + functions + "</functions>"
        elif role == "system":
            listed = " You do not currently have access to any functions. <functions></functions>"
            if functions is not None:
                listed = " <functions>" + functions + "</functions>"
        elif role != "environment":
            return ""
        text: str = "<|im_start|>" + role + "\n" + message["content"] + listed + "<|im_end|>\n"
        return text

    return Family(
        (bos, bos + "<|im_start|>system\n" + head["default_system"] + "<|im_end|>\n"),
        lambda message: assistant(message, "<|im_end|>\n", False) if message["role"] == "assistant" else other(message),
        lambda message: assistant(message, eos, True) if message["role"] == "assistant" else other(message),
        head["opener"],
    )


def _turns(head: dict[str, Any], eos: str, bos: str) -> Family:
    drop_thoughts: bool = head["drop_thoughts"]

    def write(message: Message, gap: str) -> str:
        role = message["role"]
        text: str = ""
        if role == "assistant":
            said = message["content"]
            if drop_thoughts and "</think>" in said:
                said = said.split("</think>")[-1]
            text = "<|assistant|>\n" + said + eos + gap
        elif role in ("user", "system"):
            text = "<|" + role + "|>\n" + message["content"] + "\n"
        return text

    prelude = bos + head["preamble"]
    return Family(
        (prelude, prelude), lambda message: write(message, "\n"), lambda message: write(message, ""), head["opener"]
    )


def _zephyr(_: dict[str, Any], eos: str, bos: str) -> Family:
    def write(message: Message) -> str:
        text: str = ""
        if message["role"] in ("user", "system", "assistant"):
            text = "<|" + message["role"] + "|>\n" + message["content"] + eos + "\n"
        return text

    return Family((bos, bos), write, write, "<|assistant|>\n")


_FAMILIES: dict[str, Callable[[dict[str, Any], str, str], Family]] = {
    "chatml": _chatml,
    "turns": _turns,
    "zephyr": _zephyr,
}
