"""Walking down: ranges, everything reachable, and nodes that lie."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castore.errors import CorruptionError, FormatError
from castore.format.node import Entry, encode_node
from castore.tree.walk import children, leaves, reachable
from tests.support.built import build
from tests.support.strategies import ARRAYS, random_rows

ROWS = random_rows(900, seed=8)
BUILT = build(ROWS, chunk_bytes=256)
TOKENS = [0, *accumulate(len(ids) for ids, _ in ROWS)]


@given(st.integers(0, 950), st.integers(0, 950), st.sampled_from([array.name for array in ARRAYS]))
def test_leaves_of_a_range(lo: int, hi: int, name: str) -> None:
    tree = BUILT.tree(name)
    every = list(leaves(BUILT.fetch, tree))
    found = list(leaves(BUILT.fetch, tree, lo, hi))
    assert found == [leaf for leaf in every if lo < hi and leaf.start < hi and leaf.stop > lo]


@pytest.mark.parametrize("name", [array.name for array in ARRAYS])
def test_leaves_tile_the_sequence(name: str) -> None:
    at = item_at = 0
    for leaf in leaves(BUILT.fetch, BUILT.tree(name)):
        assert (leaf.start, leaf.item_start) == (at, item_at)
        at, item_at = leaf.stop, item_at + leaf.entry.items
        assert item_at == (TOKENS[at] if BUILT.arrays[name].axis == "token" else at)
    assert at == len(ROWS)


def test_one_sample_takes_one_node_a_level() -> None:
    tree = BUILT.tree("token_ids")
    assert tree.root.level >= 3
    for sample in range(0, 900, 50):
        BUILT.fetched.clear()
        assert len(list(leaves(BUILT.fetch, tree, sample, sample + 1))) == 1
        assert len(BUILT.fetched) == tree.root.level


def test_everything_reachable_is_everything_built() -> None:
    found = {}
    for array in ARRAYS:
        before: list[bytes] = []
        for digest, level in reachable(BUILT.fetch, BUILT.tree(array.name)):
            assert level >= array.grain
            found[digest] = level
            before.append(digest)
    assert found.keys() == BUILT.objects.keys()


def test_parents_come_before_children() -> None:
    tree = BUILT.tree("token_ids")
    order = [digest for digest, _ in reachable(BUILT.fetch, tree)]
    place = {digest: i for i, digest in enumerate(order)}
    for entry in tree.root.entries:
        for child in children(BUILT.fetch, entry, tree.root.level):
            assert place[entry.digest] < place[child.digest]


@pytest.mark.parametrize("wrong", [(4, 10), (3, 11)])
def test_a_node_with_other_counts_than_its_parent_states(wrong: tuple[int, int]) -> None:
    node = encode_node(1, [Entry(BUILT.sequence[0], 1, 4), Entry(BUILT.sequence[1], 2, 6)])
    assert len(children(lambda _: node.data, Entry(node.digest, 3, 10), 1)) == 2
    with pytest.raises(CorruptionError):
        children(lambda _: node.data, Entry(node.digest, *wrong), 1)


def test_a_node_of_another_level() -> None:
    node = encode_node(1, [Entry(BUILT.sequence[0], 1, 4)])
    with pytest.raises(FormatError):
        children(lambda _: node.data, Entry(node.digest, 1, 4), 2)
