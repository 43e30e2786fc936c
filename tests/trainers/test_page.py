"""The code of ``docs/how-to/train-with-pytorch.md`` runs, and prints what the page shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs import console

PAGE = console.PROJECT / "docs" / "how-to" / "train-with-pytorch.md"


@pytest.mark.slow
def test_the_page_runs_as_shown(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    outcomes = list(console.run(PAGE, tmp_path))
    assert [str(outcome) for outcome in outcomes if not outcome.agrees] == []
    assert any("loss.backward()" in outcome.command.text for outcome in outcomes)
