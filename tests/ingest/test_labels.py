"""The label rules on their own: overlap with turns, the check of counted spans, merging."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castore.ingest.labels import (
    CUT_INSIDE_CHARACTER,
    NOT_DERIVABLE,
    NOTHING_TRAINABLE,
    Prefix,
    Rendered,
    exact_labels,
    is_stable,
    merge_spans,
    spans_from_offsets,
    trainable_indices,
    verify_spans,
)


def turn(role: str, content: str | None) -> dict[str, Any]:
    return {"role": role, "content": content}


@dataclass
class Characters:
    """An encoding with one token per character, except that ``|`` glues its neighbours to one token."""

    text: str

    @property
    def offsets(self) -> list[tuple[int, int]]:
        spans: list[tuple[int, int]] = []
        for place, character in enumerate(self.text):
            if character == "|" or self.text[place - 1 : place] == "|":
                spans[-1] = (spans[-1][0], place + 1)
            else:
                spans.append((place, place + 1))
        return spans

    @property
    def ids(self) -> list[int]:
        return list(range(len(self.offsets)))


def whole(text: str, *turns: tuple[int, str, str]) -> Rendered:
    return Rendered(text, [(index, Prefix(0, header), Prefix(0, through)) for index, header, through in turns])


def test_trainable_messages() -> None:
    messages = [turn(role, "") for role in ("assistant", "user", "assistant", "tool", "assistant")]
    assert trainable_indices(messages, last_turn_only=False) == [0, 2, 4]
    assert trainable_indices(messages, last_turn_only=True) == [4]
    assert trainable_indices([turn("user", "")], last_turn_only=True) == []


@pytest.mark.parametrize(
    ("header", "through", "stable"),
    [
        ("Q:", "Q:a;", True),
        ("Q:", "Q:", True),
        ("", "Q:a;R:b;", True),
        ("Q:", "Q:a.", False),
        ("R:", "Q:a;", False),
        ("Q:a;", "Q:", False),
        ("Q:", "Q:a;R:b;more", False),
    ],
)
def test_stable_means_literal_prefixes(header: str, through: str, stable: bool) -> None:
    assert is_stable(whole("Q:a;R:b;", (1, header, through))) is stable
    assert is_stable(whole("Q:a;R:b;", (1, "Q:", "Q:a;"), (3, header, through))) is stable


def test_prefixes_may_share_text_with_the_whole() -> None:
    rendered = Rendered("Q:a;R:b;", [(1, Prefix(2, ""), Prefix(3, ";"))])
    assert is_stable(rendered)
    assert not is_stable(Rendered("Q:a;R:b;", [(1, Prefix(2, ""), Prefix(3, "."))]))


def test_a_token_that_overlaps_a_turn_is_trained_and_one_without_extent_is_not() -> None:
    rendered = whole("ab cd", (1, "ab ", "ab cd"))
    assert spans_from_offsets([(0, 2), (2, 2), (2, 4), (4, 4), (4, 5)], rendered) == [(2, 3), (4, 5)]


def test_a_token_across_the_header_is_trained_in_stable_rows() -> None:
    rendered = whole("Q:|ab;", (1, "Q:", "Q:|ab;"))
    ids, spans, _ = exact_labels([], rendered, Characters, lambda _: "", None)
    assert ids == [0, 1, 2, 3]
    assert spans == [(1, 4)]  # ":|a" reaches into the turn.


def test_cut_rows_keep_what_is_left_of_a_turn() -> None:
    rendered = whole("Q:abc;", (1, "Q:", "Q:abc;"))
    assert exact_labels([], rendered, Characters, lambda _: "", 4)[:2] == ([0, 1, 2, 3], [(2, 4)])
    assert exact_labels([], rendered, Characters, lambda _: "", 2)[:2] == ([0, 1], NOTHING_TRAINABLE)
    assert exact_labels([], Rendered("ab", None), Characters, lambda _: "", None)[:2] == ([0, 1], NOT_DERIVABLE)


def test_unstable_rows_count_tokens_of_prefixes() -> None:
    """An earlier turn that closes otherwise when it is last: its closing token is trained, what follows is not."""
    messages = [turn("user", "q"), turn("assistant", "abc"), turn("user", "r"), turn("assistant", "de")]
    text = "q>abc;\nr>de$"
    rendered = whole(text, (1, "q>", "q>abc$"), (3, "q>abc;\nr>", text))

    def decode(ids: list[int]) -> str:
        return "".join(text[place] for place in ids)

    ids, spans, _ = exact_labels(messages, rendered, Characters, decode, None)
    assert len(ids) == len(text)
    assert spans == [(2, 6), (9, 12)]
    assert exact_labels(messages, rendered, Characters, decode, 4)[1] == [(2, 4)]


TEXT = "q>abc;r>abc d$"


def verify(messages: list[dict[str, Any]], start: int, end: int, text: str = TEXT, count: int = 100) -> str | None:
    return verify_spans(messages, text, [(1, start, end)], count, lambda lo, hi: text[lo:hi])


def test_counted_spans_must_begin_with_the_content_and_cover_it() -> None:
    talk = [turn("user", "q"), turn("assistant", "abc"), turn("user", "r")]
    assert verify(talk, 2, 6) is None
    assert verify(talk, 2, 4) == NOT_DERIVABLE  # too short
    assert verify(talk, 1, 6) == NOT_DERIVABLE  # begins in the header
    assert verify(talk, 2, 7) == NOT_DERIVABLE  # says "r", which comes later
    assert verify(talk, 6, 6) is None  # nothing to check
    for content in ("", None, "not in the text"):
        assert verify([talk[0], turn("assistant", content), talk[2]], 0, 3) is None


def test_space_in_front_of_the_content_is_forgiven_but_content_that_begins_with_space_is_not() -> None:
    talk = [turn("user", "q"), turn("assistant", "abc")]
    assert verify(talk, 1, 5, "> abc;") is None
    assert verify([turn("user", "q"), turn("assistant", " abc")], 1, 5, "> abc;") == NOT_DERIVABLE


def test_a_cut_turn_may_be_a_beginning_of_the_content() -> None:
    talk = [turn("user", "q"), turn("assistant", "abé")]
    assert verify(talk, 2, 4, "q>abé;", count=4) is None
    assert verify(talk, 2, 4, "q>abé;", count=5) == NOT_DERIVABLE
    broken = "q>ab\ufffd"
    assert verify_spans(talk, "q>abé;", [(1, 2, 9)], 5, lambda lo, hi: broken[lo:hi]) == CUT_INSIDE_CHARACTER
    wrong = "q>xb\ufffd"
    assert verify_spans(talk, "q>abé;", [(1, 2, 9)], 5, lambda lo, hi: wrong[lo:hi]) == NOT_DERIVABLE


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30))), st.integers(0, 30))
def test_merged_spans_are_the_same_set_of_tokens(spans: list[tuple[int, int]], count: int) -> None:
    merged = merge_spans(spans, count)
    expected = {token for start, end in spans for token in range(start, min(end, count))}
    assert {token for start, end in merged for token in range(start, end)} == expected
    assert all(start < end for start, end in merged)
    assert all(end < start for (_, end), (start, _) in pairwise(merged))
