"""What each template name renders, where templates come from, and the hand-compiled forms against jinja2."""

from __future__ import annotations

import datetime
import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from castore.errors import InvalidInputError
from castore.ingest.compiled import CompiledRows, JinjaRows, row_renderer
from castore.ingest.render import JinjaRenderer
from castore.ingest.templates import BOS_PREFIX, REGISTERED, ChatTemplate, registered_text
from tests.ingest.tiny import hostile

TOKENS = {"bos_token": "<BOS>", "eos_token": "<EOS>", "pad_token": "<PAD>", "unk_token": "<UNK>"}

Message = dict[str, Any]


def turn(role: str, content: str | None, **more: Any) -> Message:
    return {"role": role, "content": content, **more}


QUESTION = [turn("user", "Two & two?"), turn("assistant", "Four.")]
LONG = [
    turn("system", "Be brief.", functions="[f]"),
    turn("user", " Hi\n", functions=None),
    turn("assistant", "<think>hm</think>\n\n<b>5</b>", function_calls="f(1)"),
    turn("environment", '{"a": "é"}'),
    turn("user", "More", functions="[g]"),
    turn("stranger", "who?"),
    turn("assistant", "<think>done</think>\nBye"),
]
SILENT = [turn("user", "x"), turn("assistant", None, function_calls="f()"), turn("user", "y")]
SYSTEM_LATER = [turn("assistant", "Hello"), turn("system", "late"), turn("assistant", "ok")]
FIXED = [QUESTION, LONG, SILENT, SYSTEM_LATER]

# sha256 of the renderings of FIXED, each without and with the generation prompt ("!" and the error's type where one is
# raised), joined by \x1e. Written down from open-instruct's own templates, not from castore's.
DIGESTS = {
    "assistant_message_only": "ff89532bee70d9dc0f6303f058eb5dcc3529d339a4aea26ed0dd7f9df77e2087",
    "olmo": "4aeef1b5ef980c8190744c85f04d0943794476ada7f3b81335beb2864d372e78",
    "olmo_old": "4aeef1b5ef980c8190744c85f04d0943794476ada7f3b81335beb2864d372e78",
    "olmo_thinker": "20785126bbcc915e0fd713f44ecc90160bc4dad7a340331c9a32b167a6b4614e",
    "olmo_thinker_code_rlzero": "d67de20fcc559f0dc749b4bc5875674804b144a9b5cc8c7a76974d9e8c9bda8d",
    "olmo_thinker_no_think_7b": "98e04fc1e50a391565098c5a4d3f706d9a072565e3a244e127b715cf2b3d663e",
    "olmo_thinker_no_think_sft_tokenization": "771828f597047034130a1cf00d0586ffb6c8eba1e22e667fd116a57fa651f612",
    "olmo_thinker_remove_intermediate_thinking": "905c81f20105bd900486d867c6634ebe07be73942d8a0a26507f00949e56941c",
    "olmo_thinker_rlzero": "45a311ad9e3874c8ad43f01b5fbc44662c4d00ac10b3805275d514bb18cd86c0",
    "qwen_instruct_user_boxed_math": "102425d8e1c653c77b2bb9f11906d80132c42bccf644b56d3b3bc02641b7e2f8",
    "r1_simple_chat": "675ed4aaf81d1357450139553d2256ca7110356eb6628c06470d269310850506",
    "r1_simple_chat_postpend_think": "db75c444677eac872f6f600cf69ce6e7e5ba2ae2522662e12bf25557633c136d",
    "r1_simple_chat_postpend_think_orz_style": "23cbae5d6b514a470ce390178142a134e548d6ef76bbf4174c731ff31489235d",
    "r1_simple_chat_postpend_think_tool_vllm": "4d450224c5b9ddcdb5ae4d5dea9b71c9b0ae4bf01da1c61c904f1c6cedab34fa",
    "simple_chat": "8a88f1046fcd91e6c7cb8204899679f1003e3260ca185655c9be0806fe7850dc",
    "simple_concat_with_new_line": "cccf1c4ae889276ef4baed2c5cc0adc9f37999bc343c635c5568f768b9751bd9",
    "simple_concat_with_space": "be457bf37e08fae560850af0aad6e0da29477336f2e50ebfab974ca751db80bc",
    "tulu": "4702531060c9cd2f0e38e457707f67200abd43f868beecd9fe3485439ff96cbd",
    "tulu_thinker": "1d5ff00d84c5b5f0b568bf18c2e180971b5bf99844c6ff7276afae6c45b2c6b2",
    "tulu_thinker_r1_style": "ed164ed40121450d339451fdc0f67d0ee016c7c93db76d8df622ea2eb9f79433",
    "zephyr": "b7d280b12060b190a13bfc29bb3f66002dd01d6ab38641758eb255f1f49a9cd0",
}


