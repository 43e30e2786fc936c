"""Canonical encoding: one spelling a value, and no other one is read."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from castore.errors import CastoreError, FormatError, InvalidInputError
from castore.format import codec
from castore.format.chunk import encode_values, values_header
from castore.format.codec import DEPTH_MAX, decode, encode
from castore.format.fields import decode_list, decode_map, expect, expect_count, kind_of

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), text, st.binary(max_size=12), st.integers(-40, 300)
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(text, inner, max_size=5), max_leaves=20
)


@given(values)
def test_round_trip(value: Any) -> None:
    data = encode(value)
    assert decode(data) == value
    assert encode(decode(data)) == data
    assert encode(shuffled(value)) == data


def shuffled(value: Any) -> Any:
    """The same value, its maps in reverse order of insertion and its lists as tuples."""
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(list(value))}
    return tuple(shuffled(item) for item in value) if isinstance(value, list) else value


@given(st.binary(max_size=24))
def test_any_bytes_are_canonical_or_refused(data: bytes) -> None:
    try:
        value = decode(data)
    except FormatError:
        return
    assert encode(value) == data


@given(values, st.integers(0, 2**16), st.integers(1, 255))
def test_a_flipped_byte_is_another_value_or_refused(value: Any, at: int, flip: int) -> None:
    data = bytearray(encode(value))
    data[at % len(data)] ^= flip
    try:
        other = decode(bytes(data))
    except FormatError:
        return
    assert encode(other) == bytes(data)
    assert other != value or type(other) is not type(value)


@given(values)
def test_what_other_libraries_write_is_read_only_if_canonical(value: Any) -> None:
    loose = msgpack.packb(value, use_bin_type=True)  # keys in order of insertion
    if loose == encode(value):
        assert decode(loose) == value
    else:
        with pytest.raises(FormatError):
            decode(loose)


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        float("nan"),
        2**64,
        -(2**63) - 1,
        {1: 2},
        {b"a": 1},
        {None: 1},
        {1, 2},
        bytearray(b"a"),
        memoryview(b"a"),
        np.uint32(1),
        np.bool_(True),
        object(),
        "\ud800",
        [[1.5]],
        {"a": {"b": 0.0}},
        msgpack.Timestamp(0),
    ],
    ids=lambda value: repr(value).partition(" at 0x")[0],  # an address would be another in each process
)
def test_what_has_no_canonical_form(value: Any) -> None:
    with pytest.raises(InvalidInputError):
        encode(value)


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"": inner}])
def test_depth(wrap: Any) -> None:
    value: Any = 0
    for _ in range(DEPTH_MAX):
        value = wrap(value)
    assert decode(encode(value)) == value
    with pytest.raises(InvalidInputError):
        encode(wrap(value))


def big_list(count: int, element: bytes) -> bytes:
    return b"\xdd" + count.to_bytes(4, "big") + count * element


SMALL_BOUND = 1 << 18  # of which a quarter is still written with the longest header


@pytest.mark.parametrize("bound", [SMALL_BOUND, pytest.param(codec.ELEMENTS_MAX, marks=pytest.mark.slow)])
@pytest.mark.parametrize("element", [b"\xc0", b"\x90", b"\x80"])
def test_many_small_elements(element: bytes, bound: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame of two kilobytes unpacks to 64 MiB of empty lists, and these to 6 GiB of memory."""
    monkeypatch.setattr(codec, "ELEMENTS_MAX", bound)
    part = big_list(bound // 4, element)
    assert len(decode(b"\x93" + 3 * part)) == 3  # type: ignore[arg-type]
    for data in (b"\x95" + 5 * part, big_list(bound + 1, element), b"\x91" * 8 + b"\x95" + 5 * part):
        with pytest.raises(FormatError, match=str(bound)):
            decode(data)


def test_a_claim_of_many_elements() -> None:
    """Memory is not taken for what a header says."""
    head = encode_values("uint32", 1, bytes(4)).data
    start = head[: 1 + len(encode("castore/values"))]
    claim = b"\xdd\x05\xf5\xe1\x00"  # 100 million
    tracemalloc.start()
    for data in (start + claim, start + encode("uint32") + claim, claim, b"\xdf\x05\xf5\xe1\x00"):
        assert values_header(data + bytes(200)) is None
        with pytest.raises(FormatError):
            decode(data + bytes(200))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_maps_are_sorted_by_bytes() -> None:
    keys = ["b", "a", "aa", "", "é", "z", "\U00010000", "\uffff"]
    made = list(decode(encode(dict.fromkeys(keys, 0))))  # type: ignore[arg-type]
    assert made == sorted(keys, key=str.encode)


# ---- fields


@pytest.mark.parametrize("value", [True, -1, 2**63, "1", None, 1.0])
def test_counts(value: Any) -> None:
    with pytest.raises(FormatError):
        expect_count(value, "count")
    assert expect_count(2**63 - 1, "count") == 2**63 - 1


def test_exact_types() -> None:
    with pytest.raises(FormatError):
        expect(int, True, "number")
    assert expect(bool, True, "flag") is True


@pytest.mark.parametrize("value", [None, [], {}, ["other", 1], ["kind"], ["kind", 1, 2], {"kind": "kind"}, [1, 1]])
def test_lists_of_another_kind_or_length(value: Any) -> None:
    with pytest.raises(FormatError):
        decode_list(encode(value), "kind", 2)


@pytest.mark.parametrize("value", [None, [], ["kind"], {}, {"kind": 1}, {"kind": "other"}])
def test_maps_of_another_kind(value: Any) -> None:
    with pytest.raises(FormatError):
        decode_map(encode(value), "kind", 1, frozenset())


@given(values)
def test_kinds(value: Any) -> None:
    kind = kind_of(encode(value))
    assert kind is None or type(kind) is str
    assert kind_of(encode(["x", value])) == kind_of(encode({"kind": "x"})) == "x"


def test_all_errors_are_ours() -> None:
    assert issubclass(FormatError, CastoreError)
