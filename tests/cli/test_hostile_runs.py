"""Run records that somebody harmed or made up: everything that reads them says one line at most, and no traceback."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from castore.format.codec import Value, decode, encode
from castore.format.files import DROPPED_FILE, DroppedRow, decode_dropped, encode_dropped
from castore.format.object import Object
from castore.format.run import Run as RunRecord
from castore.format.run import RunConfiguration, RunOrigin, RunStatistics, SourceRecord
from castore.repository import Repository
from castore.store.local import LocalBackend
from tests.cli.conftest import Run, Said

WRONG: list[Value] = [None, True, -1, 1 << 63, "text", b"\xff", [], [None], {}, {"a": 1}]


def strange_sources(source: SourceRecord) -> dict[str, list[SourceRecord]]:
    """Lists of sources that do not fit the samples."""
    most = (1 << 63) - 1
    return {
        "none": [],
        "name-alone": [SourceRecord("x")],
        "another": [source, source],
        "escapes": [replace(source, name="\x1b[31m\n\0", split="\x1b[31m", revision="\x07", dropped={"\x1b[31m": 1})],
        "amount-large": [replace(source, amount="9" * 308)],
        "amount-small": [replace(source, amount="." + "0" * 400)],
        "counts-of-nothing": [replace(source, rows=0, samples=0, selected=0, tokens=0, trainable=0)],
        "counts-of-everything": [replace(source, rows=most, samples=most, selected=most, tokens=most, trainable=most)],
        "dropped-more-than-there-are": [replace(source, dropped={"": most, "why": most})],
    }


def strange_runs(run: RunRecord) -> dict[str, RunRecord]:
    """Run records that decode but tell what is not so, by what is strange."""
    cases = {f"sources-{name}": replace(run, sources=made) for name, made in strange_sources(run.sources[0]).items()}
    cases["configuration-empty"] = replace(run, configuration=RunConfiguration())
    cases["configuration-strange"] = replace(
        run, configuration=RunConfiguration("\x1b[31m", "\x07", 0, 0, 0, (1 << 63) - 1, "", 1 << 63)
    )
    cases["vocabulary-of-one"] = replace(run, configuration=RunConfiguration(vocab_size=1))
    cases["statistics-none"] = replace(run, statistics=None)
    cases["statistics-strange"] = replace(run, statistics=RunStatistics(run.samples, (1 << 63) - 1, (1 << 63) - 1))
    cases["origin-none"] = replace(run, origin=None)
    cases["origin-strange"] = replace(run, origin=RunOrigin("\x1b[31m", "\x07", "", "\n", (1 << 63) - 1))
    cases["recipe-empty"] = replace(run, recipe={})
    cases["recipe-strange"] = replace(run, recipe={"\x1b[31m": "\x1b[31m", "": [[[]]]})
    for value in WRONG:
        cases[f"recipe-{value!r}"] = replace(run, recipe=dict.fromkeys(run.recipe, value))
    cases["files-empty"] = replace(run, files={})
    cases["provenance-empty"] = replace(run, provenance={})
    for name in run.provenance:
        others = {other: tree for other, tree in run.provenance.items() if other != name}
        cases[f"provenance-without-{name}"] = replace(run, provenance=others)
        for other, tree in others.items():
            cases[f"provenance-{name}-is-{other}"] = replace(run, provenance={**run.provenance, name: tree})
    return cases


def harmed(run: RunRecord, **parts: Value) -> Object:
    """A run record with entries that no run record has."""
    document = decode(run.encode().data)
    assert type(document) is dict
    return Object.of(encode({**document, **parts}))


@pytest.fixture
def evil(repo: Path, tmp_path: Path) -> Repository:
    """A repository of its own, in which something may be named."""
    shutil.copytree(repo, tmp_path / "evil")
    return Repository(LocalBackend(str(tmp_path / "evil")))


def name_it(repository: Repository, made: Object, *more: Object) -> None:
    """Let ``evil`` mean a run record."""
    for item in (*more, made):
        repository.objects.put(item.digest, item.data)
    repository.objects.flush()
    repository.refs.update("evil", made.digest, time_s=1, author="mallory", message="")


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
        ("copy", "evil", f"{folder / 'copy'}#copied", "--create", "-q"),
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
    for case, strange in strange_runs(record).items():
        name_it(evil, strange.encode())
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
    for strange, said in (
        (replace(record, files={**record.files, DROPPED_FILE: far.digest}), "source 1 of 1"),
        (replace(record, sources=[]), "source 0 of 0"),
    ):
        name_it(evil, strange.encode(), far)
        for arguments in (("show", "evil", "--dropped"), ("show", "evil", "--dropped", "--json")):
            trouble = run("--repo", evil.place, *arguments, status=2).trouble
            assert trouble == f"a dropped row names {said} in the run record"
        assert run("--repo", evil.place, "show", "evil").out.startswith("root ")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        ({"samples": "many"}, "source 0 of the run record: samples is str, not int"),
        ({"dropped": 5}, "source 0 of the run record: dropped is int, not dict"),
        ({"dropped": {"why": -1}}, "source 0 of the run record: dropped for 'why' is -1, outside 0 to 2**63 - 1"),
        ({"rows": True}, "source 0 of the run record: rows is bool, not int"),
        ({"amount": "1,5"}, "source 0 of the run record: amount '1,5' is neither a share with a point nor a count"),
        ({"name": ""}, "source 0 of the run record: name is empty"),
        ({"licence": "MIT"}, "source 0 of the run record has the unknown entry 'licence'"),
    ],
)
def test_a_record_that_cannot_be_is_refused_by_all_that_read_it(
    run: Run, evil: Repository, tmp_path: Path, harm: dict[str, Value], message: str
) -> None:
    record = evil.dataset("base").run
    assert record is not None
    name_it(evil, harmed(record, sources=[{**record.sources[0].value(), **harm}]))
    for command, *more in (("show",), ("cat", "--sample", "0"), ("stats",), ("export", tmp_path / "out", "-q")):
        assert run("--repo", evil.place, command, "evil", *more, status=2).trouble == message
    assert not (tmp_path / "out").exists()
    assert message in run("--repo", evil.place, "ls", status=2).out


def test_a_source_that_no_record_names_is_called_the_same_by_all(run: Run, evil: Repository, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow.parquet

    record = evil.dataset("base").run
    assert record is not None
    name_it(evil, replace(record, sources=()).encode())
    repo, root = evil.place, evil.dataset("base").root.hex()
    for address in ("evil", root):
        assert [one["name"] for one in run("--repo", repo, "stats", address, "--json").json["sources"]] == ["source 0"]
        check = ("check", address, "--trainer", "olmo-core", "--sequence-length", "256", "--eos", "0")
        assert "\n  source 0 " in run("--repo", repo, *check, status=None).out
        run("--repo", repo, "export", address, tmp_path / "out", "--replace", "-q")
        written = json.loads((tmp_path / "out" / "dataset_statistics.json").read_text())
        assert [one["dataset_name"] for one in written["per_dataset_statistics"]] == ["source 0"]
        run("--repo", repo, "export", address, tmp_path / "parquet", "--layout", "parquet", "--replace", "-q")
        (part,) = (tmp_path / "parquet").glob("*.parquet")
        assert set(pyarrow.parquet.read_table(part)["source"].to_pylist()) == {"source 0"}