def rendering(render: JinjaRenderer, messages: list[Message], prompt: bool) -> str:
    try:
        return render(messages, None, add_generation_prompt=prompt)
    except Exception as error:  # noqa: BLE001
        return "!" + type(error).__name__


@pytest.mark.parametrize("name", sorted(REGISTERED))
def test_every_name_renders_what_open_instruct_renders(name: str) -> None:
    render = JinjaRenderer(registered_text(name), TOKENS)
    texts = [rendering(render, messages, prompt) for messages in FIXED for prompt in (False, True)]
    assert hashlib.sha256("\x1e".join(texts).encode()).hexdigest() == DIGESTS[name], texts


def test_all_names_have_a_digest() -> None:
    assert set(DIGESTS) == set(REGISTERED)
    assert len(set(DIGESTS.values())) == len(DIGESTS) - 1  # olmo_old is olmo


def test_olmo_literally() -> None:
    render = JinjaRenderer(registered_text("olmo"), TOKENS)
    default = (
        "<|im_start|>system\nYou are OLMo, a helpful function-calling AI assistant built by Ai2. Your date cutoff is "
        "November 2024, and your model weights are available at https://huggingface.co/allenai. You do not currently "
        "have access to any functions. <functions></functions><|im_end|>\n"
    )
    asked = "<|im_start|>user\nTwo & two?<|im_end|>\n<|im_start|>assistant\n"
    assert render(QUESTION, None) == default + asked + "Four.<EOS>"
    assert render(QUESTION[:1], None, add_generation_prompt=True) == default + asked
    assert render(LONG, None) == (
        "<|im_start|>system\nBe brief. <functions>[f]</functions><|im_end|>\n"
        "<|im_start|>user\n Hi\n<|im_end|>\n"
        "<|im_start|>assistant\n<think>hm</think>\n\n<b>5</b><function_calls>f(1)</function_calls><|im_end|>\n"
        '<|im_start|>environment\n{"a": "é"}<|im_end|>\n'
        "<|im_start|>user\nMore\n<functions>[g]</functions><|im_end|>\n"
        "<|im_start|>assistant\n<think>done</think>\nBye<EOS>"
    )


def test_tulu_literally() -> None:
    render = JinjaRenderer(registered_text("tulu"), TOKENS)
    assert render(QUESTION * 2, None) == (
        "<|user|>\nTwo & two?\n<|assistant|>\nFour.<EOS>\n<|user|>\nTwo & two?\n<|assistant|>\nFour.<EOS>"
    )
    assert render(QUESTION[:1], None, add_generation_prompt=True) == "<|user|>\nTwo & two?\n<|assistant|>\n"
    with pytest.raises(TypeError):
        render(SILENT, None)


def compiled_names() -> list[str]:
    return [name for name in REGISTERED if isinstance(row_renderer(registered_text(name), TOKENS), CompiledRows)]


def test_the_templates_of_large_jobs_are_compiled() -> None:
    assert {"olmo", "tulu", "olmo_thinker_no_think_sft_tokenization", "zephyr"} <= set(compiled_names())
    assert isinstance(row_renderer(registered_text("simple_chat"), TOKENS), JinjaRows)


@pytest.mark.parametrize("bos", ["", BOS_PREFIX])
@pytest.mark.parametrize("name", compiled_names())
def test_compiled_templates_write_what_jinja_writes(name: str, bos: str) -> None:
    text = bos + registered_text(name)
    fast, slow = row_renderer(text, TOKENS), row_renderer(text, TOKENS, jinja_only=True)
    assert isinstance(fast, CompiledRows)
    assert isinstance(slow, JinjaRows)
    turns_seen = refused = 0
    for messages in [*FIXED, *hostile(7, 150)]:
        try:
            expected = slow(messages, None, False)
        except TypeError:
            refused += 1
            with pytest.raises(TypeError):
                fast(messages, None, False)
            continue
        got = fast(messages, None, False)
        assert got.text == expected.text
        assert got.turns is not None
        assert expected.turns is not None
        for (index, header, through), (other, header_slow, through_slow) in zip(got.turns, expected.turns, strict=True):
            assert index == other
            assert header.of(got.text) == header_slow.of(got.text)
            assert through.of(got.text) == through_slow.of(got.text)
            turns_seen += 1
    assert turns_seen > 150
    assert refused or name.startswith("olmo")


