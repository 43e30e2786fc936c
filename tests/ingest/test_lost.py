"""What rows lost that became samples: found for any template, the same however the rows come, told and refused."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from castore.errors import SourceError
from castore.ingest import lost
from castore.ingest.lost import LostCounter, told, totals
from castore.ingest.render import JinjaRenderer
from castore.ingest.tokenizer import ChatTemplate, ChatTokenizer, TokenizerFolder
from castore.repository import Repository
from castore.store.backend import MemoryBackend
from tests.ingest.tiny import as_rows, hostile, make_folder
from tests.support.jobs import row, run_job, write_rows

Message = dict[str, Any]

PLAIN = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
TRIMMING = "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}{% endfor %}"
FIRST_SYSTEM = (
    "{% if messages[0].role == 'system' %}[{{ messages[0].content }}]{% endif %}"
    "{% for m in messages if m.role != 'system' %}<{{ m.role }}>{{ m.content }}{% endfor %}"
)
CALLS = (
    "{% if tools %}{{ tools | tojson }}{% endif %}"
    "{% for m in messages %}{% if m.tool_calls %}{% for c in m.tool_calls %}call {{ c.function.name }}{% endfor %}"
    "{% elif m.role == 'tool' %}tool {{ m.content | tojson }}{% else %}<{{ m.role }}>{{ m.content }}{% endif %}"
    "{% endfor %}"
)
LAST_THOUGHTS = (
    "{% set ns = namespace(user=0) %}{% for m in messages if m.role == 'user' %}{% set ns.user = loop.index %}"
    "{% endfor %}{% set seen = namespace(users=0) %}{% for m in messages %}"
    "{% if m.role == 'user' %}{% set seen.users = seen.users + 1 %}{% endif %}<{{ m.role }}>"
    "{% if m.reasoning_content and seen.users == ns.user %}({{ m.reasoning_content }}){% endif %}"
    "{{ m.content.split('</think>')[-1] }}{% endfor %}"
)
STRICT_ORDER = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}[{{ m.content }}]{% endfor %}"
)


def say(*said: str | tuple[str, str | None] | Message) -> list[Message]:
    """Messages: texts alternate between user and assistant, pairs name a role."""
    messages: list[Message] = []
    for index, some in enumerate(said):
        if isinstance(some, str):
            some = ("user", "assistant")[index % 2], some
        messages.append({"role": some[0], "content": some[1]} if isinstance(some, tuple) else some)
    return messages


def count(template: str, messages: list[Message], tools: list[Message] | None = None) -> dict[str, dict[str, int]]:
    """What a row loses, by reason."""
    render = JinjaRenderer(template, {})
    return totals(LostCounter(render).count(messages, tools, render(messages, tools)))


CALL = {"id": "1", "type": "function", "function": {"name": "look", "arguments": {"at": "it"}}}


@pytest.mark.parametrize(
    ("template", "messages", "expected"),
    [
        (PLAIN, say("a", "b", "c", "d"), {}),
        (PLAIN, say(("developer", "x"), ("user", "a"), ("assistant", "b")), {}),
        (FIRST_SYSTEM, say(("system", "s"), ("user", "a"), ("assistant", "b")), {}),
        # a second system message, though a text as short stands elsewhere
        (
            FIRST_SYSTEM,
            say(("system", "s"), ("user", "a"), ("system", "e"), ("assistant", "b")),
            {"content-not-written": {"system": 1}},
        ),
        (FIRST_SYSTEM, say("a", "b", ("system", "later"), ("assistant", "c")), {"content-not-written": {"system": 1}}),
        (TRIMMING, say("a", " b", "c\n", "d"), {"content-trimmed": {"assistant": 1, "user": 1}}),
        (TRIMMING, say(" \n ", "b"), {"content-trimmed": {"user": 1}}),
        (LAST_THOUGHTS, say("a", "<think>b</think>c"), {"content-altered": {"assistant": 1}}),
        (
            LAST_THOUGHTS,
            say("a", {"role": "assistant", "content": "b", "reasoning_content": "hm"}),
            {},
        ),
        (
            LAST_THOUGHTS,
            say(
                "a",
                {"role": "assistant", "content": "b", "reasoning_content": "hm"},
                "c",
                {"role": "assistant", "content": "d", "reasoning_content": "hm"},
            ),
            {"field-not-written": {"assistant.reasoning_content": 1}},
        ),
        # the content of a message with calls, which this template leaves out; a tool's answer as JSON is whole
        (
            CALLS,
            say(
                "a",
                {"role": "assistant", "content": "l", "tool_calls": [CALL]},
                ("tool", 'a "b"\n'),
                ("assistant", "c"),
            ),
            {"content-not-written": {"assistant": 1}},
        ),
        (
            PLAIN,
            say(
                {"role": "user", "content": "a", "name": "ada"},
                {"role": "assistant", "content": None, "tool_calls": [CALL]},
                ("tool", "t"),
                {"role": "assistant", "content": "c", "function_calls": "f()", "functions": ""},
            ),
            {"field-not-written": {"assistant.function_calls": 1, "assistant.tool_calls": 1, "user.name": 1}},
        ),
        (PLAIN, say("a", "b", "c"), {"after-last-answer": {"user": 1}}),
        (PLAIN, say("a", "b", ("tool", "c"), ("user", "d")), {"after-last-answer": {"tool": 1, "user": 1}}),
        # nothing made up is taken by this template as it is: the row itself tells
        (STRICT_ORDER, say("a", "b", "a", "b"), {}),
        (STRICT_ORDER, say("a", ("tool", "b"), ("user", "c"), ("assistant", "d")), {}),
    ],
)
def test_what_a_template_does_not_write(
    template: str, messages: list[Message], expected: dict[str, dict[str, int]]
) -> None:
    assert count(template, messages) == expected


def test_a_lost_text_that_stands_elsewhere_is_lost() -> None:
    """The text of the lost message is part of a role's name, and of the answer behind it."""
    only = "{% for m in messages if m.role != 'tool' %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    for text in ("s", "5", "user", "It is 5", "<"):
        found = count(only, say("How many?", "Wait", ("tool", text), ("assistant", "It is 5")))
        assert found == {"role-not-written": {"tool": 1}}, text


