"""Ids of special tokens, read from the tokenizer files that a run record keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from castore.errors import InvalidInputError
from castore.format.files import decode_file
from castore.read.columns import Columns

_FOLDER = "tokenizer/"


def special_token_id(data: Columns, role: str) -> int | None:
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
    found_id = next((number for number, token in _added(tokenizer) if token.get("content") == text), None)
    if found_id is None:
        found_id = _id_in(_map(tokenizer.get("model")).get("vocab"), text)
    if found_id is not None:
        return found_id
    raise InvalidInputError(f"{role} {text!r} of the recorded tokenizer is not in its vocabulary: give the id")


def special_token_ids(data: Columns) -> frozenset[int]:
    """Ids of the tokens that the recorded tokenizer calls special; none if nothing readable was recorded."""
    try:
        tokenizer = _json(data, "tokenizer.json")
    except InvalidInputError:  # text can be shown without them
        return frozenset()
    return frozenset(number for number, token in _added(tokenizer) if token.get("special"))


def _added(tokenizer: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The added tokens with their ids; what is none is passed over, since anybody may have written the file."""
    added = tokenizer.get("added_tokens")
    for token in map(_map, added if isinstance(added, list) else []):
        if _is_id(token.get("id")):
            yield token["id"], token


def _id_in(vocabulary: Any, text: str) -> int | None:
    """The id of a token in the vocabulary of a model: a map to ids, or a list of pieces with scores."""
    if isinstance(vocabulary, dict):
        return vocabulary[text] if _is_id(vocabulary.get(text)) else None
    pieces = enumerate(vocabulary if isinstance(vocabulary, list) else [])
    return next((index for index, piece in pieces if isinstance(piece, list) and piece[:1] == [text]), None)


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**32


def _map(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text_of(value: Any) -> str | None:
    """A token as configurations spell it: a string, or a map with its content."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _json(data: Columns, name: str) -> dict[str, Any]:
    files = data.run.files if data.run else {}
    if _FOLDER + name not in files:
        return {}
    try:
        value = json.loads(decode_file(data.fetch(files[_FOLDER + name])))
    except ValueError as error:
        raise InvalidInputError(f"recorded tokenizer file {name}: {error}") from error
    except RecursionError as error:
        raise InvalidInputError(f"recorded tokenizer file {name} is nested too deeply to be read") from error
    if not isinstance(value, dict):
        raise InvalidInputError(f"recorded tokenizer file {name} is not a JSON object")
    return value
