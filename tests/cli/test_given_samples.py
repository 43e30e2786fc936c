"""Commands on datasets that a program wrote: samples without tokens, no tokenizer, more arrays."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import castore
from castore.errors import InvalidInputError
from tests.cli.conftest import Run


@pytest.fixture
def given(tmp_path: Path) -> str:
    place = str(tmp_path / "given")
    repository = castore.open(place, create=True)
    arrays = {"weight": ("float32", "token"), "reward": ("float64", "sample")}
    with repository.writer("gaps", arrays=arrays, shuffle_seed=3) as writer:
        for i in range(40):
            n = i % 4
            source = "hollow" if n == 0 else "full"
            writer.append([*range(i, i + n)], weight=[0.5] * n, reward=i / 7, source=source)
    repository.write([[], [], []], "hollow")
    return place


def test_samples_without_tokens_are_left_out_of_an_export(run: Run, given: str, tmp_path: Path) -> None:
    said = run("--repo", given, "export", "gaps", tmp_path / "out", "--json")
    assert {**said.json, "folder": ""} == {"folder": "", "samples": 30, "tokens": 60, "parts": 1}
    assert said.err == (
        "castore: warning: these files have no place for reward, weight: left out\n"
        "castore: warning: 10 samples without tokens: these files cannot hold that, left out\n"
    )
    statistics = json.loads((tmp_path / "out" / "dataset_statistics.json").read_text())
    assert [row["dataset_name"] for row in statistics["per_dataset_statistics"]] == ["full"]
    assert run("--repo", given, "import", tmp_path / "out", "--as", "back", "--json").json["samples"] == 30
    told = run("--repo", given, "diff", "gaps", f"{tmp_path}/out", "--json", status=1).json
    assert told["samples"]["deleted"] == 10


def test_nothing_but_samples_without_tokens_is_no_export(run: Run, given: str, tmp_path: Path) -> None:
    said = run("--repo", given, "export", "hollow", tmp_path / "out", status=2)
    assert said.err == "castore: no sample has a token: there is nothing to export\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_standard_streams_that_are_closed(given: str, tmp_path: Path, closed: str) -> None:
    script = f'exec {closed}; "$0" -m castore_cli.main --repo "$1" diff gaps "$2"; echo $? > "$3"'
    for other, status in (("gaps", 0), ("hollow", 1), ("nothing", 2)):
        told = tmp_path / "status"
        subprocess.run(["/bin/sh", "-c", script, sys.executable, given, other, str(told)], timeout=60, check=False)
        assert told.read_text() == f"{status}\n"


def test_what_was_not_recorded_is_not_shown(run: Run, given: str) -> None:
    said = run("--repo", given, "show", "gaps").out
    assert not {"tokenizer", "template", "max"} & {line.split()[0] for line in said.splitlines()}
    assert "source     hollow: 10 samples, 0 tokens\n" in said


def test_an_imported_folder_does_not_claim_empty_sources(run: Run, given: str, tmp_path: Path) -> None:
    """Whose two sources are mixed by a shuffle that was not undone."""
    with castore.open(given).writer("two", shuffle_seed=3) as writer:
        for i in range(30):
            writer.append([i, i + 1], source=f"s{i // 20}")
    run("--repo", given, "export", "two", tmp_path / "out", "-q")
    run("--repo", given, "import", tmp_path / "out", "--as", "back", "-q")
    (line,) = (line for line in run("--repo", given, "show", "back").out.splitlines() if line.startswith("source"))
    assert line.endswith(": 30 rows")


def test_an_array_that_one_side_lacks_is_not_compared(given: str) -> None:
    repository = castore.open(given)
    with pytest.raises(InvalidInputError, match="no array weight on both sides"):
        repository["gaps"].diff(repository["hollow"], only="weight")
