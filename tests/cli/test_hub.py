"""Hugging Face datasets on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.support.jobs import TOKENIZER, example_rows, write_rows

pytest.importorskip("datasets", reason="the library datasets is not installed")


def test_on_the_command_line(
    run: Run, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    write_rows(tmp_path / "set" / "test.jsonl", example_rows()[:20])
    write_rows(tmp_path / "rows.jsonl", example_rows()[:20])
    arguments = ("--repo", "own", "tokenize", "--tokenizer", TOKENIZER, "--workers", "1")
    said = run(*arguments, "--mix", "set", "1.0", "--split", "test", "--revision", "v3", "--as", "set", "--json")
    local = run(*arguments, "--mix", "rows.jsonl", "1.0", "--as", "rows", "--json")
    assert said.json["root"] == local.json["root"]
    # Rows are found by their bytes, and the library spells JSON in its own way.
    assert (
        run(*arguments, "--mix", "set", "1.0", "--split", "test", "--as", "two", "--json").json["rows"]["reused"] == 20
    )
    assert "Unknown split" in run(*arguments, "--mix", "set", "1.0", "--as", "x", status=2).trouble
    assert run(*arguments, "--mix", "set/x.jsonl", "1.0", "--as", "x", status=2).trouble.endswith(
        "set/x.jsonl: No such file or directory"
    )
