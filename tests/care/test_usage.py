"""``du``: figures that add up, and that ``rm`` and ``gc`` keep."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from castore.care import repack
from castore.care.gc import Policy, collect
from castore.care.usage import usage
from castore.errors import NotFoundError
from castore.repository import Origin, Repository
from castore.store.backend import MemoryBackend
from castore.store.marker import open_layout
from castore.store.packs import packed
from tests.support.jobs import ORIGIN, example_rows, run_job, write_rows
from tests.support.layouts import in_packs, loose

NOW = Policy(0, 0, 0)


@pytest.fixture(params=[loose, in_packs], ids=["loose", "packed"])
def backend(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryBackend:
    monkeypatch.setattr(repack, "UNUSED_SHARE", 1e-9)
    backend = MemoryBackend()
    rows = example_rows()
    for name, lo, hi in (("a", 0, 60), ("b", 30, 90), ("c", 200, 230)):
        mix = write_rows(tmp_path / f"{name}.jsonl", rows[lo:hi])
        run_job(request.param(backend), [(mix, "1.0")], name=name, shuffle_seed=None)
    Repository(backend).tag("a", "copy-of-a", Origin("another", "there", 2))
    collect(backend, NOW, force=True)
    return backend


def stored(backend: MemoryBackend) -> int:
    return sum(entry.size_bytes for entry in packed(backend).entries("objects"))


def test_figures_add_up(backend: MemoryBackend) -> None:
    done = usage(backend, [])
    rows = {row.name: row for row in done.names}
    assert list(rows) == ["a", "b", "c", "copy-of-a"]
    assert done.stored == done.in_use == done.freed == stored(backend)
    assert done.in_logs == 0
    assert rows["a"].stored == rows["copy-of-a"].stored
    assert rows["a"].unique == rows["a"].freed == 0
    assert 0 < rows["b"].unique < rows["b"].stored
    assert 0 < rows["c"].unique < rows["c"].stored, "files of the tokenizer are shared"
    assert rows["a"].author == "a tester"
    assert done.authors["another"] == rows["a"].stored
    assert done.authors["a tester"] == done.stored
    data = Repository(backend).dataset("a").manifest
    tokens, samples = data.tokens, data.samples
    assert rows["a"].logical == 5 * tokens + samples * (4 + 16 + 4 + 8 + 16)


@pytest.mark.parametrize("names", [["c"], ["b"], ["a", "copy-of-a"], ["a"], ["b", "c"]])
def test_what_would_be_freed_is_freed(backend: MemoryBackend, names: list[str]) -> None:
    told = usage(backend, names).freed
    before = stored(backend)
    for name in names:
        Repository(backend).remove(name, ORIGIN)
    done = collect(backend, NOW, force=True)
    freed = before - stored(backend)
    # A pack that is written anew may also find relatives that its writer did not see.
    assert freed == told if not done.packs.packs else freed >= told
    # Of packs go what finds the values in them, and unit records too.
    assert done.removed_bytes == told if not done.packs.packs else done.removed_bytes >= told


def test_logs_hold_what_names_meant(backend: MemoryBackend) -> None:
    repository = Repository(backend)
    repository.tag("b", "c", ORIGIN)
    done = usage(backend, ["c"])
    assert done.in_logs > 0
    assert done.names[0].unique == 0
    assert done.names[0].freed == done.in_logs
    collect(backend, NOW, force=True)
    assert usage(backend, []).in_logs == 0


def test_runs_that_made_the_same_cost_one_object_each() -> None:
    """What many names share is read once."""
    backend = MemoryBackend()
    repository = Repository(backend)
    open_layout(backend, create=True)
    ids = np.arange(400_000, dtype=np.uint32)
    reads = []
    for number in range(4):
        with repository.writer(f"name-{number}", recipe={"number": number}, origin=ORIGIN) as writer:
            writer.extend(ids, np.arange(0, 400_001, 200), np.ones(400_000, np.bool_))
        reads.append(usage(backend, ["name-0"]).read)
    assert len({repository[name].root for name in repository}) == 1
    assert np.diff(reads).tolist() == [1, 1, 1], "a run record"


def test_an_unknown_name(backend: MemoryBackend) -> None:
    with pytest.raises(NotFoundError, match="nothing called 'x'"):
        usage(backend, ["a", "x"])
