"""Repositories in object stores: names under races, stores that are refused, lost answers, the cache, the commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from castore.care.fsck import check
from castore.errors import BackendError
from castore.format.digest import Digest
from castore.repository import Repository
from castore.store.atomic_create import PROBED_FOLDER, RACERS, RACES, probed_key
from castore.store.backend import SweptError
from castore.store.object_keys import object_key
from castore.store.refs import RefStore
from castore.store.urls import open_backend
from tests.support.commands import REPOSITORY_ROOT, castore, environment, trouble, wait_until
from tests.support.losing_proxy import LosingProxy
from tests.support.servers import Server, free_port

EXAMPLES = REPOSITORY_ROOT / "docs" / "examples"
ROOT = "70a841c3cbba"

_UPDATER = """
import os, sys
from castore.format.digest import Digest
from castore.store.refs import RefStore
from castore.store.urls import open_backend
url, writer, updates = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
refs = RefStore(open_backend(url))
for i in range(updates):
    refs.update("golden/x", Digest(bytes([writer, i]) * 16), time_s=i, author=f"writer {writer}", message=str(i))
"""


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASTORE_CACHE", str(tmp_path / "cache"))


def _reach(server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)
    return server.url()


def _update_at_once(url: str, writers: int, updates: int, **env: str) -> None:
    """No update of several processes at one name is lost, and the log has no gap."""
    if env:
        # Once and not by every process: the store is the same, and is probed with many requests.
        RefStore(open_backend(url)).require_writable()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _UPDATER, url, str(writer), str(updates)],
            stderr=subprocess.PIPE,
            text=True,
            env=environment(**env),
        )
        for writer in range(writers)
    ]
    for process in processes:
        _, said = process.communicate(timeout=240)
        assert process.returncode == 0, said
    log = RefStore(open_backend(url)).log("golden/x")
    assert [entry.sequence for entry in log] == list(reversed(range(writers * updates)))
    assert {entry.target for entry in log} == {
        Digest(bytes([writer, i]) * 16) for writer in range(writers) for i in range(updates)
    }
    for writer in range(writers):
        own = [int(entry.message) for entry in reversed(log) if entry.author == f"writer {writer}"]
        assert own == list(range(updates))


@pytest.mark.slow
def test_no_update_is_lost_on_a_disk(tmp_path: Path) -> None:
    _update_at_once(str(tmp_path / "repository"), 8, 20)


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.parametrize(("store", "writers", "updates"), [("rgw", 4, 10), ("moto", 3, 8), ("azurite", 3, 8)])
def test_no_update_is_lost_in_a_store(
    store: str,
    writers: int,
    updates: int,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server: Server = request.getfixturevalue(store)
    url = _reach(server, monkeypatch)
    _update_at_once(url, writers, updates, **server.env, CASTORE_CACHE=str(tmp_path / "cache"))


# ---- stores that are refused


@pytest.mark.server
def test_a_store_that_ignores_conditions_gets_no_names(rclone: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    url = _reach(rclone, monkeypatch)
    backend = open_backend(url)
    with pytest.raises(BackendError, match="If-None-Match") as caught:
        RefStore(backend).update("a", Digest(b"1" * 32), time_s=0, author="a", message="")
    assert url in str(caught.value)
    assert "CASTORE_SINGLE_WRITER=1" in str(caught.value)
    assert list(backend.list("")) == []

    done = castore("check-backend", url, "--json", env=rclone.env, check=1)
    said = json.loads(done.stdout)
    assert not said["ok"]
    assert not said["refs"]
    broken = {check["name"] for check in said["checks"] if check["broken"]}
    assert {"create_once", "create_race"} <= broken
    assert "many_puts" not in broken

    monkeypatch.setenv("CASTORE_SINGLE_WRITER", "1")
    RefStore(open_backend(url)).update("a", Digest(b"1" * 32), time_s=0, author="a", message="")
    assert RefStore(open_backend(url)).current("a") == b"1" * 32


@pytest.mark.server
def test_a_sound_store_passes_and_is_left_as_it_was(moto: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    url = _reach(moto, monkeypatch)
    backend = open_backend(url)
    backend.create("mine", b"stays")
    done = castore("check-backend", url, env=moto.env)
    assert done.stdout.endswith("promises kept\n")
    assert done.stdout.count("\nok ") >= 20
    assert list(backend.list("")) == ["mine"]


@pytest.mark.server
def test_nothing_is_tokenized_for_a_store_that_is_refused(rclone: Server) -> None:
    mix = ("--mix", EXAMPLES / "conversations.jsonl", "1.0", "--tokenizer", EXAMPLES / "tokenizer")
    done = castore("--repo", rclone.url(), "tokenize", *mix, "--as", "a", env=rclone.env, check=2)
    assert "names cannot be written here" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.server
def test_a_store_is_probed_once(moto: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = _reach(moto, monkeypatch)
    seen: list[str] = []
    monkeypatch.setattr("castore.store.atomic_create._sound", set())
    monkeypatch.setattr("castore.store.atomic_create.probe_create", lambda backend: seen.append(backend.url))
    for _ in range(2):
        RefStore(open_backend(url)).update("a", Digest(b"1" * 32), time_s=0, author="a", message="")
    monkeypatch.setattr("castore.store.atomic_create._sound", set())  # another process of this user
    RefStore(open_backend(url)).update("a", Digest(b"1" * 32), time_s=0, author="a", message="")
    assert seen == [url]
    assert len([*(tmp_path / "cache" / "stores").iterdir()]) == 1


@pytest.mark.server
def test_the_answer_of_a_probe_is_kept_in_the_repository(
    moto: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = _reach(moto, monkeypatch)
    asked: list[bytes] = []
    proxy = LosingProxy(moto.endpoint, lambda line: bool(asked.append(line)))
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)

    def requests_of(user: str) -> list[bytes]:
        """What a user on another machine asks before the first name may be written."""
        monkeypatch.setattr("castore.store.atomic_create._sound", set())
        monkeypatch.setenv("CASTORE_CACHE", str(tmp_path / user))
        refs = RefStore(Repository.open(url, create=True).backend)
        asked.clear()
        refs.require_writable()
        return [*asked]

    try:
        first = requests_of("ann")
        assert RACES * RACERS < len(first) <= 165
        assert len(requests_of("ann")) == 0
        (second,) = requests_of("ben")
        assert b"/probed/" in second
        assert b"GET" in second
        backend = open_backend(url)
        (note,) = backend.list(PROBED_FOLDER)
        assert check(backend).findings.clean
        # A copy of the repository elsewhere is another place.
        assert note != probed_key(f"{backend.url} elsewhere")
        backend.put(note, b"something else")
        backend.flush()
        assert len(requests_of("cem")) > RACES * RACERS
    finally:
        proxy.close()


# ---- lost answers


@pytest.mark.server
def test_a_lost_answer_is_read_back(moto: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    url = _reach(moto, monkeypatch)
    lose: set[bytes] = set()

    def loses(line: bytes) -> bool:
        found = {part for part in lose if part in line and line.startswith(b"PUT")}
        lose.difference_update(found)
        return bool(found)

    proxy = LosingProxy(moto.endpoint, loses)
    try:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        backend = open_backend(url)
        lose.add(b"mine")
        assert backend.create("mine", b"one")
        assert not open_backend(url).create("mine", b"one")
        assert open_backend(url).create("theirs", b"first")
        lose.add(b"theirs")
        assert not backend.create("theirs", b"second")
        assert backend.get("theirs", 10) == b"first"
        lose.add(b"put")
        backend.put("put", b"value")
        backend.flush()
        assert backend.get("put", 10) == b"value"
        assert len(proxy.lost) == 3
    finally:
        proxy.close()


@pytest.mark.server
def test_a_removal_whose_answer_is_lost(moto: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    url = _reach(moto, monkeypatch)
    proxy = LosingProxy(moto.endpoint, lambda line: line.startswith(b"POST") and b"delete" in line)
    try:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        backend = open_backend(url)
        backend.put("value", b"old")
        backend.flush()
        assert backend.expire("value", time.time() + 5)
        assert backend.get("value", 10) is None
        assert len(proxy.lost) == 1
    finally:
        proxy.close()


@pytest.mark.server
def test_a_removal_that_is_refused(moto: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ceph refuses to remove what is written at that moment: then it is spared, and else it is an error."""
    import obstore
    from obstore.exceptions import GenericError

    backend = open_backend(_reach(moto, monkeypatch))
    backend.put("value", b"old")
    backend.flush()
    renewed = False

    def refuse(store: object, key: str) -> None:
        if renewed:
            obstore.put(store, key, b"new")  # type: ignore[arg-type]
        raise GenericError("DeleteObjects request failed: UnknownError (code: UnknownError)")

    monkeypatch.setattr(obstore, "delete", refuse)
    with pytest.raises(BackendError, match=r"cannot delete .*value: DeleteObjects request failed: UnknownError"):
        backend.expire("value", time.time() + 5)
    renewed = True
    assert not backend.expire("value", time.time() + 5)
    assert backend.get("value", 10) == b"new"


