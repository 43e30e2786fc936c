"""Amounts and selections, against open-instruct's arithmetic and an independent generator."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from castore.errors import InvalidInputError
from castore.ingest.mix import Amount, Selection, select, small_count_warning


def seeded_mt19937(seed: int) -> random.Random:
    """Python's own MT19937, seeded as numpy's legacy generator is: by Knuth's recurrence, the seed not hashed."""
    state = [seed & 0xFFFFFFFF]
    for i in range(1, 624):
        state.append((1812433253 * (state[-1] ^ (state[-1] >> 30)) + i) & 0xFFFFFFFF)
    generator = random.Random()
    generator.setstate((3, (*state, 624), None))
    return generator


def legacy_permutation(row_count: int, seed: int) -> list[int]:
    """Fisher-Yates from the end; an index is a masked 32-bit word, and another one if that is too large."""
    generator = seeded_mt19937(seed)
    rows = list(range(row_count))
    for i in range(row_count - 1, 0, -1):
        mask = (1 << i.bit_length()) - 1
        while (j := generator.getrandbits(32) & mask) > i:
            pass
        rows[i], rows[j] = rows[j], rows[i]
    return rows


@pytest.mark.parametrize(
    ("text", "is_share", "value"),
    [
        ("1.0", True, 1.0),
        (".5", True, 0.5),
        ("3.", True, 3.0),
        ("0.37", True, 0.37),
        ("5000", False, 5000),
        ("1", False, 1),
    ],
)
def test_amounts_are_shares_with_a_point_and_counts_without(text: str, is_share: bool, value: float) -> None:
    amount = Amount.parse(text)
    assert (amount.text, amount.is_share, amount.value) == (text, is_share, value)
    assert type(amount.value) is (float if is_share else int)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "1e2",
            "1.5e1",
            "abc",
            "nan",
            "inf",
            "-1",
            "-1.0",
            "+1",
            "",
            ".",
            " 1",
            "1 ",
            "1_000",
            "1,5",
            "0x10",
            "١",
            "1\n",
        ),
        *("0", "0.0", ".000", "9" * 16, "9" * 5000, "0." + "1" * 31),
    ],
)
def test_other_words_are_refused_in_one_short_line(text: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        Amount.parse(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_amounts_compare_by_their_spelling() -> None:
    assert Amount("1.0") == Amount("1.0")
    assert Amount("1.0") != Amount("1.00")


@pytest.mark.parametrize(
    ("text", "row_count", "target"),
    # 0.29 * 100 is 28.999999999999996 as a float: truncated, as open-instruct does.
    [("0.29", 100, 28), ("0.37", 15387, 5693), ("3.0", 5241, 15723), ("2.5", 3, 7), ("1.0", 0, 0), ("7", 3, 7)],
)
def test_target_is_the_truncated_float_product_or_the_count(text: str, row_count: int, target: int) -> None:
    assert Amount(text).target(row_count) == target


@pytest.mark.parametrize(
    ("text", "row_count", "full_copies", "extra_count"),
    [
        ("1.0", 50, 1, 0),
        ("3.0", 50, 3, 0),
        ("0.5", 50, 0, 25),
        ("2.5", 50, 2, 25),
        ("50", 50, 1, 0),
        ("120", 50, 2, 20),
    ],
)
def test_full_copies_then_distinct_extra_rows(text: str, row_count: int, full_copies: int, extra_count: int) -> None:
    selection = select(row_count, Amount(text))
    assert selection.full_copies == full_copies
    assert selection.extra.dtype == np.int64
    assert len(selection.extra) == extra_count == len(set(selection.extra.tolist()))
    assert all(0 <= row < row_count for row in selection.extra.tolist())


def test_extra_rows_are_in_the_order_of_picking() -> None:
    # Golden: a change here takes other rows than open-instruct does.
    assert select(10, Amount("0.5")).extra.tolist() == [8, 1, 5, 0, 7]
    assert select(10, Amount("5"), seed=7).extra.tolist() == legacy_permutation(10, 7)[:5]


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 2**32 - 1))
def test_extra_rows_are_the_head_of_the_legacy_permutation(row_count: int, count: int, seed: int) -> None:
    selection = select(row_count, Amount(str(count)), seed)
    assert selection.full_copies == count // row_count
    assert selection.extra.tolist() == legacy_permutation(row_count, seed)[: count % row_count]


def test_an_edit_of_another_source_does_not_move_the_picks() -> None:
    first, second = select(100, Amount("0.3")), select(100, Amount("30"))
    assert first.extra.tolist() == second.extra.tolist()
    assert isinstance(first, Selection)


@pytest.mark.parametrize(("row_count", "text"), [(0, "1.0"), (0, "5"), (100, "0.001")])
def test_a_selection_of_nothing_is_an_error(row_count: int, text: str) -> None:
    with pytest.raises(InvalidInputError, match=f"amount {text} of"):
        select(row_count, Amount(text))


@pytest.mark.parametrize(
    ("text", "row_count", "warned"),
    [("1", 101, True), ("10", 5000, True), ("1", 100, False), ("11", 5000, False), ("1.0", 5000, False)],
)
def test_a_small_count_of_a_large_set_is_questioned(text: str, row_count: int, warned: bool) -> None:
    warning = small_count_warning(Amount(text), row_count)
    assert (warning is not None) == warned
    if warning is not None:
        assert warning.endswith(f"did you mean {text}.0?")
