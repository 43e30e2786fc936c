"""What an entry of a mix may be: patterns, the home directory, standard input, URLs."""

from __future__ import annotations

import gzip
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from blake3 import blake3

from castore.errors import InvalidInputError, SourceError
from castore.format.run import Run
from castore.ingest import places
from castore.ingest.places import expanded, open_source
from castore.repository import Repository
from castore.store.backend import MemoryBackend
from tests.support.jobs import example_rows, run_job, write_rows

ROWS = example_rows()[:6]
TEXT = b"".join(row + b"\n" for row in ROWS)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path


@pytest.fixture(autouse=True)
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where copies of what can be read once go; none is left."""
    folder = tmp_path / "copies"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def give(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))


def test_a_pattern_is_each_file_that_it_fits(here: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "c.json", "deep/er/d.jsonl"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        write_rows(here / name, ROWS)
    (here / "folder.jsonl").mkdir()
    (here / "round").symlink_to(".")
    assert expanded("*.jsonl") == ["a.jsonl", "b.jsonl"]
    assert expanded("?.json*") == ["a.jsonl", "b.jsonl", "c.json"]
    assert expanded("**/*.jsonl") == ["a.jsonl", "b.jsonl", "deep/er/d.jsonl"]
    assert expanded("a.jsonl") == ["a.jsonl"]
    write_rows(here / "[x].jsonl", ROWS)
    assert expanded("[x].jsonl") == ["[x].jsonl"]
    with pytest.raises(SourceError, match="no file fits this pattern"):
        expanded("*.nothing")


def test_each_file_of_a_pattern_is_a_source_with_the_amount(here: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "c.jsonl"):
        write_rows(here / name, ROWS)
    backend = MemoryBackend()
    result = run_job(backend, [("[ab].jsonl", "2"), ("c.jsonl", "1.0")], split=("train", "train"))
    run = Run.decode(Repository(backend).objects.get(result.run))
    assert [(one.name, one.amount, one.selected) for one in run.sources] == [
        ("a.jsonl", "2", 2), ("b.jsonl", "2", 2), ("c.jsonl", "1.0", 6),
    ]  # fmt: skip
    assert result.root == run_job(MemoryBackend(), [("a.jsonl", "2"), ("b.jsonl", "2"), ("c.jsonl", "1.0")]).root


def test_what_fits_a_pattern_and_cannot_be_read_is_named(here: Path) -> None:
    write_rows(here / "a.jsonl", ROWS)
    os.mkfifo(here / "b.jsonl")
    with pytest.raises(SourceError, match=r"b\.jsonl: .*not a regular file"):
        run_job(MemoryBackend(), [("*.jsonl", "1.0")])


def test_the_home_directory(here: Path) -> None:
    write_rows(here / "home" / "a.jsonl", ROWS)
    source = open_source("~/a.jsonl")
    assert (source.name, source.row_count()) == ("~/a.jsonl", 6)
    assert expanded("~/*.jsonl") == [str(here / "home" / "a.jsonl")]
    (here / "~").mkdir()
    write_rows(here / "~" / "a.jsonl", ROWS[:2])
    assert open_source("~/a.jsonl").row_count() == 2


@pytest.mark.parametrize("data", [TEXT, b"[" + b",\n".join(ROWS) + b"]"])
def test_standard_input(here: Path, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    give(monkeypatch, data)
    backend = MemoryBackend()
    result = run_job(backend, [("-", "2.5")])
    assert result.root == run_job(MemoryBackend(), [(write_rows(here / "a.jsonl", ROWS), "2.5")]).root
    (source,) = Run.decode(Repository(backend).objects.get(result.run)).sources
    assert (source.name, source.digest) == ("-", blake3(data).digest())


def test_a_bad_row_of_standard_input_is_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, TEXT + b"{}\n")
    with pytest.raises(SourceError, match=r"^-, row 7, messages: "):
        run_job(MemoryBackend(), [("-", "1.0")])
    with pytest.raises(InvalidInputError, match="in the mix twice"):
        run_job(MemoryBackend(), [("-", "1.0"), ("-", "1.0")])
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(SourceError, match="terminal or closed"):
        run_job(MemoryBackend(), [("-", "1.0")])


def test_a_url(here: Path) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    memory = MemoryFileSystem()
    memory.pipe("/castore-places/a.jsonl.gz", gzip.compress(TEXT))
    backend = MemoryBackend()
    result = run_job(backend, [("memory://castore-places/a.jsonl.gz", "1.0")])
    assert result.root == run_job(MemoryBackend(), [(write_rows(here / "a.jsonl", ROWS), "1.0")]).root
    (source,) = Run.decode(Repository(backend).objects.get(result.run)).sources
    assert (source.name, source.digest) == ("memory://castore-places/a.jsonl.gz", blake3(TEXT).digest())
    assert open_source(f"file://{here}/a.jsonl").row_count() == 6


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://castore-places/gone.jsonl", "there is no such file"),
        ("memory://castore-places/x.csv", "unknown kind of file"),
        ("nothing://a.jsonl", "cannot be read"),
        ("file:///gone/a.jsonl", "there is no such file"),
    ],
)
def test_a_url_that_cannot_be_read(url: str, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        open_source(url)
    assert "\n" not in str(caught.value)
    assert "No such file or directory" not in str(caught.value)


def test_a_protocol_whose_library_is_missing_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.registry import known_implementations

    monkeypatch.setitem(known_implementations, "far", {"class": "not_there.Far", "err": "Install far"})
    with pytest.raises(SourceError, match="another library is needed to read it: Install far"):
        open_source("far://bucket/a.jsonl")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:secret@x.org/a.jsonl?sig=secret#secret", "https://x.org/a.jsonl"),
        ("zip://a.jsonl::https://me:secret@x.org/a.zip?sig=secret", "zip://a.jsonl::https://x.org/a.zip"),
        ("s3://bucket/a.jsonl", "s3://bucket/a.jsonl"),
    ],
)
def test_a_url_is_shown_without_its_secrets(monkeypatch: pytest.MonkeyPatch, url: str, shown: str) -> None:
    monkeypatch.setattr(places, "fetched", lambda url: iter([TEXT]))
    assert open_source(url).name == shown

    def failing(url: str) -> Iterator[bytes]:
        raise InvalidInputError(f"cannot read {url}")

    monkeypatch.setattr(places, "fetched", failing)
    with pytest.raises(SourceError) as caught:
        open_source(url)
    assert "secret" not in str(caught.value)
