"""Packs as bytes: what goes in is found, one content has one index, and nothing that is damaged passes for whole."""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castore.errors import CastoreError, CorruptionError, FormatError, UnsupportedVersionError
from castore.format.delta import BASES_MAX, DELTA_CODEC, delta_frame, delta_of
from castore.format.digest import Digest, digest_of
from castore.format.pack import (
    FEATURES_MAX,
    FOOTER_BYTES,
    MAGIC,
    OBJECT_KIND,
    UNIT_KIND,
    PackIndex,
    check_of,
    index_bytes,
    read_index,
)
from castore.format.pack_writer import Entry, PackBuilder, entries_of, entry_head, rebuilt

names = st.one_of(st.binary(min_size=32, max_size=32), st.sampled_from([bytes(32), b"\xff" * 32, bytes(31) + b"\1"]))
bases = st.lists(names.map(Digest), min_size=1, max_size=BASES_MAX).map(tuple)
deltas = st.builds(delta_frame, bases, st.none() | st.integers(0, 2**32 - 2), st.binary(max_size=50))
values = st.binary(max_size=200).filter(lambda value: value[:1] != bytes([DELTA_CODEC]))
features = st.sets(st.integers(0, 2**32 - 1) | st.integers(0, 3), max_size=FEATURES_MAX).map(sorted).map(tuple)
entries = st.lists(
    st.builds(Entry, st.just(OBJECT_KIND), names, values | deltas, features)
    | st.builds(Entry, st.just(UNIT_KIND), names, values | deltas, st.just(())),
    max_size=30,
)


def packed(content: list[Entry]) -> tuple[Digest, bytes, PackIndex]:
    name, pack = rebuilt(content)
    index = read_index(pack, name)
    assert index is not None
    return name, pack, index


def key_of(entry: Entry) -> bytes:
    return bytes([entry.kind]) + entry.name


def bases_of(entry: Entry) -> tuple[Digest, ...]:
    delta = delta_of(entry.value) if entry.kind == OBJECT_KIND else None
    return delta.bases if delta else ()


@given(entries)
def test_round_trip(content: list[Entry]) -> None:
    """Every value is found by kind and name, with its features and bases; of two under one name the later."""
    name, pack, index = packed(content)
    newest = {key_of(entry): entry for entry in content}
    assert [index.key(row) for row in range(len(index))] == sorted(newest)
    found_bases: dict[int, list[Digest]] = {}
    for row, base in index.bases():
        found_bases.setdefault(row, []).append(base)
    for key, entry in newest.items():
        row = index.find(key)
        assert row is not None
        place = index.place(row)
        assert pack[place.offset : place.offset + place.size] == entry.value
        assert place.check == check_of(entry.value)
        head = entry_head(entry.kind, entry.name, place.size, entry.features)
        assert pack[place.offset - len(head) : place.offset] == head
        assert set(index.features().get(row, ())) == set(entry.features)
        assert found_bases.get(row, []) == sorted(bases_of(entry))
        assert index.has_bases(row) == bool(bases_of(entry))
        for feature in entry.features:
            assert row in index.similar(feature)
    for kind in (OBJECT_KIND, UNIT_KIND):
        assert [index.key(row)[0] for row in index.starting(kind)] == [kind] * sum(key[0] == kind for key in newest)
    assert [*entries_of(pack)] == content
    assert rebuilt(entries_of(pack)) == (name, pack)


@given(entries, names, st.integers(0, 2**32 - 1))
def test_what_is_not_there_is_not_found(content: list[Entry], name: bytes, feature: int) -> None:
    _, _, index = packed(content)
    for kind in (OBJECT_KIND, UNIT_KIND):
        key = bytes([kind]) + name
        assert (index.find(key) is None) == (key not in {key_of(entry) for entry in content})
    newest = {key_of(entry): entry for entry in content}
    rows = [row for row, key in enumerate(sorted(newest)) if feature in newest[key].features]
    assert [*index.similar(feature)] == rows


@given(entries)
def test_the_index_is_canonical(content: list[Entry]) -> None:
    """Rows, features and bases ascend, and the name is the digest of exactly these bytes."""
    name, pack, index = packed(content)
    size = index_bytes(pack)
    assert size is not None
    data = pack[-size:-FOOTER_BYTES]
    assert digest_of(data) == name
    assert index.data == data
    rows, count, links, end = struct.unpack_from("<IIII", data)
    assert pack[end : end + len(data)] == data
    assert len(pack) == end + len(data) + FOOTER_BYTES
    at = 16
    for number, width in ((rows, 57), (count, 8), (links, 36)):
        table = [data[at + width * i : at + width * (i + 1)] for i in range(number)]
        assert table == sorted(table)
        at += width * number
    assert at == len(data)
    builder = PackBuilder()
    for entry in content:
        builder.add(entry)
    assert builder.size == end
    assert builder.finish() == (name, pack)


def test_features_are_stored_in_one_order() -> None:
    """Whoever puts them: what stands before a value can be told from the index."""
    given = [Entry(OBJECT_KIND, bytes(32), b"x", features) for features in ((3, 1, 2, 3), (1, 2, 3))]
    first, second = (rebuilt([entry]) for entry in given)
    assert first == second
    assert [*entries_of(first[1])] == given[1:]


