"""Stretches of two samples side by side: all tokens of both, in order, each said to be what it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castore.diff.edits import Change, label_flips, token_edits
from castore.diff.hunks import Hunk
from castore.diff.side_by_side import EQUAL, LABEL, SKIP, ShownSample, shown_hunks, stretches
from castore.format.files import Vocabulary

TOKENS = st.lists(st.integers(0, 3), max_size=40)
EDGES = st.lists(st.integers(0, 40), max_size=6, unique=True).map(sorted)


def spans(edges: list[int], length: int) -> list[tuple[int, int]]:
    inside = [edge for edge in edges if edge <= length]
    return list(zip(inside[::2], inside[1::2], strict=False))


@given(a=TOKENS, b=TOKENS, edges_a=EDGES, edges_b=EDGES, context=st.integers(0, 9))
def test_all_tokens_are_there_once_and_in_order(
    a: list[int], b: list[int], edges_a: list[int], edges_b: list[int], context: int
) -> None:
    spans_a, spans_b = spans(edges_a, len(a)), spans(edges_b, len(b))
    edits, coarse = token_edits(a, b)
    change = Change(0, 0, edits, label_flips(spans_a, spans_b, edits), coarse)
    found = list(stretches(change, len(a), context))
    assert [at for one in found for at in range(*one.a)] == list(range(len(a)))
    assert [at for one in found for at in range(*one.b)] == list(range(len(b)))
    labels = [[any(lo <= i < hi for lo, hi in own) for i in range(41)] for own in (spans_a, spans_b)]
    for one in found:
        tokens = a[slice(*one.a)], b[slice(*one.b)]
        trained = labels[0][slice(*one.a)], labels[1][slice(*one.b)]
        if one.op in (EQUAL, SKIP, LABEL):
            assert tokens[0] == tokens[1]
            assert (trained[0] == trained[1]) is (one.op != LABEL)
        if one.op == EQUAL:
            assert len(tokens[0]) <= 2 * context + 3
        if one.op == SKIP:
            assert len(tokens[0]) >= 4


@pytest.mark.parametrize(
    ("parts", "texts"),
    [
        ([b"ab", b"c"], ["ab", "c"]),
        ([b"\xe6", b"\x99", b"\x9a", b"!"], ["晚", "", "", "!"]),
        ([b"\xe6", b"x"], ["\\xe6", "x"]),
        ([b"\xff", b"\xe6\x99"], ["\\xff", "\\xe6\\x99"]),
        ([b" \xe6\x99", b"\x9a "], [" 晚 ", ""]),
        ([b"", b"a"], ["⟨0⟩", "a"]),
    ],
)
def test_text_of_tokens(parts: list[bytes], texts: list[str]) -> None:
    ends = [sum(map(len, parts[: i + 1])) for i in range(len(parts))]
    sample = ShownSample(0, range(len(parts)), [(1, 2)], Vocabulary(ends, b"".join(parts)), None)
    found = sample.tokens(0, len(parts))
    assert [text for text, _, _ in found] == texts
    assert [label for _, label, _ in found] == [i == 1 for i in range(len(parts))]
    assert [token for _, _, token in found] == list(range(len(parts)))


def test_what_has_moved_is_shown_once_if_it_has_changed() -> None:
    both = ("token_ids", "labels_mask")
    stays = Hunk("delete", (0, 1), (0, 0), both)
    moved = [Hunk("delete", (2, 4), (2, 2), (), (7, 9)), Hunk("insert", (9, 9), (7, 9), (), (2, 4))]
    changed = [
        Hunk("delete", (4, 5), (2, 2), ("labels_mask",), (9, 10)),
        Hunk("insert", (9, 9), (9, 10), ("labels_mask",), (4, 5)),
    ]
    assert list(shown_hunks([stays, *moved, *changed])) == [
        stays,
        Hunk("replace", (4, 5), (9, 10), ("labels_mask",)),
    ]
