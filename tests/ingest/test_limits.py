"""Templates from anywhere: what they may not do ends in one line, soon, and never in a row that is left out."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from castore.errors import InvalidInputError
from castore.ingest import limits
from castore.ingest.limits import TemplateLimitError
from castore.ingest.render import JinjaRenderer
from castore.ingest.templates import ChatTemplate
from castore.ingest.tokenizer import ChatTokenizer, RowError
from tests.ingest.tiny import make_folder

TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
DOUBLED = "{% set ns = namespace(x=START) %}{% for i in range(60) %}{% set ns.x = GROW %}{% endfor %}{{ ns.x }}"

NOT_COMPILED = {
    "nested conditions": "{% if a %}" * 2000 + "{% endif %}" * 2000,
    "nested parentheses": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "nested lists": "{{ " + "[" * 90 + "1" + "]" * 90 + " }}",
    "nested loops": "{% for m in messages %}" * 25 + "x" + "{% endfor %}" * 25,
    "a long sum": "{{ " + "1+" * 20000 + "1" + " }}",
    "a long product": "{{ " + "1*" * 20000 + "1" + " }}",
    "a number of many digits": "{{ " + "9" * 5000 + " }}",
    "an unknown filter": "{{ 1 | nothing }}",
    "chance": "{{ [1, 2] | random }}",
    "another template": "{% include 'other' %}",
    "a parent": "{% extends 'other' %}",
    "a macro of elsewhere": "{% from 'other' import x %}",
}

OVER_A_LIMIT = {
    "power": "{{ 10 ** (10 ** 9) }}",
    "product of numbers": DOUBLED.replace("START", "3").replace("GROW", "ns.x * ns.x"),
    "product of a text": "{{ 'a' * 10 ** 10 }}",
    "product from the right": "{{ 10 ** 10 * 'a' }}",
    "product of a list": "{{ [1] * 10 ** 10 }}",
    "text doubled by ~": DOUBLED.replace("START", "'a'").replace("GROW", "ns.x ~ ns.x"),
    "text doubled by +": DOUBLED.replace("START", "'a'").replace("GROW", "ns.x + ns.x"),
    "list doubled": DOUBLED.replace("START", "[1]").replace("GROW", "ns.x + ns.x"),
    "lists of lists printed": DOUBLED.replace("START", "[1]").replace("GROW", "[ns.x, ns.x]"),
    "lists of lists as JSON": DOUBLED.replace("START", "[1]").replace("GROW", "[ns.x, ns.x]").replace(
        "{{ ns.x }}", "{{ ns.x | tojson }}"
    ),
    "% format": "{{ '%0999999999d' % 1 }}",
    "format filter": "{{ '%*d' | format(999999999, 1) }}",
    "format method": "{{ '{:>999999999}'.format(1) }}",
    "nested format": "{{ '{:>{w}}'.format(1, w=999999999) }}",
    "format_map": "{{ '{a:>{w}}'.format_map({'a': 1, 'w': 999999999}) }}",
    "format of one long text": "{% set x = 'a' * 10 ** 6 %}{{ ('%s' * 1000) % ((x,) * 1000) }}",
    "center": "{{ 'a' | center(10 ** 10) }}",
    "ljust": "{{ 'a'.ljust(10 ** 10) }}",
    "zfill": "{{ 'a'.zfill(10 ** 10) }}",
    "expandtabs": "{{ ('\\t' * 10 ** 6).expandtabs(10 ** 6) }}",
    "indent": "{{ ('\\n' * 10 ** 6) | indent(10 ** 4) }}",
    "JSON indent": "{{ [1] | tojson(indent=10 ** 9) }}",
    "replace method": "{% set x = 'a' * 10 ** 5 %}{{ x.replace('a', x) }}",
    "replace filter": "{% set x = 'a' * 10 ** 5 %}{{ x | replace('a', x) }}",
    "join method": "{{ ('a' * 10 ** 6).join(['b'] * 10 ** 4) }}",
    "join filter": "{{ (['a' * 10 ** 6] * 1000) | join }}",
    "join of an attribute": "{{ ([{'x': 'a' * 10 ** 6}] * 1000) | join(attribute='x') }}",
    "slice": "{{ [1] | slice(10 ** 9) | list }}",
    "batch": "{{ [1] | batch(10 ** 9, 0) | list }}",
    "output": "{% set x = 'a' * 10 ** 6 %}{% for i in range(1000) %}{{ x }}{% endfor %}",
    "output of a block": "{% set x = 'a' * 10 ** 6 %}{% set y %}{% for i in range(1000) %}{{ x }}{% endfor %}"
    "{% endset %}",
}  # fmt: skip

ENDLESS = {
    "loops in loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "recursive loops": "{% for x in [1, 2] recursive %}{% if loop.depth < 60 %}{{ loop([1, 2]) }}{% endif %}"
    "{% endfor %}",
}


@pytest.mark.parametrize("name", NOT_COMPILED)
def test_what_cannot_be_compiled_is_one_line(name: str) -> None:
    with pytest.raises(InvalidInputError, match=r"^the chat template [^\n]+$"):
        JinjaRenderer(NOT_COMPILED[name], {})


@pytest.mark.parametrize("name", OVER_A_LIMIT)
def test_what_grows_is_stopped_before_it_does(name: str) -> None:
    render = JinjaRenderer(OVER_A_LIMIT[name], {})
    before = time.thread_time()
    with pytest.raises(TemplateLimitError, match=r"it (makes|prints|indents)"):
        render(TALK, None)
    assert time.thread_time() - before < 20


@pytest.mark.parametrize("name", ENDLESS)
def test_what_does_not_end_is_stopped(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STEPS_MAX", 1 << 16)
    with pytest.raises(TemplateLimitError, match="it takes more than 65,536 turns"):
        JinjaRenderer(ENDLESS[name], {})(TALK, None)


def test_time_has_a_limit_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SECONDS_MAX", 0)
    with pytest.raises(TemplateLimitError, match="processor time"):
        JinjaRenderer("{% for i in range(9999) %}{{ i }}{% endfor %}", {})(TALK, None)


@pytest.mark.parametrize("text", ["{{ messages | map('string') }}", "{{ raise_exception }}", "{{ cycler('a').next }}"])
def test_an_address_is_not_printed(text: str) -> None:
    with pytest.raises(TypeError, match="another text in each process"):
        JinjaRenderer(text, {})(TALK, None)


def test_what_conversations_need_is_far_from_the_limits() -> None:
    talk = [{"role": "user", "content": "word " * 100_000}] * 40
    text = "{% for m in messages %}{{ m.role ~ ': ' + m.content | replace('word', 'longer') | indent(2) }}{% endfor %}"
    assert len(JinjaRenderer(text, {})(talk, None)) == 40 * (len("user: ") + 700_000)


@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_a_row_over_a_limit_ends_the_run_also_where_bad_rows_are_skipped(tmp_path: Path, on_error: str) -> None:
    (tmp_path / "t.jinja").write_text("{{ 'a' * 10 ** 10 if messages[0].content == 'bad' else messages[0].content }}")
    folder = make_folder(tmp_path / "tok")
    chat = ChatTokenizer(folder, ChatTemplate.resolve(str(tmp_path / "t.jinja"), folder), None)
    rows = [
        json.dumps({"messages": [{"role": "user", "content": word}, {"role": "assistant", "content": "x"}]}).encode()
        for word in ("good", "bad")
    ]
    with pytest.raises(RowError, match="was stopped: it makes a text of more than 134,217,728 characters") as caught:
        chat.tokenize(rows, on_error=on_error)
    assert (caught.value.index, caught.value.field) == (1, "messages")