@given(deltas)
def test_a_delta_is_taken_apart(frame: bytes) -> None:
    delta = delta_of(frame)
    assert delta is not None
    assert delta_frame(delta.bases, delta.tail, bytes(delta.body)) == frame
    assert delta_of(b"\0" + frame[1:]) is None
    for stop in range(1, len(frame) - len(delta.body)):
        with pytest.raises(CorruptionError):
            delta_of(frame[:stop])


@pytest.mark.parametrize("count", [0, BASES_MAX + 1, 255])
def test_a_delta_of_no_or_too_many_bases_is_refused(count: int) -> None:
    with pytest.raises(CorruptionError, match=f"names {count} bases"):
        delta_of(bytes([DELTA_CODEC, count]) + bytes(4 + 32 * 255))


# ---- damage

CONTENT = [
    Entry(OBJECT_KIND, digest_of(b"a"), b"\0first", (7, 2**31)),
    Entry(UNIT_KIND, digest_of(b"b"), b"a record"),
    Entry(OBJECT_KIND, digest_of(b"c"), delta_frame((digest_of(b"a"),), 2, b"body"), (7,)),
    Entry(OBJECT_KIND, digest_of(b"d"), b""),
]


def damaged() -> Iterator[bytes]:
    """Every truncation of a small pack, from both ends, every flip of one bit, and bytes after its end."""
    _, pack, _ = packed(CONTENT)
    for at in range(len(pack)):
        yield pack[:at]
        yield pack[at + 1 :]
        for bit in range(8):
            yield pack[:at] + bytes([pack[at] ^ 1 << bit]) + pack[at + 1 :]
    yield pack + b"\0"
    yield pack + pack
    yield pack[:100] + pack[99:]


def test_a_damaged_index_is_none() -> None:
    """An index is the one that was written or none at all; a value that it leads to proves itself."""
    name, whole, index = packed(CONTENT)
    for data in damaged():
        try:
            found = read_index(data, name)
        except UnsupportedVersionError:
            assert data[:-2] == whole[:-2]
            continue
        if found is None:
            continue
        assert found.data == index.data
        for row in range(len(found)):
            place = found.place(row)
            value = data[place.offset : place.offset + place.size]
            right = whole[place.offset : place.offset + place.size]
            assert (check_of(value) == place.check) == (value == right)


def test_damaged_entries_do_not_pass_for_the_pack() -> None:
    """What is made from entries has the name of the pack only if they are all as they were."""
    name, whole, index = packed(CONTENT)
    for data in damaged():
        try:
            made, pack = rebuilt(entries_of(data))
        except CastoreError:
            continue
        assert (made == name) == (data[: index.end] == whole[: index.end])
        assert (made == name) == (pack == whole)


def test_sizes_that_are_lies_take_no_memory() -> None:
    name, pack, index = packed(CONTENT)
    tracemalloc.start()
    try:
        for at in (*range(len(MAGIC) + 33, len(MAGIC) + 38), *range(index.end, index.end + 16), *range(-19, -15)):
            lie = bytearray(pack)
            lie[at] = 0xFF
            read_index(bytes(lie), name)
            read_index(bytes(lie), digest_of(bytes(lie)[index.end : -FOOTER_BYTES]))
            [*entries_of(bytes(lie))]
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_a_pack_of_another_version_is_newer_and_not_damaged() -> None:
    name, pack, _ = packed(CONTENT)
    newer = pack[:-2] + b"2\n"
    for ask in (lambda: index_bytes(newer), lambda: read_index(newer, name)):
        with pytest.raises(UnsupportedVersionError):
            ask()
    assert index_bytes(pack[:-1]) is None
    assert index_bytes(b"") is None


def test_an_index_needs_all_its_bytes() -> None:
    name, pack, index = packed(CONTENT)
    size = index_bytes(pack)
    assert size is not None
    assert read_index(pack[-size:], name) is not None
    assert read_index(pack[-size + 1 :], name) is None
    for data in (b"", index.data[:15], index.data[:-1], index.data + b"\0"):
        with pytest.raises(FormatError):
            PackIndex(data)


def test_an_index_that_was_sealed_wrong() -> None:
    """Whoever seals a wrong index can hide values, and can lead nobody out of the pack or into a traceback."""
    _, pack, index = packed(CONTENT)
    draw = random.Random(5)
    for _ in range(2000):
        data = bytearray(index.data)
        for _ in range(draw.randrange(1, 4)):
            data[draw.randrange(len(data))] = draw.choice((0, 1, 0x7F, 0xFF, draw.randrange(256)))
        wrong = bytes(data)
        size = len(wrong).to_bytes(4, "little")
        try:
            found = read_index(pack[: index.end] + wrong + size + MAGIC, digest_of(wrong))
            if found is None:
                continue
            for row in range(len(found)):
                place = found.place(row)
                assert len(MAGIC) <= place.offset <= place.offset + place.size <= found.end
            for entry in CONTENT:
                row_of = found.find(key_of(entry))
                assert row_of is None or found.key(row_of) == key_of(entry)
                for feature in entry.features:
                    assert all(row < len(found) for row in found.similar(feature))
            assert all(row < len(found) for row in found.features())
            assert all(row < len(found) for row, _ in found.bases())
        except CastoreError:
            continue
