"""How hard tests try, by ``CASTORE_TEST_PROFILE``; for Hypothesis see ``tests/conftest.py``."""

from __future__ import annotations

import os

NIGHTLY = os.environ.get("CASTORE_TEST_PROFILE") == "nightly"
"""Whether there is an hour: what else is a sample of all cases is all of them."""
