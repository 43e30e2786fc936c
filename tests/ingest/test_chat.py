"""One raw row to a conversation, and everything that can be wrong with it."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import pytest

from castore.errors import InvalidInputError, MissingExtraError
from castore.ingest.chat import Conversation, RowError, explain_render_failure, json_parser, parse_row, parse_tools

PARSE, JSON_ERROR = json_parser()


def parse(raw: bytes) -> Conversation:
    return parse_row(raw, PARSE, JSON_ERROR)


def error_of(raw: bytes) -> RowError:
    with pytest.raises(RowError) as caught:
        parse(raw)
    return caught.value


def test_a_good_row_keeps_its_messages_and_gets_a_content_for_each() -> None:
    conversation = parse(b'{"id": 7, "messages": [{"role": "user", "content": "x", "k": [1]}, {"role": "assistant"}]}')
    assert conversation.messages == [
        {"role": "user", "content": "x", "k": [1]},
        {"role": "assistant", "content": None},
    ]
    assert conversation.tools is None


@pytest.mark.parametrize(
    ("raw", "field", "reason"),
    [
        (b"", None, "not valid JSON"),
        (b"{", None, "not valid JSON"),
        (b"\xff", None, "not valid JSON"),
        (b'{"messages": [{"role": "user", "content": "\xed\xa0\x80"}]}', None, "not valid JSON"),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', None, "not valid JSON"),
        (b"[" * 100_000, None, "not valid JSON"),
        (b"[]", None, "must be a JSON object, not a list"),
        (b"null", None, "must be a JSON object, not null"),
        (b"true", None, "must be a JSON object, not a boolean"),
        (b"{}", "messages", "this column is missing"),
        (b'{"messages": null}', "messages", "must be a list of messages, not null"),
        (b'{"messages": {}}', "messages", "must be a list of messages, not an object"),
        (b'{"messages": []}', "messages", "must not be empty"),
        (b'{"messages": ["hi"]}', "messages[0]", "must be an object, not a string"),
        (b'{"messages": [{"role": "user", "content": ""}, {"content": ""}]}', "messages[1].role", "is missing"),
        (b'{"messages": [{"role": null}]}', "messages[0].role", "must be a string, not null"),
        (b'{"messages": [{"role": "user", "content": 5}]}', "messages[0].content", "must be a string or null, not"),
        (
            b'{"messages": [{"role": "user", "content": [{}]}]}',
            "messages[0].content[0]",
            "is a part with no type",
        ),
        (
            b'{"messages": [{"role": "user", "content": true}]}',
            "messages[0].content",
            "must be a string or null, not a bo",
        ),
        (b'{"messages": [{"role": "user"}], "tools": "["}', "tools", "not valid JSON"),
        (b'{"messages": [{"role": "user"}], "tools": 3}', "tools", "must be a list of objects, not a number"),
        (b'{"messages": [{"role": "user"}], "tools": [{}, 3]}', "tools[1]", "must be an object, not a number"),
    ],
)
def test_a_bad_row_names_its_field(raw: bytes, field: str | None, reason: str) -> None:
    error = error_of(raw)
    assert error.field == field
    assert error.reason.startswith(reason)
    assert "\n" not in str(error)
    assert isinstance(error, InvalidInputError)


def test_escapes_nul_and_huge_integers_are_no_trouble() -> None:
    raw = rb'{"n": 123456789012345678901234567890, "messages": [{"role": "user", "content": "\u0000\ud83d\ude00\n"}]}'
    assert parse(raw).messages[0]["content"] == "\0😀\n"


@pytest.mark.parametrize(
    ("cell", "tools"),
    [
        (None, None),
        ("", None),
        ([], None),
        ("null", None),
        ('""', None),
        ("[]", None),
        ("NaN", None),
        ({"a": 1}, [{"a": 1}]),
        ('{"a": 1}', [{"a": 1}]),
        ('[{"a": 1}, {}]', [{"a": 1}, {}]),
        ([{"a": 1}], [{"a": 1}]),
    ],
)
def test_tools_come_in_many_spellings(cell: Any, tools: Any) -> None:
    assert parse_tools(cell) == tools


def test_tools_nested_too_deep_are_a_row_error() -> None:
    with pytest.raises(RowError, match="tools: not valid JSON"):
        parse_tools("[" * 200_000)


def test_row_errors_travel_between_processes() -> None:
    error = RowError("is missing", field="messages[2].role", index=5)
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.reason, copy.field, copy.index, str(copy)) == (error.reason, error.field, error.index, str(error))
    assert str(copy) == "messages[2].role: is missing"


def test_a_render_failure_names_the_message_that_fails_alone() -> None:
    messages = [{"role": "assistant", "content": None}, {"role": "user", "content": None}]

    def render(some: list[dict[str, Any]]) -> str:
        return "".join("" if message["role"] == "assistant" else "x" + message["content"] for message in some)

    with pytest.raises(TypeError) as caught:
        render(messages)
    assert explain_render_failure(messages, caught.value, render).field == "messages[1].content"
    odd = [{"role": "user", "content": "x", "functions": [1]}]
    assert explain_render_failure(odd, TypeError("no"), render).field == "messages[0].functions"
    other = explain_render_failure(odd, ValueError("one\ntwo"), render)
    assert str(other) == "messages: the chat template refused the row: one two"


def test_a_missing_library_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "orjson", None)
    with pytest.raises(MissingExtraError, match=r"castore\[tokenize\]"):
        json_parser()
