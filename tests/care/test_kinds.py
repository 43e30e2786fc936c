"""Every kind of record is known to census, collection and check, because it stands in one table."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from castore.care.census import take_census
from castore.care.fsck import check
from castore.care.gc import DAY_S, Policy, collect
from castore.errors import CastoreError
from castore.format.digest import Digest, digest_of
from castore.format.files import encode_file
from castore.format.object import Object
from castore.store import kinds
from castore.store.backend import MemoryBackend
from castore.store.marker import open_layout
from castore.store.object_keys import object_key
from castore.store.objects import ObjectStore
from castore.store.packs import packed
from castore.store.records import Holds, RecordKind, record_key, seal, unseal

GRACE_S = 3600.0
POLICY = Policy(grace_s=GRACE_S, keep_log_s=GRACE_S, keep_records_s=10 * GRACE_S)


def references(data: bytes, key: str) -> list[Digest]:
    payload = unseal(data, key)
    return [Digest(payload[at : at + 32]) for at in range(0, len(payload), 32)]


NOTES = RecordKind("notes", 1000, references, Holds.OBJECTS, expires=True)
KEY = record_key("notes", digest_of(b"a note"))


@pytest.fixture
def with_notes(monkeypatch: pytest.MonkeyPatch) -> Callable[[RecordKind], None]:
    """Adding a kind is adding a line to the table."""
    return lambda kind: monkeypatch.setattr(kinds, "KINDS", (*kinds.KINDS, kind))


class Clock:
    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("time.time", made)
    return made


def stored(clock: Clock) -> tuple[MemoryBackend, Object, Object]:
    """A repository with two objects that no name leads to, and a note that names one of them."""
    backend = MemoryBackend(clock=clock)
    open_layout(backend, create=True)
    held, loose = encode_file(b"held"), encode_file(b"loose")
    ObjectStore(backend).put(held.digest, held.data)
    ObjectStore(backend).put(loose.digest, loose.data)
    backend.put(KEY, seal(held.digest))
    backend.flush()
    return backend, held, loose


def findings_of(backend: MemoryBackend, source: MemoryBackend | None = None) -> set[tuple[str, str, bool]]:
    done = check(backend, source=source)
    return {(finding.name, finding.key, finding.repaired) for finding in done.findings.listed}


def test_a_folder_that_is_in_no_table_is_unknown(clock: Clock) -> None:
    backend, *_ = stored(clock)
    assert take_census(packed(backend)).unknown == [KEY]
    assert findings_of(backend) == {("unknown-file", KEY, False)}
    clock.now += 2 * GRACE_S
    assert collect(backend, POLICY).removed == 2
    assert backend.has(KEY)


def test_a_kind_in_the_table_is_no_unknown_file(clock: Clock, with_notes: Callable[[RecordKind], None]) -> None:
    with_notes(NOTES)
    backend, *_ = stored(clock)
    census = take_census(packed(backend))
    assert (census.unknown, census.records["notes"]) == ([], [KEY])
    assert findings_of(backend) == set()
    assert check(backend).unreferenced == 1


def test_a_check_goes_by_what_the_table_says(clock: Clock, with_notes: Callable[[RecordKind], None]) -> None:
    with_notes(replace(NOTES, damage="signature-damaged"))
    backend, held, _ = stored(clock)
    healthy, *_ = stored(clock)
    backend.put(KEY, b"?")
    backend.put("notes/else", b"")
    backend.delete(object_key(held.digest))
    assert findings_of(backend) == {("signature-damaged", KEY, False), ("unknown-file", "notes/else", False)}
    backend.put(KEY, seal(held.digest))
    assert ("record-dangling", KEY, False) in findings_of(backend)
    backend.put(KEY, bytes(NOTES.bytes_max + 1))
    found = findings_of(backend, healthy)
    assert {("signature-damaged", KEY, True), ("record-dangling", KEY, True)} <= found
    assert findings_of(backend) == {("unknown-file", "notes/else", False)}


def test_a_collection_spares_what_a_record_holds(clock: Clock, with_notes: Callable[[RecordKind], None]) -> None:
    with_notes(NOTES)
    backend, held, loose = stored(clock)
    clock.now += 2 * GRACE_S
    done = collect(backend, POLICY)
    assert (done.marked, done.removed, done.records_removed) == (1, 1, 0)
    assert backend.has(object_key(held.digest))
    assert not backend.has(object_key(loose.digest))
    clock.now += 10 * GRACE_S
    done = collect(backend, POLICY)
    assert (done.removed, done.records_removed) == (1, 1)


@pytest.mark.parametrize(
    ("change", "marked", "records_removed"),
    [
        ({"holds": Holds.NOTHING}, 0, 1),
        ({"expires": False}, 1, 0),
        ({"expires": False, "holds": Holds.NOTHING}, 0, 0),
    ],
)
def test_what_a_kind_is_owed(
    clock: Clock, with_notes: Callable[[RecordKind], None], change: dict[str, object], marked: int, records_removed: int
) -> None:
    with_notes(replace(NOTES, **change))
    backend, *_ = stored(clock)
    clock.now += 30 * DAY_S
    done = collect(backend, POLICY)
    assert (done.marked, done.removed, done.records_removed) == (marked, 2 - marked, records_removed)


@pytest.mark.parametrize("kind", kinds.KINDS, ids=lambda kind: kind.folder)
def test_every_kind_refuses_what_is_no_record(kind: RecordKind) -> None:
    key = "refs/a/" + "0" * 20 if kind.is_log else record_key(kind.folder, digest_of(b""))
    for data in (b"", bytes(40), seal(b""), seal(b"\xc1"), seal(b"no record")):
        with pytest.raises(CastoreError):
            kind.references(data, key)


@pytest.mark.parametrize("kind", kinds.KINDS, ids=lambda kind: kind.folder)
def test_every_kind_is_walked(kind: RecordKind, clock: Clock) -> None:
    """A record that is damaged is in the census, is reported, and does not end a collection unless it is of a log."""
    backend, *_ = stored(clock)
    backend.delete(KEY)
    key = {"refs": "refs/a/" + "0" * 20, "writes": f"writes/{'0' * 64}/{'0' * 20}"}.get(
        kind.folder, record_key(kind.folder, digest_of(b""))
    )
    assert kind.is_key(key)
    backend.put(key, b"?")
    backend.flush()
    assert take_census(packed(backend)).records[kind.folder] == [key]
    assert findings_of(backend) == {(kind.damage, key, False)}
    if kind.is_log:
        with pytest.raises(CastoreError, match="nothing was removed"):
            collect(backend, POLICY)
    else:
        clock.now += 20 * GRACE_S
        assert collect(backend, POLICY).records_removed == kind.expires
        assert backend.has(key) == (not kind.expires)


def test_the_table_is_that_of_the_format() -> None:
    folders = [kind.folder for kind in kinds.KINDS]
    assert len(set(folders)) == len(folders)
    text = (Path(__file__).parents[2] / "docs/format/writing.md").read_text(encoding="utf-8")
    written = set(re.findall(r"^\| `(\w+)/[^`]*` \| a sealed", text, re.M))
    assert written == set(folders)
