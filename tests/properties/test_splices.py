"""Differences found by the trees rebuild the other side, for any edits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from castore.diff.trees import TreePair
from castore.tree.align import Gap
from castore.tree.diff import unequal
from tests.support.built import Built, build
from tests.support.strategies import Edit, Row, edit_scripts, edited, random_rows, row_lists

sequences = st.one_of(row_lists, st.builds(random_rows, st.integers(0, 400), st.integers(0, 50), st.just(12)))


def check(a_rows: list[Row], b_rows: list[Row]) -> None:
    a, b = build(a_rows), build(b_rows)
    gaps = [gap for gap, _, _ in TreePair(a.dataset(), b.dataset()).gaps()]
    rebuilt: list[tuple[int, ...]] = []
    a_at = b_at = 0
    for gap in [*gaps, Gap(len(a_rows), len(a_rows), len(b_rows), len(b_rows))]:
        count = gap.a_lo - a_at
        assert count == gap.b_lo - b_at >= 0
        rebuilt.extend(ids for ids, _ in a_rows[a_at : gap.a_lo])
        check_labels(a, b, a_rows, b_rows, a_at, b_at, count)
        rebuilt.extend(ids for ids, _ in b_rows[gap.b_lo : gap.b_hi])
        a_at, b_at = gap.a_hi, gap.b_hi
    assert rebuilt == [ids for ids, _ in b_rows]


def check_labels(a: Built, b: Built, a_rows: list[Row], b_rows: list[Row], a_lo: int, b_lo: int, count: int) -> None:
    """Between two gaps, whatever ``unequal`` does not name has equal labels."""
    if not count:
        return
    named: set[int] = set()
    last = 0
    tree_a, tree_b = a.tree("labels_mask"), b.tree("labels_mask")
    for lo, hi in unequal(a.fetch, tree_a, b.fetch, tree_b, a_lo, b_lo, count):
        assert last <= lo < hi <= count
        named.update(range(lo, hi))
        last = hi
    for i in range(count):
        if a_rows[a_lo + i][1] != b_rows[b_lo + i][1]:
            assert i in named, (a_lo + i, b_lo + i)


@given(sequences, edit_scripts())
def test_edits_are_found(rows: list[Row], script: list[Edit]) -> None:
    check(rows, edited(rows, script))


@given(sequences, edit_scripts(max_edits=40))
def test_many_edits_are_found(rows: list[Row], script: list[Edit]) -> None:
    check(rows, edited(rows, script))


@given(row_lists, row_lists)
def test_unrelated_sequences(a: list[Row], b: list[Row]) -> None:
    check(a, b)


def test_a_chunk_that_equals_one_elsewhere_but_for_where_its_samples_end() -> None:
    """Of two samples that take turns, one of them empty, chunks of other samples can have the same tokens."""
    rows: list[Row] = [((228,), ()), ((), ())] * 24
    other = [*rows[:18], rows[1], *rows[19:]]
    a, b = build(rows), build(other)
    assert len(set(a.chunks()) & set(b.chunks())) == 1, "the case is not there any more"
    assert [gap for gap, _, _ in TreePair(a.dataset(), b.dataset()).gaps()] == [Gap(18, 19, 18, 19)]


def test_more_edits_than_are_searched_exactly() -> None:
    rows = random_rows(800, seed=61, tokens=12)
    other = [row for i, row in enumerate(rows) if i % 5] + random_rows(30, seed=62, tokens=12)
    check(rows, other)
    check(other, rows)


def test_another_order_of_the_same_samples() -> None:
    rows = random_rows(300, seed=63, tokens=12)
    check(rows, rows[150:] + rows[:150])
    check(rows, rows[::-1])
