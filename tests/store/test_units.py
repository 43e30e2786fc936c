"""Records of units: found by name, absent when they cannot be trusted, never first."""

from __future__ import annotations

from typing import Any

import pytest

from castore.errors import BackendError, FormatError
from castore.format.codec import encode
from castore.format.digest import Digest, digest_of
from castore.format.unit import UNIT_KIND, Slice, Unit, recipe_digest, unit_name
from castore.store.backend import MemoryBackend
from castore.store.records import seal
from castore.store.units import UNIT_BYTES_MAX, UNITS, UnitStore, unit_key
from tests.support.faults import FaultyBackend

NAME = Digest(bytes(range(32)))
CHUNKS = {"labels_mask": digest_of(b"mask"), "token_ids": digest_of(b"ids")}
UNIT = Unit(
    4,
    b"\0\0\0\0\3\0\0\0",
    b"\5\0\0\0\7\0\0\0",
    bytes(32),
    9,
    [(1, "nothing-trainable"), (2, "bad-row: messages: must not be empty")],
    [Slice(CHUNKS, 10, 8, 10, 77)],
)


def test_a_record_comes_back() -> None:
    backend = MemoryBackend()
    store = UnitStore(backend)
    assert store.get(NAME) is None
    store.put(NAME, UNIT)
    backend.flush()
    assert UnitStore(backend.other()).get(NAME) == UNIT


def test_the_key_is_the_name() -> None:
    assert unit_key(NAME) == f"units/00/{bytes(range(32)).hex()}"


def test_a_record_is_lasting_only_after_a_flush() -> None:
    backend = MemoryBackend()
    UnitStore(backend).put(NAME, UNIT)
    assert UnitStore(backend.other()).get(NAME) is None


def test_a_record_is_replaced() -> None:
    """Its chunks may have been cut anew since."""
    store = UnitStore(MemoryBackend())
    store.put(NAME, UNIT)
    other = Unit(0, b"", b"", b"", 0, [], [])
    store.put(NAME, other)
    assert store.get(NAME) == other


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x" * 31,
        seal(UNIT.encode())[:-1],
        seal(UNIT.encode()) + b"\0",
        seal(b""),
        seal(b"\x80"),
        seal(UNIT.encode().replace(b"castore/unit", b"castore/unix")),
        seal(UNIT.encode().replace(b"format\x01", b"format\x02")),
        seal(UNIT.encode().replace(b"row_count\x04", b"row_count\x05")),
        seal(b"\xc1"),
        seal(UNIT.encode() + b"\xc0"),
    ],
)
def test_a_record_that_cannot_be_trusted_is_absent(data: bytes) -> None:
    backend = MemoryBackend()
    backend.put(unit_key(NAME), data)
    assert UnitStore(backend).get(NAME) is None


@pytest.mark.parametrize("slices", [[[]], [[1]], [1], [[{}, 1], []], None, {}])
def test_what_a_collection_is_told_of_a_record_that_is_none(slices: Any) -> None:
    for payload in (encode({"kind": UNIT_KIND, "slices": slices}), encode({"slices": slices}), encode([slices])):
        with pytest.raises(FormatError):
            UNITS.references(seal(payload), unit_key(NAME))


def test_every_flipped_bit_is_noticed() -> None:
    data = seal(UNIT.encode())
    for at in range(len(data)):
        backend = MemoryBackend()
        backend.put(unit_key(NAME), data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        assert UnitStore(backend).get(NAME) is None


def test_a_record_that_is_too_large_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    assert UNIT_BYTES_MAX == 64 << 20
    monkeypatch.setattr("castore.store.units.UNIT_BYTES_MAX", 100)
    backend = MemoryBackend()
    UnitStore(backend).put(NAME, UNIT)
    assert UnitStore(backend).get(NAME) is None


def test_trouble_of_the_place_is_no_absence() -> None:
    class Broken(FaultyBackend):
        def get(self, key: str, max_bytes: int) -> bytes | None:
            raise BackendError(f"cannot read {key}")

    backend = MemoryBackend()
    backend.put(unit_key(NAME), b"")
    with pytest.raises(BackendError):
        UnitStore(Broken(backend)).get(NAME)


def test_a_unit_is_named_by_rows_and_recipe_alone() -> None:
    recipe = recipe_digest({"b": 1, "a": {"x": None}})
    assert recipe == recipe_digest({"a": {"x": None}, "b": 1})
    assert recipe != recipe_digest({"a": {"x": None}, "b": 2})
    names = {
        unit_name(recipe, b"k" * 16),
        unit_name(recipe, b"k" * 32),
        unit_name(recipe, b"l" * 16),
        unit_name(recipe_digest({}), b"k" * 16),
    }
    assert len(names) == 4
