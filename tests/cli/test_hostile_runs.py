"""Run records that somebody harmed or made up: everything that reads them says one line at most, and no traceback."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from castore.format.codec import Value
from castore.format.files import DROPPED_FILE, DroppedRow, decode_dropped, encode_dropped
from castore.format.object import Object
from castore.format.run import Run as RunRecord
from castore.repository import Repository
from castore.store.local import LocalBackend
from tests.cli.conftest import Run, Said

WRONG: list[Value] = [None, True, -1, 1 << 62, "text", b"\xff", [], [None], {}, {"a": 1}]


def harmed_sources(source: Mapping[str, Value]) -> dict[str, Any]:
    """Lists of sources that do not fit the samples."""
    cases: dict[str, Any] = {"none": [], "nameless": [{}]}
    for field in ("name", "amount", "digest", "rows", "samples", "tokens", "dropped"):
        for value in WRONG:
            cases[f"{field}-{value!r}"] = [{**source, field: value}]
    cases["dropped-text"] = [{**source, "dropped": {"why": "many"}}]
    return cases


def harmed_runs(run: RunRecord) -> dict[str, RunRecord]:
    """Run records that decode, by what is wrong with them."""
    cases = {f"sources-{name}": replace(run, sources=value) for name, value in harmed_sources(run.sources[0]).items()}
    for part in ("configuration", "statistics", "origin", "recipe"):
        entries = dict(getattr(run, part))
        cases[f"{part}-empty"] = replace(run, **{part: {}})
        cases[f"{part}-strange"] = replace(run, **{part: {"\x1b[31m": "\x1b[31m", "": [[[]]]}})
        for value in WRONG:
            cases[f"{part}-{value!r}"] = replace(run, **{part: dict.fromkeys(entries, value)})
    cases["files-empty"] = replace(run, files={})
    cases["provenance-empty"] = replace(run, provenance={})
    for name in run.provenance:
        others = {other: tree for other, tree in run.provenance.items() if other != name}
        cases[f"provenance-without-{name}"] = replace(run, provenance=others)
        for other, tree in others.items():
            cases[f"provenance-{name}-is-{other}"] = replace(run, provenance={**run.provenance, name: tree})
    return cases


@pytest.fixture
def evil(repo: Path, tmp_path: Path) -> Repository:
    """A repository of its own, in which something may be named."""
    shutil.copytree(repo, tmp_path / "evil")
    return Repository(LocalBackend(str(tmp_path / "evil")))


def name_it(repository: Repository, run: RunRecord, *more: Object) -> None:
    """Let ``evil`` mean a run record."""
    for item in (*more, run.encode()):
        repository.objects.put(item.digest, item.data)
    repository.objects.flush()
    repository.refs.update("evil", run.encode().digest, time_s=1, author="mallory", message="")


def commands(folder: Path) -> list[tuple[str | Path, ...]]:
    """Everything that reads a run record."""
    shutil.rmtree(folder, ignore_errors=True)
    return [
        ("show", "evil"),
        ("show", "evil", "--json"),
        ("show", "evil", "--dropped"),
        ("show", "evil", "--dropped", "--json"),
        ("cat", "evil", "--sample", "3"),
        ("cat", "evil", "--sample", "3", "--decode"),
        ("stats", "evil"),
        ("stats", "evil", "--json"),
        ("ls",),
        ("log", "evil"),
        ("lock", "evil"),
        ("diff", "evil", "word"),
        ("diff", "word", "evil", "--strict", "--json"),
        ("diff", "word", "evil", "--markdown", "--html", folder / "page.html"),
        ("diff", "evil", "again", "--strict"),
        ("diff", "evil", "removed", "--stat"),
        ("check", "evil", "--trainer", "olmo-core", "--sequence-length", "256"),
        ("export", "evil", folder / "out", "-q"),
        ("export", "evil", folder / "parquet", "--layout", "parquet", "-q"),
        ("diff", folder / "out", "evil"),
        ("copy", "evil", f"{folder / 'copy'}#copied", "-q"),
        ("du", "evil"),
        ("tag", "evil", "evil-too"),
    ]


def said_by_all(run: Run, repository: Repository, folder: Path) -> dict[tuple[str | Path, ...], Said]:
    """What all commands say of ``evil``."""
    found = {}
    for arguments in commands(folder):
        folder.mkdir(exist_ok=True)
        found[arguments] = run("--repo", repository.place, *arguments, status=None)
    return found


@pytest.mark.slow
def test_everything_that_reads_a_run_record(run: Run, evil: Repository, tmp_path: Path) -> None:
    record = evil.dataset("base").run
    assert record is not None
    for case, harmed in harmed_runs(record).items():
        name_it(evil, harmed)
        for arguments, said in said_by_all(run, evil, tmp_path / "made").items():
            assert said.status in (0, 1, 2), (case, arguments, said)
            assert "Traceback" not in said.err, (case, arguments, said)
            if said.status == 2:
                assert said.trouble, (case, arguments, said)


def test_dropped_rows_of_a_source_that_is_not_there(run: Run, evil: Repository, tmp_path: Path) -> None:
    record = evil.dataset("base").run
    assert record is not None
    rows = decode_dropped(evil.objects.get(record.files[DROPPED_FILE]))
    assert [row.source for row in rows] == [0]
    far = encode_dropped([*rows, DroppedRow(1, 2, 3, "no reason"), DroppedRow((1 << 64) - 1, 2, 3, "none")])
    for harmed, said in (
        (replace(record, files={**record.files, DROPPED_FILE: far.digest}), "source 1 of 1"),
        (replace(record, sources=[]), "source 0 of 0"),
    ):
        name_it(evil, harmed, far)
        for arguments in (("show", "evil", "--dropped"), ("show", "evil", "--dropped", "--json")):
            trouble = run("--repo", evil.place, *arguments, status=2).trouble
            assert trouble == f"a dropped row names {said} in the run record"
        assert run("--repo", evil.place, "show", "evil").out.startswith("root ")


@pytest.mark.parametrize(
    ("harm", "command", "message"),
    [
        ({"samples": "many"}, "show", "samples in the run record is str, not int"),
        ({"dropped": 5}, "show", "dropped of a source of the run record is int, not dict"),
        ({"dropped": {"why": -1}}, "show", "why in the run record is -1, outside 0 to 2**63 - 1"),
        ({"rows": None}, "export", "rows of a source of the run record is NoneType, not int"),
        ({"amount": "1,5"}, "export", "amount '1,5' of a source of the run record is no number"),
    ],
)
def test_sources_of_another_type(
    run: Run, evil: Repository, tmp_path: Path, harm: dict[str, Value], command: str, message: str
) -> None:
    record = evil.dataset("base").run
    assert record is not None
    name_it(evil, replace(record, sources=[{**record.sources[0], **harm}]))
    more = (tmp_path / "out", "-q") if command == "export" else ()
    assert run("--repo", evil.place, command, "evil", *more, status=2).trouble == message
    assert not (tmp_path / "out").exists()
