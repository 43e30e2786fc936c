"""Ids of special tokens out of recorded tokenizer files, in every spelling that tokenizers use."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from castore.dataset import Dataset
from castore.errors import InvalidInputError
from castore.format.digest import Digest
from castore.format.files import encode_file
from castore.read.tokenizer import special_token_id, special_token_ids


def recorded(**files: Any) -> Dataset:
    """A dataset whose run keeps these JSON files of a tokenizer."""
    texts = {name: text if isinstance(text, str) else json.dumps(text) for name, text in files.items()}
    objects = {f"tokenizer/{name}.json": encode_file(text.encode()) for name, text in texts.items()}
    digests = {name: an_object.digest for name, an_object in objects.items()}
    data = {an_object.digest: an_object.data for an_object in objects.values()}

    def fetch(digest: Digest) -> bytes:
        return data[digest]

    return cast(Dataset, SimpleNamespace(run=SimpleNamespace(files=digests), fetch=fetch))


END = "<|end|>"
ADDED = {"added_tokens": [{"id": 7, "content": "<|x|>"}, {"id": 9, "content": END}], "model": {"vocab": {END: 1}}}


@pytest.mark.parametrize(
    ("tokenizer", "expected"),
    [
        (ADDED, 9),
        ({"added_tokens": None, "model": {"vocab": {"a": 0, END: 5}}}, 5),
        ({"model": {"vocab": [["a", -1.0], [END, -2.0]]}}, 1),
    ],
)
@pytest.mark.parametrize("spelling", [END, {"content": END, "lstrip": False}])
def test_the_id_is_found(tokenizer: dict[str, Any], expected: int, spelling: Any) -> None:
    data = recorded(tokenizer=tokenizer, tokenizer_config={"eos_token": spelling})
    assert special_token_id(data, "eos_token") == expected
    assert special_token_id(data, "bos_token") is None


def test_older_tokenizers_have_a_file_of_special_tokens() -> None:
    data = recorded(tokenizer=ADDED, tokenizer_config={"eos_token": None}, special_tokens_map={"eos_token": END})
    assert special_token_id(data, "eos_token") == 9


def test_without_files_there_is_no_id() -> None:
    assert special_token_id(recorded(), "eos_token") is None
    assert special_token_id(recorded(tokenizer_config={"eos_token": END}), "eos_token") is None
    assert special_token_id(cast(Dataset, SimpleNamespace(run=None)), "eos_token") is None


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        ({"model": {"vocab": {"a": 0}}}, "not in its vocabulary"),
        ({"model": {"vocab": [["a", 0.0]]}}, "not in its vocabulary"),
        ("{", "tokenizer.json: "),
        ("[]", "not a JSON object"),
        ("[" * 200_000, "nested too deeply|Expecting value"),
        ('{"model": ' * 200_000, "nested too deeply|Expecting value"),
        ('{"model": ' + "9" * 5000 + "}", "tokenizer.json: "),
        ({"model": None}, "not in its vocabulary"),
        ({"model": [END]}, "not in its vocabulary"),
        ({"model": {"vocab": None}}, "not in its vocabulary"),
        ({"model": {"vocab": END}}, "not in its vocabulary"),
        ({"model": {"vocab": [END, None, [], {}, 5, [None]]}}, "not in its vocabulary"),
        ({"model": {"vocab": {END: "five"}}}, "not in its vocabulary"),
        ({"model": {"vocab": {END: [5]}}}, "not in its vocabulary"),
        ({"model": {"vocab": {END: True}}}, "not in its vocabulary"),
        ({"model": {"vocab": {END: -1}}}, "not in its vocabulary"),
        ({"model": {"vocab": {END: 2**32}}}, "not in its vocabulary"),
        ({"added_tokens": {END: 5}}, "not in its vocabulary"),
        ({"added_tokens": 5}, "not in its vocabulary"),
        ({"added_tokens": [None, END, {"content": END}, {"content": END, "id": "9"}]}, "not in its vocabulary"),
    ],
)
def test_a_wrong_tokenizer_is_refused(tokenizer: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        special_token_id(recorded(tokenizer=tokenizer, tokenizer_config={"eos_token": END}), "eos_token")


@pytest.mark.parametrize("spelling", [5, None, [END], {"content": 5}, {"text": END}])
def test_a_role_that_is_no_text_is_no_role(spelling: Any) -> None:
    assert special_token_id(recorded(tokenizer=ADDED, tokenizer_config={"eos_token": spelling}), "eos_token") is None


def test_wrong_parts_do_not_hide_right_ones() -> None:
    added = [None, {"id": "9", "content": END, "special": True}, {"id": 9, "content": END, "special": True}]
    data = recorded(tokenizer={"added_tokens": added, "model": None}, tokenizer_config={"eos_token": END})
    assert special_token_id(data, "eos_token") == 9
    assert special_token_ids(data) == {9}


@pytest.mark.parametrize("tokenizer", ["{", "[]", "[" * 200_000, "null", {"added_tokens": 5}, {"added_tokens": [5]}])
def test_text_is_shown_without_special_tokens_where_there_are_none_to_be_read(tokenizer: Any) -> None:
    assert special_token_ids(recorded(tokenizer=tokenizer)) == frozenset()
