"""Batches to tokens and spans: what is kept, dropped, refused, and what the recipe says."""

from __future__ import annotations

import datetime
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from castore.errors import InvalidInputError, MissingExtraError
from castore.ingest.tokenizer import ChatTemplate, ChatTokenizer, RowError, TokenizedRows, TokenizerFolder
from tests.ingest.tiny import as_rows, make_folder

TALK = [
    {"role": "user", "content": "Say fox"},
    {"role": "assistant", "content": "The fox é 世界"},
    {"role": "user", "content": "Again"},
    {"role": "assistant", "content": "fox fox"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> TokenizerFolder:
    return make_folder(tmp_path_factory.mktemp("tok"))


def tokenizer(folder: TokenizerFolder, template: str = "tulu", length: int | None = None, **more: Any) -> ChatTokenizer:
    return ChatTokenizer(folder, ChatTemplate.resolve(template, folder), length, **more)


def trained_texts(folder: TokenizerFolder, result: TokenizedRows) -> list[list[str]]:
    """Return the text of every span, per row, and check the shapes on the way."""
    vocabulary = folder.vocabulary()
    assert result.token_ids.size == result.lengths.sum()
    assert result.span_starts.size == result.span_ends.size == result.span_counts.sum()
    assert {array.dtype for array in (result.rows, result.lengths, result.token_ids, result.span_counts)} == {
        np.dtype(np.uint32)
    }
    texts, token, span = [], 0, 0
    for length, count in zip(result.lengths.tolist(), result.span_counts.tolist(), strict=True):
        row = result.token_ids[token : token + length]
        pairs = zip(result.span_starts[span : span + count], result.span_ends[span : span + count], strict=True)
        texts.append([b"".join(vocabulary[number] for number in row[a:b]).decode(errors="replace") for a, b in pairs])
        token, span = token + length, span + count
    return texts


@pytest.mark.parametrize("exact_only", [False, True])
def test_what_is_trained_on(folder: TokenizerFolder, exact_only: bool) -> None:
    rows = as_rows([TALK, TALK[1:]])
    tulu = tokenizer(folder, "tulu", exact_only=exact_only).tokenize(rows)
    # The newline behind an earlier turn belongs to nobody.
    both = ["The fox é 世界<|endoftext|>", "fox fox<|endoftext|>"]
    # Nothing comes before a conversation that opens with the assistant, so its header is trained on.
    assert trained_texts(folder, tulu) == [both, ["<|assistant|>\n" + both[0], both[1]]]
    olmo = tokenizer(folder, "olmo", exact_only=exact_only).tokenize(rows)
    # The same, under a template that closes the last turn otherwise: the opening turn cannot be told from the system's.
    assert trained_texts(folder, olmo) == [["The fox é 世界<|im_end|>", "fox fox<|endoftext|>"]]
    assert olmo.dropped == [(1, "labels-not-derivable")]
    last = tokenizer(folder, "tulu", exact_only=exact_only, last_turn_only=True).tokenize(rows)
    assert trained_texts(folder, last) == [[both[1]], [both[1]]]


@pytest.mark.parametrize("exact_only", [False, True])
def test_every_dropped_row_has_a_reason(folder: TokenizerFolder, exact_only: bool) -> None:
    leading = [TALK[0], {"role": "assistant", "content": " led by space"}, *TALK[2:]]
    echo = [
        TALK[0],
        {"role": "assistant", "content": "call", "function_calls": "f(x=5)"},
        {"role": "user", "content": "5"},
    ]
    rows = as_rows([[TALK[0]], TALK, leading, echo])
    result = tokenizer(folder, "olmo", exact_only=exact_only).tokenize(rows)
    assert result.rows.tolist() == [1]
    assert result.dropped == [(0, "nothing-trainable"), (2, "labels-not-derivable"), (3, "labels-not-derivable")]


@pytest.mark.parametrize("exact_only", [False, True])
def test_a_cut_inside_a_character_is_told_apart(folder: TokenizerFolder, exact_only: bool) -> None:
    talk = [TALK[0], {"role": "assistant", "content": "x \U000e0041\U000e0041"}, {"role": "user", "content": "y"}]
    whole = tokenizer(folder, "olmo").tokenize(as_rows([talk]))
    reasons = []
    for length in range(1, int(whole.lengths[0]) + 1):
        result = tokenizer(folder, "olmo", length, exact_only=exact_only).tokenize(as_rows([talk]))
        assert result.lengths.tolist() in ([length], [])
        reasons += [reason for _, reason in result.dropped]
    assert reasons[0] == "nothing-trainable"
    assert reasons.count("cut-inside-character") == 6  # three of the four bytes, twice


def test_text_that_spells_added_tokens_becomes_them(folder: TokenizerFolder) -> None:
    talk = [TALK[0], {"role": "assistant", "content": "a<|endoftext|>b|||EMAIL_ADDRESS|||"}]
    result = tokenizer(folder).tokenize(as_rows([talk]))
    ids = folder.build().get_vocab()
    assert result.token_ids.tolist().count(ids["<|endoftext|>"]) == 2
    assert result.token_ids.tolist().count(ids["|||EMAIL_ADDRESS|||"]) == 1


def test_a_bad_row_stops_with_its_place_or_is_skipped(folder: TokenizerFolder) -> None:
    good = as_rows([TALK])[0]
    rows = [good, b'{"messages": [{"role": "user", "content": null}]}', good, b"{}"]
    with pytest.raises(RowError) as caught:
        tokenizer(folder).tokenize(rows)
    assert (caught.value.index, caught.value.field) == (1, "messages[0].content")
    assert caught.value.reason == "the chat template needs text here, not null"
    result = tokenizer(folder).tokenize(rows, on_error="skip")
    assert result.rows.tolist() == [0, 2]
    assert result.dropped == [
        (1, "bad-row: messages[0].content: the chat template needs text here, not null"),
        (3, "bad-row: messages: this column is missing"),
    ]
    with pytest.raises(InvalidInputError, match="on_error"):
        tokenizer(folder).tokenize(rows, on_error="ignore")


def test_no_rows_and_no_kept_rows_are_fine(folder: TokenizerFolder) -> None:
    for rows in ([], as_rows([[TALK[0]]])):
        result = tokenizer(folder).tokenize(rows)
        assert result.rows.size == result.token_ids.size == result.span_starts.size == 0
        assert result.rows.dtype == result.span_ends.dtype == np.uint32
        assert len(result.dropped) == len(rows)


def test_batching_changes_nothing(folder: TokenizerFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = as_rows([TALK[: 1 + number % 4] for number in range(40)])
    whole = tokenizer(folder, "olmo").tokenize(rows)
    singles = [tokenizer(folder, "olmo").tokenize([row]) for row in rows[:8]]
    monkeypatch.setattr("castore.ingest.tokenizer._STRETCH_BYTES", 500)
    stretched = tokenizer(folder, "olmo").tokenize(rows)
    for name in ("rows", "lengths", "token_ids", "span_counts", "span_starts", "span_ends"):
        assert np.array_equal(getattr(whole, name), getattr(stretched, name))
    assert whole.dropped == stretched.dropped
    assert [bool(one.rows.size) for one in singles] == [False, True, True, True] * 2


def test_tools_reach_the_template(folder: TokenizerFolder, tmp_path: Path) -> None:
    path = tmp_path / "tools.jinja"
    path.write_text("{{ tools | tojson }}:{% for m in messages %}{{ m.content }}{% endfor %}")
    chat = tokenizer(folder, str(path))
    row = {"messages": [{"role": "assistant", "content": "é"}], "tools": '{"n": 12345678901234567890123}'}
    result = chat.tokenize([json.dumps(row).encode()])
    assert trained_texts(folder, result) == [['[{"n": 12345678901234567890123}]:é']]
    row["tools"] = '[{"a": "\\ud800"}]'
    with pytest.raises(RowError, match=r"messages: the chat template refused the row.*surrogates not allowed"):
        chat.tokenize([json.dumps(row).encode()])


def test_a_template_that_raises_for_the_row_is_a_row_error(folder: TokenizerFolder, tmp_path: Path) -> None:
    path = tmp_path / "strict.jinja"
    path.write_text("{{ raise_exception('roles must\\nalternate') }}")
    with pytest.raises(RowError, match=r"^messages: the chat template refused the row: roles must alternate$"):
        tokenizer(folder, str(path)).tokenize(as_rows([TALK]))


def test_it_travels_to_worker_processes(folder: TokenizerFolder) -> None:
    template = ChatTemplate.resolve("olmo", folder)
    there, template_there = pickle.loads(pickle.dumps((folder, template)))
    assert there == folder
    here = tokenizer(folder, "olmo").tokenize(as_rows([TALK]))
    away = ChatTokenizer(there, template_there, None).tokenize(as_rows([TALK]))
    assert np.array_equal(here.token_ids, away.token_ids)


def canonical(value: object) -> bool:
    if isinstance(value, dict):
        return all(type(key) is str and canonical(item) for key, item in value.items())
    return value is None or type(value) in (str, int, bytes)


def test_the_recipe_holds_what_decides_tokens_and_nothing_else(folder: TokenizerFolder, tmp_path: Path) -> None:
    base = tokenizer(folder, "olmo", 128).recipe()
    assert canonical(base)
    elsewhere = make_folder(tmp_path / "copy")
    assert tokenizer(elsewhere, "olmo", 128).recipe() == base
    assert tokenizer(folder, "olmo_thinker", 128).recipe()["template"] != base["template"]
    assert tokenizer(folder, "olmo", 128, exact_only=True).recipe() == base
    text = tmp_path / "same.jinja"
    text.write_text(ChatTemplate.resolve("olmo", folder).text)
    assert tokenizer(folder, str(text), 128).recipe() == base
    others = [
        tokenizer(folder, "olmo", 129),
        tokenizer(folder, "olmo"),
        tokenizer(folder, "tulu", 128),
        tokenizer(folder, "olmo", 128, last_turn_only=True),
        tokenizer(make_folder(tmp_path / "kind", "gpt2"), "olmo", 128),
        tokenizer(make_folder(tmp_path / "eos", eos_token="<|im_end|>"), "olmo", 128),
    ]
    seen = [json.dumps(other.recipe(), sort_keys=True) for other in others]
    assert len({*seen, json.dumps(base, sort_keys=True)}) == len(others) + 1


def test_a_template_that_reads_the_clock_has_the_date_in_its_recipe(folder: TokenizerFolder, tmp_path: Path) -> None:
    path = tmp_path / "clock.jinja"
    path.write_text("{{ strftime_now('%d %b') }}")
    now = datetime.datetime(2026, 12, 1)
    assert tokenizer(folder, str(path), now=now).recipe()["date"] == "2026-12-01"
    later = tokenizer(folder, str(path), now=now + datetime.timedelta(seconds=5)).recipe()
    assert later["date"] == "2026-12-01T00:00:05"
    assert "date" not in tokenizer(folder, now=now).recipe()


def test_lengths_below_one_are_refused(folder: TokenizerFolder) -> None:
    with pytest.raises(InvalidInputError, match="at least 1, not 0"):
        tokenizer(folder, length=0)


def test_a_missing_library_says_how_to_get_it(folder: TokenizerFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = tokenizer(folder)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match=r"tokenizers .*castore\[tokenize\]"):
        chat.tokenize(as_rows([TALK]))
