"""Refs: what they mean, who may move them, and what their log must not hide."""

from __future__ import annotations

import dataclasses

import msgpack
import pytest

from castore.errors import (
    BackendError,
    ConflictError,
    CorruptionError,
    FormatError,
    InvalidInputError,
    NotFoundError,
    UnsupportedVersionError,
)
from castore.format.digest import Digest, digest_of
from castore.store.backend import MemoryBackend
from castore.store.records import seal, unseal
from castore.store.refs import ENTRY_BYTES_MAX, RefEntry, RefStore, check_ref_name
from tests.support.faults import FaultyBackend, SimulatedCrash

A, B, C = (digest_of(text) for text in (b"a", b"b", b"c"))


def put(refs: RefStore, name: str, old: Digest | None, new: Digest | None, message: str = "why") -> RefEntry:
    return refs.compare_and_set(name, old, new, time_s=1700000000, author="ann@host", message=message)


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def refs(backend: MemoryBackend) -> RefStore:
    return RefStore(backend)


def test_the_life_of_a_ref(refs: RefStore) -> None:
    assert refs.read("golden") is None
    assert refs.current("golden") is None
    assert refs.log("golden") == []
    first = put(refs, "golden", None, A)
    assert first == RefEntry("golden", 0, A, 1700000000, "ann@host", "why", first.nonce)
    assert len(set(first.nonce)) > 1
    assert refs.read("golden") == first
    second = put(refs, "golden", A, B)
    third = put(refs, "golden", B, None)
    assert refs.current("golden") is None
    assert refs.read("golden") == third
    assert refs.names() == []
    fourth = put(refs, "golden", None, C)
    assert refs.current("golden") == C
    assert refs.log("golden") == [fourth, third, second, first]
    assert [refs.at("golden", n) for n in range(4)] == [fourth, third, second, first]
    for n in (4, -1, 10**9):
        with pytest.raises(NotFoundError):
            refs.at("golden", n)
    with pytest.raises(NotFoundError, match="no ref other"):
        refs.at("other", 0)


def test_names_of_one_another(refs: RefStore) -> None:
    for name in ("golden/olmo", "golden", "golden-2", "a/b/c", "golden/olmo/x"):
        put(refs, name, None, A)
    put(refs, "golden-2", A, B)
    put(refs, "a/b/c", A, None)
    assert refs.names() == ["golden", "golden-2", "golden/olmo", "golden/olmo/x"]
    assert [entry.sequence for entry in refs.log("golden")] == [0]


@pytest.mark.parametrize(("expected", "found"), [(None, A), (B, A), (A, None)])
def test_conflict(refs: RefStore, expected: Digest | None, found: Digest | None) -> None:
    if found:
        put(refs, "r", None, found)
    with pytest.raises(ConflictError) as caught:
        put(refs, "r", expected, C)
    for part in ("ref r ", *(digest.hex() if digest else "no such ref" for digest in (expected, found))):
        assert part in str(caught.value)
    assert refs.current("r") == found


def test_the_loser_of_a_race_is_told(backend: MemoryBackend) -> None:
    class Racing(FaultyBackend):
        def create(self, key: str, data: bytes) -> bool:
            put(RefStore(backend.other()), "r", None, B)
            return super().create(key, data)

    with pytest.raises(ConflictError, match=f"expected no such ref, found {B.hex()}"):
        put(RefStore(Racing(backend)), "r", None, A)
    assert RefStore(backend).current("r") == B


def test_update_wins_in_the_end(backend: MemoryBackend) -> None:
    class Racing(FaultyBackend):
        rivals = 5

        def create(self, key: str, data: bytes) -> bool:
            if self.rivals:
                self.rivals -= 1
                RefStore(backend.other()).update("r", B, time_s=0, author="b", message="")
            return super().create(key, data)

    entry = RefStore(Racing(backend)).update("r", A, time_s=0, author="a", message="")
    assert entry.sequence == 5
    assert [e.author for e in RefStore(backend).log("r")] == ["a"] + ["b"] * 5


def test_removing_what_is_not_there(refs: RefStore, backend: MemoryBackend) -> None:
    with pytest.raises(NotFoundError):
        put(refs, "r", None, None)
    with pytest.raises(NotFoundError):
        refs.update("r", None, time_s=0, author="", message="")
    assert backend.snapshot() == {}


