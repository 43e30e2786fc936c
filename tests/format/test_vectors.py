"""The test vectors: what is committed is what the code makes and reads, and all that is wrong is refused by name.

A vector that changes is a change of the format: never regenerate them to make this test pass.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest

from castore.errors import CastoreError, CorruptionError, InvalidInputError, UnsupportedVersionError
from castore.format.chunk import decode_values, encode_values
from castore.format.code_points import is_unsafe
from castore.format.codec import decode, encode
from castore.format.digest import Digest, digest_of
from castore.format.files import (
    decode_dropped,
    decode_file,
    decode_vocabulary,
    encode_dropped,
    encode_file,
    encode_vocabulary,
)
from castore.format.manifest import Manifest
from castore.format.node import Entry, decode_node, encode_node
from castore.format.order import Order, explicit_order
from castore.format.packing import Packing
from castore.format.run import Run
from castore.format.samples import SpanColumn, sample_keys
from castore.format.unit import Unit, recipe_digest, unit_name
from castore.store.backend import MemoryBackend
from castore.store.compress import pack, unpack
from castore.store.frames import Frames
from castore.store.imports import Imported, import_key, import_name
from castore.store.marker import check_marker_bytes, open_layout
from castore.store.object_keys import object_key
from castore.store.objects import OBJECT_BYTES_MAX
from castore.store.records import seal, unseal
from castore.store.refs import RefEntry, RefStore, entry_key, entry_of_key, is_ref_name
from castore.store.units import unit_key
from castore.store.writes import Stored, write_key, write_name
from castore.tree.split import cut, level_hashes
from tests.support import pcg64, reference
from tests.support.spans import decode_spans
from tests.vectors import generate
from tests.vectors.generator import samples
from tests.vectors.values import from_json, to_json

Case = dict[str, Any]


def load(name: str) -> Any:
    return json.loads((generate.FOLDER / f"{name}.json").read_text())


def cases(name: str, key: str = "valid") -> list[Any]:
    return [pytest.param(case, id=case["name"].replace(" ", "-")) for case in load(name)[key]]


@pytest.mark.parametrize("name", generate.FILES)
def test_committed_vectors_are_those_the_code_makes(name: str) -> None:
    assert (generate.FOLDER / f"{name}.json").read_text() == generate.text_of(name)


def test_every_vector_file_has_a_generator() -> None:
    assert {path.stem for path in generate.FOLDER.glob("*.json")} == set(generate.FILES)


# ---- valid


@pytest.mark.parametrize("case", cases("encoding"))
def test_encoding(case: Case) -> None:
    data, value = bytes.fromhex(case["hex"]), from_json(case["value"])
    assert encode(value) == data
    assert decode(data) == value
    assert digest_of(data).hex() == case["digest"]


@pytest.mark.parametrize("case", cases("chunks"))
def test_chunks(case: Case) -> None:
    data = bytes.fromhex(case["hex"])
    if case["kind"] == "values":
        chunk = decode_values(data, case["dtype"])
        assert (chunk.sample_count, bytes(chunk.items).hex()) == (case["samples"], case["items"])
        made = encode_values(case["dtype"], chunk.sample_count, chunk.items)
    else:
        spans = decode_spans(data)
        assert spans.by_sample() == [[tuple(span) for span in row] for row in case["spans"]]
        made = spans.column.encode()
        assert SpanColumn.decode(data).encode() == made
    assert (made.data, made.digest.hex()) == (data, case["digest"])


@pytest.mark.parametrize("case", cases("nodes"))
def test_nodes(case: Case) -> None:
    entries = [Entry(Digest(bytes.fromhex(d)), samples_below, items) for d, samples_below, items in case["entries"]]
    made = encode_node(case["level"], entries)
    assert (made.data.hex(), made.digest.hex()) == (case["hex"], case["digest"])
    assert decode_node(made.data, case["level"]) == entries


@pytest.mark.parametrize("kind", [Manifest, Run])
def test_documents(kind: type[Manifest] | type[Run]) -> None:
    for case in load(kind.__name__.lower())["valid"]:
        data = bytes.fromhex(case["hex"])
        made = kind.decode(data).encode()
        assert (made.data, made.digest.hex()) == (data, case["digest"])
        assert encode(from_json(case["value"])) == data


@pytest.mark.parametrize("case", cases("manifest"))
def test_roots_of_arrays(case: Case) -> None:
    assert generate.array_digests(Manifest.decode(bytes.fromhex(case["hex"]))) == case["roots"]


@pytest.mark.parametrize("case", cases("order"))
def test_orders(case: Case) -> None:
    value = from_json(case["value"])
    order = Order.of(value, value["count"])
    assert order == Order.shuffled(value["seed"], value["count"], value["take"])
    assert to_json(order.value()) == case["value"]
    positions = order.positions()
    assert (positions[:20].tolist(), len(positions)) == (case["first"], value["take"])


def test_explicit_orders() -> None:
    for case in load("order")["explicit"]:
        stored = {digest_of(data): data for data in map(bytes.fromhex, case["chunks"])}
        order = Order.of(from_json(case["value"]), len(case["first"]))
        assert order.positions(stored.__getitem__).tolist() == case["first"]
        made, chunks = explicit_order(np.array(case["first"]))
        assert made == order
        assert [chunk.data.hex() for chunk in chunks] == case["chunks"]


@pytest.mark.parametrize("case", load("order")["draws"], ids=lambda case: str(case["seed"]))
def test_draws_by_the_text_and_by_numpy(case: Case) -> None:
    seed = from_json(case["seed"])
    assert [f"{n:016x}" for n in pcg64.seed_words(seed)] == case["seed_words"]
    assert [f"{n:016x}" for n in islice(pcg64.draws_64(seed), 8)] == case["draws_64"]
    assert list(islice(pcg64.draws_32(seed), 8)) == case["draws_32"]
    halves = pcg64.draws_32(seed)
    assert [pcg64.up_to(halves, most) for most in case["bounds"]] == case["draws_up_to_bounds"]
    assert pcg64.permutation(seed, 12) == case["permutation_of_12"]
    by_hand = np.array(pcg64.permutation(seed, 5000), "<u8")
    assert digest_of(by_hand.tobytes()).hex() == case["digest_of_permutation_of_5000"]
    for count in (0, 1, 2, 3, 4, 5, 17, 256, 257, 3000):
        assert pcg64.permutation(seed, count) == Order.shuffled(seed, count).positions().tolist()


@pytest.mark.parametrize("case", cases("order", "explicit_invalid"))
def test_explicit_orders_that_are_none(case: Case) -> None:
    stored = {digest_of(data): data for data in map(bytes.fromhex, case["chunks"])}
    order = Order.of(from_json(case["value"]), 4)
    with pytest.raises(CastoreError) as caught:
        order.positions(stored.__getitem__)
    assert caught.value.code == case["error"]


def test_an_unknown_order_is_kept_and_not_applied() -> None:
    case = load("order")["unknown"]
    order = Order.of(from_json(case["value"]), 4)
    assert to_json(order.value()) == case["value"]
    with pytest.raises(CastoreError) as caught:
        order.positions(lambda digest: b"")
    assert caught.value.code == case["error"]


@pytest.mark.parametrize("case", cases("unit"))
def test_units(case: Case) -> None:
    data = bytes.fromhex(case["hex"])
    assert Unit.decode(data).encode() == data == encode(from_json(case["value"]))


@pytest.mark.parametrize("case", cases("write"))
def test_writes(case: Case) -> None:
    data = bytes.fromhex(case["hex"])
    assert Stored.decode(data).encode() == data == encode(from_json(case["value"]))


@pytest.mark.parametrize("case", cases("imports"))
def test_imports(case: Case) -> None:
    data = bytes.fromhex(case["hex"])
    assert Imported.decode(data).encode() == data == encode(from_json(case["value"]))


def test_names_of_imports() -> None:
    for case in load("imports")["names"]:
        name = import_name(case["content"], case["shuffle_seed"], case["datasets"])
        assert (name.hex(), import_key(name)) == (case["import_name"], case["key"])
        spelled = ["castore/import-name", case["content"], case["shuffle_seed"], case["datasets"]]
        assert digest_of(encode(spelled)) == name


@pytest.mark.parametrize("case", cases("write", "names"))
def test_names_of_writes(case: Case) -> None:
    name = write_name(case["resume_key"], from_json(case["what"]))
    assert (name.hex(), write_key(name, 3)) == (case["write_name"], case["key"])


def test_extra_arrays_are_elements_as_they_are() -> None:
    case = load("extra")["chunk"]
    values = decode_values(bytes.fromhex(case["hex"]), case["dtype"])
    assert (values.sample_count, bytes(values.items).hex()) == (case["samples"], case["items"])


@pytest.mark.parametrize("case", cases("unit", "names"))
def test_names_of_units(case: Case) -> None:
    recipe = recipe_digest(from_json(case["recipe"]))
    name = unit_name(recipe, bytes.fromhex(case["row_keys"]))
    assert (recipe.hex(), name.hex(), unit_key(name)) == (case["recipe_digest"], case["unit_name"], case["key"])


@pytest.mark.parametrize("case", cases("files"))
def test_files(case: Case) -> None:
    data = bytes.fromhex(case["hex"])
    if case["kind"] == "file":
        assert encode_file(decode_file(data)).data == data
        assert decode_file(data).hex() == case["content"]
    elif case["kind"] == "vocabulary":
        tokens = [bytes.fromhex(token) for token in case["tokens"]]
        vocabulary = decode_vocabulary(data)
        assert encode_vocabulary(tokens).data == data
        assert [vocabulary.token(i) for i in range(len(tokens))] == tokens
    else:
        rows = decode_dropped(data)
        assert encode_dropped(rows).data == data
        assert [[r.source, r.row, r.line, r.reason] for r in rows] == case["rows"]


@pytest.mark.parametrize("case", cases("keys"))
def test_keys(case: Case) -> None:
    ids = case["token_ids"]
    made = sample_keys(np.array(ids, np.uint32), np.array([len(ids)], np.uint32))
    assert made[0].tobytes().hex() == reference.sample_key(ids).hex() == case["key"]


def test_keys_of_objects() -> None:
    for case in load("keys")["objects"]:
        assert object_key(Digest(bytes.fromhex(case["digest"]))) == case["key"]


def opened(frame: bytes, bases: dict[bytes, bytes]) -> bytes:
    """What is in a frame, given the frames of what it needs by digest."""
    frames = Frames(lambda asked: ((name, bases.get(name)) for name in asked), 3, is_far=False)
    return frames.open(frame, OBJECT_BYTES_MAX)


def opened_case(case: Case) -> bytes:
    bases = {bytes.fromhex(name): bytes.fromhex(frame) for name, frame in case.get("bases", [])}
    return opened(bytes.fromhex(case["frame"]), bases)


@pytest.mark.parametrize("case", cases("frames"))
def test_frames(case: Case) -> None:
    data = bytes.fromhex(case["data"])
    assert opened_case(case) == data
    for tail in [None, *[at for at in range(len(data) % 4, len(data), 4) if at < 8]]:
        assert unpack(pack(data, u32_tail=tail), OBJECT_BYTES_MAX) == data


def test_sealed_records() -> None:
    for case in load("records")["sealed"]:
        assert seal(bytes.fromhex(case["payload"])).hex() == case["hex"]
        assert unseal(bytes.fromhex(case["hex"]), "record").hex() == case["payload"]


@pytest.mark.parametrize("case", cases("records", "refs"))
def test_ref_entries(case: Case) -> None:
    data = bytes.fromhex(case["hex"])
    name, _, digits = case["key"].removeprefix("refs/").rpartition("/")
    entry = RefEntry.decode(name, int(digits), data, "entry")
    assert entry.encode() == data
    assert unseal(data, "entry") == encode(from_json(case["value"]))


def test_marker() -> None:
    backend = MemoryBackend()
    open_layout(backend, create=True)
    marker = load("records")["marker"]
    assert backend.get(marker["key"], 100) == bytes.fromhex(marker["hex"])


@pytest.mark.parametrize("case", cases("records", "marker_invalid"))
def test_markers_that_are_none(case: Case) -> None:
    with pytest.raises(CastoreError) as caught:
        check_marker_bytes(bytes.fromhex(case["hex"]), "place")
    assert caught.value.code == case["error"]


def test_names_of_refs() -> None:
    names = load("records")["names"]
    assert [name for name in names["valid"] if not is_ref_name(name)] == []
    assert [name for name in names["invalid"] if is_ref_name(name)] == []


def test_keys_of_entries() -> None:
    for case in load("records")["keys"]:
        place = entry_of_key(case["key"])
        assert (None if place is None else list(place)) == case["entry"], case


@pytest.mark.parametrize("case", cases("records", "log"))
def test_logs(case: Case) -> None:
    backend = MemoryBackend()
    for sequence in case["entries"]:
        backend.create(entry_key("r", sequence), RefEntry("r", sequence, None, 1, "", "").encode())
    refs = RefStore(backend)
    newest = refs.read("r")
    assert (None if newest is None else newest.sequence) == case["newest"]
    if case["error"] is None:
        assert len(refs.log("r")) == len(case["entries"])
        return
    with pytest.raises(CastoreError) as caught:
        refs.log("r")
    assert caught.value.code == case["error"]


def test_text_that_no_writer_stores_and_every_reader_takes() -> None:
    unsafe = load("records")["unsafe"]
    for field in ("author", "message"):
        for text in unsafe["taken"][field]:
            replace(RefEntry("r", 0, None, 1, "", ""), **{field: text}).check_text()
        for text in unsafe["refused"][field]:
            entry = replace(RefEntry("r", 0, None, 1, "", ""), **{field: text})
            assert RefEntry.decode("r", 0, entry.encode(), "entry") == entry
            with pytest.raises(InvalidInputError, match=f"the {field} contains the unprintable character"):
                entry.check_text()
    points = {point for first, last in unsafe["ranges"] for point in range(first, last + 1)}
    assert points == {point for point in range(0x110000) if is_unsafe(point)}
    assert all(not chr(point).isprintable() for point in points)


# ---- boundaries


def test_golden_boundary_hashes() -> None:
    """Changing this makes every existing repository store its data a second time."""
    hashes = load("boundaries")["hashes"]
    keys = [bytes.fromhex(key) for key in hashes["keys"]]
    made = reference.boundary_hashes(keys)
    assert [f"{h:016x}" for h in made] == hashes["boundary"]
    for level in (0, 1, 31):
        assert [f"{reference.level_hash(h, level):08x}" for h in made] == hashes[f"level_{level}"]
        found = level_hashes(np.array(made, np.uint64), level)
        assert [f"{h:08x}" for h in found.tolist()] == hashes[f"level_{level}"]


@pytest.mark.parametrize("case", cases("boundaries", "cuts"))
def test_cuts(case: Case) -> None:
    items = np.array(case["items"], np.int64).reshape(-1, 2)
    assert cut(items[:, 0].astype(np.uint64), items[:, 1], case["target"]) == case["sizes"]
    assert reference.cut([tuple(item) for item in case["items"]], case["target"]) == case["sizes"]


def test_golden_boundaries_by_the_reference() -> None:
    """Changing this makes every existing repository store its data a second time."""
    rows = samples(1, 400, 30)
    hashes = reference.boundary_hashes([reference.sample_key(ids) for ids, _ in rows])
    weights = [4 * len(ids) + 32 for ids, _ in rows]
    for target, sizes in load("boundaries")["golden"]["targets"].items():
        assert reference.cut(reference.salted(hashes, weights, 0), int(target)) == sizes


# ---- invalid


DECODERS: dict[str, Callable[[bytes, Case], object]] = {
    "encoding": lambda data, case: decode(data),
    "chunks": lambda data, case: (
        SpanColumn.decode(data) if case["kind"] == "spans" else decode_values(data, case["dtype"])
    ),
    "nodes": lambda data, case: decode_node(data, case["level"]),
    "manifest": lambda data, case: Manifest.decode(data),
    "run": lambda data, case: Run.decode(data),
    "unit": lambda data, case: Unit.decode(data),
    "write": lambda data, case: Stored.decode(data),
    "packings": lambda data, case: Packing.decode(data),
    "imports": lambda data, case: Imported.decode(data),
    "files": lambda data, case: {"file": decode_file, "vocabulary": decode_vocabulary, "dropped": decode_dropped}[
        case["kind"]
    ](data),
}


@pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param(name, case, id=f"{name}-{case['name'].replace(' ', '-')}")
        for name in DECODERS
        for case in load(name)["invalid"]
    ],
)
def test_invalid_bytes_are_refused(name: str, case: Case) -> None:
    with pytest.raises(CastoreError) as caught:
        DECODERS[name](bytes.fromhex(case["hex"]), case)
    assert caught.value.code == case["error"]


@pytest.mark.parametrize("case", cases("frames", "invalid"))
def test_invalid_frames_are_refused(case: Case) -> None:
    error = {"corruption": CorruptionError, "unsupported-version": UnsupportedVersionError}[case["error"]]
    with pytest.raises(error):
        opened_case(case)


@pytest.mark.parametrize("case", cases("records", "refs_invalid"))
def test_invalid_ref_entries_are_refused(case: Case) -> None:
    with pytest.raises(CastoreError) as caught:
        RefEntry.decode("r", case["sequence"], bytes.fromhex(case["hex"]), "entry")
    assert caught.value.code == case["error"]


def test_invalid_records_are_refused() -> None:
    for case in load("records")["sealed_invalid"]:
        with pytest.raises(CastoreError) as caught:
            unseal(bytes.fromhex(case["hex"]), "record")
        assert caught.value.code == case["error"]


def test_there_are_enough_bad_encodings() -> None:
    invalid = load("encoding")["invalid"]
    assert len(invalid) >= 24
    assert len({case["hex"] for case in invalid}) == len(invalid)
