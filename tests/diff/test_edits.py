"""Samples aligned token by token, and equal changes grouped: applied they give the other side, and they say why."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from castore.diff.change_groups import EXAMPLES_MAX, GROUPS_MAX, Changes, Grouping
from castore.diff.edits import ALIGNED_TOKENS_MAX, Change, Edit, Flip, label_flips, token_edits
from castore.format.files import Vocabulary
from castore.tree.align import EDITS_MAX
from tests.support.strategies import Row, random_rows, rows

Labels = list[bool]


def labels(row: Row) -> Labels:
    ids, spans = row
    return [any(lo <= i < hi for lo, hi in spans) for i in range(len(ids))]


def change(a: Row, b: Row) -> Change:
    edits, coarse = token_edits(a[0], b[0])
    return Change(0, 0, edits, label_flips(a[1], b[1], edits), coarse)


def applied(found: Change, a: Row, b: Row) -> tuple[list[int], Labels]:
    """``a`` with edits and flips applied: of ``b`` only what the edits name is looked at."""
    ids: list[int] = []
    marks: Labels = []
    labels_a, labels_b = labels(a), labels(b)
    at = 0
    for edit in found.edits:
        ids += [*a[0][at : edit.a[0]], *b[0][slice(*edit.b)]]
        marks += [*labels_a[at : edit.a[0]], *labels_b[slice(*edit.b)]]
        assert len(ids) == edit.b[1]
        assert (edit.op == "insert") == (edit.a[0] == edit.a[1])
        assert (edit.op == "delete") == (edit.b[0] == edit.b[1])
        at = edit.a[1]
    ids += a[0][at:]
    marks += labels_a[at:]
    for flip in found.flips:
        assert flip.a[1] - flip.a[0] == flip.b[1] - flip.b[0] > 0
        assert labels_a[slice(*flip.a)] == [not flip.trained] * (flip.a[1] - flip.a[0])
        assert marks[slice(*flip.b)] == [not flip.trained] * (flip.b[1] - flip.b[0])
        marks[slice(*flip.b)] = [flip.trained] * (flip.b[1] - flip.b[0])
    return ids, marks


def check(a: Row, b: Row) -> Change:
    found = change(a, b)
    assert applied(found, a, b) == (list(b[0]), labels(b))
    if found.edits:
        first = found.edits[0]
        assert first.a[0] == first.b[0]
        assert a[0][: first.a[0]] == b[0][: first.b[0]]
        # Nothing that stands there on both sides is equal: the first edit is the first divergence.
        assert a[0][first.a[0] : first.a[0] + 1] != b[0][first.b[0] : first.b[0] + 1]
    assert (not found.edits) == (a[0] == b[0])
    return found


@given(rows(max_tokens=60), rows(max_tokens=60))
def test_edits_and_flips_make_the_other_sample(a: Row, b: Row) -> None:
    check(a, b)


@given(st.integers(0, 10**9), st.integers(1, 8))
def test_random_edits_of_long_samples(seed: int, edits: int) -> None:
    rng = random.Random(seed)
    a = random_rows(1, seed, tokens=400)[0]
    ids = list(a[0])
    for _ in range(edits):
        at = rng.randrange(len(ids) + 1)
        ids[at : at + rng.randrange(3)] = [rng.randrange(5) for _ in range(rng.randrange(3))]
    b = tuple(ids), ((0, len(ids)),) if ids else ()
    found = check(a, b)
    assert sum(max(e.a[1] - e.a[0], e.b[1] - e.b[0]) for e in found.edits) <= 5 * edits


def test_an_inserted_token_is_one_insertion_and_no_changed_tail() -> None:
    a = random_rows(1, 5, tokens=3000)[0][0]
    for at in (0, 1, len(a) // 2, len(a)):
        edits, coarse = token_edits(a, (*a[:at], 100_001, *a[at:]))
        assert edits == (Edit("insert", (at, at), (at, at + 1)),)
        assert not coarse
        edits, _ = token_edits((*a[:at], 100_001, *a[at:]), a)
        assert edits == (Edit("delete", (at, at + 1), (at, at)),)


def test_labels_alone_are_flips() -> None:
    a = tuple(range(10)), ((2, 5), (7, 9))
    b = tuple(range(10)), ((4, 8),)
    assert change(a, b) == Change(
        0, 0, (), (Flip((2, 4), (2, 4), False), Flip((5, 7), (5, 7), True), Flip((8, 9), (8, 9), False))
    )
    assert label_flips(((0, 5),), ((5, 9),)) == (Flip((0, 5), (0, 5), False), Flip((5, 9), (5, 9), True))


def test_labels_are_compared_behind_an_insertion() -> None:
    a = (1, 2, 3, 4), ((2, 4),)
    b = (1, 9, 2, 3, 4), ((4, 5),)
    assert change(a, b) == Change(0, 0, (Edit("insert", (1, 1), (1, 2)),), (Flip((2, 3), (3, 4), False),))


def test_many_edits_look_at_each_span_a_few_times() -> None:
    looked: list[int] = []

    class Spans(list[tuple[int, int]]):
        def __iter__(self) -> Iterator[tuple[int, int]]:
            return (self[at] for at in range(len(self)))

        def __getitem__(self, at: Any) -> Any:
            looked.append(1)
            return super().__getitem__(at)

    count = 2000
    edits = [Edit("replace", (10 * n, 10 * n + 1), (10 * n, 10 * n + 1)) for n in range(count)]
    spans_a = Spans((10 * n + 2, 10 * n + 4) for n in range(count))
    spans_b = Spans((10 * n + 3, 10 * n + 4) for n in range(count))
    flips = label_flips(spans_a, spans_b, edits)
    assert flips == tuple(Flip((10 * n + 2, 10 * n + 3), (10 * n + 2, 10 * n + 3), False) for n in range(count))
    assert len(looked) < 10 * count


def test_many_edits_and_nothing_in_common() -> None:
    a = tuple(range(5 * EDITS_MAX))
    check((a, ()), (tuple(x for x in a for x in ((x, -x) if x % 2 else (x,))), ()))
    check((a, ()), (tuple(-1 - x for x in a), ()))


def test_too_many_tokens_are_one_coarse_edit() -> None:
    a = list(range(ALIGNED_TOKENS_MAX + 10))
    b = [0, *(-x for x in a[1:-1]), a[-1]]
    edits, coarse = token_edits(a, b)
    assert coarse
    assert edits == (Edit("replace", (1, len(a) - 1), (1, len(b) - 1)),)
    one = [*a[:7], -1, *a[8:]]
    assert token_edits(a, one) == ((Edit("replace", (7, 8), (7, 8)),), False)


# ---- groups

WORDS = ["<s>", "user", "assistant", " ", "!", "Hello", " world"]
VOCABULARY = Vocabulary([len("".join(WORDS[: i + 1])) for i in range(len(WORDS))], "".join(WORDS).encode())


def grouped(pairs: Sequence[tuple[Row, Row]], vocabulary: Vocabulary | None = VOCABULARY) -> Changes:
    grouping = Grouping(vocabulary, vocabulary)
    for number, (a, b) in enumerate(pairs):
        edits, coarse = token_edits(a[0], b[0])
        flips = label_flips(a[1], b[1], edits)
        grouping.add(Change(number, number, edits, flips, coarse), a[0], b[0])
    return grouping.changes(len(pairs))


def test_a_change_of_everything_is_one_sentence() -> None:
    """Text differs from row to row; what was inserted, and after what, does not."""
    pairs: list[tuple[Row, Row]] = []
    for ids, _ in random_rows(312, 1):
        text = tuple(100 + token for token in ids)
        pairs.append((((*text, 0, 2, *text), ()), ((*text, 0, 2, 3, *text), ())))
    found = grouped(pairs)
    assert (found.replaced, found.looked_at, found.other) == (312, 312, 0)
    (group,) = found.groups
    assert group.text == "one token inserted, ‹ ›, after ‹<s>assistant›"
    assert group.samples == 312
    assert group.kind == "insert:>3@0,2"
    assert [example.sample_a for example in group.examples] == [0, 1, 2]


def test_repeated_changes_are_told_once() -> None:
    rows = [((0, 2, 5, 0, 2, 6, n + 100), ()) for n in range(10)]
    pairs = [(row, (tuple(x for t in row[0] for x in ((t, 3) if t == 2 else (t,))), ())) for row in rows]
    (group,) = grouped(pairs).groups
    assert group.text == "one token inserted, ‹ ›, after ‹<s>assistant›, up to 2 times in a sample"


def test_groups_count_every_change_once() -> None:
    rng = random.Random(1)
    pairs: list[tuple[Row, Row]] = []
    for ids, _ in random_rows(300, 2):
        kind, spans = rng.randrange(4), ()
        at = rng.randrange(len(ids))
        b = list(ids)
        if kind == 0:
            b[at] = 200_000
        elif kind == 1:
            b.insert(at, 200_001 + rng.randrange(1000))
        elif kind == 2:
            b = [x + 1_000_000 for x in b]
        pairs.append(((ids, spans), (tuple(b), ((0, len(b)),) if kind == 3 else spans)))
    pairs = [(a, b) for a, b in pairs if a != b]
    found = grouped(pairs, None)
    assert sum(group.samples for group in found.groups) + found.other == found.looked_at == len(pairs)
    assert 2 < len(found.groups) <= GROUPS_MAX
    assert all(0 < len(group.examples) <= EXAMPLES_MAX for group in found.groups)
    assert [g.samples for g in found.groups] == sorted((g.samples for g in found.groups), reverse=True)
    texts = [group.text for group in found.groups]
    assert "most tokens differ" in texts
    assert "one token inserted" in texts
    assert len(set(texts)) == len(texts)


def test_labels_in_words() -> None:
    rows = [((0, 2, 5, 6, n + 100), ((2, 4),)) for n in range(5)]
    found = grouped([(row, (row[0], ())) for row in rows])
    assert [group.text for group in found.groups] == ["labels of 2 tokens turned off after ‹<s>assistant›"]
    found = grouped([((row[0], ()), row) for row in rows])
    assert [group.text for group in found.groups] == ["labels of 2 tokens turned on after ‹<s>assistant›"]


def test_nothing_changed() -> None:
    assert grouped([]) == Changes()
