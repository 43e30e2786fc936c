"""Packs that are cut, flipped, missing, doubled, renamed or wrongly indexed: told by name, and never wrong data."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from castore.care.findings import SEVERITY_AND_ADVICE
from castore.care.fsck import FsckResult, check
from castore.care.gc import Policy, collect
from castore.errors import CastoreError
from castore.format.digest import digest_from_hex, digest_hex, digest_of
from castore.format.pack import FOOTER_BYTES, MAGIC, PackIndex, index_bytes, read_index
from castore.repository import Repository
from castore.store.backend import MemoryBackend
from castore.store.local import LocalBackend
from castore.store.object_keys import digest_of_key
from castore.store.objects import ObjectStore
from castore.store.packs import packed
from tests.care.test_fsck import healthy  # noqa: F401 - a fixture
from tests.support.complete import check_complete
from tests.support.faults import FaultyBackend
from tests.support.layouts import Layout, filled, in_packs, loose, objects_of, small_packs

LIMIT = 1 << 30

Content = dict[str, bytes]


@pytest.fixture(scope="module")
def content(healthy: Content) -> Content:  # noqa: F811
    """The healthy repository in about a dozen packs."""
    return filled(healthy, small_packs).snapshot()


def copied(content: Content) -> MemoryBackend:
    backend = MemoryBackend()
    for key, value in content.items():
        backend.put(key, value)
    backend.flush()
    return backend


def packs_of(content: Content) -> list[str]:
    return sorted(key for key in content if key.startswith("packs/"))


def told(done: FsckResult) -> set[tuple[str, str]]:
    return {(finding.name, finding.key) for finding in done.findings.listed}


def never_wrong(harmed: Content, good: Content) -> None:
    """Every object is read as it was, or not at all."""
    right = ObjectStore(packed(copied(good)))
    store = ObjectStore(packed(copied(harmed)))
    for key in objects_of(copied(good)):
        digest = digest_of_key(key)
        assert digest is not None
        try:
            found = store.get(digest)
        except CastoreError:
            continue
        assert found == right.get(digest)


def mended(harmed: Content, good: Content) -> None:
    """A copy puts everything right: all is there, and the next check finds nothing."""
    backend = copied(harmed)
    done = check(backend, source=copied(good))
    assert done.findings.clean, done.findings.listed
    assert done.findings.repaired
    again = check(backend.other())
    assert again.findings.listed == []
    assert check_complete(Repository(backend.other())).keys() == {"golden/one", "two"}


def changed(data: bytes, at: int, bit: int = 0) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def test_healthy_packs_are_clean(content: Content) -> None:
    assert len(packs_of(content)) > 8
    assert check(copied(content)).findings.listed == []


def test_a_flip_in_a_value(content: Content) -> None:
    pack = packs_of(content)[0]
    index = read_index(content[pack], digest_from_hex(pack[6:]))
    assert index is not None
    start, size, _ = index.place(0)
    harmed = {**content, pack: changed(content[pack], start + size // 2)}
    done = check(copied(harmed))
    assert ("pack-damaged", pack) in told(done)
    assert not done.findings.clean
    never_wrong(harmed, content)
    mended(harmed, content)


@pytest.mark.parametrize("layout", [in_packs, small_packs], ids=["large", "small"])
def test_a_flip_before_a_value(healthy: Content, layout: Layout) -> None:  # noqa: F811
    """Nobody reads it until the index is lost; it is told all the same, and put right without a copy."""
    content = filled(healthy, layout).snapshot()
    for pack in packs_of(content)[:2]:
        for at in (3, len(MAGIC) + 5):
            backend = copied({**content, pack: changed(content[pack], at)})
            assert told(check(backend)) == {("pack-damaged", pack)}
            done = check(backend, repair=True)
            assert done.findings.clean
            assert done.findings.repaired == 1
            assert check(backend.other()).findings.listed == []
            assert objects_of(backend) == objects_of(copied(content))
            assert layout is small_packs or backend.snapshot() == content, "the same pack was stored again"


def test_a_flip_in_the_index(content: Content) -> None:
    """It is made again from the entries, as it was: all data is there all the time."""
    pack = packs_of(content)[0]
    size = index_bytes(content[pack])
    assert size is not None
    for at in (len(content[pack]) - size + 30, len(content[pack]) - FOOTER_BYTES, len(content[pack]) - 8):
        harmed = {**content, pack: changed(content[pack], at)}
        backend = copied(harmed)
        assert told(check(backend)) == {("pack-index-damaged", pack)}
        assert check_complete(Repository(backend.other())).keys() == {"golden/one", "two"}
        assert backend.snapshot() == harmed, "without --repair nothing is changed"
        done = check(backend, repair=True)
        assert done.findings.clean
        backend.crash()
        assert backend.snapshot() == content


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_pack(content: Content, share: float) -> None:
    pack = packs_of(content)[1]
    harmed = {**content, pack: content[pack][: int(share * len(content[pack]))]}
    done = check(copied(harmed))
    assert ("pack-index-damaged", pack) in told(done)
    assert not done.findings.clean
    never_wrong(harmed, content)
    mended(harmed, content)


def test_a_missing_pack(content: Content) -> None:
    for pack in packs_of(content)[::4]:
        harmed = {key: value for key, value in content.items() if key != pack}
        lost = objects_of(copied(content)) - objects_of(copied(harmed))
        done = check(copied(harmed))
        assert {key for name, key in told(done) if name == "object-missing"} <= lost
        assert lost
        assert {name for name, _ in told(done)} <= {"object-missing", "record-dangling", "log-target-missing"}
        if not done.findings.clean:
            mended(harmed, content)
        never_wrong(harmed, content)


def test_doubled_objects(content: Content, healthy: Content) -> None:  # noqa: F811
    """Other packs of the same objects, and single ones: nothing is wrong, and damage in one of them is no loss."""
    twice = copied(content)
    for key, value in filled(healthy, in_packs).snapshot().items():
        twice.put(key, value)
    twice.flush()
    assert check(twice).findings.listed == []
    assert check(twice).objects == check(copied(content)).objects
    for pack in packs_of(content):
        data = bytearray(content[pack])
        end = len(data) - (index_bytes(bytes(data)) or 0)
        for at in range(len(MAGIC), end, 40):
            data[at] ^= 0x20
        twice.put(pack, bytes(data))
    twice.flush()
    never_wrong(twice.snapshot(), content)
    assert {name for name, _ in told(check(twice.other()))} == {"pack-damaged"}
    assert check(twice, repair=True).findings.clean, "all of it is whole elsewhere"
    assert check(twice.other()).findings.listed == []
    assert objects_of(twice) == objects_of(copied(content))


def test_a_damaged_copy_beside_a_pack(content: Content, healthy: Content) -> None:  # noqa: F811
    """A single value that nobody would miss, since the one in a pack is read."""
    backend = copied(content)
    key = min(objects_of(backend))
    backend.put(key, healthy[key])
    backend.flush()
    assert check(backend).findings.listed == []
    backend.put(key, changed(healthy[key], 5))
    backend.flush()
    assert told(check(backend)) == {("object-damaged", key)}
    done = check(backend, repair=True)
    assert done.findings.clean
    assert check(backend.other()).findings.listed == []
    assert key in objects_of(backend)


def resealed(pack: bytes, index: bytes) -> tuple[str, bytes]:
    """A pack with another index, under the name that belongs to that."""
    size = index_bytes(pack)
    assert size is not None
    return f"packs/{digest_hex(digest_of(index))}", pack[:-size] + index + len(index).to_bytes(4, "little") + MAGIC


@pytest.mark.parametrize("wrong", ["offset", "size", "check", "name", "order", "fewer rows", "none"])
def test_a_wrong_index_that_is_sealed(content: Content, wrong: str) -> None:
    pack = packs_of(content)[0]
    index = read_index(content[pack], digest_from_hex(pack[6:]))
    assert index is not None
    data, row = bytearray(index.data), 16 + 57 * (len(index) // 2)
    if wrong == "offset":
        data[row + 33] ^= 1
    elif wrong == "size":
        data[row + 37] ^= 1
    elif wrong == "check":
        data[row + 41] ^= 1
    elif wrong == "name":
        data[row + 20] ^= 1
    elif wrong == "order":
        data[16 : 16 + 57], data[row : row + 57] = data[row : row + 57], data[16 : 16 + 57]
    elif wrong == "fewer rows":
        data = bytearray((len(index) - 1).to_bytes(4, "little") + bytes(data[4:row]) + bytes(data[row + 57 :]))
    else:
        data = bytearray(12) + data[12:16]
    PackIndex(bytes(data))
    key, made = resealed(content[pack], bytes(data))
    harmed = {**{name: value for name, value in content.items() if name != pack}, key: made}
    done = check(copied(harmed))
    assert ("pack-damaged", key) in told(done), done.findings.listed
    never_wrong(harmed, content)
    if wrong == "name":  # an object that nobody has may be missed by somebody: it stays, and is told
        assert not check(copied(harmed), source=copied(content)).findings.clean
    else:
        mended(harmed, content)


def test_an_index_that_leads_out_of_its_pack(content: Content) -> None:
    pack = packs_of(content)[0]
    index = read_index(content[pack], digest_from_hex(pack[6:]))
    assert index is not None
    data = bytearray(index.data)
    data[16 + 36] = 0xFF  # the offset of the first row
    key, made = resealed(content[pack], bytes(data))
    harmed = {**{name: value for name, value in content.items() if name != pack}, key: made}
    assert "pack" in "".join(name for name, where in told(check(copied(harmed))) if where == key)
    never_wrong(harmed, content)
    with pytest.raises(CastoreError):
        collect(copied(harmed), Policy(0, 0, 0), force=True)


def test_a_renamed_pack(content: Content) -> None:
    """Its name is the digest of its index: under another one it is damaged, and all data is there all the same."""
    pack = packs_of(content)[0]
    other = "packs/" + digest_hex(digest_of(b"another"))
    harmed = {**{name: value for name, value in content.items() if name != pack}, other: content[pack]}
    backend = copied(harmed)
    assert ("pack-index-damaged", other) in told(check(backend))
    never_wrong(harmed, content)
    done = check(backend, repair=True)
    assert done.findings.clean
    assert check(backend.other()).findings.listed == []
    assert objects_of(backend) == objects_of(copied(content))
    backend = copied({**harmed, "packs/notes": b"?"})
    assert ("unknown-file", "packs/notes") in told(check(backend))


def test_what_is_no_pack(content: Content) -> None:
    for data in (b"", b"?", bytes(100), MAGIC, MAGIC + MAGIC, os.urandom(5000)):
        key = "packs/" + "0" * 64
        harmed = {**content, key: data}
        assert ("pack-index-damaged", key) in told(check(copied(harmed))), data
        never_wrong(harmed, content)
        assert check_complete(Repository(copied(harmed))).keys() == {"golden/one", "two"}


def test_a_pack_of_a_newer_format(content: Content) -> None:
    pack = packs_of(content)[0]
    harmed = {**content, pack: content[pack][:-2] + b"2\n"}
    done = check(copied(harmed))
    assert ("pack-unreadable", pack) in told(done)
    never_wrong(harmed, content)
    backend = copied(harmed)
    with pytest.raises(CastoreError, match="nothing was removed"):
        collect(backend, Policy(0, 0, 0), force=True)
    assert backend.snapshot().keys() >= harmed.keys()
    done = check(backend, source=copied(content), repair=True)
    assert backend.has(pack), "what only a newer castore can read is not to be removed"


def test_a_pack_that_cannot_be_read(content: Content) -> None:
    """It is neither missing nor damaged; of the others everything is read."""
    victim = packs_of(content)[2]

    class Locked(FaultyBackend):
        def _note(self, operation: str, key: str) -> None:
            super()._note(operation, key)
            if key == victim and operation in ("get", "get_part"):
                from castore.errors import BackendError

                raise BackendError(f"cannot read {key}: no permission")

    done = check(Locked(copied(content)))
    names = {name for name, _ in told(done)}
    assert ("pack-unreadable", victim) in told(done)
    assert "object-missing" not in names
    assert "object-damaged" not in names
    backend = copied(content)
    with pytest.raises(CastoreError):
        collect(Locked(backend), Policy(0, 0, 0), force=True)
    assert backend.snapshot() == content
    store = ObjectStore(packed(Locked(copied(content))))
    good = ObjectStore(packed(copied(content)))
    for key in objects_of(copied({name: value for name, value in content.items() if name != victim})):
        digest = digest_of_key(key)
        assert digest is not None
        assert store.get(digest) == good.get(digest)


@pytest.mark.parametrize("what", ["dangling link", "folder", "closed folder"])
def test_something_else_in_the_place_of_a_pack(content: Content, tmp_path: Path, what: str) -> None:
    place = LocalBackend(str(tmp_path))
    for key, value in content.items():
        place.put(key, value)
    place.flush()
    victim = packs_of(content)[0]
    (tmp_path / victim).unlink()
    if what == "dangling link":
        (tmp_path / victim).symlink_to(tmp_path / "elsewhere")
    else:
        (tmp_path / victim).mkdir()
    done = check(LocalBackend(str(tmp_path)))
    assert ("not-a-file", victim) in told(done)
    with pytest.raises(CastoreError):
        collect(LocalBackend(str(tmp_path)), Policy(0, 0, 0), force=True)
    assert len([*(tmp_path / "packs").iterdir()]) == len(packs_of(content))


def test_every_finding_of_packs_has_advice() -> None:
    assert {name for name in SEVERITY_AND_ADVICE if name.startswith("pack-")} == {
        "pack-damaged", "pack-index-damaged", "pack-unreadable",
    }  # fmt: skip


def flips(content: Content, count: int, seed: int) -> None:
    draw = random.Random(seed)
    backend = filled(content, loose)
    packs = packs_of(content)
    good = copied(content)
    harmless = 0
    for _ in range(count):
        pack = draw.choice(packs)
        data = content[pack]
        at = draw.randrange(len(data))
        value = data[:at] if draw.random() < 0.2 else changed(data, at, draw.randrange(8))
        harmed = {**content, pack: value}
        backend = copied(harmed)
        done = check(backend)
        found = told(done)
        assert any(key == pack for _, key in found), (pack, at, found)
        never_wrong_quick(harmed, good)
        done = check(backend, source=good.other(), repair=True)
        assert done.findings.clean, (pack, at, done.findings.listed)
        assert check(backend.other()).findings.listed == []
        assert objects_of(backend) == objects_of(good)
    assert not harmless


def never_wrong_quick(harmed: Content, good: MemoryBackend) -> None:
    store, right = ObjectStore(packed(copied(harmed))), ObjectStore(packed(good))
    for key in objects_of(good):
        digest = digest_of_key(key)
        assert digest is not None
        try:
            data = store.get(digest)
        except CastoreError:
            continue
        assert data == right.get(digest)


def test_some_flips(content: Content) -> None:
    flips(content, 8, 1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_thousand_flips_and_truncations_of_packs(content: Content, seed: int) -> None:
    flips(content, 250, 100 + seed)
