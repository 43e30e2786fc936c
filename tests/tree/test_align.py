"""Aligning sequences: gaps rebuild the one from the other, and small edits get the smallest script."""

from __future__ import annotations

import random
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from castore.tree.align import EDITS_MAX, Gap, align

short = st.lists(st.integers(0, 4), max_size=24)


def check(a: Sequence[int], b: Sequence[int]) -> int:
    """Check that the gaps make ``b`` of ``a``, and count what they touch."""
    rebuilt: list[int] = []
    at = b_at = touched = 0
    for gap in align(a, b):
        assert gap.a_lo - at == gap.b_lo - b_at >= 0
        assert (gap.a_lo, gap.b_lo) != (gap.a_hi, gap.b_hi)
        assert gap.a_lo <= gap.a_hi
        assert gap.b_lo <= gap.b_hi
        rebuilt.extend(a[at : gap.a_lo])
        rebuilt.extend(b[gap.b_lo : gap.b_hi])
        touched += gap.a_hi - gap.a_lo + gap.b_hi - gap.b_lo
        at, b_at = gap.a_hi, gap.b_hi
    rebuilt.extend(a[at:])
    assert rebuilt == list(b)
    return touched


def fewest_edits(a: Sequence[int], b: Sequence[int]) -> int:
    """Deletions and insertions of a shortest script, by the table that every textbook has."""
    line = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, line = line, [i]
        for j, y in enumerate(b, 1):
            line.append(above[j - 1] if x == y else 1 + min(above[j], line[-1]))
    return line[-1]


@given(short, short)
def test_small_scripts_are_shortest(a: list[int], b: list[int]) -> None:
    assert check(a, b) == fewest_edits(a, b)


@given(short)
def test_equal_sequences_have_no_gap(a: list[int]) -> None:
    assert align(a, list(a)) == []


@given(st.lists(st.integers(0, 500), max_size=400), st.integers(0, 2**32))
def test_many_edits_still_rebuild(a: list[int], seed: int) -> None:
    rng = random.Random(seed)
    b = [x for x in a if rng.random() > 0.3]
    for _ in range(rng.randrange(60)):
        b.insert(rng.randrange(len(b) + 1), rng.randrange(500))
    check(a, b)


def test_beyond_the_limit_unique_items_are_landmarks() -> None:
    a = [i for n in range(300) for i in (2 * n, 2 * n + 1)]
    b = [i for n in range(300) for i in (2 * n, -n - 1)]  # every second item is another: 600 edits
    assert EDITS_MAX < 2 * 300
    assert check(a, b) == 600


def test_beyond_the_limit_repeated_items_are_counted() -> None:
    a = [0, 1] * 200
    b = [1, 0, 0] * 150
    touched = check(a, b)
    assert touched < len(a) + len(b)


def test_nothing_in_common_is_one_gap() -> None:
    a, b = list(range(200)), list(range(1000, 1300))
    assert align(a, b) == [Gap(0, 200, 0, 300)]


def test_an_empty_side() -> None:
    assert align([], [1, 2]) == [Gap(0, 0, 0, 2)]
    assert align([1, 2], []) == [Gap(0, 2, 0, 0)]
    assert align([], []) == []


def test_shifting() -> None:
    assert Gap(1, 2, 3, 4).shifted(10, 20) == Gap(11, 12, 23, 24)