# ---- what cannot be reached


@pytest.mark.parametrize(
    ("url", "env"),
    [
        ("s3://bucket/x", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "a"}),
        ("gs://bucket/x", {"STORAGE_EMULATOR_HOST": "http://127.0.0.1:9"}),
    ],
)
def test_a_place_that_does_not_answer_is_one_line(
    url: str, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("obstore", reason="obstore is not installed")
    monkeypatch.setattr("castore.store.obstore_places._RETRY", {"max_retries": 0})
    for name, value in {**env, "AWS_SECRET_ACCESS_KEY": "b"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BackendError) as caught:
        open_backend(url).get("format", 10)
    assert str(caught.value).startswith(f"cannot read {url}: format: ")
    assert "\n" not in str(caught.value)
    assert caught.value.transient


@pytest.mark.server
def test_wrong_buckets_and_keys_are_one_line(moto: Server, rgw: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for server in (moto, rgw):
        _reach(server, monkeypatch)
        with pytest.raises(BackendError, match="no such bucket") as caught:
            Repository.open("s3://no-such-bucket/x")
        assert "\n" not in str(caught.value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    with pytest.raises(BackendError, match="InvalidAccessKeyId") as caught:
        Repository.open(rgw.url())
    assert "\n" not in str(caught.value)


# ---- commands


@pytest.mark.server
@pytest.mark.parametrize("store", ["rgw", "azurite"])
def test_commands_in_a_store(store: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    server: Server = request.getfixturevalue(store)
    url = server.url()
    env = {**server.env, "CASTORE_CACHE": str(tmp_path / "cache")}
    mix = ("--mix", EXAMPLES / "conversations.jsonl")
    recipe = ("--tokenizer", EXAMPLES / "tokenizer", "--quiet")

    def run(*arguments: str | Path, check: int = 0) -> str:
        return castore("--repo", url, *arguments, env=env, check=check).stdout

    run("tokenize", *mix, "1.0", *recipe, "--as", "golden/all")
    run("tokenize", *mix, "200", *recipe, "--as", "part")
    assert ROOT in run("ls")
    first = json.loads(run("diff", "golden/all", "part", "--json", check=1))
    assert 0 < first["reads"]["objects"] < 20
    again = json.loads(run("diff", "golden/all", "part", "--json", check=1))
    assert again["reads"] == {"objects": 0, "bytes": 0}
    assert {**again, "reads": None} == {**first, "reads": None}
    run("tag", "part", "golden/all", "--force", "-m", "moved")
    assert run("log", "golden/all").count("\n") == 2
    run("export", "golden/all@{1}", tmp_path / "remote")

    local = ("--repo", tmp_path / "local")
    castore(*local, "tokenize", *mix, "1.0", *recipe, "--as", "golden/all")
    castore(*local, "export", "golden/all", tmp_path / "disk")
    ids = [tmp_path / side / "token_ids_part_0000.npy" for side in ("remote", "disk")]
    assert ids[0].read_bytes() == ids[1].read_bytes()
    assert castore(*local, "diff", f"{url}#golden/all@{{1}}", "golden/all", env=env).stdout.startswith("equal")


@pytest.mark.server
def test_a_damaged_cache_harms_nobody(moto: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = _reach(moto, monkeypatch)
    writer = Repository.open(url, create=True)
    digests = [writer.objects.put_bytes(os.urandom(1000)) for _ in range(10)]
    writer.objects.flush()
    assert writer.objects.writes == 10
    reader = Repository.open(url)
    values = [reader.objects.get(digest) for digest in digests]
    assert reader.objects.reads == 10
    assert all((tmp_path / "cache" / object_key(digest)).is_file() for digest in digests)
    for digest in digests[:5]:
        path = tmp_path / "cache" / object_key(digest)
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    other = Repository.open(url)
    assert [other.objects.get(digest) for digest in digests] == values
    assert other.objects.reads == 5
    assert dict(Repository.open(url).objects.get_many(digests)) == dict(zip(digests, values, strict=True))


@pytest.mark.server
def test_what_is_there_is_renewed_and_not_written_again(moto: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    url = _reach(moto, monkeypatch)
    values = [os.urandom(1000) for _ in range(5)]
    for expected in (5, 0):
        objects = Repository.open(url, create=True).objects
        for value in values:
            objects.put_bytes(value)
        objects.flush()
        assert objects.writes == expected


@pytest.mark.server
def test_what_is_swept_while_it_is_renewed_comes_back(moto: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection that saw the old age removes after the renewal: an object returns, a record is let go."""
    url = _reach(moto, monkeypatch)
    monkeypatch.setattr("castore.store.obstore._YOUNG_S", 0.0)  # as if a collection were after the youngest
    objects, value = Repository.open(url, create=True).objects, os.urandom(1000)
    digest = objects.put_bytes(value)
    objects.flush()
    rival, record = open_backend(url), f"units/00/{64 * '0'}"
    (key,) = rival.list("packs")
    rival.put(record, b"unit")
    rival.flush()

    def sweep(*, trash: bool) -> None:
        if trash:
            rival.put(f"trash/{key}", rival.get(key, 100_000) or b"")
            rival.flush()
        else:
            rival.delete(f"trash/{key}")
        rival.delete(key)
        rival.delete(record)

    for act in ("renew", "put"):
        backend = open_backend(url)
        objects = Repository(backend).objects
        if act == "renew":
            assert objects.renew(digest)
        else:
            objects.put(digest, value)
        assert backend.touch(record)
        assert backend.has(key), "the renewal is through"
        assert backend.has(record)
        sweep(trash=True)
        objects.flush()
        assert open_backend(url).has(key)
        assert not open_backend(url).has(record)
        assert Repository.open(url).objects.get(digest) == value
        rival.put(record, b"unit")
        rival.flush()
    assert objects.renew(digest)
    assert objects.has(digest)
    sweep(trash=False)
    with pytest.raises(SweptError, match="run the same again") as caught:
        objects.flush()
    assert caught.value.transient
    objects.put(digest, value)
    objects.flush()
    assert Repository.open(url).objects.get(digest) == value


@pytest.mark.server
def test_a_web_server_can_be_read_from(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="fsspec reads http through aiohttp, which is not installed")
    mix = ("--mix", EXAMPLES / "conversations.jsonl", "1.0", "--tokenizer", EXAMPLES / "tokenizer")
    castore("--repo", tmp_path / "web" / "repo", "tokenize", *mix, "--as", "golden/all", "--quiet")
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    server = subprocess.Popen(command, cwd=tmp_path / "web", stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/repo"
    env = {"CASTORE_CACHE": str(tmp_path / "cache")}
    try:
        wait_until(lambda: castore("--repo", url, "ls", env=env, check=None).returncode == 0)
        assert ROOT in castore("--repo", url, "ls", env=env).stdout
        assert castore("diff", f"{url}#golden/all", f"{tmp_path}/web/repo#golden/all", env=env).stdout.startswith("eq")
        refused = trouble(castore("--repo", url, "tag", "golden/all", "x", env=env, check=None))
        assert refused == f"{url} can only be read"
    finally:
        server.kill()
        server.wait()
