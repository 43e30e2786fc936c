"""Ids of special tokens, read from the tokenizer files that a run record keeps."""

from __future__ import annotations

import json
from typing import Any

from castore.errors import InvalidInputError
from castore.format.files import decode_file
from castore.view.dataset import Dataset

_FOLDER = "tokenizer/"


def special_token_id(data: Dataset, role: str) -> int | None:
    """The id of a special token such as ``eos_token``.

    Args:
        data: A dataset whose run record keeps ``tokenizer/tokenizer.json`` and ``tokenizer/tokenizer_config.json``.
        role: Its key in ``tokenizer_config.json`` (or in ``special_tokens_map.json`` of older tokenizers).

    Returns:
        None if nothing was recorded, or the tokenizer has no such token.

    Raises:
        InvalidInputError: A recorded tokenizer file is no JSON object, or does not know the token.
    """
    text = next(
        (
            found
            for name in ("tokenizer_config.json", "special_tokens_map.json")
            if (found := _text_of(_json(data, name).get(role))) is not None
        ),
        None,
    )
    tokenizer = _json(data, "tokenizer.json")
    if text is None or not tokenizer:
        return None
    for token in tokenizer.get("added_tokens") or []:
        if token.get("content") == text:
            return int(token["id"])
    vocabulary = tokenizer.get("model", {}).get("vocab", {})
    if isinstance(vocabulary, dict) and text in vocabulary:
        return int(vocabulary[text])
    if isinstance(vocabulary, list):  # unigram models list pieces with scores
        ids = (index for index, piece in enumerate(vocabulary) if piece[0] == text)
        if (found_id := next(ids, None)) is not None:
            return found_id
    raise InvalidInputError(f"{role} {text!r} of the recorded tokenizer is not in its vocabulary: give the id")


def special_token_ids(data: Dataset) -> frozenset[int]:
    """Ids of the tokens that the recorded tokenizer calls special; none if nothing was recorded."""
    added = _json(data, "tokenizer.json").get("added_tokens") or []
    return frozenset(int(token["id"]) for token in added if token.get("special"))


def _text_of(value: Any) -> str | None:
    """A token as configurations spell it: a string, or a map with its content."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _json(data: Dataset, name: str) -> dict[str, Any]:
    files = data.run.files if data.run else {}
    if _FOLDER + name not in files:
        return {}
    try:
        value = json.loads(decode_file(data.fetch(files[_FOLDER + name])))
    except ValueError as error:
        raise InvalidInputError(f"recorded tokenizer file {name}: {error}") from error
    if not isinstance(value, dict):
        raise InvalidInputError(f"recorded tokenizer file {name} is not a JSON object")
    return value
