"""Relatives that writers could not find: of two who stored at once neither saw the other.

All features of a repository are looked at together, sorted: the cost for an object is the same however many there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from castore.care.census import Census
from castore.format.pack import OBJECT_KIND
from castore.store.pack_catalog import StoredPack
from castore.store.packs import SHARED_MIN

_SHARING_MAX = 64
"""Objects with one feature that are looked at: of more that share it, these are enough to find one."""


def find_relatives(packs: Sequence[StoredPack], census: Census, in_use: NDArray[np.bool_]) -> dict[int, int]:
    """Objects that could be stored on another, which is older and stays by itself.

    Args:
        packs: From the oldest on.
        census: All objects.
        in_use: Which of them are looked at, bool[n].

    Returns:
        Numbers in the census: of an object, and of that to store it on.
    """
    needing = np.zeros(len(census), np.bool_)
    needed = np.zeros(len(census), np.bool_)
    needing[census.bases[:, 0]] = True
    needed[census.bases[:, 1]] = True
    features, numbers = _features(packs, census, in_use & ~needing)
    owners: dict[int, list[int]] = {}
    own: dict[int, list[int]] = {}
    for feature, number in zip(features.tolist(), numbers.tolist(), strict=True):
        known = owners.setdefault(feature, [])
        if number not in known and len(known) < _SHARING_MAX:
            known.append(number)
            own.setdefault(number, []).append(feature)
    found: dict[int, int] = {}
    for number, some in own.items():
        if needed[number]:
            continue
        shared = Counter(other for feature in some for other in owners[feature] if other != number)
        for other, count in shared.most_common():
            if count < min(SHARED_MIN, len(some)):
                break
            if other not in found:
                found[number] = other
                needed[other] = True
                break
    return found


def _features(
    packs: Sequence[StoredPack], census: Census, wanted: NDArray[np.bool_]
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Features that more than one of the wanted objects has, each with the number of one, in the order of the packs."""
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
    features, numbers = np.concatenate(all_features), np.concatenate(all_numbers)
    _, which, counts = np.unique(features, return_inverse=True, return_counts=True)
    shared = counts[which] > 1
    return features[shared], numbers[shared]
