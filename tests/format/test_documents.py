"""Documents under damage: whatever stands in a field, the reader refuses it by name or reads it; it never stumbles."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from castore.errors import CastoreError, FormatError
from castore.format.chunk import decode_values
from castore.format.codec import decode, encode
from castore.format.digest import digest_from_hex, digest_hex, digest_of
from castore.format.files import decode_dropped, decode_file, decode_vocabulary
from castore.format.manifest import SAMPLES_MAX, Manifest, Root, SplitRule
from castore.format.node import CHILDREN_MAX, Entry, decode_node, encode_node
from castore.format.order import Order, explicit_order
from castore.format.run import Run
from castore.format.samples import SpanColumn
from castore.format.schema import DATA_ARRAYS, Array
from castore.format.unit import Unit
from tests.vectors.generate import FOLDER

OTHERS: list[Any] = [None, True, 0, 1, -1, 2**63, 2**64 - 1, "", "x", b"", b"x", bytes(32), [], [0], {}, {"x": 0}]

READERS: dict[str, Callable[[bytes], object]] = {
    "manifest": Manifest.decode,
    "run": Run.decode,
    "unit": Unit.decode,
    "nodes": lambda data: decode_node(data, 1),
    "chunks": lambda data: either(SpanColumn.decode, lambda d: decode_values(d, "uint32"), data),
    "files": lambda data: either(decode_file, decode_vocabulary, data) or decode_dropped(data),
}


def either(first: Callable[[bytes], object], second: Callable[[bytes], object], data: bytes) -> object:
    """Both readers see the bytes; a refusal of both is a refusal."""
    try:
        return first(data)
    except CastoreError:
        return second(data)


def variants(value: Any) -> Iterator[Any]:
    """The value with one thing in it replaced, removed or added, for every place."""
    yield from OTHERS
    if isinstance(value, list):
        for i, item in enumerate(value[:6]):
            yield value[:i] + value[i + 1 :]
            yield [*value[:i], item, *value[i:]]
            yield from ([*value[:i], other, *value[i + 1 :]] for other in variants(item))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield {k: v for k, v in value.items() if k != key}
            yield {**{k: v for k, v in value.items() if k != key}, key + "\u00e9": item}
            yield from ({**value, key: other} for other in variants(item))
    elif isinstance(value, bytes):
        yield from (value[:-1], value + b"\0", value[4:], value + value)


@pytest.mark.parametrize("name", READERS)
def test_any_field_may_hold_anything(name: str) -> None:
    tried = 0
    messages: list[str] = []
    for case in json.loads((FOLDER / f"{name}.json").read_text())["valid"]:
        if len(case["hex"]) > 8000:
            continue
        for other in variants(decode(bytes.fromhex(case["hex"]))):
            tried += 1
            try:
                READERS[name](encode(other))
            except CastoreError as error:
                messages.append(str(error))
    assert tried > 100
    assert not [message for message in messages if "\n" in message]


@pytest.mark.parametrize("name", READERS)
def test_any_byte_may_be_flipped(name: str) -> None:
    for case in json.loads((FOLDER / f"{name}.json").read_text())["valid"]:
        data = bytes.fromhex(case["hex"])
        for at in range(min(len(data), 600)):
            damaged = data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :]
            try:
                READERS[name](damaged)
            except CastoreError:
                continue


@pytest.mark.parametrize("kind", [Manifest, Run, Unit])
def test_what_is_read_is_written_back(kind: Any) -> None:
    for case in json.loads((FOLDER / f"{kind.__name__.lower()}.json").read_text())["valid"]:
        data = bytes.fromhex(case["hex"])
        made = kind.decode(data).encode()
        assert getattr(made, "data", made) == data


# ---- single values


@pytest.mark.parametrize("level", [0, 33])
def test_no_node_at_an_impossible_level(level: int) -> None:
    with pytest.raises(FormatError):
        encode_node(level, [Entry(digest_of(b""), 1, 1)])


def test_a_node_has_at_most_4096_children() -> None:
    child = Entry(digest_of(b""), 1, 1)
    assert len(decode_node(encode_node(1, [child] * CHILDREN_MAX).data, 1)) == CHILDREN_MAX
    with pytest.raises(FormatError):
        encode_node(1, [child] * (CHILDREN_MAX + 1))
    with pytest.raises(FormatError):
        encode_node(1, [])
    too_many = encode(["castore/node", 1, bytes(32 * 4097), [1] * 4097, [1] * 4097])
    with pytest.raises(FormatError):
        decode_node(too_many, 1)


def test_the_name_of_an_array_is_that_of_its_root_node() -> None:
    entries = (Entry(digest_of(b"a"), 1, 5), Entry(digest_of(b"b"), 2, 6))
    root = Root(2, entries)
    assert root.digest == encode_node(3, entries).digest
    assert (root.samples, root.items) == (3, 11)
    assert Root(0, ()).digest is None


@pytest.mark.parametrize("name", ["", "Ids", "a b", "a-b", "é", "x" * 65, "a/b", "."])
def test_names_of_arrays(name: str) -> None:
    with pytest.raises(FormatError):
        Array(name, "uint32", "token", 0)


@pytest.mark.parametrize("text", ["", "00", "AB" * 32, "g" * 64, " " + "0" * 63, "0" * 65])
def test_digests_have_one_spelling(text: str) -> None:
    with pytest.raises(FormatError):
        digest_from_hex(text)
    assert digest_from_hex(digest_hex(digest_of(b"x"))) == digest_of(b"x")


def test_an_order_of_another_numpy_is_refused() -> None:
    order = Order.shuffled(1, 10)
    other = Order(order.algorithm, 1, 10, digest_of(b"another permutation"), 10)
    with pytest.raises(CastoreError) as caught:
        other.positions()
    assert caught.value.code == "corruption"


def test_an_order_by_an_unknown_algorithm_is_refused_when_used() -> None:
    value = {**Order.shuffled(1, 10).value(), "algorithm": "mersenne"}
    order = Order.of(value, 10)
    with pytest.raises(FormatError):
        order.positions()


def test_explicit_orders_are_checked_when_used() -> None:
    order, chunks = explicit_order(np.array([2, 0, 1]))
    stored = {chunk.digest: chunk.data for chunk in chunks}
    assert order.positions(stored.__getitem__).tolist() == [2, 0, 1]
    _, others = explicit_order(np.array([0, 1, 2]))
    _, short = explicit_order(np.array([2, 0]))
    for chunk, code in ((others[0], "corruption"), (short[0], "format")):
        with pytest.raises(CastoreError) as caught:
            order.positions(lambda _, data=chunk.data: data)
        assert caught.value.code == code
    with pytest.raises(FormatError):
        order.positions()


def test_orders_are_permutations_and_prefixes() -> None:
    whole = Order.shuffled(3, 100).positions().tolist()
    assert sorted(whole) == list(range(100))
    assert Order.shuffled(3, 100, 7).positions().tolist() == whole[:7]
    assert Order.shuffled(4, 100).positions().tolist() != whole


@pytest.mark.parametrize("claim", [SAMPLES_MAX + 1, 1 << 60])
def test_a_claim_of_more_samples_than_can_be_is_refused(claim: int) -> None:
    """Readers take memory for what a manifest claims, so the claim is bounded, however well it adds up."""
    root = Root(0, (Entry(digest_of(b""), claim, 1),))
    rule = SplitRule("rank-4", 1 << 18, 32)
    bad = Manifest(claim, {array.name: (array, root) for array in DATA_ARRAYS}, rule, None).encode().data
    with pytest.raises(FormatError, match=f"{claim} samples are more than the {SAMPLES_MAX} that are possible"):
        Manifest.decode(bad)
