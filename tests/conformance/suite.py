"""The checks of ``castore.store.conformance`` as tests: a new backend gives a ``Place`` and inherits."""

from __future__ import annotations

import pytest

from castore.store.conformance import CHECKS, Check, Place

__all__ = ["BackendTests", "Place"]


class BackendTests:
    @pytest.mark.parametrize("check", CHECKS, ids=[check.__name__ for check in CHECKS])
    def test(self, place: Place, check: Check) -> None:
        check(place)
