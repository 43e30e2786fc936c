"""The vectorised cuts of a check against the slow reference."""

from __future__ import annotations

import random

import numpy as np
import pytest

from castore.care.boundaries import cut, shape_of
from tests.support import reference


@pytest.mark.parametrize("seed", range(40))
def test_cuts_are_those_of_the_reference(seed: int) -> None:
    draw = random.Random(seed)
    target = draw.choice([4, 7, 64, 512, 1 << 18, 1 << 30])
    heavy = draw.choice([target // 8 + 1, target, 3 * target])
    hashes = [draw.choice([draw.getrandbits(32), 0, 2**32 - 1, 5]) for _ in range(draw.randrange(400))]
    weights = [draw.choice([1, draw.randrange(1, heavy + 1)]) for _ in hashes]
    found = cut(np.array(hashes, np.uint64), np.array(weights, np.int64), target)
    assert found.tolist() == reference.cut(list(zip(hashes, weights, strict=True)), target)


@pytest.mark.parametrize("count", [1, 5, 300, 2000])
def test_shapes_are_those_of_the_reference(count: int) -> None:
    draw = random.Random(count)
    keys = [draw.randbytes(16) for _ in range(count)]
    lengths = [draw.randrange(40) for _ in range(count)]
    wanted = reference.skeleton(keys, lengths, 512, 4)
    raw = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 16)
    found = shape_of(raw, np.array(lengths, np.uint32), 512, 4)
    assert [sizes.tolist() for sizes in found.levels] == wanted.levels
    groups, at = [], 0
    for size in wanted.coarse:
        groups.append(sum(wanted.levels[0][at : at + size]))
        at += size
    assert found.coarse.tolist() == groups
