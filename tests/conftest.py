"""Settings for all tests: how many examples Hypothesis tries, by place, and what nothing waits for.

``CASTORE_TEST_PROFILE`` is ``local`` (the default, seconds), ``ci`` (more, the same ones every time) or ``nightly``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]

settings.register_profile("local", max_examples=40, deadline=None, suppress_health_check=_SLOW)
settings.register_profile("ci", max_examples=120, deadline=None, derandomize=True, suppress_health_check=_SLOW)
settings.register_profile("nightly", max_examples=3000, deadline=None, print_blob=True, suppress_health_check=_SLOW)
settings.load_profile(os.environ.get("CASTORE_TEST_PROFILE", "local"))

pytest_plugins = ["tests.support.passed", "tests.support.server_fixtures"]


@pytest.fixture(autouse=True, scope="module")
def _no_waiting_for_the_disk(request: pytest.FixtureRequest) -> Iterator[None]:
    """What is durable no test can see; those that want to know when it is asked for put something in its place.

    Only the tests of ``store``, and processes of their own, wait until it is.
    """
    if request.path.parent.name == "store":
        yield
        return
    with mock.patch.object(os, "fsync", os.fstat):  # which also refuses what is no open file
        yield
