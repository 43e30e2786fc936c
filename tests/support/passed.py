"""A plugin of pytest: what passed in one run need not be run again in the next.

``CASTORE_TEST_PASSED`` names a file in which a run notes what passed, and with which profile of Hypothesis;
``CASTORE_TEST_WITHOUT`` such a file of an earlier run, whose tests are left out: but for those of Hypothesis if that
tried with another profile. What was skipped there, for want of a library or of data, is not left out.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

_PROFILE = os.environ.get("CASTORE_TEST_PROFILE", "local")


class _Passed:
    """Notes what passed, in the process that hears of all tests."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tests: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self._tests.append(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        self._path.write_text(json.dumps({"profile": _PROFILE, "passed": self._tests}))


def pytest_configure(config: pytest.Config) -> None:
    path = os.environ.get("CASTORE_TEST_PASSED")
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Passed(Path(path)))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    path = os.environ.get("CASTORE_TEST_WITHOUT")
    if not path:
        return
    earlier = json.loads(Path(path).read_text())
    passed = set(earlier["passed"])
    as_hard = earlier["profile"] == _PROFILE
    left_out = [item for item in items if item.nodeid in passed and (as_hard or "hypothesis" not in item.keywords)]
    config.hook.pytest_deselected(items=left_out)
    gone = set(map(id, left_out))
    items[:] = [item for item in items if id(item) not in gone]
