"""A reader that was written from the text alone reads every vector, and refuses each of the others by its error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest
from blake3 import blake3

from tests.format.test_limits import bytes_of
from tests.format.test_vectors import load
from tests.support import bare_annex, bare_reader, ed25519, pcg64
from tests.support.bare_reader import RefusedError
from tests.vectors import generate
from tests.vectors.values import from_json

Case = dict[str, Any]


def hex_of(case: Case) -> bytes:
    return bytes.fromhex(case["hex"])


def order_of(case: Case) -> list[int]:
    """Positions of an order by the map and the chunks of a case."""
    value = from_json(case["value"])
    bare_reader.check_order(value, value["count"])
    if value["algorithm"] == "numpy-pcg64-permutation":
        found = pcg64.permutation(value["seed"], value["count"])
        assert bare_reader.is_permutation_of(value, found)
        return found[: value["take"]]
    stored = {blake3(data).digest(): data for data in map(bytes.fromhex, case.get("chunks", []))}
    return bare_reader.explicit_positions(value, stored.__getitem__)


def chunk_of(case: Case) -> object:
    if case["kind"] == "spans":
        return bare_reader.spans_of(hex_of(case))
    return bare_reader.values_of(hex_of(case), case["dtype"])


FILES: dict[str, Callable[[bytes], object]] = {
    "file": bare_annex.file_of,
    "vocabulary": bare_annex.vocabulary_of,
    "dropped": bare_annex.dropped_of,
}

LIMITED: dict[str, Callable[[bytes, Case], object]] = {
    "encoding": lambda data, case: bare_reader.decode(data),
    "node": lambda data, case: bare_reader.node_of(data, case["level"]),
    "manifest": lambda data, case: bare_reader.manifest_of(data),
    "run": lambda data, case: bare_annex.run_of(data),
    "ref": lambda data, case: bare_reader.ref_entry("r", 0, data),
    "frame": lambda data, case: unpacked(data, {name: bytes_of({"parts": parts}) for name, parts in bases_of(case)}),
}


def bases_of(case: Case) -> list[tuple[bytes, Any]]:
    return [(bytes.fromhex(name), stored) for name, stored in case.get("bases", [])]


def unpacked(frame: bytes, stored: dict[bytes, bytes]) -> bytes:
    """What is in a frame, the bases of which are stored so."""

    def base(digest: bytes, most: int, depth: int) -> bytes:
        if digest not in stored:
            return bare_reader.no_bases(digest, most, depth)
        data = bare_reader.unpack(stored[digest], most, base, depth)
        bare_reader.must(blake3(data).digest() == digest, "another digest", "corruption")
        return data

    return bare_reader.unpack(frame, bases=base)


def frame_of(case: Case) -> bytes:
    return unpacked(bytes.fromhex(case["frame"]), {name: bytes.fromhex(frame) for name, frame in bases_of(case)})


def name_of_pack(case: Case) -> bytes:
    return bytes.fromhex(case["key"].removeprefix("packs/"))


def pack_of(case: Case) -> list[list[Any]]:
    """The values of a pack by its index: kind, name, value."""
    pack = hex_of(case)
    size = bare_reader.index_size(pack[-19:], len(pack))
    rows = bare_reader.rows_of(pack[len(pack) - 19 - size : len(pack) - 19], name_of_pack(case))
    return [[key[0], key[1:].hex(), pack[at : at + size].hex()] for key, (at, size) in rows.items()]


def entries_of(case: Case) -> list[list[Any]]:
    """The entries of a pack without its index: kind, name, value, features."""
    found = bare_reader.entries_of(hex_of(case))
    return [[kind, name.hex(), value.hex(), features] for kind, name, _, value, features in found]


def log_of(case: Case) -> int | None:
    bare_reader.check_log(case["entries"])
    return bare_reader.newest(case["entries"])


def marker_of(case: Case) -> None:
    bare_reader.check_marker(hex_of(case))


def place_of_ref(case: Case) -> object:
    name, sequence = bare_reader.entry_of_key(case["key"]) or ("", -1)
    return bare_reader.ref_entry(name, sequence, hex_of(case))


class Held(bare_reader.Repository):
    """The objects of a case, which need no folder."""

    def __init__(self, case: Case) -> None:
        pairs = [*load("links")["objects"], *case["more"]]
        self.held = {bytes.fromhex(name): bytes.fromhex(data) for name, data in pairs}
        self.seen = set()
        self.unseen = None

    def frames(self, digest: bytes) -> Iterator[bytes]:
        yield b"\x00" + self.held[digest]


def dataset_of(case: Case) -> object:
    repository = Held(case)
    manifest = bare_reader.manifest_of(repository.object(bytes.fromhex(case["root"])))
    return bare_reader.dataset(repository, manifest["arrays"])


READERS: dict[tuple[str, str], Callable[[Case], object]] = {
    ("encoding", ""): lambda case: bare_reader.decode(hex_of(case)),
    ("chunks", ""): chunk_of,
    ("nodes", ""): lambda case: bare_reader.node_of(hex_of(case), case["level"]),
    ("manifest", ""): lambda case: bare_reader.manifest_of(hex_of(case)),
    ("order", ""): order_of,
    ("order", "explicit"): order_of,
    ("run", ""): lambda case: bare_annex.run_of(hex_of(case)),
    ("files", ""): lambda case: FILES[case["kind"]](hex_of(case)),
    ("unit", ""): lambda case: bare_annex.unit_of(hex_of(case)),
    ("write", ""): lambda case: bare_annex.write_of(hex_of(case)),
    ("packings", ""): lambda case: bare_annex.packing_of(hex_of(case)),
    ("imports", ""): lambda case: bare_annex.import_of(hex_of(case)),
    ("frames", ""): frame_of,
    ("packs", ""): pack_of,
    ("packs", "lost"): entries_of,
    ("packs", "wrongly_sealed"): lambda case: bare_reader.index_made(hex_of(case)),
    ("records", "sealed"): lambda case: bare_reader.unseal(hex_of(case)),
    ("records", "refs"): lambda case: (
        place_of_ref(case) if "key" in case else bare_reader.ref_entry("r", case["sequence"], hex_of(case))
    ),
    ("records", "log"): log_of,
    ("records", "marker"): marker_of,
    ("signatures", ""): lambda case: bare_annex.signature_of(hex_of(case), case["key"]),
    ("links", ""): dataset_of,
    ("links", "beside"): dataset_of,
    ("limits", ""): lambda case: LIMITED[case["kind"]](bytes_of(case), case),
}
"""What reads the cases of a file, in a section of its own or, without one, in ``valid`` and ``invalid``."""

OTHERWISE = {
    ("links", "objects"): "the cases of the file",
    ("boundaries", "cuts"): "tests of the writer",
    ("dataset", "valid"): "tests of the writer",
    ("extra", "valid"): "tests of the writer",
    ("keys", "valid"): "test_keys_and_names",
    ("keys", "objects"): "test_keys_and_names",
    ("packings", "packed"): "test_packing_vectors",
    ("unit", "names"): "test_keys_and_names",
    ("write", "names"): "test_keys_and_names",
    ("imports", "names"): "test_keys_and_names",
    ("records", "keys"): "test_keys_and_names",
    ("order", "draws"): "test_draws",
    **{("golden", name): "test_golden" for name in ("token_ids", "spans", "source", "order", "keys", "packed_keys")},
}
"""Lists of cases that other tests read."""


def sections() -> list[tuple[str, str, Callable[[Case], object], Case]]:
    found = []
    for (name, section), reader in READERS.items():
        names = (section, f"{section}_invalid") if section else ("valid", "invalid")
        for key in names:
            cases = load(name).get(key, [])
            for case in [cases] if isinstance(cases, dict) else cases:
                found.append((name, key, reader, case))
    found.append(("order", "unknown", order_of, load("order")["unknown"]))
    return found


CASES = sections()


@pytest.mark.parametrize(
    ("reader", "case"),
    [
        pytest.param(reader, case, id=f"{name}-{key}-{number}-{case.get('name', '')}".replace(" ", "-")[:80])
        for number, (name, key, reader, case) in enumerate(CASES)
    ],
)
def test_every_case(reader: Callable[[Case], object], case: Case) -> None:
    if case.get("error") is None:
        reader(case)
        return
    with pytest.raises(RefusedError) as caught:
        reader(case)
    assert caught.value.error == case["error"]


def test_no_vector_goes_unread() -> None:
    read = {(name, key) for name, key, _, _ in CASES}
    lists = {(name, key) for name in generate.FILES for key, value in load(name).items() if isinstance(value, list)}
    assert lists == {pair for pair in read | set(OTHERWISE) if isinstance(load(pair[0]).get(pair[1]), list)}
    assert {name for name, _ in read | set(OTHERWISE)} == set(generate.FILES)


# ---- what the valid ones say


def test_what_valid_cases_hold() -> None:
    for case in load("encoding")["valid"]:
        assert bare_reader.decode(hex_of(case)) == from_json(case["value"])
        assert blake3(hex_of(case)).hexdigest() == case["digest"]
    for name in ("manifest", "run", "unit", "write", "imports"):
        for case in load(name)["valid"]:
            assert READERS[name, ""](case) == from_json(case["value"])
    for case in load("chunks")["valid"]:
        found = chunk_of(case)
        assert found == (case["spans"] if case["kind"] == "spans" else (case["samples"], bytes.fromhex(case["items"])))
    for case in load("nodes")["valid"]:
        found = [[digest.hex(), *counts] for digest, *counts in bare_reader.node_of(hex_of(case), case["level"])]
        assert found == case["entries"]
    for section in ("valid", "explicit"):
        for case in load("order")[section]:
            assert order_of(case)[:20] == case["first"]
    for case in load("frames")["valid"]:
        assert frame_of(case).hex() == case["data"]
    for case in load("files")["valid"]:
        told = {"file": lambda case: bytes.fromhex(case["content"]), "dropped": lambda case: case["rows"]}
        told["vocabulary"] = lambda case: [bytes.fromhex(token) for token in case["tokens"]]
        assert FILES[case["kind"]](hex_of(case)) == told[case["kind"]](case)


def test_what_packs_hold() -> None:
    packs = load("packs")
    for case in packs["valid"]:
        assert pack_of(case) == case["values"]
        assert entries_of(case) == case["entries"]
        index = bytes.fromhex("".join(row for part in case["index"].values() for row in part))
        assert bare_reader.index_made(hex_of(case)) == index
        assert blake3(index).digest() == name_of_pack(case)
        assert bare_reader.places_in(hex_of(case), name_of_pack(case))[1] is None
    for case in packs["lost"]:
        assert entries_of(case) == case["entries"]
        found, why = bare_reader.places_in(hex_of(case), name_of_pack(case))
        assert (why is None) == case["whole"]
        assert len(found) == len(case["entries"])
        with pytest.raises(RefusedError):
            pack_of(case)
    for case in packs["wrongly_sealed"]:
        assert len(pack_of(case)) in (3, 4)
        made = blake3(bare_reader.index_made(hex_of(case))).hexdigest()
        assert f"packs/{made}" == case["made"] != case["key"]


def test_what_valid_records_hold() -> None:
    records = load("records")
    for case in records["sealed"]:
        assert bare_reader.unseal(hex_of(case)).hex() == case["payload"]
    for case in records["refs"]:
        value = from_json(case["value"])
        assert place_of_ref(case) == {"target": value[4], "author": value[6], "message": value[7]}
    for case in records["log"]:
        assert bare_reader.newest(case["entries"]) == case["newest"]
    for case in load("signatures")["valid"]:
        found = bare_annex.signature_of(hex_of(case), case["key"])
        assert found["is_true"]
        assert found["signed"].hex() == case["signed"]
    wrong = {name: bytes.fromhex(text) for name, text in load("signatures")["wrong"].items() if name != "name"}
    assert not ed25519.is_signed(wrong["public_key"], wrong["signed"], wrong["signature"])
    chunk = load("extra")["chunk"]
    assert bare_reader.values_of(hex_of(chunk), chunk["dtype"]) == (chunk["samples"], bytes.fromhex(chunk["items"]))
    for case in load("packings")["valid"]:
        packing = bare_annex.packing_of(hex_of(case))
        assert packing["root"].hex() == case["root"]
        assert bare_annex.packing_record(bytes.fromhex(case["record"]))[0].hex() == case["digest"]


def test_keys_and_names() -> None:
    for case in load("keys")["valid"]:
        ids = b"".join(token.to_bytes(4, "little") for token in case["token_ids"])
        assert blake3(ids).hexdigest(length=16) == case["key"]
    for case in load("keys")["objects"]:
        assert bare_annex.place("objects", bytes.fromhex(case["digest"])) == case["key"]
    for case in load("unit")["names"]:
        recipe, name = bare_annex.unit_name(from_json(case["recipe"]), bytes.fromhex(case["row_keys"]))
        assert (recipe.hex(), name.hex()) == (case["recipe_digest"], case["unit_name"])
        assert bare_annex.place("units", name) == case["key"]
    for case in load("write")["names"]:
        name = bare_annex.write_name(case["resume_key"], from_json(case["what"]))
        assert (name.hex(), f"writes/{name.hex()}/{3:020d}") == (case["write_name"], case["key"])
    for case in load("imports")["names"]:
        name = bare_annex.import_name(case["content"], case["shuffle_seed"], case["datasets"])
        assert (name.hex(), bare_annex.place("imports", name)) == (case["import_name"], case["key"])
    for case in load("packings")["valid"]:
        name = bare_annex.packing_name(bytes.fromhex(case["root"]), "best-fit-1", case["rule"])
        assert bare_annex.place("packings", name) == case["key"]
    for case in load("records")["keys"]:
        assert bare_reader.entry_of_key(case["key"]) == (None if case["entry"] is None else tuple(case["entry"]))
    for told, is_one in (
        (load("records")["names"], bare_reader.is_ref_name),
        (load("limits")["keys"], bare_reader.is_key),
    ):
        assert [name for name in told["valid"] if not is_one(name)] == []
        assert [name for name in told["invalid"] if is_one(name)] == []


def test_draws() -> None:
    for case in load("order")["draws"]:
        seed = from_json(case["seed"])
        assert [f"{n:016x}" for n in pcg64.seed_words(seed)] == case["seed_words"]
        assert [f"{n:016x}" for n in islice(pcg64.draws_64(seed), 8)] == case["draws_64"]