def test_tools_that_are_given_and_not_written() -> None:
    tools = [{"type": "function", "function": {"name": "look"}}]
    assert count(PLAIN, say("a", "b"), tools) == {"field-not-written": {"tools": 1}}
    assert count(CALLS, say("a", "b"), tools) == {}


@pytest.mark.parametrize("field", ["weight", "train", "trainable", "loss"])
def test_weights_are_not_heeded_and_counted(field: str) -> None:
    def weighed(weight: Any) -> dict[str, dict[str, int]]:
        return count(PLAIN, say("a", {"role": "assistant", "content": "b", field: weight}))

    for weight in (0, 0.0, False, 0.5, 2):
        assert weighed(weight) == {"weight-ignored": {f"assistant.{field}": 1}}
    for weight in (1, 1.0, True, None):
        assert weighed(weight) == {}
    assert count(PLAIN, say({"role": "user", "content": "a", field: 0}, ("assistant", "b"))) == {}


@settings(max_examples=60, deadline=None)
@given(
    st.sets(st.sampled_from(("user", "tool", "system", "developer"))),
    st.lists(
        st.tuples(
            st.sampled_from(("user", "assistant", "tool", "system", "developer")),
            st.sampled_from(("a", "user", "<", "tool", "yes", "\u00e9", "a long text, the same", "1", "s>")),
        ),
        min_size=1,
        max_size=8,
    ),
)
def test_every_message_of_an_unwritten_role_is_counted(silent: set[str], said: list[tuple[str, str]]) -> None:
    template = PLAIN.replace("in messages", f"in messages if m.role not in {sorted(silent)}")
    messages = say(*said)
    found = count(template, messages).get("role-not-written", {})
    assert found == {role: n for role in silent if (n := sum(m["role"] == role for m in messages))}


