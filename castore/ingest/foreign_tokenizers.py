"""Tokenizers in files of other kinds: what they are, and how to make a ``tokenizer.json`` of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from castore.store.files import open_regular

# A line of tiktoken's: a token in base64, and its rank.
_TIKTOKEN_LINE = re.compile(rb"[A-Za-z0-9+/]+={0,2} [0-9]+\r?\n")
_SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "spm.model")


def conversion_of(paths: Iterable[Path]) -> str:
    """How to convert the first of these files that is a tokenizer, as the end of a sentence; empty if none is."""
    names = {path.name: path for path in paths}
    for name, path in names.items():
        if name.endswith(".tiktoken") or (name in _SENTENCEPIECE and _TIKTOKEN_LINE.match(_head(path))):
            return (
                f": {name} is one of tiktoken, which castore does not read; with transformers, "
                "convert_tiktoken_to_fast of transformers.integrations.tiktoken writes a folder with a tokenizer.json, "
                "given the Encoding (ranks, pattern and special tokens, which this file does not hold)"
            )
    for name, path in names.items():
        if name.startswith("tekken") and name.endswith(".json"):
            return (
                f": {name} is one of mistral-common (tekken), which castore does not read; take the tokenizer.json of "
                f"the same model, or {_transformers(path.parent)}"
            )
    for name, path in names.items():
        if name in _SENTENCEPIECE:
            return f": {name} is one of SentencePiece, which castore does not read; {_transformers(path.parent)}"
    if {"vocab.json", "merges.txt"} <= names.keys():
        return f": vocab.json and merges.txt are not read; {_transformers(names['vocab.json'].parent)}"
    if "vocab.txt" in names:
        return f": vocab.txt is not read; {_transformers(names['vocab.txt'].parent)}"
    return ""


def _transformers(folder: Path) -> str:
    return (
        'with transformers, python -c "from transformers import AutoTokenizer as T; '
        f"T.from_pretrained('{folder}').save_pretrained('DIR')\" writes a folder DIR with a tokenizer.json"
    )


def _head(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read(4096)
    except OSError:
        return b""
