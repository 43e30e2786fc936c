"""All prefixes from one rendering are those that rendering them one by one gives."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castore.ingest.compiled import JinjaRows
from castore.ingest.labels import Rendered
from castore.ingest.render import JinjaRenderer
from castore.ingest.templates import REGISTERED, registered_text

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
PROMPT = "{% if add_generation_prompt %}<a>{% endif %}"

BY_TURNS = {
    "plain": "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}" + PROMPT,
    "head": "{{ bos_token }}{% if messages[0].role == 'system' %}S{% endif %}"
    "{% for m in messages %}{{ m.content }}{% endfor %}",
    "alias": "{% if messages[0].role == 'system' %}{% set rest = messages[1:] %}{% set s = messages[0].content %}"
    "{% else %}{% set rest = messages %}{% set s = '' %}{% endif %}"
    "{% for m in rest %}{% if loop.first %}{{ s }}{% endif %}[{{ m.content }}]{% endfor %}" + PROMPT,
    "state": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{{ ns.n }}{{ m.role }}"
    "{% endfor %}[{{ ns.n }}]" + PROMPT,
    "before": "{% for m in messages %}{{ loop.index }}{% if loop.previtem %}{{ loop.previtem.role }}{% endif %}"
    "{{ m.content }}{% endfor %}" + PROMPT,
    "last": "{% for m in messages %}{{ m.content }}{% if not loop.last %}, {% endif %}{% endfor %}" + PROMPT,
    "last with prompt": "{% for m in messages %}{{ m.role }}{% if loop.last and add_generation_prompt %}<a>{% endif %}"
    "{% endfor %}",
    "inner loop": "{% for m in messages %}{% for c in m.content %}{{ c }}{% if not loop.last %}-{% endif %}{% endfor %}"
    "{% if loop.last %}.{% endif %}{% endfor %}" + PROMPT,
    "generation": "{% for m in messages %}{{ m.content ~ '/' }}{% endfor %}" + PROMPT + "{% set x = 1 %}{{ x }}",
    "refuses a prompt": "{% for m in messages %}{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ raise_exception('no') }}{% endif %}",
}  # fmt: skip

LOOKS_AHEAD = {
    "length": "{% for m in messages %}{{ m.content }}{% endfor %}{{ messages | length }}",
    "count in the head": "{% set n = messages | length %}{% for m in messages %}{{ n }}{% endfor %}",
    "the last": "{{ messages[-1].content }}{% for m in messages %}{{ m.content }}{% endfor %}",
    "the second": "{{ messages[1] }}{% for m in messages %}{{ m.content }}{% endfor %}",
    "neighbour": "{% for m in messages %}{{ m.content }}{{ loop.nextitem }}{% endfor %}",
    "turns left": "{% for m in messages %}{{ m.content }}{{ loop.revindex }}{% endfor %}",
    "loop handed on": "{% for m in messages %}{% set l = loop %}{{ l.revindex }}{% endfor %}",
    "backwards": "{% for m in messages[::-1] %}{{ m.content }}{% endfor %}",
    "two loops": "{% for m in messages %}{{ m.role }}{% endfor %}{% for m in messages %}{{ m.content }}{% endfor %}",
    "break": "{% for m in messages %}{% if m.role == 'system' %}{% break %}{% endif %}{{ m.content }}{% endfor %}",
    "continue": "{% for m in messages %}{% if m.role == 'tool' %}{% continue %}{% endif %}{{ m.content }}{% endfor %}",
    "filtered": "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}",
    "state and last": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{{ ns.n }}"
    "{{ loop.last }}{% endfor %}",
    "tail changes state": "{% set ns = namespace(n=0) %}{% for m in messages %}{{ ns.n }}{% endfor %}"
    "{% set ns.n = 1 %}",
    "prompt in a turn": "{% for m in messages %}{{ add_generation_prompt }}{% endfor %}",
    "a turn's variable": "{% for m in messages %}{% set x = m.content %}{{ x }}{% endfor %}{{ x }}",
    "two meanings": "{% set a = messages %}{% if tools %}{% set a = tools %}{% endif %}"
    "{% for m in a %}{{ m.role }}{% endfor %}",
    "another list": "{% set a = [1, 2] %}{% for m in a %}{{ m }}{% endfor %}{{ messages[0].content }}",
    "macro": "{% macro f(m) %}{{ messages | length }}{% endmacro %}{% for m in messages %}{{ f(m) }}{% endfor %}",
}  # fmt: skip

texts = st.sampled_from(["", "a", " b ", "<s>", "é\n"])
message = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system", "tool"]), "content": texts})
talks = st.lists(message, min_size=1, max_size=7)


class OneByOne(JinjaRenderer):
    """The same template, rendered for each prefix."""

    def turns(self, messages: Any, tools: Any) -> None:
        return None


def prefixes(rendered: Rendered) -> list[tuple[int, str, str]] | None:
    if rendered.turns is None:
        return None
    return [(index, header.of(rendered.text), through.of(rendered.text)) for index, header, through in rendered.turns]


@pytest.mark.parametrize("name", [*BY_TURNS, *LOOKS_AHEAD])
@given(talk=talks, last=st.booleans())
def test_as_one_by_one(name: str, talk: list[dict[str, Any]], last: bool) -> None:
    text = {**BY_TURNS, **LOOKS_AHEAD}[name]
    together, alone = JinjaRenderer(text, TOKENS), OneByOne(text, TOKENS)
    found, expected = (JinjaRows(render)(talk, None, last) for render in (together, alone))
    assert found.text == expected.text
    assert prefixes(found) == prefixes(expected)


@pytest.mark.parametrize("name", REGISTERED)
@given(talk=talks)
def test_registered_templates_as_one_by_one(name: str, talk: list[dict[str, Any]]) -> None:
    together, alone = (kind(registered_text(name), TOKENS) for kind in (JinjaRenderer, OneByOne))
    found, expected = (JinjaRows(render)(talk, None, False) for render in (together, alone))
    assert (found.text, prefixes(found)) == (expected.text, prefixes(expected))


@pytest.mark.parametrize("name", BY_TURNS)
def test_these_are_rendered_together(name: str) -> None:
    talk = [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]
    render = JinjaRenderer(BY_TURNS[name], TOKENS)
    if name == "refuses a prompt":
        with pytest.raises(Exception, match="no"):
            render.turns(talk, None)
    else:
        assert render.turns(talk, None) is not None


@pytest.mark.parametrize("name", LOOKS_AHEAD)
def test_these_are_not(name: str) -> None:
    assert JinjaRenderer(LOOKS_AHEAD[name], TOKENS).turns([{"role": "user", "content": "b"}], None) is None


def test_many_turns_take_time_in_proportion() -> None:
    """20,000 turns: one by one, they are 200 million renderings of a message."""
    talk = [{"role": role, "content": "x"} for _ in range(10_000) for role in ("user", "assistant")]
    before = time.thread_time()
    rendered = JinjaRows(JinjaRenderer(BY_TURNS["last"], TOKENS))(talk, None, False)
    assert len(rendered.turns or []) == 10_000
    assert time.thread_time() - before < 20
