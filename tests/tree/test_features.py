"""Sketches of sets of samples, by which relatives are found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from castore.format.chunk import decode_values
from castore.format.digest import Digest
from castore.tree.build import SequenceBuilder
from castore.tree.features import NONE, PARTS, features_of, merged, sketch_of
from tests.support.built import FEW, SMALL, build
from tests.support.strategies import ARRAYS, Row, piece_of, rows

KEYS = st.lists(st.binary(min_size=16, max_size=16), max_size=40)


def sketch(keys: list[bytes]) -> tuple[int, ...]:
    return sketch_of(np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 16))


def random_keys(count: int, seed: int) -> list[bytes]:
    raw = np.random.default_rng(seed).bytes(16 * count)
    return [raw[at : at + 16] for at in range(0, len(raw), 16)]


@given(KEYS, st.randoms(use_true_random=False))
def test_a_sketch_is_of_a_set(keys: list[bytes], random: object) -> None:
    again = keys + keys[: len(keys) // 2]
    random.shuffle(again)  # type: ignore[attr-defined]
    assert sketch(again) == sketch(keys)


@given(KEYS)
def test_a_sketch_is_what_the_format_says(keys: list[bytes]) -> None:
    numbers = [int.from_bytes(key[8:], "little") for key in keys]
    parts = [[n for n in numbers if n % PARTS == part] for part in range(PARTS)]
    assert sketch(keys) == tuple(min(part, default=NONE) for part in parts)
    features = features_of(sketch(keys), "token_ids", 0)
    assert len(features) == sum(bool(part) and min(part) != NONE for part in parts)
    assert all(0 <= feature < 2**32 for feature in features)


@given(st.lists(KEYS, min_size=1, max_size=5))
def test_merged_sketches_are_those_of_the_union(sets: list[list[bytes]]) -> None:
    assert merged([*map(sketch, sets)]) == sketch([key for keys in sets for key in keys])


def test_of_no_samples_there_are_no_features() -> None:
    assert sketch([]) == (NONE,) * PARTS
    assert features_of(sketch([]), "token_ids", 0) == ()


@pytest.mark.parametrize(("shared", "own"), [(100, 0), (98, 2), (80, 20), (50, 50), (10, 90), (0, 100)])
def test_sets_share_features_as_they_are_similar(shared: int, own: int) -> None:
    """A feature is shared with the probability that Jaccard's similarity gives."""
    jaccard = shared / (shared + 2 * own)
    rounds = 300
    count = 0
    for seed in range(rounds):
        keys = random_keys(shared + 2 * own, seed)
        one, other = keys[: shared + own], keys[:shared] + keys[shared + own :]
        features = (features_of(sketch(some), "token_ids", 0) for some in (one, other))
        count += len(set.intersection(*map(set, features)))
    drawn = rounds * PARTS
    assert abs(count / drawn - jaccard) <= 4 * np.sqrt(jaccard * (1 - jaccard) / drawn)


def test_other_arrays_and_levels_share_none() -> None:
    of = sketch(random_keys(500, 1))
    arrays = ("token_ids", "labels_mask", "length", "key", "source", "row", "raw_key", "weight")
    every = [features_of(of, array, level) for array in arrays for level in range(8)]
    assert len({feature for features in every for feature in features}) == PARTS * len(every)


@given(st.lists(rows(), min_size=1, max_size=60), st.integers(0, 60))
def test_objects_have_the_features_of_the_samples_below_them(some: list[Row], cut: int) -> None:
    """However they came: at once, or in two batches."""
    built = build(some)
    at_once, in_two = features_made(some, len(some)), features_made(some, min(cut, len(some)))
    assert in_two == at_once
    grain = built.arrays["key"].grain
    for digest in built.chunks("key"):
        items = bytes(decode_values(built.fetch(digest), "bytes16").items)
        keys = [items[at : at + 16] for at in range(0, len(items), 16)]
        assert at_once[digest] == features_of(sketch(keys), "key", grain)


def features_made(some: list[Row], cut: int) -> dict[Digest, tuple[int, ...]]:
    builder = SequenceBuilder(ARRAYS, chunk_bytes=SMALL, fanout=FEW)
    made = [each for batch in (some[:cut], some[cut:]) if batch for each in builder.add(piece_of(batch))]
    return {each.digest: each.features for each in (*made, *builder.finish()[1])}
