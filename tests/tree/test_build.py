"""The builder against the slow tree of ``tests/support/reference.py``, and the order and content of what it returns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given

from castore.format.chunk import decode_values
from castore.format.fields import kind_of
from castore.format.manifest import Root
from castore.format.node import decode_node
from castore.format.samples import Piece, Samples
from castore.tree.build import SequenceBuilder
from castore.tree.walk import leaves
from tests.support import reference
from tests.support.built import FEW, SMALL, Built, build
from tests.support.strategies import ARRAYS, Row, piece_of, random_rows, row_lists


def check_against_reference(rows: Sequence[Row], built: Built, chunk_bytes: int, fanout: int) -> None:
    keys, lengths = [reference.sample_key(ids) for ids, _ in rows], [len(ids) for ids, _ in rows]
    skeleton = reference.skeleton(keys, lengths, chunk_bytes, fanout)
    assert [cut.stop - cut.start for cut in built.cuts] == skeleton.levels[0]
    levels = len(skeleton.levels) - 1
    assert built.roots["token_ids"].level == levels
    # The nodes of all arrays have the sizes of the reference, level by level, and the root takes what is left.
    nodes = [*skeleton.levels[1:], [len(skeleton.levels[-1])]]
    assert built.sizes("token_ids") == built.sizes("labels_mask") == nodes
    coarse = [nodes[-1]] if levels == 0 else nodes[1:]
    if levels == 0:
        coarse = [[len(skeleton.coarse)]]
    for name in ("length", "key", "source"):
        assert built.roots[name].level == max(levels, 1)
        assert built.sizes(name) == coarse
    runs = np.split(np.array(skeleton.levels[0]), np.cumsum(skeleton.coarse)[:-1])
    assert [leaf.entry.samples for leaf in leaves(built.fetch, built.tree("key"))] == [int(run.sum()) for run in runs]


@given(row_lists)
def test_the_tree_is_the_reference(rows: list[Row]) -> None:
    built = build(rows)
    if rows:
        check_against_reference(rows, built, SMALL, FEW)
    assert built.rows() == rows


@pytest.mark.parametrize(
    ("count", "chunk_bytes", "fanout"), [(3000, 256, 4), (3000, 1024, 8), (500, 300, 2), (900, 65, 5)]
)
def test_tall_trees_are_the_reference(count: int, chunk_bytes: int, fanout: int) -> None:
    rows = random_rows(count, seed=count + fanout)
    built = build(rows, chunk_bytes=chunk_bytes, fanout=fanout)
    check_against_reference(rows, built, chunk_bytes, fanout)
    assert built.roots["token_ids"].level >= 2
    assert built.rows() == rows


def test_a_root_has_at_most_twice_the_fanout_and_no_level_is_needless() -> None:
    rows = random_rows(400, seed=5)
    for count in range(1, 400, 7):
        built = build(rows[:count])
        root = built.roots["token_ids"]
        assert 1 <= len(root.entries) <= 2 * FEW
        if root.level:
            below = [child for entry in root.entries for child in decode_node(built.fetch(entry.digest), root.level)]
            assert len(below) > 2 * FEW


def test_nothing_makes_empty_roots() -> None:
    built = build([])
    assert built.roots == {array.name: Root(0, ()) for array in ARRAYS}
    assert built.sequence == []
    assert built.cuts == []
    with_empty_pieces = build([], pieces=[piece_of([]), piece_of([])])
    assert with_empty_pieces.root == built.root


def test_objects_come_children_first_and_none_is_missing() -> None:
    built = build(random_rows(600, seed=1))
    seen: set[bytes] = set()
    for digest in built.sequence:
        data = built.objects[digest]
        if kind_of(data) == "castore/node":
            level = next(n for n in range(1, 33) if data[14] == n)
            assert all(child.digest in seen for child in decode_node(data, level))
        seen.add(digest)
    for root in built.roots.values():
        assert all(entry.digest in seen for entry in root.entries)


def test_cuts_tell_samples_tokens_and_chunks() -> None:
    rows = random_rows(300, seed=2)
    built = build(rows)
    at = items = 0
    for cut in built.cuts:
        assert (cut.start, cut.item_start) == (at, items)
        chunk = decode_values(built.objects[cut.chunks["token_ids"]], "uint32")
        assert chunk.sample_count == cut.stop - cut.start
        assert list(chunk.items.cast("I")) == [t for ids, _ in rows[cut.start : cut.stop] for t in ids]
        at, items = cut.stop, items + chunk.item_count
    assert at == len(rows)


def test_cut_at_follows_what_was_returned() -> None:
    rows = random_rows(300, seed=3)
    builder = SequenceBuilder(ARRAYS, chunk_bytes=SMALL, fanout=FEW)
    stop = 0
    for lo in range(0, 300, 9):
        builder.add(piece_of(rows[lo : lo + 9]))
        stop = max([stop, *(cut.stop for cut in builder.take_cuts())])
        assert builder.cut_at == stop <= lo + 9
    builder.finish()
    assert builder.cut_at == 300


def test_stored_pieces_that_fit_are_not_loaded() -> None:
    rows = random_rows(300, seed=4)
    built = build(rows)

    def never() -> Samples:
        raise AssertionError("a chunk that is stored was loaded")

    pieces = []
    for cut in built.cuts:
        fresh = piece_of(rows[cut.start : cut.stop])
        pieces.append(Piece(fresh.lengths, fresh.keys, fresh.scalars, never, cut.chunks))
    again = build(rows, pieces=pieces)
    assert again.root == built.root
    assert not set(built.chunks()) & set(again.sequence)


def test_arrays_of_equal_tokens_share_the_token_tree() -> None:
    rows = random_rows(400, seed=6)
    unlabelled = [(ids, ()) for ids, _ in rows]
    a, b = build(rows), build(unlabelled)
    assert a.roots["labels_mask"] != b.roots["labels_mask"]
    for name in ("token_ids", "length", "key", "source"):
        assert a.roots[name] == b.roots[name]
