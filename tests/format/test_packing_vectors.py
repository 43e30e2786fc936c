"""Packings by the vectors, by castore, and by a program that was written from the text alone."""

from __future__ import annotations

import random
from itertools import chain
from typing import Any

import numpy as np
import pytest

from castore.format.codec import encode
from castore.format.digest import Digest, digest_of
from castore.format.packing import Packing, packing_name
from castore.store.packings import PACKINGS, packing_key
from castore.train.best_fit import best_fit, tight_fit
from tests.format.test_vectors import cases, load
from tests.support import reference_packing
from tests.vectors.values import from_json

Case = dict[str, Any]


@pytest.mark.parametrize("case", cases("packings", "packed"))
def test_documents_are_packed_as_the_text_says(case: Case) -> None:
    assert reference_packing.of_documents(case["lengths"], case["capacity"]) == case["instances"]
    packed = tight_fit(np.array(case["lengths"], np.int64), case["capacity"])
    assert [len(instance) for instance in case["instances"]] == packed.counts.tolist()
    assert list(chain(*case["instances"])) == packed.documents.tolist()


@pytest.mark.parametrize("case", cases("packings"))
def test_packings_of_datasets(case: Case) -> None:
    rule, lengths = case["rule"], [len(ids) for ids in case["token_ids"]]
    samples = case["order"] if case["order"] is not None else list(range(len(lengths)))
    tokens = [lengths[sample] for sample in samples]
    if rule["mode"] == "documents":
        instances = reference_packing.samples_as_documents(tokens, rule["sequence_length"])
    else:
        stream = [token for sample in samples for token in case["token_ids"][sample]]
        asked = (rule[name] for name in ("sequence_length", "eos", "bos", "fragment", "part_items"))
        instances = reference_packing.olmo_core(stream, *asked)
    assert reference_packing.columns(instances, samples, tokens) == case["columns"]
    packing = Packing.decode(bytes.fromhex(case["hex"]))
    assert packing.encode().data.hex() == case["hex"]
    assert digest_of(bytes.fromhex(case["hex"])).hex() == case["digest"]
    assert (packing.root.hex(), packing.rule) == (case["root"], rule)
    name = digest_of(encode(["castore/packing-name", packing.root, "best-fit-1", rule]))
    assert (name, packing_key(name)) == (packing_name(packing.root, rule), case["key"])
    held = PACKINGS.references(bytes.fromhex(case["record"]), case["key"])
    assert held == [Digest(bytes.fromhex(case["digest"])), *sorted({d for c in packing.columns.values() for d in c})]


@pytest.mark.parametrize("seed", range(60))
def test_any_documents(seed: int) -> None:
    draw = random.Random(seed)
    capacity = draw.choice([8, 16, 50, 100])
    lengths = [draw.randint(1, draw.choice([capacity, max(1, capacity // 3)])) for _ in range(draw.randint(0, 60))]
    for found, expected in (
        (best_fit, reference_packing.best_fit),
        (tight_fit, reference_packing.of_documents),
    ):
        packed = found(np.array(lengths, np.int64), capacity)
        instances = expected(lengths, capacity)
        assert packed.counts.tolist() == [len(instance) for instance in instances]
        assert packed.documents.tolist() == list(chain(*instances))


def test_more_lengths_than_are_tried() -> None:
    """Instances so long that 64 lengths are tried of more that fit."""
    capacity = 1 << 16
    lengths = [capacity // 2 + 100 * i for i in range(40)] + [200 + 37 * i for i in range(150)]
    packed = tight_fit(np.array(lengths, np.int64), capacity)
    instances = reference_packing.of_documents(lengths, capacity)
    assert packed.documents.tolist() == list(chain(*instances))


def test_the_vectors_have_both_modes_and_a_refill() -> None:
    modes = {case["rule"]["mode"] for case in load("packings")["valid"]}
    assert modes == {"documents", "olmo-core"}
    assert any(
        reference_packing.best_fit(case["lengths"], case["capacity"]) != case["instances"]
        for case in load("packings")["packed"]
    )
    assert all(from_json(case["rule"]) == case["rule"] for case in load("packings")["valid"])