def test_a_move_is_durable_on_return_and_all_or_nothing(backend: MemoryBackend) -> None:
    put(RefStore(backend), "r", None, A)
    backend.crash()
    assert RefStore(backend.other()).current("r") == A
    for after, meaning in ((False, A), (True, B)):
        place = MemoryBackend()
        put(RefStore(place), "r", None, A)
        with pytest.raises(SimulatedCrash):
            put(RefStore(FaultyBackend(place).crash_at(1, after=after)), "r", A, B)
        assert RefStore(place.other()).current("r") == meaning


def test_a_failing_place_is_not_a_conflict(backend: MemoryBackend) -> None:
    with pytest.raises(BackendError):
        put(RefStore(FaultyBackend(backend).fail_at(1, BackendError("no"))), "r", None, A)
    assert RefStore(backend).current("r") is None


def test_a_gap_is_corruption(refs: RefStore, backend: MemoryBackend) -> None:
    for old, new in ((None, A), (A, B), (B, C)):
        put(refs, "r", old, new)
    for sequence in (1, 0):
        kept = backend.get(f"refs/r/{sequence:020d}", 1000)
        assert kept is not None
        backend.delete(f"refs/r/{sequence:020d}")
        with pytest.raises(CorruptionError, match=f"no entry {sequence}"):
            refs.log("r")
        with pytest.raises(CorruptionError, match=f"lost its entry {sequence}"):
            refs.at("r", 2 - sequence)
        assert refs.current("r") == C
        backend.create(f"refs/r/{sequence:020d}", kept)
    assert len(refs.log("r")) == 3


def test_foreign_files_are_passed_over(refs: RefStore, backend: MemoryBackend) -> None:
    put(refs, "r", None, A)
    for key in (
        "refs/README", "refs/r/README", "refs/r/1", "refs/-x/" + "0" * 20, "refs/" + "0" * 20, "refs/r/" + "9" * 20,
        "refs/r/" + "0" * 21, "refs/r/x.lock/" + "0" * 20,
    ):  # fmt: skip
        backend.put(key, b"foreign")
    assert refs.names() == ["r"]
    assert refs.current("r") == A
    assert len(refs.log("r")) == 1


FIELDS: list[object] = ["castore/ref", 1, "r", 0, A, 5, "ann", "why", bytes(16)]


def with_field(i: int, value: object) -> bytes:
    return bytes(msgpack.packb([*FIELDS[:i], value, *FIELDS[i + 1 :]]))


def test_the_bytes_of_the_format(refs: RefStore, backend: MemoryBackend) -> None:
    refs.compare_and_set("r", None, A, time_s=5, author="ann", message="why")
    data = backend.snapshot()["refs/r/00000000000000000000"]
    nonce = data[-48:-32]
    payload = b"\x99\xabcastore/ref\x01\xa1r\x00\xc4\x20" + A + b"\x05\xa3ann\xa3why\xc4\x10" + nonce
    assert data == payload + digest_of(payload)
    assert payload == msgpack.packb([*FIELDS[:-1], nonce])


BAD_PAYLOADS = {
    "nothing": b"",
    "not msgpack": b"\xc1",
    "two values": bytes(msgpack.packb(FIELDS)) + b"\0",
    "cut": bytes(msgpack.packb(FIELDS))[:-1],
    "a map": bytes(msgpack.packb({"a": 1})),
    "a map with a list for a key": b"\x81\x90\x01",
    "too few": bytes(msgpack.packb(FIELDS[:-1])),
    "too many": bytes(msgpack.packb([*FIELDS, 1])),
    "other kind": with_field(0, "castore/refs"),
    "version of another type": with_field(1, "1"),
    "version true": with_field(1, True),
    "name as bytes": with_field(2, b"r"),
    "sequence true": with_field(3, False),
    "target as text": with_field(4, "a" * 32),
    "target too short": with_field(4, b"a" * 31),
    "negative time": with_field(5, -1),
    "time as a float": with_field(5, 5.0),
    "author as bytes": with_field(6, b"ann"),
    "not the shortest spelling": b"\xdc\x00\x09" + bytes(msgpack.packb(FIELDS))[1:],
    "text that is no utf-8": bytes(msgpack.packb(FIELDS)).replace(b"why", b"wh\xff"),
    "deep": b"\x91" * 5000,
}


@pytest.mark.parametrize("payload", BAD_PAYLOADS.values(), ids=BAD_PAYLOADS.keys())
def test_bad_entries(refs: RefStore, backend: MemoryBackend, payload: bytes) -> None:
    backend.put("refs/r/" + "0" * 20, seal(payload))
    with pytest.raises(FormatError) as caught:
        refs.read("r")
    assert "refs/r/" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_later_version(refs: RefStore, backend: MemoryBackend) -> None:
    backend.put("refs/r/" + "0" * 20, seal(bytes(msgpack.packb(["castore/ref", 2, {"all": "else"}]))))
    with pytest.raises(UnsupportedVersionError, match="format version 2"):
        refs.read("r")
    backend.put("refs/r/" + "0" * 20, seal(with_field(1, 0)))
    with pytest.raises(FormatError):
        refs.read("r")


