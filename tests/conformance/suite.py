"""The checks of ``castore.store.conformance`` as tests: a new backend gives a ``StorePlace`` and inherits."""

from __future__ import annotations

import pytest

from castore.store.conformance import CHECKS
from castore.store.conformance_means import Check, StorePlace

__all__ = ["BackendTests", "StorePlace"]


class BackendTests:
    @pytest.mark.parametrize("check", CHECKS, ids=[check.__name__ for check in CHECKS])
    def test(self, place: StorePlace, check: Check) -> None:
        check(place)