def test_long_rows_take_time_in_proportion() -> None:
    def took(turns: int, template: str, text: str) -> float:
        messages = say(*[f"{text}{n} " for n in range(turns)], ("tool", "x"))
        render = JinjaRenderer(template, {})
        counter, rendering = LostCounter(render), render(messages, None)
        started = time.process_time()
        assert counter.count(messages, None, rendering)
        return time.process_time() - started

    silent = "{% for m in messages if m.role != 'user' %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    for template in (TRIMMING, LAST_THOUGHTS, silent):
        for text in ("a", "<think>b</think>" + "c" * 50):
            assert took(8000, template, text) < 10 * took(2000, template, text) + 0.5


def test_what_is_recorded_is_bounded() -> None:
    told_of = totals({("role-not-written", f"role {n}"): n + 1 for n in range(1000)})
    assert len(told_of["role-not-written"]) == 65
    assert sum(told_of["role-not-written"].values()) == 500 * 1001
    assert told_of["role-not-written"]["role 999"] == 1000
    only = "{% for m in messages if m.role != 'x' * 200 %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    assert count(only, say("a", "b", ("x" * 200, "c"), ("assistant", "d"))) == {"role-not-written": {"x" * 80: 1}}


# ---- through the tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> TokenizerFolder:
    return make_folder(tmp_path_factory.mktemp("tokenizer"))


@pytest.mark.parametrize("template", ["olmo", "tulu", "zephyr", "own"])
def test_counts_do_not_depend_on_the_rows_around(folder: TokenizerFolder, tmp_path: Path, template: str) -> None:
    if template == "own":
        (tmp_path / "own.jinja").write_text(FIRST_SYSTEM)
        template = str(tmp_path / "own.jinja")
    rows = as_rows([*hostile(5, 60), say("a", "b", ("tool", "a"), ("assistant", " c "))])
    found = ChatTemplate.resolve(template, folder)

    def lost_by(some: list[bytes], tokenizer: ChatTokenizer) -> dict[bytes, Any]:
        done = tokenizer.tokenize(some, on_error="skip")
        return {some[position]: dict(what) for position, what in done.lost}

    whole = lost_by(rows, ChatTokenizer(folder, found, 30))
    assert whole
    shuffled = rows[:]
    random.Random(1).shuffle(shuffled)
    assert lost_by(shuffled, ChatTokenizer(folder, found, 30)) == whole
    one = ChatTokenizer(folder, found, 30)
    alone = [lost_by([raw], one) for raw in shuffled]
    assert {raw: what for some in alone for raw, what in some.items()} == whole


def test_a_cut_counts_rows_tokens_and_trainable_tokens(folder: TokenizerFolder) -> None:
    rows = as_rows([say("ab", "cdef" * 9), say("a", "b", "c", "d" * 90), say("a", "b")])
    for template in ("tulu", "olmo"):
        found = ChatTemplate.resolve(template, folder)
        whole = ChatTokenizer(folder, found, None).tokenize(rows)
        length = int(whole.lengths[0]) - 3
        cut = ChatTokenizer(folder, found, length).tokenize(rows)

        def trained(rows_of: Any) -> int:
            return int((rows_of.span_ends.astype(int) - rows_of.span_starts).sum())

        assert len(cut.rows) == 3
        told_of = totals({key: sum(some.get(key, 0) for _, some in cut.lost) for _, one in cut.lost for key in one})
        assert told_of["cut-at-max-length"] == {
            "rows": int((whole.lengths > length).sum()),
            "tokens": int(whole.lengths.sum()) - int(cut.lengths.sum()),
            "trainable tokens": trained(whole) - trained(cut),
        }


