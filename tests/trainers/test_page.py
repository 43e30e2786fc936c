"""The code of ``docs/how-to/train-with-pytorch.md`` prints what the page shows, and the reference has all there is."""

from __future__ import annotations

import inspect
import re
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


def test_the_reference_has_what_there_is() -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    import castore.torch as module

    text = (console.PROJECT / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    calls = dict(re.findall(r"^\| `(\w+)\((.*)\)` \|", text.partition("## `castore.torch`")[2], re.MULTILINE))
    assert set(calls) == set(module.__all__)
    for name, arguments in calls.items():
        parameters = inspect.signature(getattr(module, name)).parameters.values()
        known = {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD}
        told = re.findall(r"(?:^|, )(\w+)(?:=([^,]+))?", arguments.replace(", *,", ",").replace(", **options", ""))
        assert {n: default or inspect.Parameter.empty for n, default in told}.keys() == known.keys(), name
        for parameter, default in told:
            assert not default or repr(known[parameter]) == default.replace('"', "'"), (name, parameter)
