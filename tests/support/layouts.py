"""Repositories whose objects and unit records lie one by one, and such whose every value is in a pack."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from castore.store.backend import Backend
from castore.store.packs import PACK_BYTES, PackedBackend

NEVER = 10**9


def loose(backend: Backend) -> PackedBackend:
    """A backend that stores each value by itself, however many come together."""
    return PackedBackend(backend, loose_max=NEVER)


def in_packs(backend: Backend, pack_bytes: int = PACK_BYTES) -> PackedBackend:
    """A backend that stores no value by itself."""
    return PackedBackend(backend, loose_max=0, pack_bytes=pack_bytes)


def small_packs(backend: Backend) -> PackedBackend:
    """As ``in_packs``, of a few KiB each: several for whatever a test stores."""
    return in_packs(backend, 4096)


Layout = Callable[[Backend], PackedBackend]

LAYOUTS = pytest.mark.parametrize("layout", [loose, in_packs], ids=["loose", "packed"])
"""Runs a test, which takes ``layout``, for both."""
