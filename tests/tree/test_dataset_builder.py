"""Trees and the documents above them: what other builders of the same samples make, with nothing stored."""

from __future__ import annotations

import numpy as np
import pytest

from castore.format.manifest import Manifest
from castore.format.order import Order
from castore.format.run import Run
from castore.format.samples import Piece
from castore.format.schema import DATA_ARRAYS, PROVENANCE_ARRAYS
from castore.tree.dataset_builder import DatasetBuilder
from tests.support.built import FEW, SMALL, build
from tests.support.strategies import piece_of, random_rows


def test_the_manifest_is_that_of_the_trees_alone() -> None:
    rows = random_rows(300, seed=3)
    builder = DatasetBuilder(DATA_ARRAYS, chunk_bytes=SMALL, fanout=FEW)
    made = [*builder.add(piece_of(rows[:110])), *builder.add(piece_of(rows[110:]))]
    assert (builder.samples, builder.tokens) == (300, sum(len(ids) for ids, _ in rows))
    made += builder.end()
    assert builder.cut_at == 300
    cuts = builder.cuts()
    assert (cuts[0].start, cuts[-1].stop) == (0, 300)
    assert builder.cuts() == []
    alone = build(rows)
    assert builder.manifest(None).digest == alone.root
    assert [one.digest for one in made] == alone.sequence
    order = Order.shuffled(5, 300, 200)
    assert Manifest.decode(builder.manifest(order).data).order == order


def test_provenance_is_in_the_run_record_and_not_in_the_root() -> None:
    rows = random_rows(40, seed=9)
    with_it = DatasetBuilder(DATA_ARRAYS, PROVENANCE_ARRAYS, chunk_bytes=SMALL, fanout=FEW)
    given = piece_of(rows)
    scalars = {**given.scalars, "row": np.arange(40, dtype=np.uint64), "raw_key": given.keys}
    with_it.add(Piece(given.lengths, given.keys, scalars, given.load))
    with_it.end()
    root = with_it.manifest(None)
    assert root.digest == build(rows).root
    run = Run.decode(with_it.run(root.digest, {"recipe": {"a": 1}}, {"a file": root.digest}).data)
    assert (run.manifest, run.samples) == (root.digest, 40)
    assert run.provenance.keys() == {array.name for array in PROVENANCE_ARRAYS}
    assert run.recipe == {"a": 1}
    assert run.files == {"a file": root.digest}


def test_documents_of_a_sequence_that_goes_on_are_refused() -> None:
    builder = DatasetBuilder(DATA_ARRAYS)
    builder.add(piece_of(random_rows(3, seed=1)))
    with pytest.raises(AssertionError):
        builder.manifest(None)