def test_damaged_entries(refs: RefStore, backend: MemoryBackend) -> None:
    put(refs, "r", None, A)
    put(refs, "r", A, B)
    first, second = (f"refs/r/{i:020d}" for i in range(2))
    data = backend.get(second, 1000) or b""
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        backend.put(second, bytes(damaged))
        with pytest.raises(CorruptionError):
            refs.read("r")
    for size in range(len(data)):
        backend.put(second, data[:size])
        with pytest.raises(CorruptionError):
            refs.read("r")
    backend.put(second, backend.get(first, 1000) or b"")
    with pytest.raises(CorruptionError, match="holds entry 0"):
        refs.read("r")
    backend.put(second, bytes(ENTRY_BYTES_MAX + 1))
    with pytest.raises(CorruptionError, match="more than"):
        refs.read("r")


def test_limits_of_an_entry(refs: RefStore) -> None:
    with pytest.raises(InvalidInputError, match="too long"):
        put(refs, "r", None, A, "x" * ENTRY_BYTES_MAX)
    for message in ("\x1b[0m", "\0", "\ud800"):
        with pytest.raises(InvalidInputError, match="unprintable"):
            put(refs, "r", None, A, message)
    put(refs, "r", None, A, "two\nlines,\ta tab, ünicode and 字")
    entry = refs.read("r")
    assert entry is not None
    for message in ("👩\u200d🔬", "\U0002fffd of the future"):
        put(refs, "r", A, A, message)
        assert refs.log("r")[0].message == message
    for change in ({"time_s": -1}, {"sequence": -1}, {"target": b"short"}, {"name": "-x"}):
        with pytest.raises(InvalidInputError):
            dataclasses.replace(entry, **change)


GOOD_NAMES = [
    "a",
    "golden/olmo-hybrid",
    "A.b_c+d-e",
    "1",
    "1" * 19,
    "1" * 21,
    "deadbeef",
    "a" * 200,
    "x/" + "a" * 64,
    "a.b",
]
BAD_NAMES = [
    "", "/", "a/", "/a", "a//b", ".", "..", ".a", "a/.b", "-a", "a/-b", "a.lock", "a.lock/b", "a.", "a..b", "a b",
    "a@{1}", "a@b", "a#b", "a:b", "a{b", "a\\b", "a\nb", "a\n", "ä", "1" * 20, "a/" + "1" * 20 + "/b",
    "a" * 64, "A" * 64,
    "x" * 201, "refs/*", "~a", "a?b", "٣",
]  # fmt: skip


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_good_names(refs: RefStore, name: str) -> None:
    check_ref_name(name)
    put(refs, name, None, A)
    assert refs.names() == [name]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_names(refs: RefStore, name: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        check_ref_name(name)
    assert "\n" not in str(caught.value)
    for act in (refs.read, refs.current, refs.log, lambda n: refs.at(n, 0), lambda n: put(refs, n, None, A)):
        with pytest.raises(InvalidInputError):
            act(name)


def test_records() -> None:
    for payload in (b"", b"x", b"payload" * 100):
        record = seal(payload)
        assert len(record) == len(payload) + 32
        assert unseal(record, "it") == payload
        for damaged in (record[:-1], record[1:], record + b"\0", b"", bytes(len(record))):
            with pytest.raises(CorruptionError, match=r"^it is damaged"):
                unseal(damaged, "it")


class _Retrying(MemoryBackend):
    """A backend whose client repeats a create by itself when the answer is lost, as S3's do."""

    def create(self, key: str, data: bytes) -> bool:
        super().create(key, data)
        return super().create(key, data)


def test_an_entry_of_ones_own_is_no_conflict_after_a_lost_answer() -> None:
    refs = RefStore(_Retrying())
    entry = refs.compare_and_set("r", None, A, time_s=5, author="ann", message="why")
    assert refs.log("r") == [entry]


def test_an_entry_of_another_ref_is_refused(refs: RefStore, backend: MemoryBackend) -> None:
    refs.compare_and_set("r", None, A, time_s=5, author="ann", message="why")
    backend.put("refs/s/" + "0" * 20, backend.snapshot()["refs/r/" + "0" * 20])
    with pytest.raises(CorruptionError, match="of 'r': it was moved or copied here"):
        refs.read("s")