def test_without_an_eos_token_nothing_is_compiled() -> None:
    assert isinstance(row_renderer(registered_text("olmo"), {}), JinjaRows)


def test_only_the_last_turn() -> None:
    for jinja_only in (False, True):
        rendered = row_renderer(registered_text("tulu"), TOKENS, jinja_only=jinja_only)(QUESTION * 3, None, True)
        assert rendered.turns is not None
        assert [index for index, _, _ in rendered.turns] == [5]


def test_a_prefix_that_cannot_be_rendered_has_no_turns() -> None:
    text = "{% if messages[-1].role == 'user' %}{{ raise_exception('no') }}{% endif %}x"
    rendered = row_renderer(text, TOKENS)(QUESTION, None, False)
    assert rendered[:2] == ("x", None)


# --- the environment


def render(text: str, **more: Any) -> str:
    return JinjaRenderer(text, TOKENS)(more.pop("messages", QUESTION), more.pop("tools", None), **more)


def test_tojson_keeps_html_letters_and_order() -> None:
    tools = [{"b": "<é & 'x'>", "a": [1, 2.5, None]}]
    assert render("{{ tools | tojson }}", tools=tools) == '[{"b": "<é & \'x\'>", "a": [1, 2.5, null]}]'
    assert render("{{ tools | tojson(indent=1) }}", tools=[{"a": 1}]) == '[\n {\n  "a": 1\n }\n]'


def test_generation_blocks_and_loop_controls_are_understood() -> None:
    text = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% break %}{% endfor %}"
    assert render(text) == "Two & two?"


def test_blocks_leave_no_lines_behind() -> None:
    assert render("{% if true %}\n  {% set x = 1 %}\nA{{ x }}\n{% endif %}\nB\n") == "A1\nB"


def test_absent_tokens_and_documents_are_as_in_transformers() -> None:
    assert JinjaRenderer("{{ documents }}{{ tools }}[{{ bos_token }}]", {})(QUESTION, None) == "NoneNone[]"


def test_strftime_now_is_the_moment_that_is_given() -> None:
    text = "{{ strftime_now('%d %b %Y %H:%M') }}"
    assert JinjaRenderer(text, {}, datetime.datetime(2026, 12, 1))(QUESTION, None) == "01 Dec 2026 00:00"
    with pytest.raises(Exception, match="strftime_now"):
        JinjaRenderer(text, {})(QUESTION, None)  # a template without a date in its recipe has no clock to ask


def test_renderers_of_one_text_share_nothing_that_shows() -> None:
    text = "{{ bos_token }}{{ eos_token }}{{ strftime_now('%Y') }}{% for m in messages %}{{ m.content }}{% endfor %}"
    talk = [{"role": "user", "content": "x"}]
    one = JinjaRenderer(text, {"bos_token": "<a>"}, datetime.datetime(2026, 1, 1))
    other = JinjaRenderer(text, {"eos_token": "<b>"}, datetime.datetime(1999, 1, 1))
    assert (one(talk, None), other(talk, None)) == ("<a>2026x", "<b>1999x")
    assert (one.missing, other.missing) == ({"eos_token"}, {"bos_token"})


