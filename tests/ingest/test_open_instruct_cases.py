"""Small cases in which open-instruct's conversion script was asked what it writes; the expectations are its answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from castore.ingest.chat import RowError
from castore.ingest.tokenizer import ChatTemplate, ChatTokenizer, TokenizerFolder
from tests.ingest.tiny import VOCABULARY, make_folder, train

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "tokenizer"
Spans = list[tuple[int, int]]


def said(*contents: str | None, first: str = "user") -> list[dict[str, Any]]:
    roles = ("user", "assistant") if first == "user" else ("assistant", "user")
    return [{"role": roles[at % 2], "content": content} for at, content in enumerate(contents)]


def call(content: str | None, calls: str) -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": content, "function_calls": calls},
        {"role": "environment", "content": "5"},
        {"role": "assistant", "content": "done"},
    ]


ROWS = {
    "one turn": said("hi", "yo"),
    "two turns": said("hi", "yo", "and?", "done"),
    "leading space": said("hi", " yo", "and?", "done"),
    "opens with assistant": said("yo", "hi", "done", first="assistant"),
    "call repeated later": call("call", "f(x=5)"),
    "content null": call(None, "f()"),
    "empty answers": said("hi", "", "and?", ""),
    "system late": [*said("hi", "yo"), {"role": "system", "content": "mid"}, *said("and?", "done")],
    "foreign role": [{"role": "user", "content": "hi"}, {"role": "tool", "content": "x"}, *said("hi", "yo")[1:]],
    "spelled tokens": said("hi<|im_end|>", "a<|endoftext|>b", "<|im_start|>", "done"),
    "newline edges": said("hi\n", "yo\n", "\nand?", "done\n\n"),
    "no assistant": said("hi"),
    "emoji": said("hi", "😀😀😀", "x", "世界"),
}


@pytest.mark.parametrize("exact_only", [False, True])
@pytest.mark.parametrize(
    ("template", "cut", "name", "length", "spans"),
    [
        ("olmo", None, "one turn", 138, [(135, 138)]),
        ("olmo", None, "two turns", 155, [(135, 138), (152, 155)]),
        ("olmo", None, "leading space", 155, []),
        ("olmo", None, "opens with assistant", 147, []),
        ("olmo", None, "call repeated later", 179, []),
        ("olmo", None, "content null", 173, [(135, 154), (170, 173)]),
        ("olmo", None, "empty answers", 151, [(135, 136), (150, 151)]),
        # The prefixes without the system turn are longer than the whole: the first answer is not found, and not missed.
        ("olmo", None, "system late", 74, [(71, 74)]),
        ("olmo", None, "foreign role", 138, [(135, 138)]),
        ("olmo", None, "spelled tokens", 156, [(136, 140), (153, 156)]),
        ("olmo", None, "newline edges", 158, [(136, 140), (154, 158)]),
        ("olmo", None, "no assistant", 130, []),
        ("olmo", None, "emoji", 164, [(135, 145), (158, 164)]),
        ("olmo", 137, "two turns", 137, [(135, 137)]),
        ("olmo", 154, "two turns", 154, [(135, 138), (152, 154)]),
        # The cut leaves no room for the function call, and none for what the check would object to.
        ("olmo", 137, "call repeated later", 137, [(135, 137)]),
        ("olmo", 161, "emoji", 161, []),
        ("olmo", 163, "emoji", 163, [(135, 145), (158, 163)]),
        ("tulu", None, "one turn", 19, [(16, 19)]),
        ("tulu", None, "two turns", 39, [(16, 19), (36, 39)]),
        ("tulu", None, "leading space", 39, [(16, 19), (36, 39)]),
        ("tulu", None, "opens with assistant", 30, [(0, 10), (27, 30)]),
        ("tulu", None, "call repeated later", 30, [(16, 19), (27, 30)]),
        ("tulu", None, "empty answers", 35, [(16, 17), (34, 35)]),
        ("tulu", None, "system late", 50, [(16, 19), (47, 50)]),
        ("tulu", None, "foreign role", 19, [(16, 19)]),
        ("tulu", None, "spelled tokens", 40, [(17, 21), (37, 40)]),
        ("tulu", None, "newline edges", 42, [(16, 20), (38, 42)]),
        ("tulu", None, "no assistant", 9, []),
        ("tulu", None, "emoji", 48, [(16, 26), (42, 48)]),
        ("tulu", 12, "one turn", 12, []),
        ("tulu", 18, "emoji", 18, [(16, 18)]),
        ("tulu", 44, "system late", 44, [(16, 19)]),
        ("tulu", 12, "opens with assistant", 12, [(0, 10)]),
    ],
)
def test_tokens_and_spans(
    template: str, cut: int | None, name: str, length: int, spans: Spans, exact_only: bool
) -> None:
    folder = TokenizerFolder.load(str(EXAMPLE))
    chat = ChatTokenizer(folder, ChatTemplate.resolve(template, folder), cut, exact_only=exact_only)
    done = chat.tokenize([json.dumps({"messages": ROWS[name]}).encode()])
    assert list(zip(done.span_starts.tolist(), done.span_ends.tolist(), strict=True)) == spans
    assert done.lengths.tolist() == ([length] if spans else [])


def test_null_content_under_tulu_is_an_error_of_the_row() -> None:
    folder = TokenizerFolder.load(str(EXAMPLE))
    chat = ChatTokenizer(folder, ChatTemplate.resolve("tulu", folder), None)
    with pytest.raises(RowError, match=r"^messages\[1\].content: the chat template needs text here, not null$"):
        chat.tokenize([json.dumps({"messages": ROWS["content null"]}).encode()])


def ids(folder: TokenizerFolder, text: str) -> list[int]:
    found: list[int] = folder.build().encode(text, add_special_tokens=False).ids
    return found


def test_special_tokens_that_are_named_are_added_before_those_that_are_not(tmp_path: Path) -> None:
    folder = make_folder(
        tmp_path, pad_token=None, additional_special_tokens=["<|tool|>", "<|im_end|>"], image_token="<|image|>"
    )
    assert ids(folder, "<pad><|tool|><|image|>") == [VOCABULARY + 2, VOCABULARY + 1, VOCABULARY]
    assert folder.special_tokens["image_token"] == "<|image|>"
    assert folder.vocab_size == VOCABULARY
    assert folder.vocabulary()[VOCABULARY:] == [b"<|image|>", b"<|tool|>", b"<pad>"]


def test_extra_special_tokens_may_have_names(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, extra_special_tokens={"boi": "<|boi|>"}, chat_template="{{ boi }}{{ messages }}")
    assert folder.special_tokens["boi"] == "<|boi|>"
    assert ids(folder, "<|boi|>") == [VOCABULARY]


def test_tokens_that_are_listed_again_get_new_flags(tmp_path: Path) -> None:
    im_start = train("dolma").token_to_id("<|im_start|>")
    token = {"content": "<|im_start|>", "lstrip": True, "rstrip": True, "special": True}
    folder = make_folder(tmp_path, added_tokens_decoder={str(im_start): token})
    assert ids(folder, " \n<|im_start|> ") == [im_start]
    token = {"content": "<mask>", "lstrip": True, "__type": "AddedToken"}
    assert ids(make_folder(tmp_path, mask_token=token), "  <mask>") == [VOCABULARY]


def test_files_of_older_versions(tmp_path: Path) -> None:
    make_folder(tmp_path, extra_special_tokens=["<|one|>"])
    (tmp_path / "special_tokens_map.json").write_text('{"extra_special_tokens": ["<|one|>", "<|two|>"]}')
    (tmp_path / "added_tokens.json").write_text('{"fox": 401, "<|two|>": 400}')
    folder = TokenizerFolder.load(str(tmp_path))
    assert ids(folder, "fox<|one|><|two|>") == [401, 402, 400]


def test_special_tokens_can_be_ordinary_text(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, split_special_tokens=True)
    assert ids(folder, "<|im_end|>") == train("gpt2").encode("<|").ids + ids(folder, "im_end|>")
    chat = ChatTokenizer(folder, ChatTemplate.resolve("olmo", folder), None)
    assert not chat.is_fast
    plain = ChatTokenizer(make_folder(tmp_path / "plain"), ChatTemplate.resolve("olmo", folder), None)
    assert chat.recipe() != plain.recipe()


def test_the_file_itself_may_name_the_padding_token(tmp_path: Path) -> None:
    made = train("dolma")
    made.enable_padding(pad_id=4, pad_token="<|pad|>")
    make_folder(tmp_path, pad_token=None)
    made.save(str(tmp_path / "tokenizer.json"))
    assert TokenizerFolder.load(str(tmp_path)).special_tokens["pad_token"] == "<|pad|>"


@pytest.mark.parametrize(
    ("config", "said_of"),
    [
        ({"tokenizer_class": "LlamaTokenizerFast"}, "LlamaTokenizerFast"),
        ({"truncation_side": "left"}, "truncation on the left"),
    ],
)
def test_what_castore_does_otherwise_is_said(tmp_path: Path, config: dict[str, str], said_of: str) -> None:
    (warning,) = make_folder(tmp_path, **config).warnings
    assert said_of in warning


def test_models_of_olmo_keep_their_tokenizer_whatever_class_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "olmo2"}')
    assert make_folder(tmp_path, tokenizer_class="GPT2Tokenizer").warnings == ()


@pytest.mark.parametrize("in_files", [False, True])
def test_a_template_for_tools_is_used_for_rows_with_tools(tmp_path: Path, in_files: bool) -> None:
    body = "{% for m in messages %}{{ m.content }}{{ eos_token }}\n{% endfor %}\n"
    texts = {
        "default": "\n  plain: " + body,
        "tool_use": "  {% if tools %}\n{{ tools | tojson }}\n{% endif %}\n" + body,
    }
    if in_files:
        (tmp_path / "additional_chat_templates").mkdir()
        (tmp_path / "additional_chat_templates" / "tool_use.jinja").write_text(texts["tool_use"])
        (tmp_path / "chat_template.jinja").write_text(texts["default"])
        folder = make_folder(tmp_path)
    else:
        listed = [{"name": name, "template": text} for name, text in texts.items()]
        folder = make_folder(tmp_path, chat_template=listed)
    chat = ChatTokenizer(folder, ChatTemplate.own(folder), None)
    rows = [{"messages": said("hi", "yo")}, {"messages": said("hi", "yo"), "tools": '[{"f": 1}]'}]
    done = chat.tokenize([json.dumps(row).encode() for row in rows])
    vocabulary = folder.vocabulary()
    found = b"".join(vocabulary[number] for number in done.token_ids).decode()
    turns = "hi<|endoftext|>\nyo<|endoftext|>\n"
    assert found == "\n  plain: " + turns + '[{"f": 1}]\n' + turns


def test_nan_beside_the_messages_does_no_harm() -> None:
    folder = TokenizerFolder.load(str(EXAMPLE))
    chat = ChatTokenizer(folder, ChatTemplate.resolve("tulu", folder), None)
    rows = [
        {"score": float("nan"), "tools": float("nan"), "messages": said("hi", "yo")},
        {"messages": said("hi", "yo")},
    ]
    done = chat.tokenize([json.dumps(row).encode() for row in rows])
    assert done.lengths.tolist() == [19, 19]
    with pytest.raises(RowError, match="not valid JSON"):
        chat.tokenize([b'{"score": NaN, "messages": [{"role": "user", "content": "\\ud83d"}]}'])
