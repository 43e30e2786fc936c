"""The root is a function of the samples: not of batches, units, what was stored before, or what an earlier run left."""

from __future__ import annotations

import itertools

from hypothesis import example, given
from hypothesis import strategies as st

from castore.format.samples import Piece, Samples
from tests.support.built import Built, build
from tests.support.strategies import FINE, Row, piece_of, random_rows, row_lists, samples_of

edges = st.lists(st.integers(0, 130), max_size=8)


def bounds(places: list[int], count: int) -> list[int]:
    return sorted(place % (count + 1) for place in places)


@given(row_lists, edges)
@example([((0,) * 6, ()), ((), ()), ((), ()), ((0, 1), ()), ((), ())] * 16, [69])
def test_batches_do_not_show(rows: list[Row], places: list[int]) -> None:
    whole, parts = build(rows), build(rows, batches=bounds(places, len(rows)))
    assert parts.root == whole.root
    assert parts.objects == whole.objects
    assert parts.sequence == whole.sequence
    assert parts.cuts == whole.cuts


def stored_pieces(rows: list[Row], parts: list[tuple[int, int]]) -> tuple[list[Piece], dict[bytes, bytes]]:
    """Pieces as a later run finds them: each part was built alone before, and is read back from its chunks."""
    pieces = []
    objects: dict[bytes, bytes] = {}
    for lo, hi in parts:
        unit = build(rows[lo:hi])
        objects.update(unit.objects)
        for cut in unit.cuts:
            piece_rows = rows[lo + cut.start : lo + cut.stop]
            fresh = piece_of(piece_rows)
            pieces.append(
                Piece(fresh.lengths, fresh.keys, fresh.scalars, reader(unit, cut.start, cut.stop), cut.chunks)
            )
    return pieces, objects


def reader(unit: Built, lo: int, hi: int) -> object:
    def load() -> Samples:
        return samples_of(unit.rows()[lo:hi])

    return load


@given(row_lists, edges)
def test_units_that_were_stored_do_not_show(rows: list[Row], places: list[int]) -> None:
    marks = [0, *bounds(places, len(rows)), len(rows)]
    pieces, objects = stored_pieces(rows, list(itertools.pairwise(marks)))
    whole, again = build(rows), build(rows, pieces=pieces)
    assert again.root == whole.root
    assert whole.objects.keys() <= again.objects.keys() | objects.keys()


@given(row_lists, st.integers(0, 120), st.integers(0, 120))
def test_slices_of_stored_chunks_do_not_show(rows: list[Row], skip: int, cut_off: int) -> None:
    """Pieces that are parts of chunks of another sequence: rows before and after were stored with them."""
    around = random_rows(7, seed=skip) + rows + random_rows(5, seed=cut_off)
    other = build(around)
    pieces = []
    for cut in other.cuts:
        lo, hi = max(cut.start, 7), min(cut.stop, 7 + len(rows))
        for part_lo, part_hi in ((lo, (lo + hi) // 2), ((lo + hi) // 2, hi)):  # each in two pieces
            if part_lo < part_hi:
                fresh = piece_of(around[part_lo:part_hi])
                place = (part_lo - cut.start, cut.stop - cut.start)
                pieces.append(Piece(fresh.lengths, fresh.keys, fresh.scalars, fresh.load, cut.chunks, *place))
    again = build(rows, pieces=pieces)
    assert again.root == build(rows).root
    again.objects.update(other.objects)  # chunks that were reused are those of the other sequence
    assert again.rows() == rows


@given(row_lists, st.integers(0, 100))
def test_what_came_before_a_crash_is_the_start_of_the_whole(rows: list[Row], stop: int) -> None:
    """Runs that were finished before the stop are runs of the whole, so nothing that was stored is lost."""
    whole, before = build(rows), build(rows, batches=[stop % (len(rows) + 1)])
    begun = build(rows[: stop % (len(rows) + 1)])
    assert before.cuts == whole.cuts
    # All but the last run of the part: that one ended because the rows did.
    assert begun.cuts[:-1] == whole.cuts[: max(0, len(begun.cuts) - 1)]


def test_large_sequences_in_many_ways() -> None:
    rows = random_rows(2500, seed=21)
    whole = build(rows)
    assert whole.roots["token_ids"].level >= 3
    for step in (1, 7, 64, 1000):
        assert build(rows, batches=range(step, len(rows), step)).root == whole.root


def test_provenance_does_not_touch_the_arrays_of_the_root() -> None:
    import numpy as np

    from castore.format.schema import DATA_ARRAYS, PROVENANCE_ARRAYS
    from castore.tree.build import SequenceBuilder

    rows = random_rows(400, seed=22)
    builder = SequenceBuilder((*DATA_ARRAYS, *PROVENANCE_ARRAYS), chunk_bytes=512, fanout=4)
    piece = piece_of(rows)
    piece.scalars = {**piece.scalars, "row": np.arange(400, dtype=np.uint64), "raw_key": np.zeros((400, 16), np.uint8)}
    builder.add(piece)
    roots, _ = builder.finish()
    assert {name: roots[name] for name in build(rows).roots} == build(rows).roots
    assert roots["row"].level == roots["key"].level
    assert [e.samples for e in roots["row"].entries] == [e.samples for e in roots["key"].entries]
    assert {array.name for array in FINE} < set(roots)
