"""What kept rows lost, as users see it: in the summaries, in ``show``, in ``check``, and refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.support.jobs import TOKENIZER, row, write_rows

LOST = {"role-not-written": {"developer\n": 1, "tool": 2}, "weight-ignored": {"assistant.weight": 1}}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    said = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "Let me look.", "weight": 0},
        {"role": "tool", "content": "12C"},
        {"role": "tool", "content": "wet"},
        {"role": "developer\n", "content": "Be short"},
        {"role": "assistant", "content": "It is 12C."},
    ]
    lossy = json.dumps({"messages": said}).encode()
    return write_rows(tmp_path / "rows.jsonl", [row("one", "two"), lossy])


def arguments(rows: Path, *more: str) -> tuple[str | Path, ...]:
    return ("tokenize", "--mix", rows, "1.0", "--tokenizer", TOKENIZER, "--chat-template", "tulu", *more)


def test_summaries_show_and_check_tell_what_was_lost(run: Run, rows: Path) -> None:
    lines = ["role-not-written: developer⏎ 1, tool 2", "weight-ignored: assistant.weight 1"]
    said = run(*arguments(rows, "--as", "lossy")).out.splitlines()
    assert "  dropped  0 rows" in said
    assert said[said.index(f"  lost     {lines[0]}") + 1] == f"           {lines[1]}"
    assert run(*arguments(rows, "--as", "lossy", "--json")).json["lost"] == LOST
    shown = run("show", "lossy").out.splitlines()
    assert [line for line in shown if line.startswith("lost")] == [f"lost       {line}" for line in lines]
    assert run("show", "lossy", "--json").json["statistics"]["lost"] == LOST
    check = ("check", "lossy", "--trainer", "olmo-core", "--sequence-length", "64")
    assert f"  - lost when tokenized, {lines[0]}" in run(*check).out.splitlines()
    assert run(*check, "--json").json["lost"] == LOST
    run(*check, "--strict", status=1)


def test_nothing_is_said_of_nothing(run: Run, tmp_path: Path) -> None:
    whole = write_rows(tmp_path / "whole.jsonl", [row("one", "two")])
    assert "lost" not in run(*arguments(whole, "--as", "whole", "--strict")).out
    assert "lost" not in run("show", "whole").out
    run("check", "whole", "--trainer", "olmo-core", "--sequence-length", "64", "--strict")


def test_strict_refuses_in_one_line(run: Run, rows: Path) -> None:
    said = run(*arguments(rows, "--as", "refused", "--strict"), status=2).trouble
    assert said == f"{rows}, row 2: role-not-written (developer\\n): the chat template writes no message of this role"
    run("show", "refused", status=2)


def test_all_rows_dropped_says_why_and_what_helps(run: Run, tmp_path: Path) -> None:
    def refused(template: str, *texts: str) -> str:
        path = write_rows(tmp_path / "rows.jsonl", [row(*texts), row(*texts)])
        (tmp_path / "own.jinja").write_text(template)
        mix = ("--mix", path, "1.0", "--tokenizer", TOKENIZER, "--chat-template", tmp_path / "own.jinja")
        return run("tokenize", *mix, "--as", "none", status=2).trouble

    thinking = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<assistant><think>{% endif %}"
    )
    said = refused(thinking, "one", "two")
    assert said.startswith("no row became a sample: 2 labels-not-derivable (roles: 'assistant' 2, 'user' 2); ")
    assert "--chat-template" in said
    said = refused(thinking, "nobody answers")
    assert said.startswith("no row became a sample: 2 nothing-trainable (roles: 'user' 2); ")
    assert "only messages of role 'assistant' are trained on" in said


def test_most_rows_dropped_is_a_warning(run: Run, tmp_path: Path) -> None:
    def warnings(*rows: bytes) -> str:
        path = write_rows(tmp_path / "rows.jsonl", rows)
        return run("tokenize", "--mix", path, "1.0", "--tokenizer", TOKENIZER, "--as", "some", "--quiet").err

    said = warnings(row("a", "b"), row("c"), row("d"))
    assert "only 1 of the 3 rows taken became a sample: 2 nothing-trainable" in said
    assert warnings(row("a", "b"), row("c")) == ""
