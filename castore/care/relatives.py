"""Relatives that writers could not find: of two who stored at once neither saw the other.

All features of a repository are looked at together, sorted: the cost for an object is the same however many there are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from castore.care.census import Census
from castore.format.pack import OBJECT_KIND
from castore.store.pack_catalog import StoredPack
from castore.store.pack_lookup import SHARING_MAX
from castore.store.similarity import most_similar


def find_relatives(packs: Sequence[StoredPack], census: Census, in_use: NDArray[np.bool_]) -> dict[int, list[int]]:
    """Objects that could be stored on one or two others, which are older, or needed by others, and stay by themselves.

    Args:
        packs: From the oldest on.
        census: All objects.
        in_use: Which of them are looked at, bool[n].

    Returns:
        Numbers in the census: of an object, and of those to store it on.
    """
    needing = np.zeros(len(census), np.bool_)
    needed = np.zeros(len(census), np.bool_)
    needing[census.bases[:, 0]] = True
    needed[census.bases[:, 1]] = True
    features, numbers, totals = _features(packs, census, in_use & ~needing)
    by_number = np.argsort(numbers, kind="stable")
    features = features[by_number]
    some, place, counts = np.unique(numbers, return_index=True, return_counts=True)
    stops = np.cumsum(counts)
    staying: dict[int, list[int]] = {}  # by feature, objects that stay by themselves
    found: dict[int, list[int]] = {}
    # What others need first, for it stays anyway; then from the oldest on, so that all of a kind are stored on one.
    # Two collections at once never exchange two objects so: of both the older stays.
    for at in np.lexsort((place, ~needed[some])).tolist():
        number = int(some[at])
        own = dict.fromkeys(features[stops[at] - counts[at] : stops[at]].tolist())
        shared: dict[int, int] = {}
        if not needed[number]:
            for bit, feature in enumerate(own):
                for other in staying.get(feature, ()):
                    shared[other] = shared.get(other, 0) | 1 << bit
        bases = most_similar(shared, int(totals[number]))
        if bases:
            found[number] = bases
            continue
        for feature in own:
            known = staying.setdefault(feature, [])
            if len(known) < SHARING_MAX:
                known.append(number)
    return found


def _features(
    packs: Sequence[StoredPack], census: Census, wanted: NDArray[np.bool_]
) -> tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.int64]]:
    """Features that more than one of the wanted objects has, each with the number of one, in the order of the packs.

    And how many features each object of the census has in all, int64[n].
    """
    totals = np.zeros(len(census), np.int64)
    all_features, all_numbers = [np.zeros(0, np.uint32)], [np.zeros(0, np.int64)]
    for pack in packs:
        values, places = pack.index.feature_columns()
        rows = pack.index.starting(OBJECT_KIND)
        numbers = census.find(b"".join(pack.index.key(row)[1:] for row in rows))
        at = places.astype(np.int64) - rows.start
        known = (at >= 0) & (at < len(numbers))
        number = numbers[at[known]]
        chosen = (number >= 0) & wanted[np.maximum(number, 0)]
        all_features.append(values[known][chosen])
        all_numbers.append(number[chosen])
        some, counts = np.unique(number[chosen], return_counts=True)
        totals[some] = np.maximum(totals[some], counts)
    features, numbers = np.concatenate(all_features), np.concatenate(all_numbers)
    _, which, counts = np.unique(features, return_inverse=True, return_counts=True)
    shared = counts[which] > 1
    return features[shared], numbers[shared], totals
