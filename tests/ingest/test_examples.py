"""The data that ships with castore is what its scripts make, and covers what the README and the tests need of it."""

from __future__ import annotations

import collections
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from castore.ingest.source import Source

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
CONVERSATIONS = EXAMPLES / "conversations.jsonl"
TOKENIZER = EXAMPLES / "tokenizer"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return [json.loads(row) for block in Source(str(CONVERSATIONS)).blocks() for row in block.rows]


@pytest.fixture(scope="module")
def shipped() -> Tokenizer:
    return Tokenizer.from_file(str(TOKENIZER / "tokenizer.json"))


# -- conversations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_the_script_makes_the_shipped_conversations(tmp_path: Path, hash_seed: str) -> None:
    output = tmp_path / "conversations.jsonl"
    subprocess.run(
        [sys.executable, str(EXAMPLES / "make_conversations.py"), str(output)],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONIOENCODING": "utf-8"},
    )
    assert output.read_bytes() == CONVERSATIONS.read_bytes()


def test_the_conversations_are_few_and_distinct(rows: list[dict[str, Any]]) -> None:
    assert 280 <= len(rows) <= 320
    assert 150_000 <= CONVERSATIONS.stat().st_size <= 300_000
    assert len({row["id"] for row in rows}) == len(rows)


def test_the_conversations_cover_what_tokenizing_meets(rows: list[dict[str, Any]]) -> None:
    roles = collections.Counter(message["role"] for row in rows for message in row["messages"])
    assert set(roles) == {"system", "user", "assistant", "environment"}
    turns = [[message["role"] for message in row["messages"]] for row in rows]
    assert sum("assistant" not in roles for roles in turns) == 3
    assert sum(roles.count("assistant") == 1 for roles in turns) > 100
    assert sum(roles.count("assistant") > 1 for roles in turns) > 100
    assert sum("tools" in row for row in rows) == 8
    assistants = [message for row in rows for message in row["messages"] if message["role"] == "assistant"]
    assert sum(message["content"] is None and bool(message["function_calls"]) for message in assistants) > 40
    text = CONVERSATIONS.read_text(encoding="utf-8")
    assert all(piece in text for piece in ("ß", "¿", "质数", "🦒", "```python", "\\t"))


def test_each_message_has_either_two_fields_or_four(rows: list[dict[str, Any]]) -> None:
    shapes = {tuple(message) for row in rows for message in row["messages"]}
    assert shapes == {("role", "content"), ("role", "content", "functions", "function_calls")}


# -- tokenizer ---------------------------------------------------------------------------------------------------------


def test_training_again_gives_the_same_token_ids(shipped: Tokenizer, rows: list[dict[str, Any]]) -> None:
    # Ids, not files: how a tokenizer is written down differs between versions of the library.
    again = script("make_tokenizer").train()
    texts = [message["content"] or "" for row in rows for message in row["messages"]]
    texts += ["never seen: Zwölfkämpfer, ñandú, 龙虾, \x00\x7f, 🏔️", "<|im_start|>user\n12345<|im_end|>\n", "  \t\r\n x"]
    for ours, theirs in zip(again.encode_batch(texts), shipped.encode_batch(texts), strict=True):
        assert ours.ids == theirs.ids


def test_the_other_files_are_what_the_script_writes(tmp_path: Path, shipped: Tokenizer) -> None:
    script("make_tokenizer").write(shipped, tmp_path)
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        assert (tmp_path / name).read_bytes() == (TOKENIZER / name).read_bytes()


def test_every_text_survives_encoding(shipped: Tokenizer, rows: list[dict[str, Any]]) -> None:
    texts = [message["content"] for row in rows for message in row["messages"] if message["content"]]
    texts += ["\x00\r\n\t ", "e\u0301 \u200d 🏴‍☠️", "".join(map(chr, range(1, 400))), " " * 50 + "x"]
    for text in texts:
        assert shipped.decode(shipped.encode(text).ids, skip_special_tokens=False) == text


def test_special_tokens_are_inside_the_vocabulary(shipped: Tokenizer) -> None:
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
    assert [shipped.token_to_id(token) for token in specials] == [0, 1, 2, 3]
    assert shipped.get_vocab_size(with_added_tokens=True) == shipped.get_vocab_size(with_added_tokens=False) == 3000
    config = json.loads((TOKENIZER / "tokenizer_config.json").read_text())
    assert [config[f"{kind}_token"] for kind in ("bos", "eos", "unk", "pad")] == [*["<|endoftext|>"] * 3, "<|pad|>"]


def render(messages: list[dict[str, Any]], *, prompt: bool = False, tools: Any = None) -> str:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = json.dumps
    template = environment.from_string((TOKENIZER / "chat_template.jinja").read_text(encoding="utf-8"))
    return template.render(messages=messages, tools=tools, add_generation_prompt=prompt, eos_token="<|endoftext|>")


def test_the_template_closes_the_last_answer_and_the_turns_before_it() -> None:
    messages = [
        {"role": "system", "content": "S", "functions": "[]"},
        {"role": "user", "content": "U"},
        {"role": "assistant", "content": None, "function_calls": "f(x=1)"},
        {"role": "environment", "content": "1", "functions": None, "function_calls": None},
        {"role": "assistant", "content": "A"},
    ]
    before = (
        "<|im_start|>system\nS\n<functions>[]</functions><|im_end|>\n<|im_start|>user\nU<|im_end|>\n"
        "<|im_start|>assistant\n<function_calls>f(x=1)</function_calls><|im_end|>\n"
        "<|im_start|>environment\n1<|im_end|>\n<|im_start|>assistant\n"
    )
    assert render(messages) == before + "A<|endoftext|>"
    assert render(messages[:-1], prompt=True) == before
    assert render([], tools=[{"name": "f"}]) == '<|im_start|>system\n<functions>[{"name": "f"}]</functions><|im_end|>\n'


def test_the_template_renders_every_conversation(shipped: Tokenizer, rows: list[dict[str, Any]]) -> None:
    lengths = []
    for row in rows:
        tools = json.loads(row["tools"]) if row.get("tools") else None
        lengths.append(len(shipped.encode(render(row["messages"], tools=tools))))
    assert min(lengths) < 30
    assert max(lengths) > 300
    assert 25_000 < sum(lengths) < 100_000
