"""One flipped bit, in a folder and in a store: every reader refuses it, ``fsck`` finds it and puts it right."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import zarr

import castore
from castore.errors import CorruptionError
from castore.format.digest import Digest
from castore.repository import Repository
from castore.store.object_keys import object_key
from castore.store.objects import FRAME_BYTES_MAX, ObjectStore
from castore.store.packs import packed
from castore.store.urls import open_backend
from tests.care.stored import CHANGED, chunk_of_change, copied, make_source, opened, reach
from tests.cli.conftest import Run, run  # noqa: F401 - a fixture
from tests.support.layouts import flipped, in_packs, loose
from tests.support.servers import Server


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return make_source(tmp_path_factory.mktemp("flipped"))


@pytest.fixture
def repo(source: Repository) -> Path:
    """What commands use unless they are told."""
    return Path(source.url)


def readers(folder: Path) -> list[tuple[str | Path, ...]]:
    """Commands that read the chunk in which the two datasets differ."""
    return [
        ("diff", "two", "golden/one"),
        ("diff", "golden/one", "two", "--decode"),
        ("cat", "two", "--sample", str(CHANGED)),
        ("export", "two", folder / "out", "-q"),
        ("copy", "two", f"{folder / 'copy'}#copied", "--create", "-q"),
    ]


def flip(url: str, digest: Digest, at: float, bit: int) -> bool:
    """Flip a bit of a stored object; False if its value is the same (a few bits of a frame mean nothing)."""
    backend = open_backend(url)
    size = len(packed(backend).get(object_key(digest), FRAME_BYTES_MAX) or b"")
    flipped(backend, object_key(digest), int(at * size), bit)
    try:
        ObjectStore(packed(open_backend(url))).get(digest)
    except CorruptionError:
        return True
    return False


def refused_everywhere(run: Run, url: str, folder: Path) -> None:  # noqa: F811
    """None of the bytes reaches a caller, and each says so."""
    for arguments in readers(folder):
        said = run("--repo", url, *arguments, status=2)
        (line,) = said.err.splitlines()
        assert "damaged" in line
        assert said.out == ""
    assert not list(folder.rglob("*.npy"))
    dataset = castore.open(url)["two"]
    with pytest.raises(CorruptionError):
        dataset[CHANGED]
    with pytest.raises(CorruptionError):
        _ = [sample.token_ids for sample in castore.open(url)["two"][:]]
    group = zarr.open_group(castore.zarr_store(url, "two"), mode="r")
    with pytest.raises(CorruptionError):
        group["token_ids"][:]


def trial(run: Run, source: Repository, url: str, folder: Path, draw: random.Random) -> None:  # noqa: F811
    victim = chunk_of_change(source)
    while not flip(url, victim, draw.random(), draw.randrange(8)):
        pass
    refused_everywhere(run, url, folder)
    said = run("--repo", url, "fsck", "-q", status=1)
    # A flip in what a frame says of its bases lets one of these be missed.
    assert said.out.count("object-damaged") + said.out.count("base-missing") == 1
    assert object_key(victim) in said.out
    run("--repo", url, "fsck", "-q", "--repair-from", source.url, status=0)
    run("--repo", url, "fsck", "-q", status=0)
    assert ObjectStore(packed(open_backend(url))).get(victim) == source.objects.get(victim)
    assert castore.open(url)["two"][CHANGED].token_ids.tolist() == source.dataset("two")[CHANGED].token_ids.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("number", range(8))
def test_on_a_disk(run: Run, source: Repository, tmp_path: Path, number: int) -> None:  # noqa: F811
    url = str(tmp_path / "repo")
    layout = (loose, in_packs)[number % 2]
    copied(source, opened(layout(open_backend(url))), "golden/one", "two")
    trial(run, source, url, tmp_path / "folder", random.Random(number))


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.parametrize("store", ["rgw", "moto"])
def test_in_a_store(
    store: str,
    run: Run,  # noqa: F811
    source: Repository,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server: Server = request.getfixturevalue(store)
    url = reach(server, monkeypatch, tmp_path)
    copied(source, Repository.open(url, create=True), "golden/one", "two")
    trial(run, source, url, tmp_path / "folder", random.Random(store))
