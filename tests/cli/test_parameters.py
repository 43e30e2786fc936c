"""Numbers of a command line are in ASCII digits: what looks like another number is not taken for one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run, tokenize
from tests.support.jobs import example_rows, write_rows

ARABIC, FULL_WIDTH = "\u0661", "\uff11"


@pytest.mark.parametrize(
    "arguments",
    [
        ("cat", "base", "--sample", "{}"),
        ("cat", "base", "--sample", "0:{}"),
        ("show", "base@{{{}}}"),
        ("diff", "base", "base@{{{}}}"),
        ("diff", "base", "word", "--context", "{}"),
        ("diff", "base", "word", "--limit", "{}"),
        ("stats", "base", "--sequence-length", "{}"),
        ("check", "base", "--trainer", "olmo-core", "--sequence-length", "{}"),
        ("check", "base", "--trainer", "olmo-core", "--sequence-length", "1024", "--eos", "{}"),
        ("check", "base", "--trainer", "olmo-core", "--sequence-length", "1024", "--max-loss", "{}"),
        ("fsck", "--sample", "{}%"),
        ("fsck", "--sample", "0.{}"),
        ("gc", "--dry-run", "--grace", "{}d"),
        ("import", ".", "--as", "x", "--shuffle-seed", "{}"),
    ],
)
@pytest.mark.parametrize("digit", [ARABIC, FULL_WIDTH, "\u00b2", "1_1", " 1"])
def test_other_digits_are_refused(run: Run, arguments: tuple[str, ...], digit: str) -> None:
    said = run(*(part.format(digit) for part in arguments), status=2)
    assert digit in said.trouble


@pytest.mark.parametrize("option", ["--max-seq-length", "--num-examples", "--shuffle-seed", "--workers", None])
def test_other_digits_of_tokenize(run: Run, tmp_path: Path, option: str | None) -> None:
    path = write_rows(tmp_path / "rows.jsonl", example_rows()[:2])
    more = () if option is None else (option, ARABIC)
    amount = ARABIC if option is None else "1.0"
    assert ARABIC in run(*tokenize("--mix", path, amount, "--as", "x", *more), status=2).trouble


@pytest.mark.parametrize("text", ["3", "03", "+3"])
def test_ascii_digits_are_taken(run: Run, text: str) -> None:
    expected = run("diff", "base", "word", "--context", "3", status=1).out
    assert run("diff", "base", "word", "--context", text, status=1).out == expected
