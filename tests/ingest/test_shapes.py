"""Shapes of rows other than messages: what each becomes, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from castore.errors import InvalidInputError, SourceError
from castore.format.run import Run
from castore.ingest.chat import RowError, json_parser, parse_row
from castore.repository import Repository
from castore.store.backend import MemoryBackend
from tests.support.jobs import run_job, write_rows

Row = dict[str, Any]


def said(*pairs: tuple[str, str | None]) -> list[Row]:
    return [{"role": role, "content": content} for role, content in pairs]


def parse(row: Row, format_name: str = "messages") -> tuple[list[Row], Any]:
    return tuple(parse_row(json.dumps(row).encode(), *json_parser(), format_name))  # type: ignore[return-value]  # two


TURNS = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]

GOOD: list[tuple[str, Row, list[Row]]] = [
    ("sharegpt", {"conversations": TURNS}, said(("user", "q"), ("assistant", "a"))),
    ("sharegpt", {"conversations": TURNS, "system": "s", "messages": 7},
     said(("system", "s"), ("user", "q"), ("assistant", "a"))),
    ("sharegpt", {"conversations": TURNS, "system": ""}, said(("user", "q"), ("assistant", "a"))),
    ("sharegpt", {"conversations": [{"from": "observation", "value": "o", "weight": 0, "x": None}]},
     [{"role": "tool", "content": "o", "weight": 0}]),
    ("sharegpt", {"conversations": said(("user", "q"), ("assistant", "a"))}, said(("user", "q"), ("assistant", "a"))),
    ("alpaca", {"instruction": "q", "input": "", "output": "a"}, said(("user", "q"), ("assistant", "a"))),
    ("alpaca", {"instruction": "q", "output": "a", "system": "s", "history": [["q0", "a0"]], "input": "i"},
     said(("system", "s"), ("user", "q0"), ("assistant", "a0"), ("user", "q\n\ni"), ("assistant", "a"))),
    ("prompt-completion", {"prompt": "q", "completion": "a"}, said(("user", "q"), ("assistant", "a"))),
    ("prompt-completion", {"prompt": said(("system", "s"), ("user", "q")), "completion": said(("assistant", "a"))},
     said(("system", "s"), ("user", "q"), ("assistant", "a"))),
    ("messages", {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b",
     "cache": None}]}, {"role": "assistant", "content": []}]}, said(("user", "ab"), ("assistant", ""))),
]  # fmt: skip


@pytest.mark.parametrize(("format_name", "row", "messages"), GOOD)
def test_what_a_row_becomes(format_name: str, row: Row, messages: list[Row]) -> None:
    tools = [{"name": "f"}]
    assert parse(row, format_name) == (messages, None)
    assert parse(row | {"tools": tools}, format_name) == (messages, tools)


BAD: list[tuple[str, Row, str, str]] = [
    ("sharegpt", {"messages": []}, "conversations", "which looks like messages: give --format messages"),
    ("sharegpt", {"conversations": "x"}, "conversations", "must be a list"),
    ("sharegpt", {"conversations": []}, "conversations", "must not be empty"),
    ("sharegpt", {"conversations": [7]}, "conversations[0]", "must be an object"),
    ("sharegpt", {"conversations": [{"from": "alien", "value": "x"}]}, "conversations[0].from", "none of system"),
    ("sharegpt", {"conversations": [{"value": "x"}]}, "conversations[0].from", "is missing"),
    ("sharegpt", {"conversations": [{"from": "human"}]}, "conversations[0].value", "is missing"),
    ("sharegpt", {"conversations": [{"from": "human", "value": "x", "role": "user"}]}, "conversations[0]", "has both"),
    ("sharegpt", {"conversations": [{"from": "system", "value": "x"}], "system": "y"}, "system", "one must go"),
    ("alpaca", {"instruction": "q"}, "output", "this column is missing"),
    ("alpaca", {"instruction": "q", "output": 7}, "output", "must be a string"),
    ("alpaca", {"instruction": "q", "output": "a", "history": [["x"]]}, "history[0]", "two strings"),
    ("prompt-completion", {"prompt": "q", "completion": []}, "prompt", "must be a string, or a list"),
    ("prompt-completion", {"prompt": said(("assistant", "a")), "completion": []}, "prompt[0]", "would be trained on"),
    ("messages", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0]",
     "'image_url'"),
    ("messages", {"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]},
     "messages[0].content[0].text", "must be a string"),
    ("messages", {"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]", "must be a part"),
    ("messages", {"conversations": TURNS}, "messages", "looks like ShareGPT: give --format sharegpt"),
    ("messages", {"instruction": "q", "output": "a"}, "messages", "looks like Alpaca: give --format alpaca"),
    ("messages", {"prompt": "q", "completion": "a"}, "messages", "completion: give --format prompt-completion"),
    ("messages", {"prompt": "q", "chosen": [], "rejected": []}, "messages", "preferences (DPO)"),
    ("messages", {"text": "x"}, "messages", "plain text"),
    ("messages", {str(i): i for i in range(20)}, "messages", "0, 1, 2, 3, 4, 5, 6, 7 and 12 more"),
]  # fmt: skip


@pytest.mark.parametrize(("format_name", "row", "field", "reason"), BAD)
def test_what_is_refused(tmp_path: Path, format_name: str, row: Row, field: str, reason: str) -> None:
    with pytest.raises(RowError) as caught:
        parse(row, format_name)
    assert caught.value.field == field
    assert reason in caught.value.reason
    path = write_rows(tmp_path / "a.jsonl", [json.dumps(row).encode()])
    with pytest.raises(SourceError) as told:
        run_job(MemoryBackend(), [(path, "1.0")], format=format_name)
    assert (told.value.row, told.value.field) == (1, field)


EACH = {"messages": {"messages": said(("user", "q"), ("assistant", "a"))}} | {
    name: next(row for one, row, _ in GOOD if one == name) for name in ("sharegpt", "alpaca", "prompt-completion")
}


def test_auto_finds_the_shape_of_each_source_and_records_it(tmp_path: Path) -> None:
    paths = [write_rows(tmp_path / f"{name}.jsonl", [b"{", json.dumps(row).encode()]) for name, row in EACH.items()]
    backend = MemoryBackend()
    result = run_job(backend, [(path, "1.0") for path in paths], format="auto", on_error="skip")
    run = Run.decode(Repository(backend).objects.get(result.run))
    assert run.recipe["formats"] == {"1": "sharegpt", "2": "alpaca", "3": "prompt-completion"}
    assert result.samples == 4
    for name, path in zip(EACH, paths, strict=True):
        again = run_job(backend, [(path, "1.0")], format=name, on_error="skip")
        assert again.progress.rows_reused == 2
    plain = Run.decode(Repository(backend).objects.get(run_job(backend, [(paths[0], "1.0")], on_error="skip").run))
    assert "formats" not in plain.recipe


def test_the_shape_is_in_the_key_of_what_is_reused(tmp_path: Path) -> None:
    row = EACH["sharegpt"] | EACH["alpaca"]
    path = write_rows(tmp_path / "a.jsonl", [json.dumps(row | {"output": "b"}).encode()])
    backend = MemoryBackend()
    first = run_job(backend, [(path, "1.0")], format="sharegpt")
    second = run_job(backend, [(path, "1.0")], format="alpaca")
    assert (second.progress.rows_reused, first.root == second.root) == (0, False)


def test_auto_refuses_what_could_be_two_shapes_or_is_none(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [json.dumps(EACH["sharegpt"] | EACH["alpaca"]).encode()])
    with pytest.raises(SourceError, match=r"row 1: is of two shapes .* give --format sharegpt or --format alpaca"):
        run_job(MemoryBackend(), [(path, "1.0")], format="auto")
    none = write_rows(tmp_path / "b.jsonl", [b'{"text": "x"}'])
    with pytest.raises(SourceError, match="no row is of a shape that is known"):
        run_job(MemoryBackend(), [(none, "1.0")], format="auto")
    with pytest.raises(InvalidInputError, match="format is 'x': give one of auto, messages"):
        run_job(MemoryBackend(), [(none, "1.0")], format="x")


@pytest.mark.parametrize("name", ["sharegpt", "alpaca", "prompt-completion"])
def test_columns_of_a_shape(tmp_path: Path, name: str) -> None:
    pa = pytest.importorskip("pyarrow", reason="the library pyarrow is not installed")
    import pyarrow.parquet

    row = {key: value for key, value in EACH[name].items() if key != "messages"}
    path, text = tmp_path / "a.parquet", write_rows(tmp_path / "a.jsonl", [json.dumps(row).encode()])
    pyarrow.parquet.write_table(pa.Table.from_pylist([row | {"id": 7}]), path)
    roots = {run_job(MemoryBackend(), [(p, "1.0")], format=f).root for p in (path, text) for f in (name, "auto")}
    assert len(roots) == 1
    with pytest.raises(SourceError, match=f"no column `messages`: .*give --format {name}"):
        run_job(MemoryBackend(), [(path, "1.0")])
