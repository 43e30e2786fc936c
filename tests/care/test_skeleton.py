"""The skeleton that a check derives against the slow reference."""

from __future__ import annotations

import random

import numpy as np
import pytest

from castore.care.skeleton import skeleton_of
from tests.support import reference


@pytest.mark.parametrize("count", [1, 5, 300, 2000])
def test_skeletons_are_those_of_the_reference(count: int) -> None:
    draw = random.Random(count)
    keys = [draw.randbytes(16) for _ in range(count)]
    lengths = [draw.randrange(40) for _ in range(count)]
    wanted = reference.skeleton(keys, lengths, 512, 4)
    raw = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 16)
    found = skeleton_of(raw, np.array(lengths, np.uint32), 512, 4)
    assert [sizes.tolist() for sizes in found.levels] == wanted.levels
    groups, at = [], 0
    for size in wanted.coarse:
        groups.append(sum(wanted.levels[0][at : at + size]))
        at += size
    assert found.coarse.tolist() == groups
