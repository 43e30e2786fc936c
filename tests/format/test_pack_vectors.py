"""Packs, by the vectors: as bytes, and as the packs of a place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from castore.care.findings import Findings
from castore.care.fsck_packs import check_packs
from castore.errors import CastoreError, CorruptionError
from castore.format.digest import Digest, digest_hex
from castore.format.pack import FOOTER_BYTES, PackIndex, index_bytes, read_index
from castore.format.pack_writer import Entry, entries_of, rebuilt
from castore.store.backend import MemoryBackend
from castore.store.pack_catalog import pack_key
from castore.store.packed_keys import value_key
from castore.store.packs import PackedBackend
from tests.format.test_vectors import cases, load

Case = dict[str, Any]
NOWHERE = value_key(b"\x00" + b"nowhere".ljust(32))


def name_of(case: Case) -> Digest:
    return Digest(bytes.fromhex(case["key"].removeprefix("packs/")))


def pack_of(case: Case) -> bytes:
    return bytes.fromhex(case["hex"])


def index_of(case: Case) -> PackIndex:
    """The index of a pack whose values are all in it; refused as a catalog does."""
    index = read_index(pack_of(case), name_of(case))
    if index is None:
        raise CorruptionError("no index")
    for row in range(len(index)):
        index.place(row)
    return index


def place_with(case: Case) -> PackedBackend:
    """A place that has a pack and nothing else."""
    backend = MemoryBackend()
    backend.put(case["key"], pack_of(case))
    return PackedBackend(backend)


def told(entries: Iterable[Entry]) -> list[list[Any]]:
    return [[kind, name.hex(), value.hex(), list(features)] for kind, name, value, features in entries]


@pytest.mark.parametrize("case", cases("packs"))
def test_packs(case: Case) -> None:
    pack, index = pack_of(case), index_of(case)
    assert index_bytes(pack[-FOOTER_BYTES:]) == len(index.data) + FOOTER_BYTES
    assert index.data.hex() == "".join(row for part in case["index"].values() for row in part)
    assert told(entries_of(pack)) == case["entries"]
    assert rebuilt(entries_of(pack)) == (name_of(case), pack)
    place = place_with(case)
    for kind, name, value in case["values"]:
        assert place.get(value_key(bytes([kind]) + bytes.fromhex(name)), 2**20) == bytes.fromhex(value)
    assert place.get(NOWHERE, 2**20) is None
    assert len(index) == len(case["values"])


@pytest.mark.parametrize("case", cases("packs", "invalid"))
def test_invalid_packs_are_refused(case: Case) -> None:
    with pytest.raises(CastoreError) as caught:
        index_of(case)
    assert caught.value.code == case["error"]


def test_what_is_not_found_in_a_newer_pack_is_not_called_absent() -> None:
    newer = [case for case in load("packs")["invalid"] if case["error"] == "unsupported-version"]
    assert newer
    for case in newer:
        with pytest.raises(CastoreError) as caught:
            place_with(case).get(NOWHERE, 2**20)
        assert caught.value.code == "unsupported-version"


@pytest.mark.parametrize("case", cases("packs", "lost"))
def test_packs_whose_index_is_lost(case: Case) -> None:
    with pytest.raises(CorruptionError):
        index_of(case)
    assert told(entries_of(pack_of(case))) == case["entries"]
    made, _ = rebuilt(entries_of(pack_of(case)))
    assert (made == name_of(case)) == case["whole"]
    place = place_with(case)
    for kind, name, value, _ in case["entries"]:
        assert place.get(value_key(bytes([kind]) + bytes.fromhex(name)), 2**20) == bytes.fromhex(value)
    if case["whole"]:
        assert place.get(NOWHERE, 2**20) is None
    else:
        with pytest.raises(CorruptionError):
            place.get(NOWHERE, 2**20)


@pytest.mark.parametrize("case", cases("packs", "wrongly_sealed"))
def test_packs_that_were_sealed_wrong(case: Case) -> None:
    """Such an index is read, and what is read by it is a value of the pack; its entries tell that it is wrong."""
    index = index_of(case)
    entries = list(entries_of(pack_of(case)))
    values = {bytes([one.kind]) + one.name: one.value for one in entries}
    place = place_with(case)
    for key in map(index.key, range(len(index))):
        assert place.get(value_key(key), 2**20) in (values[key], None)
    assert len([*index.features()]) + len([*index.bases()]) <= 2 * len(index)
    assert pack_key(digest_hex(rebuilt(entries)[0])) == case["made"] != case["key"]


@pytest.mark.parametrize(
    ("case", "found"),
    [
        *((case, False) for case in load("packs")["valid"]),
        *((case, True) for case in load("packs")["wrongly_sealed"]),
    ],
    ids=lambda value: value["name"].replace(" ", "-") if isinstance(value, dict) else "",
)
def test_a_check_tells_packs_that_were_sealed_wrong(case: Case, found: bool) -> None:
    findings = Findings()
    check_packs(place_with(case), findings, whole=True, repair=False)
    assert [finding.name for finding in findings.listed] == ["pack-damaged"] * found
