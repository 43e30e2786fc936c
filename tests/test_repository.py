"""The repository as a whole: opening, addresses, names."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from castore.errors import (
    ConflictError,
    CorruptionError,
    FormatError,
    InvalidInputError,
    NotFoundError,
    UnsupportedVersionError,
)
from castore.format.digest import Digest, digest_of
from castore.repository import Origin, Repository
from castore.store.backend import MemoryBackend
from castore.store.marker import open_layout
from tests.support.complete import check_complete
from tests.support.faults import FaultyBackend
from tests.support.jobs import ORIGIN, example_rows, run_job, tokenize, write_rows


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.jsonl", example_rows()[:12])


@pytest.fixture
def repository(path: Path) -> Repository:
    backend = MemoryBackend()
    run_job(backend, [(path, "1.0")], name="one")
    run_job(backend, [(path, "0.5")], name="two")
    return Repository(backend)


# ---- opening


def test_a_repository_is_made_only_where_that_was_said(tmp_path: Path) -> None:
    place = str(tmp_path / "deep" / "repo")
    with pytest.raises(NotFoundError, match="there is no castore repository at"):
        Repository.open(place)
    assert list(tmp_path.iterdir()) == []
    made = Repository.open(place, create=True)
    assert made.url == place
    assert made.refs.names() == []
    Repository.open(place)
    Repository.open(f"file://{place}")


def test_a_repository_by_url_is_that_by_path(tmp_path: Path, path: Path) -> None:
    local = Repository.open(str(tmp_path / "repo"), create=True)
    result = tokenize(local, [(path, "1.0")], "x")
    assert Repository.open(f"file://{tmp_path}/repo").dataset("x").root == result.root
    memory = Repository.open("memory://test-repository", create=True)
    assert tokenize(memory, [(path, "1.0")], "x").root == result.root
    check_complete(Repository.open("memory://test-repository"))


@pytest.mark.parametrize(
    ("marker", "error"),
    [
        (b"castore repository, format 2\n", UnsupportedVersionError),
        (b"castore repository, format 0\n", FormatError),
        (b"castore repository, format 1", FormatError),
        (b"", FormatError),
    ],
)
def test_other_formats_are_refused(marker: bytes, error: type[Exception]) -> None:
    backend = MemoryBackend()
    backend.create("format", marker)
    for create in (False, True):
        with pytest.raises(error):
            open_layout(backend, create)


# ---- addresses


def test_every_spelling_of_a_dataset(repository: Repository) -> None:
    run = repository.refs.current("one")
    assert run is not None
    data = repository.dataset("one")
    for address in ("one", "one@{0}", run.hex(), run.hex()[:10], data.root.hex(), data.root.hex()[:10]):
        assert repository.dataset(address).root == data.root
    assert repository.dataset("one").run_digest == run
    assert repository.dataset(data.root.hex()).run_digest is None
    assert repository.dataset(data.root.hex()).run is None


def test_a_name_goes_before_a_digest(repository: Repository) -> None:
    other = repository.dataset("two")
    prefix = repository.dataset("one").root.hex()[:8]
    repository.tag("two", prefix, ORIGIN)
    assert repository.dataset(prefix).root == other.root


@pytest.mark.parametrize("address", ["", "three", "one@{1}", "abc", "0" * 64, "one/", "/one", "one@{"])
def test_nothing_there(repository: Repository, address: str) -> None:
    with pytest.raises(NotFoundError):
        repository.resolve(address)


@pytest.mark.parametrize("address", ["one@{}", "one@{x}", "one@{-1}", "one@{1}x", "one@{²}", "@{0}", "a b@{0}"])
def test_no_address(repository: Repository, address: str) -> None:
    with pytest.raises(InvalidInputError):
        repository.resolve(address)


def test_a_chunk_is_no_dataset(repository: Repository) -> None:
    chunk = repository.dataset("one").manifest.arrays["token_ids"][1].entries[0].digest
    with pytest.raises(NotFoundError):
        repository.dataset(chunk.hex())
    repository.refs.compare_and_set("odd", None, chunk, time_s=0, author="x", message="")
    with pytest.raises(CorruptionError, match="neither a run record nor a manifest"):
        repository.dataset("odd")


def test_a_name_of_something_that_is_gone(repository: Repository) -> None:
    target = Digest(digest_of(b"gone"))
    repository.refs.compare_and_set("gone", None, target, time_s=0, author="x", message="")
    with pytest.raises(NotFoundError, match=f"there is no object {target.hex()}"):
        repository.dataset("gone")


# ---- names


def test_tag_and_remove(repository: Repository) -> None:
    entry = repository.tag("one", "copy", Origin("me", "here", 7, "because"))
    assert (entry.sequence, entry.author, entry.time_s, entry.message) == (0, "me", 7, "because")
    assert repository.dataset("copy").root == repository.dataset("one").root
    repository.tag("two", "copy", ORIGIN)
    assert repository.dataset("copy@{1}").root == repository.dataset("one").root
    assert repository.remove("copy", ORIGIN).target is None
    with pytest.raises(NotFoundError, match=r"copy was removed: 'copy@\{1\}' is what it was before"):
        repository.dataset("copy")
    with pytest.raises(NotFoundError):
        repository.remove("copy", ORIGIN)
    with pytest.raises(NotFoundError):
        repository.remove("never", ORIGIN)
    with pytest.raises(NotFoundError):
        repository.tag("never", "copy", ORIGIN)
    assert repository.refs.names() == ["one", "two"]


def test_what_another_has_just_stored_is_not_missing(path: Path, tmp_path: Path) -> None:
    """Whatever was known of the place a moment ago: single values, and packs."""
    here, other = (Repository.open(str(tmp_path / "r"), create=True) for _ in range(2))
    for amount in ("0.2", "1.0"):
        run = run_job(here.backend, [(path, amount)], name="x").run
        assert not other.backend.touch(f"objects/00/{64 * '0'}")
        assert other.tag(run.hex(), amount.replace(".", "-"), ORIGIN).target == run


def test_a_rival_is_never_overwritten(path: Path) -> None:
    """The name is read before the work and moved after it; what came between stays."""
    backend = FaultyBackend(MemoryBackend())
    open_layout(backend, create=True)
    run_job(backend, [(path, "0.5")], name="base")
    rival = Repository(backend)
    moved = False

    def report(progress: object) -> None:
        nonlocal moved
        if not moved:
            rival.tag("base", "x", ORIGIN)
            moved = True

    with pytest.raises(ConflictError, match=r"the run is stored: castore tag [0-9a-f]{16} x$") as caught:
        run_job(backend, [(path, "1.0")], name="x", report=report)
    repository = Repository(backend)
    assert repository.dataset("x").root == repository.dataset("base").root
    stored = str(caught.value).split()[-2]
    repository.tag(stored, "mine", ORIGIN)
    assert repository.dataset("mine").manifest.samples == 12
    check_complete(repository)


def test_neighbours_share_one_cache(repository: Repository) -> None:
    one, again = repository.dataset("one"), repository.dataset("one@{0}")
    one.reader.tokens(0, 3)
    before = repository.objects.reads
    again.reader.tokens(0, 3)
    assert repository.objects.reads == before


def test_a_prefix_of_too_many_objects_reads_none_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_rows(tmp_path / "rows.jsonl", example_rows()[:20])
    backend = MemoryBackend()
    run_job(backend, [(path, "1.0")])
    repository = Repository(backend)
    prefix = repository.dataset("out").root.hex()[:4]
    monkeypatch.setattr("castore.store.addresses.RESOLVED_MAX", 0)
    reads = repository.objects.reads
    with pytest.raises(InvalidInputError, match=f"{prefix} begins the digests of 1 objects: give more digits"):
        repository.resolve(prefix)
    assert repository.objects.reads == reads


def test_a_repository_lists_its_names(repository: Repository) -> None:
    assert list(repository) == ["one", "two"]
    assert "one" in repository
    assert "one@{0}" in repository
    assert "three" not in repository
    assert 1 not in repository
    assert "no name" not in repository
    assert "one@{x}" not in repository
    root = repository["one"].root
    assert repository[root].root == root
    assert repository[root.hex()].root == root
    assert root in repository
    with pytest.raises(TypeError, match="not by int"):
        repository[0]  # type: ignore[index]


def test_names_move_without_saying_who(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASTORE_AUTHOR", "ada")
    assert repository.tag("one", "golden/x").author == "ada"
    assert repository["golden/x"] == repository["one"]
    with pytest.raises(InvalidInputError, match="is protected"):
        repository.remove("golden/x")
    repository.remove("two")
    assert list(repository) == ["golden/x", "one"]


def test_no_writer_moves_a_protected_name_unasked(repository: Repository, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(str(tmp_path / "x.zarr"), mode="w")
    group.create_array("token_ids", data=np.arange(5, dtype=np.uint32))
    group.create_array("sample_offsets", data=np.array([0, 5]))
    repository.tag("one", "golden/x")
    before = repository["golden/x"].root
    writes: list[Callable[..., Any]] = [
        partial(repository.writer, "golden/x"),
        partial(repository.write, [[1]], "golden/x"),
        partial(repository.import_zarr, str(tmp_path / "x.zarr"), "golden/x"),
    ]
    for write in writes:
        with pytest.raises(InvalidInputError, match="golden/x is protected"):
            write()
        with pytest.raises(InvalidInputError, match="wants the reason"):
            write(force=True)
    assert repository["golden/x"].root == before
    repository.write([[1]], "golden/x", force=True, origin=Origin.here("one token is enough"))
    assert len(repository["golden/x"]) == 1
    assert next(iter(repository.refs.log("golden/x"))).message == "one token is enough"


def test_a_place_may_be_a_path(tmp_path: Path) -> None:
    Repository.open(tmp_path / "repo", create=True).write([[1]], "x")
    assert len(Repository.open(tmp_path / "repo")["x"]) == 1


def test_without_a_place_it_is_that_of_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CASTORE_REPO", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    Repository.open(create=True).write([[1]], "x")
    assert list(Repository.open(tmp_path / "castore")) == ["x"]
    monkeypatch.setenv("CASTORE_REPO", str(tmp_path / "other"))
    with pytest.raises(NotFoundError, match="other"):
        Repository.open()


def test_an_export_needs_no_more_than_a_folder(repository: Repository, tmp_path: Path) -> None:
    done = repository.export(repository["one"], str(tmp_path / "out"))
    assert done.samples == len(repository["one"])
    with pytest.raises(InvalidInputError, match="already holds files"):
        repository.export(repository["one"], str(tmp_path / "out"))
    repository.export(repository["one"], str(tmp_path / "out"), layout="mds", replace=True)
    assert (tmp_path / "out" / "index.json").is_file()
