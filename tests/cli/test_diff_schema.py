"""The document of ``diff --json`` is what ``docs/reference/diff.schema.json`` says, and the schema knows all of it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from castore.repository import Repository
from tests.cli.conftest import Run, tokenize
from tests.support.jobs import example_rows, write_rows

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "reference" / "diff.schema.json").read_text(encoding="utf-8"))


def strict(schema: Any) -> Any:
    """The schema without room for fields that it does not name."""
    schema = copy.deepcopy(schema)
    waiting = [schema]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if "properties" in one:
                one["additionalProperties"] = False
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
    return schema


Draft202012Validator.check_schema(SCHEMA)
KNOWN = Draft202012Validator(strict(SCHEMA))


def documents(run: Run, tmp_path: Path) -> Iterator[tuple[str, Any]]:
    """One document of every kind."""
    for other in ("again", "word", "removed", "inserted", "odd", "order", "few", "roles"):
        yield other, run("diff", "base", other, "--json", status=None).json
    yield "labels", run("diff", "roles", "swapped", "--json", status=1).json
    rows = example_rows()[:40]
    repo = tmp_path / "repo"
    for name, chosen in (("x", rows), ("y", [*rows[:5], *rows[8:30], *rows[5:8], *rows[30:]])):
        path = write_rows(tmp_path / f"{name}.jsonl", chosen)
        run("--repo", repo, *tokenize("--mix", path, "1.0", "--as", name))
    yield "moved", run("--repo", repo, "diff", "x", "y", "--json", status=1).json
    for name in ("base", "word"):
        run("export", name, tmp_path / name, "-q")
    yield "folders", run("diff", tmp_path / "base", tmp_path / "word", "--json", status=1).json
    lock = tmp_path / "castore.lock"
    lock.write_text(run("lock", "base").out, encoding="utf-8")
    yield "expected", run("diff", "word", "--expect", lock, "--json", status=1).json
    yield "not held", run("--repo", repo, "diff", "x", "--expect", lock, "--json", status=1).json


def test_documents_are_as_the_schema_says(run: Run, tmp_path: Path) -> None:
    seen: set[str] = set()
    for name, document in documents(run, tmp_path):
        problems = [f"{error.json_path}: {error.message}" for error in KNOWN.iter_errors(document)]
        assert not problems, name
        seen.update(document)
        seen.update(field for hunk in document["hunks"] or [] for field in hunk)
    assert seen >= {*SCHEMA["properties"], *SCHEMA["$defs"]["hunk"]["properties"]}, "every field occurs"


@pytest.mark.parametrize("other", ["again", "word", "removed", "order", "roles"])
def test_the_library_gives_the_same_document(run: Run, repo: Path, other: str) -> None:
    repository = Repository.open(repo)
    found = repository["base"].diff(repository[other])
    document = run("diff", "base", other, "--json", status=None).json
    reads = document.pop("reads")
    assert found.to_dict() == document, "of lists and texts, as JSON gives them back"
    assert found.to_dict(reads)["reads"] == reads
    assert bool(found) is (not document["equal"])


@pytest.mark.parametrize(
    ("field", "value"),
    [("version", 2), ("equal", None), ("hunks", [{"op": "grow", "a": [0, 1], "b": [0, 1], "arrays": []}]), ("x", 1)],
)
def test_the_schema_can_be_broken(run: Run, field: str, value: object) -> None:
    document = run("diff", "base", "word", "--json", status=1).json
    document[field] = value
    assert list(KNOWN.iter_errors(document))
