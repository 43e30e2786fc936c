"""What differs between two trees: found where it is, and found without reading what is equal."""

from __future__ import annotations

import pytest

from castore.tree.align import Gap
from castore.tree.diff import differing, unequal
from tests.support.built import Built, build
from tests.support.strategies import Row, random_rows, relabelled

ROWS = random_rows(1200, seed=12)
BASE = build(ROWS, chunk_bytes=1024)


def gaps(a: Built, b: Built, name: str = "token_ids") -> list[Gap]:
    return differing(a.fetch, a.tree(name), b.fetch, b.tree(name))


def changed(*edits: tuple[int, Row | None]) -> Built:
    rows: list[Row] = list(ROWS)
    for at, row in sorted(edits, reverse=True):
        rows[at : at + 1] = [row] if row else []
    return build(rows, chunk_bytes=1024)


def test_equal_trees_read_nothing() -> None:
    other = build(ROWS, chunk_bytes=1024)
    BASE.fetched.clear()
    assert gaps(BASE, other) == []
    assert list(unequal(BASE.fetch, BASE.tree("labels_mask"), other.fetch, other.tree("labels_mask"), 0, 0, 1200)) == []
    assert BASE.fetched == other.fetched == []


def test_one_replaced_sample() -> None:
    other = changed((700, random_rows(1, seed=99)[0]))
    BASE.fetched.clear()
    (gap,) = gaps(BASE, other)
    assert gap.a_lo <= 700 < gap.a_hi
    assert (gap.a_lo, gap.a_hi) == (gap.b_lo, gap.b_hi)
    assert gap.a_hi - gap.a_lo <= 80
    assert len(BASE.fetched) <= 2 * BASE.roots["token_ids"].level


def test_a_removed_sample_shifts_what_follows() -> None:
    other = changed((700, None))
    (gap,) = gaps(BASE, other)
    assert gap.a_hi - gap.a_lo == gap.b_hi - gap.b_lo + 1


def test_scattered_changes_are_separate_and_cost_their_paths() -> None:
    places = [5, 300, 600, 900, 1195]
    other = changed(*((at, random_rows(1, seed=at)[0]) for at in places))
    BASE.fetched.clear()
    found = gaps(BASE, other)
    assert len(found) == len(places)
    for at, gap in zip(places, found, strict=True):
        assert gap.a_lo <= at < gap.a_hi
    assert len(BASE.fetched) <= 2 * len(places) * BASE.roots["token_ids"].level


def test_against_nothing_no_object_is_read() -> None:
    nothing = build([])
    BASE.fetched.clear()
    assert gaps(BASE, nothing) == [Gap(0, 1200, 0, 0)]
    assert gaps(nothing, BASE) == [Gap(0, 0, 0, 1200)]
    assert gaps(nothing, nothing) == []
    assert BASE.fetched == []


@pytest.mark.parametrize("count", [0, 1, 5, 40, 300])
def test_trees_of_different_heights(count: int) -> None:
    short = build(ROWS[:count], chunk_bytes=1024)
    found = gaps(BASE, short)
    assert sum(gap.a_hi - gap.a_lo - gap.b_hi + gap.b_lo for gap in found) == 1200 - count
    assert gaps(short, BASE) == [Gap(g.b_lo, g.b_hi, g.a_lo, g.a_hi) for g in found]
    assert found[0].a_lo >= max(0, count - 60)


def test_another_split_rule_is_another_tree_of_the_same_samples() -> None:
    other = build(ROWS, chunk_bytes=512)
    total = sum(gap.a_hi - gap.a_lo for gap in gaps(BASE, other))
    assert total == sum(gap.b_hi - gap.b_lo for gap in gaps(BASE, other))


def test_labels_alone() -> None:
    rows = [(ids, relabelled((ids, spans)) if i in (3, 777) else spans) for i, (ids, spans) in enumerate(ROWS)]
    other = build(rows, chunk_bytes=1024)
    assert gaps(BASE, other) == []
    found = list(unequal(BASE.fetch, BASE.tree("labels_mask"), other.fetch, other.tree("labels_mask"), 0, 0, 1200))
    assert len(found) == 2
    for at, (lo, hi) in zip((3, 777), found, strict=True):
        assert lo <= at < hi <= lo + 80


def test_labels_of_shifted_samples() -> None:
    rows = list(ROWS)
    rows[900] = (rows[900][0], relabelled(rows[900]))
    del rows[100:103]
    other = build(rows, chunk_bytes=1024)
    tree_a, tree_b = BASE.tree("labels_mask"), other.tree("labels_mask")
    found = list(unequal(BASE.fetch, tree_a, other.fetch, tree_b, 103, 100, 1097))
    assert [lo <= 797 < hi for lo, hi in found].count(True) == 1
    assert sum(hi - lo for lo, hi in found) <= 200


def test_one_chunk_against_itself_at_another_place() -> None:
    """Equal chunks do not mean equal samples where one side begins later in them."""
    rows: list[Row] = [((1, 2), ((0, i % 2 + 1),)) for i in range(5)]
    built = build(rows)
    tree = built.tree("labels_mask")
    assert len(built.cuts) == 1
    assert list(unequal(built.fetch, tree, built.fetch, tree, 1, 0, 4)) == [(0, 4)]
