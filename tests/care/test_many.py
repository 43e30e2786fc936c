"""Memory of checks and collections by the object: a few dozen bytes, not a Python object each."""

from __future__ import annotations

import tracemalloc

import pytest

from castore.care.fsck import check
from castore.care.gc import Policy, collect
from castore.care.usage import usage
from tests.support.many import ManyObjects

BYTES_AN_OBJECT = 250
FIXED_BYTES = 6_000_000


@pytest.mark.slow
@pytest.mark.parametrize("what", ["check", "collect", "usage"])
def test_memory(what: str) -> None:
    backend = ManyObjects(30_000, 10_000)
    tracemalloc.start()
    try:
        if what == "check":
            done = check(backend)
            assert done.findings.clean
            assert done.unreferenced == 10_000
        elif what == "collect":
            collected = collect(backend, Policy())
            assert collected.removed == 10_000
            assert collected.read < 1200
        else:
            assert usage(backend, []).objects > 40_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < FIXED_BYTES + 40_000 * BYTES_AN_OBJECT, f"{peak / 40_000:.0f} bytes an object"
