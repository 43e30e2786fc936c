"""One edit makes few new chunks and nodes, wherever it is; everything else is shared."""

from __future__ import annotations

from collections.abc import Callable
from statistics import mean

import pytest

from tests.support.built import Built, build
from tests.support.strategies import Row, relabelled
from tests.vectors.generator import Integers, samples

COUNT = 2000
EDITS = 75
ROWS = samples(31, COUNT, 25)

Edit = Callable[[list[Row], int, Row], None]


def replace(rows: list[Row], at: int, row: Row) -> None:
    rows[at] = row


def insert(rows: list[Row], at: int, row: Row) -> None:
    rows[at:at] = [row]


def delete(rows: list[Row], at: int, row: Row) -> None:
    del rows[at]


def one_token(rows: list[Row], at: int, row: Row) -> None:
    ids, spans = rows[at]
    rows[at] = ((*ids[:-1], (ids[-1] + 1) % 100_278), spans) if ids else row


def relabel(rows: list[Row], at: int, row: Row) -> None:
    rows[at] = (rows[at][0], relabelled(rows[at]))


@pytest.fixture(scope="module")
def base() -> Built:
    return make(ROWS)


def make(rows: list[Row]) -> Built:
    return build(rows, chunk_bytes=4096, fanout=4)


@pytest.mark.parametrize("edit", [replace, insert, delete, one_token])
def test_an_edit_of_tokens_is_local(base: Built, edit: Edit) -> None:
    draw = Integers(41)
    chunks, nodes = set(base.chunks()), base.nodes()
    labels = set(base.chunks("labels_mask"))
    new_chunks, new_labels, new_nodes = [], [], []
    levels = base.roots["token_ids"].level
    for n in range(EDITS):
        rows = list(ROWS)
        edit(rows, draw(COUNT), samples(1000 + n, 1, 25)[0])
        after = make(rows)
        new_chunks.append(len(set(after.chunks()) - chunks))
        new_labels.append(len(set(after.chunks("labels_mask")) - labels))
        new_nodes.append(len(set(after.nodes() - nodes)))
    # A chunk a sample, two where a boundary moves: the means are near 1.2 at some thirty samples a chunk.
    assert mean(new_chunks) <= 1.3, new_chunks
    assert max(new_chunks) <= 6
    assert mean(new_labels) <= 1.3
    assert max(new_labels) <= 6
    # A path in each of five arrays, and now and then a neighbour.
    assert mean(new_nodes) <= 1.5 * 5 * levels
    assert max(new_nodes) <= 3 * 5 * levels


def test_a_change_of_labels_stays_in_the_labels(base: Built) -> None:
    draw = Integers(42)
    for _ in range(EDITS // 3):
        rows = list(ROWS)
        at = draw(COUNT)
        relabel(rows, at, rows[at])
        after = make(rows)
        assert after.roots["token_ids"] == base.roots["token_ids"]
        assert len(set(after.chunks("labels_mask")) - set(base.chunks("labels_mask"))) <= 1
        assert len(after.objects.keys() - base.objects.keys()) <= 1 + base.roots["labels_mask"].level


def test_boundaries_find_back_after_any_edit() -> None:
    """In chunks: how far behind an edit the last new boundary is."""
    draw = Integers(43)
    distances = []
    base_cuts = {COUNT - cut.stop for cut in make(ROWS).cuts}
    for n in range(EDITS):
        rows = list(ROWS)
        at = draw(COUNT)
        replace(rows, at, samples(2000 + n, 1, 25)[0])
        cuts = [cut.stop for cut in make(rows).cuts]
        late = [stop for stop in cuts if stop > at and COUNT - stop not in base_cuts]
        distances.append(len(late))
    assert mean(distances) <= 0.5, distances
    assert max(distances) <= 6


def test_appending_keeps_all_but_the_end(base: Built) -> None:
    more = make(ROWS + samples(50, 100, 25))
    kept = set(base.chunks()) - set(more.chunks())
    assert len(kept) <= 3


def test_two_sequences_one_after_the_other_share_their_chunks(base: Built) -> None:
    both = make(ROWS + ROWS)
    assert len(set(both.chunks()) - set(base.chunks())) <= 4


@pytest.mark.slow
def test_at_the_real_size_a_chunk_is_all_that_changes() -> None:
    rows = samples(32, 6000, 250)
    whole = build(rows, chunk_bytes=1 << 18, fanout=32)
    draw = Integers(44)
    new = []
    for n in range(3):
        edited = list(rows)
        edited[draw(len(rows))] = samples(3000 + n, 1, 250)[0]
        after = build(edited, chunk_bytes=1 << 18, fanout=32)
        new.append(len(set(after.chunks()) - set(whole.chunks())))
    assert max(new) <= 3
    assert mean(new) <= 2