def test_an_end_of_turn_that_the_tokenizer_lacks(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, eos_token=None)
    ends = tmp_path / "ends.jinja"
    rows = as_rows([say("a", "b"), say("c", "d")])
    for text, expected in (
        ("{% for m in messages %}<{{ m.role }}>{{ m.content ~ eos_token }}{% endfor %}", 2),
        (PLAIN.replace("content }}", "content }}{% if eos_token %}{{ eos_token }}{% endif %}"), 0),
        ("{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}", 2),
        ("{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ m.x_token }}{% endfor %}", 0),
    ):
        ends.write_text(text)
        done = ChatTokenizer(folder, ChatTemplate.resolve(str(ends), folder), None).tokenize(rows)
        assert sum(one.get(("special-token-missing", "eos_token"), 0) for _, one in done.lost) == expected


# ---- through a job

TULU = {"chat_template": "tulu"}


def lossy_rows(count: int) -> list[bytes]:
    rows = [row(f"question {n}", f"answer {n}") for n in range(count)]
    for n in range(3, count, 7):
        rows[n] = json.dumps(
            {
                "messages": say(
                    f"q {n}", {"role": "assistant", "content": f"a {n}", "weight": 0}, ("tool", "t"), f"b {n}"
                )
            }
        ).encode()
    return rows


def test_counts_are_the_same_however_a_run_is_made(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", lossy_rows(150))
    expected = {"role-not-written": {"tool": 42}, "weight-ignored": {"assistant.weight": 42}}
    backend = MemoryBackend()
    first = run_job(backend, [(path, "2.0")], **TULU)
    assert first.lost == expected
    assert first.dropped == {}
    again = run_job(backend, [(path, "2.0")], name="again", **TULU)
    assert again.progress.units_reused == again.progress.units
    assert (again.lost, again.root) == (expected, first.root)
    assert run_job(MemoryBackend(), [(path, "2.0")], workers=2, **TULU).lost == expected
    one_by_one = [run_job(MemoryBackend(), [(path, "1.0"), (path, "1.0")], **TULU).lost]
    assert one_by_one == [expected]
    run = Repository(backend).dataset("again").run
    assert run is not None
    assert run.statistics is not None
    assert run.statistics.lost == expected


def test_picked_rows_alone_are_counted(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", lossy_rows(150))
    backend = MemoryBackend()
    for name in ("new", "reused"):
        result = run_job(backend, [(path, "40")], name=name, shuffle_seed=None, **TULU)
        data = Repository(backend).dataset(name)
        picked = sum(data.origin(sample).row % 7 == 3 for sample in range(len(data)))
        assert 0 < picked < 21
        assert result.lost == {"role-not-written": {"tool": picked}, "weight-ignored": {"assistant.weight": picked}}
    both = run_job(backend, [(path, "1.0"), (path, "40")], name="both", **TULU)
    assert both.lost["role-not-written"] == {"tool": 21 + picked}


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("amount", ["1.0", "149"])
def test_strict_names_the_first_row_and_what_it_lost(tmp_path: Path, known: bool, amount: str) -> None:
    path = write_rows(tmp_path / "rows.jsonl", lossy_rows(150))
    backend = MemoryBackend()
    if known:
        run_job(backend, [(path, "1.0")], name="before", **TULU)
    with pytest.raises(SourceError) as caught:
        run_job(backend, [(path, amount)], strict=True, **TULU)
    assert str(caught.value) == f"{path}, row 4: {told(('role-not-written', 'tool'))}"
    mended = write_rows(tmp_path / "mended.jsonl", [raw for n, raw in enumerate(lossy_rows(150)) if n % 7 != 3])
    assert run_job(backend, [(mended, "1.0")], strict=True, **TULU).lost == {}


def test_every_reason_has_a_text() -> None:
    said = {value for name, value in vars(lost).items() if name.isupper() and isinstance(value, str) and "-" in value}
    assert said == set(lost.LOST_TEXTS)