def test_short_cuts_of_the_sandbox_answer_as_jinja_does() -> None:
    """Everything that the sandbox answers by itself, on a template that also runs in jinja2's own."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    text = """{% set ns = namespace(seen=[], _x=1) %}{% for m in messages %}{{ loop.first }}{{ loop.last }}
    {{ loop.index }}
    {{ loop.index0 }}{{ loop.length }}{{ loop.revindex }}{{ m.get('content') }}{{ m.get('x') }}{{ m.get('x', 2) }}
    {{ m.content }}{{ m.x is defined }}{{ m.items() | list }}{{ m.items is defined }}{{ m.keys() | list }}
    {{ m.role.upper() }}{{ ns.seen }}{{ ns.y is defined }}{% set ns.seen = ns.seen + [m.role] %}
    {{ '{0.role}'.format(m) }}{% endfor %}"""
    messages = [{**QUESTION[0], "items": 3}, QUESTION[1]]
    expected = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(text)
    assert render(text, messages=messages) == expected.render(messages=messages, **TOKENS)
    with pytest.raises(TypeError):
        render("{{ messages[0].get(key='role') }}")


def test_templates_are_sandboxed() -> None:
    import jinja2

    with pytest.raises(jinja2.exceptions.SecurityError):
        render("{{ messages.__class__.__mro__[1].__subclasses__() }}")
    with pytest.raises(jinja2.exceptions.SecurityError):
        render("{{ messages.append(1) }}")
    with pytest.raises(jinja2.exceptions.SecurityError):
        render("{{ messages[0].update(a=1) }}")
    for internal in ("messages[0].__class__", "messages[0].get.__self__", "ns._x.__class__"):
        assert render("{% set ns = namespace(_x=1) %}{{ " + internal + " is defined }}") == "False"
    with pytest.raises(jinja2.TemplateError, match="too few"):
        render("{{ raise_exception('too few') }}")


def test_half_a_surrogate_pair_is_refused_where_it_arises() -> None:
    with pytest.raises(UnicodeEncodeError):
        render("{{ tools | tojson }}", tools=[{"a": "\ud800"}])


# --- where templates come from


def folder(path: str = "tok", template: str | None = None, **tokens: str) -> Any:
    return SimpleNamespace(path=path, chat_template=template, special_tokens=tokens or TOKENS)


def test_a_registered_name_wins() -> None:
    found = ChatTemplate.resolve("tulu", folder(template="own"))
    assert (found.name, found.text, found.warning) == ("tulu", registered_text("tulu"), None)


def test_a_file_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.jinja"
    path.write_bytes(b"{{ 'x' }}\r\n")
    assert ChatTemplate.resolve(str(path), folder(template="own")).text == "{{ 'x' }}\r\n"
    path.write_bytes(b"\xff")
    with pytest.raises(InvalidInputError, match="not UTF-8"):
        ChatTemplate.resolve(str(path), folder())


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"'olmo123' is neither.*castore templates"):
        ChatTemplate.resolve("olmo123", folder("some/tok", "own"))


def test_an_unknown_name_falls_back_to_the_tokenizers_own_if_asked_and_says_so() -> None:
    found = ChatTemplate.resolve("olmo123", folder("some/tok", "own"), fallback=True)
    assert found.text == "own"
    assert found.warning is not None
    assert "olmo123" in found.warning
    assert "some/tok" in found.warning


@pytest.mark.parametrize("name", ["mine.jinja", "some/where", "./mine", "mine.j2"])
def test_a_file_that_is_missing_is_never_replaced_by_another_template(name: str) -> None:
    with pytest.raises(InvalidInputError, match="cannot be read: No such file"):
        ChatTemplate.resolve(name, folder(template="own"))


@pytest.mark.parametrize("fallback", [False, True])
def test_what_was_probably_meant_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fallback: bool) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").write_text("x")
    for name, meant in (("tulo", "; did you mean 'tulu'?"), ("mine", "; for the file write ./mine")):
        if fallback:
            found = ChatTemplate.resolve(name, folder(template="own"), fallback=True)
            assert str(found.warning).endswith(meant)
        else:
            with pytest.raises(InvalidInputError) as caught:
                ChatTemplate.resolve(name, folder(template="own"))
            assert meant in str(caught.value)


def test_a_fallback_that_is_not_there_is_told() -> None:
    with pytest.raises(InvalidInputError, match=r"'olmo123'.*some/tok has none of its own"):
        ChatTemplate.resolve("olmo123", folder("some/tok"), fallback=True)


@pytest.mark.parametrize(
    ("path", "name", "add_bos", "message"),
    [
        ("x/OLMo-2/tok", "tulu", False, "needs add_bos"),
        ("x/OLMo-2/tok", "olmo", True, "must not be used with add_bos"),
        ("x/OLMo-2/tok", "olmo", False, None),
        ("x/OLMo-2/tok", "tulu", True, None),
        ("x/dolma2/tok", "olmo", True, None),
        ("x/dolma2/tok", "tulu", False, None),
    ],
)
def test_bos_rules_of_olmo_tokenizers(path: str, name: str, add_bos: bool, message: str | None) -> None:
    if message is not None:
        with pytest.raises(InvalidInputError, match=message):
            ChatTemplate.resolve(name, folder(path), add_bos=add_bos)
        return
    found = ChatTemplate.resolve(name, folder(path), add_bos=add_bos)
    assert JinjaRenderer(found.text, TOKENS)(QUESTION, None).startswith("<BOS>") == add_bos


@pytest.mark.parametrize("own", ["{{ bos_token }}x", "<BOS>x"])
def test_bos_is_not_written_twice(own: str) -> None:
    with pytest.raises(InvalidInputError, match="already begins with the BOS token"):
        ChatTemplate.resolve("mine", folder(template=own), add_bos=True, fallback=True)


def test_bad_jinja_is_one_line_with_its_place() -> None:
    with pytest.raises(InvalidInputError, match=r"^the chat template is not valid jinja: line 2: [^\n]+$"):
        row_renderer("a\n{% if %}", TOKENS)
