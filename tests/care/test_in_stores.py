"""Copy, collection, checking, counting and vouching over object stores."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Lock

import pytest

from castore.care.fsck import check
from castore.care.gc import Policy, collect
from castore.care.usage import usage
from castore.format.digest import digest_hex
from castore.repository import Repository
from castore.store.backend import MemoryBackend
from castore.store.object_keys import digest_of_key
from castore.store.packs import packed
from castore.store.signatures import SignatureStore
from castore.store.urls import open_backend
from tests.care.stored import chunk_of_change, copied, make_source, opened, reach
from tests.support.complete import check_dataset
from tests.support.jobs import ORIGIN
from tests.support.servers import Server

pytestmark = [pytest.mark.slow, pytest.mark.server]
NOW = Policy(0, 0, 0)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return make_source(tmp_path_factory.mktemp("stores"))


@pytest.fixture(params=["rgw", "moto"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    server: Server = request.getfixturevalue(request.param)
    return reach(server, monkeypatch, tmp_path)


def objects_of(url: str) -> set[str]:
    return set(packed(open_backend(url)).list("objects"))


def test_there_and_back(source: Repository, url: str, tmp_path: Path) -> None:
    remote = Repository.open(url, create=True)
    there = source.copy("golden/one", remote, "golden/one", ORIGIN)
    assert there.moved
    assert there.sent == len(objects_of(url)) > 20
    for name, moves in (("golden/one", False), ("also", True)):
        again = source.copy("golden/one", Repository.open(url), name, ORIGIN)
        assert (again.sent, again.sent_bytes, again.present, again.moved) == (0, 0, 0, moves)
    few = source.copy("two", Repository.open(url), "two", ORIGIN)
    assert 0 < few.sent < there.sent / 2

    home = str(tmp_path / "home")
    back = Repository.open(url).copy("golden/one", Repository.open(home, create=True), "golden/one", ORIGIN)
    assert back.sent == there.sent
    assert back.sent_bytes == there.sent_bytes
    roots = {Repository.open(place).dataset("golden/one").root for place in (source.url, url, home)}
    assert len(roots) == 1
    for place in (url, home):
        done = check(open_backend(place))
        assert done.findings.listed == []
        assert done.unreferenced == 0
    target = Repository.open(url).resolve("golden/one")
    assert check_dataset(Repository.open(url), target) == check_dataset(source, target)

    counted = usage(open_backend(url), [])
    assert [row.name for row in counted.names] == ["also", "golden/one", "two"]
    assert (
        counted.in_use
        == counted.stored
        == sum(entry.size_bytes for entry in packed(open_backend(url)).entries("objects"))
    )
    at_home = {row.name: row for row in usage(open_backend(home), []).names}
    assert counted.names[1].logical == at_home["golden/one"].logical
    assert counted.names[1].stored == at_home["golden/one"].stored == at_home["golden/one"].unique


def test_what_is_there_is_renewed_many_at_once(
    source: Repository, moto: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no name holds it each object that lies by itself is asked for; no round trip waits for the one before."""
    url = reach(moto, monkeypatch, tmp_path)
    copied(source, Repository.open(url, create=True), "two").remove("two", ORIGIN)
    place = open_backend(url)
    for key in objects_of(url):
        digest = digest_of_key(key)
        assert digest is not None
        place.put(key, b"\0" + source.objects.get(digest))
    for key in [*place.list("packs")]:
        place.delete(key)
    place.flush()
    from castore.store.obstore import REQUESTS_AT_ONCE, ObstoreBackend

    real, lock = ObstoreBackend._touch, Lock()
    asked: list[str] = []
    running = most = 0

    def touch(self: ObstoreBackend, key: str) -> bool:
        nonlocal running, most
        with lock:
            asked.append(key)
            running += 1
            most = max(most, running)
        time.sleep(0.05)  # so that requests meet
        try:
            return real(self, key)
        finally:
            with lock:
                running -= 1

    monkeypatch.setattr(ObstoreBackend, "_touch", touch)
    done = source.copy("two", Repository.open(url), "two", ORIGIN)
    assert done.sent == 0
    assert sorted(asked) == sorted(objects_of(url))
    assert len(asked) == done.present
    assert 8 <= most <= REQUESTS_AT_ONCE
    assert check(open_backend(url)).findings.listed == []


def test_what_nothing_names_goes_and_nothing_else(source: Repository, url: str) -> None:
    """In two steps: into the trash, and out of it by a later collection."""
    remote = copied(source, Repository.open(url, create=True), "golden/one", "two")
    both = objects_of(url)
    wanted = set(copied(source, opened(MemoryBackend()), "golden/one").backend.list("objects"))
    rest = both - wanted
    assert rest
    remote.remove("two", ORIGIN)
    time.sleep(1.1)  # ages are told in whole seconds
    planned = collect(open_backend(url), NOW, dry_run=True, force=True)
    assert objects_of(url) == both
    done = collect(open_backend(url), NOW, force=True)
    assert done.removed == planned.removed == len(rest)
    assert objects_of(url) == wanted
    assert all(key.startswith("trash/packs/") for key in open_backend(url).list("trash"))
    found = check(open_backend(url))
    assert found.findings.listed == []
    assert found.unreferenced == 0
    # What lies there is read still, and comes back whole to whoever stores it again.
    victim = chunk_of_change(source)
    assert Repository.open(url).objects.get(victim) == source.objects.get(victim)
    again = source.copy("two", Repository.open(url), "two", ORIGIN)
    assert again.sent == len(rest)
    time.sleep(1.1)  # as above
    done = collect(open_backend(url), NOW, force=True)
    assert done.removed == 0
    assert not list(open_backend(url).list("trash"))
    assert objects_of(url) == both
    assert check(open_backend(url)).findings.listed == []
    assert collect(open_backend(url), Policy()).removed == 0


def test_signatures_travel(source: Repository, url: str, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from castore.care.sign import is_true, sign

    remote = copied(source, Repository.open(url, create=True), "golden/one")
    key, root = Ed25519PrivateKey.generate(), remote.dataset("golden/one").root
    for new in (True, False):
        assert sign(SignatureStore(open_backend(url)), "golden/one", 0, root, key)[1] == new
    home = copied(Repository.open(url), Repository.open(str(tmp_path / "home"), create=True), "golden/one")
    for backend in (open_backend(url), home.backend):
        (found,) = SignatureStore(backend).of("golden/one")
        assert is_true(found)
        assert [found] == list(SignatureStore(backend).of_root(root))
        assert check(backend).findings.listed == []
    (signature,) = open_backend(url).list("signatures")
    assert digest_hex(root) in signature
    data = open_backend(url).get(signature, 4096)
    assert data is not None
    backend = open_backend(url)
    backend.put(signature, data[:-1] + bytes([data[-1] ^ 1]))
    backend.flush()
    assert check(open_backend(url), source=home.backend).findings.repaired == 1
    assert open_backend(url).get(signature, 4096) == data
