"""A writer that was written from the text alone makes the roots of the vectors from raw arrays."""

from __future__ import annotations

import struct
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

import castore
from castore.care.fsck import check
from castore.store.local import LocalBackend
from tests.format.test_vectors import cases, load
from tests.support import bare_reader, bare_writer, pcg64, reference
from tests.support.bare_writer import Column, Dataset
from tests.support.jobs import ORIGIN
from tests.vectors import generate
from tests.vectors.values import from_json

Case = dict[str, Any]


def generated(file: str, split: dict[str, Any], **more: Column) -> Dataset:
    """The samples of a file's generator, cut as ``split`` says."""
    told = load(file)["generator"]
    ids, spans = bare_writer.generated(told["seed"], told["count"], told["mean"])
    assert sum(map(len, ids)) == told["tokens"]
    sizes = {name: split[name] for name in ("chunk_bytes", "fanout")}
    return Dataset(ids, spans, [0] * len(ids), more, **sizes)


@pytest.mark.parametrize("case", cases("dataset"))
def test_large_datasets(case: Case) -> None:
    made = generated("dataset", case["split"])
    assert {name: made.array_digest(name) for name in made.arrays} == case["arrays"]
    assert (made.arrays["token_ids"]["level"], made.arrays["length"]["level"]) == (
        case["level"],
        case["level_of_lengths"],
    )
    assert made.cuts[:32] == case["first_cuts"]
    assert len(made.objects) == case["objects"]
    assert made.root().hex() == case["root"]


@pytest.mark.parametrize("case", cases("extra"))
def test_a_dataset_with_more_arrays(case: Case) -> None:
    told = load("extra")["generator"]
    ids, _ = bare_writer.generated(told["seed"], told["count"], told["mean"])
    weights, at = [], 0
    for row in ids:
        weights.append(b"".join(struct.pack("<I", i * 2654435761 % 2**32) for i in range(at, at + len(row))))
        at += len(row)
    scores = [struct.pack("<Q", i * 0x9E3779B97F4A7C15 % 2**64) for i in range(len(ids))]
    more = {
        "weight": bare_writer.tokens_of(weights, "float32", 4),
        "score": bare_writer.scalars(scores, "float64", 8),
    }
    made = generated("extra", case["split"], **more)
    assert {name: made.array_digest(name) for name in made.arrays} == case["arrays"]
    assert made.root().hex() == case["root"]


def test_the_golden_repository(tmp_path: Path) -> None:
    """All objects of its dataset, and nothing else but the run record and its file."""
    told = load("golden")
    spans = [[(start, stop) for start, stop in row] for row in told["spans"]]
    made = Dataset(told["token_ids"], spans, told["source"])
    root = made.root(made.seeded(42))
    with tarfile.open(generate.FOLDER / "golden.tar") as tar:
        tar.extractall(tmp_path, filter="data")
    found = bare_reader.read(tmp_path, told["name"])
    assert found["root"] == root.hex()
    beside = {bytes.fromhex(digest) for digest in found["objects"]} - made.objects.keys()
    assert made.objects.keys() <= {bytes.fromhex(digest) for digest in found["objects"]}
    assert len(beside) == 2
    assert found["run"] in {digest.hex() for digest in beside}


@pytest.mark.parametrize("case", cases("packings"))
def test_small_datasets(case: Case) -> None:
    count = len(case["token_ids"])
    made = Dataset(case["token_ids"], [[]] * count, [0] * count)
    order = None if case["order"] is None else made.explicit(case["order"])
    assert made.root(order).hex() == case["root"]


def test_no_samples() -> None:
    case = next(case for case in load("manifest")["valid"] if case["name"] == "no samples")
    made = Dataset([], [], [])
    assert made.root().hex() == case["digest"]
    assert made.objects == {made.root(): bytes.fromhex(case["hex"])}


def test_orders() -> None:
    for section in ("valid", "explicit"):
        for case in load("order")[section]:
            value = from_json(case["value"])
            made = Dataset([[]] * value["count"], [[]] * value["count"], [0] * value["count"])
            if section == "explicit":
                assert made.explicit(case["first"]) == value
                assert {blake3(bytes.fromhex(chunk)).digest() for chunk in case["chunks"]} <= made.objects.keys()
            else:
                assert made.seeded(value["seed"], value["take"]) == value


def test_boundaries() -> None:
    told = load("boundaries")
    for case in told["cuts"]:
        assert reference.cut([tuple(item) for item in case["items"]], case["target"]) == case["sizes"]
    ids, _ = bare_writer.generated(1, 400, 30)
    keys = [blake3(bare_writer.u32(row)).digest(length=16) for row in ids]
    assert [key.hex() for key in keys[:8]] == told["hashes"]["keys"]
    zero = reference.boundary_hashes([bytes(16), bytes(16)])
    assert [f"{h:016x}" for h in zero] == told["hashes"]["boundary_of_two_zero_keys"]
    for target, sizes in told["golden"]["targets"].items():
        weights = [4 * len(row) + 32 for row in ids]
        items = reference.salted(reference.boundary_hashes(keys), weights, 0)
        assert reference.cut(items, int(target)) == sizes


@pytest.mark.parametrize("seed", [None, 7])
def test_castore_reads_what_it_writes(tmp_path: Path, seed: int | None) -> None:
    """A repository made from the pages is whole, and what castore makes of the same samples has the same root."""
    ids, spans = bare_writer.generated(3, 300, 20)
    sources = [i // 200 for i in range(300)]
    made = Dataset(ids, spans, sources, chunk_bytes=1024, fanout=4)
    root = bare_writer.write_repository(tmp_path, "by/hand", made, seed and made.seeded(seed, 200), "\u200dada")
    repository = castore.open(str(tmp_path))
    assert check(LocalBackend(str(tmp_path))).findings.listed == []
    data = repository["by/hand"]
    assert data.root == root
    found = list(data.reader.samples(0, 300))
    assert [sample.token_ids.tolist() for sample in found] == ids
    assert [sample.source for sample in found] == sources
    assert data.reader.spans("labels_mask", 0, 300).by_sample() == spans
    assert data.positions.tolist() == (list(range(300)) if seed is None else pcg64.permutation(seed, 300)[:200])
    repository.tag("by/hand", "again", ORIGIN)
    assert repository["again"].root == root


def test_neither_knows_anything_of_castore() -> None:
    """Nor do the parts that they are made of: ``tests.support`` has more, which is not among them."""
    names = "bare_annex bare_reader bare_writer ed25519 pcg64 reference reference_packing"
    program = f"import sys\nfrom tests.support import {', '.join(names.split())}\n"
    program += "print([name for name in sys.modules if name.split('.')[0] in ('castore', 'numpy')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
