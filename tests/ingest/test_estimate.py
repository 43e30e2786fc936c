"""What a job would come to: exact where units are known, near where a sample speaks, and never a byte written."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from castore.errors import BackendError, InvalidInputError, SourceError
from castore.ingest import estimate as module
from castore.ingest import job as job_module
from castore.ingest.estimate import Estimate, _tokenizing_s
from castore.ingest.pool import WORKERS_BYTES_MIN, processors
from castore.repository import Repository
from castore.store.backend import MemoryBackend, everything
from castore.store.local import LocalBackend
from castore.store.read_only import ReadOnly
from tests.support.jobs import SMALL, TOKENIZER, example_rows, row, tokenize, write_rows


@pytest.fixture
def rows(tmp_path: Path) -> list[Path]:
    """Three files of conversations, of several units each."""
    made = []
    for number in range(3):
        some = [row(f"question {number} {i} " * 3, f"an answer to it {i * i} " * (i % 20 + 1)) for i in range(150)]
        made.append(write_rows(tmp_path / f"{number}.jsonl", some))
    return made


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.open(tmp_path / "repository", create=True)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several units a file, and trees of several levels."""
    monkeypatch.setattr(module, "estimate", partial(module.estimate, sizes=SMALL))
    monkeypatch.setattr(job_module, "tokenize", partial(job_module.tokenize, sizes=SMALL))


def estimated(repository: Repository, mix: Any, **options: Any) -> Estimate:
    return repository.estimate(mix, **{"tokenizer": TOKENIZER, "workers": 1} | options)


def state(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("amounts", [("1.0", "1.0", "1.0"), ("0.3", "200", "2.5"), ("2.0", "1", "0.9")], ids=str)
def test_an_estimate_is_near_what_comes(repository: Repository, rows: list[Path], amounts: tuple[str, ...]) -> None:
    mix = list(zip(rows, amounts, strict=True))
    tokenize(repository, mix[:1], "known")
    found = estimated(repository, mix)
    done = tokenize(repository, mix, "all")
    assert done.run is not None
    run = repository["all"].run
    assert run is not None
    for source, record in zip(found.sources, run.sources, strict=True):
        assert (source.name, source.rows, source.selected) == (record.name, record.rows, record.selected)
        assert abs(source.tokens - (record.tokens or 0)) <= max(0.06 * (record.tokens or 0), 60)
    assert found.sources[0].tokens == found.sources[0].tokens_known == run.sources[0].tokens
    assert found.tokens_known == found.sources[0].tokens
    assert (found.rows, found.rows_reused) == (done.progress.rows_total, done.progress.rows_reused)
    if set(amounts) == {"1.0"}:  # a run counts units once a copy
        assert (found.units, found.units_reused) == (done.progress.units, done.progress.units_reused)
    if set(amounts) == {"1.0"}:  # what copies add, keys above all, is not reckoned
        assert found.bytes_new == pytest.approx(done.bytes_new, rel=0.25)
    assert 0 < found.seconds < 60


def test_what_is_known_is_exact(repository: Repository, rows: list[Path]) -> None:
    done = tokenize(repository, [(rows[0], "1.0"), (rows[1], "1.0")], "one")
    found = estimated(repository, [(rows[1], "1.0"), (rows[0], "1.0")])
    assert found.tokens == found.tokens_known == done.tokens
    assert (found.rows, found.rows_reused) == (300, 300)
    assert found.units == found.units_reused > 2
    assert found.bytes_new == 0
    picked = estimated(repository, [(rows[0], "0.5")])
    assert picked.tokens == picked.tokens_known == tokenize(repository, [(rows[0], "0.5")], "half").tokens


def test_a_file_that_is_taken_twice_is_tokenized_once(repository: Repository, rows: list[Path]) -> None:
    once = estimated(repository, [(rows[0], "1.0")])
    twice = estimated(repository, [(rows[0], "1.0"), (rows[0], "1.0")])
    assert (twice.rows, twice.rows_reused, twice.units_reused) == (300, 150, once.units)
    assert twice.tokens == pytest.approx(2 * once.tokens, rel=0.01)
    assert twice.bytes_new == pytest.approx(once.bytes_new, rel=0.02)


def test_nothing_is_written_nor_renewed(repository: Repository, rows: list[Path], tmp_path: Path) -> None:
    tokenize(repository, [(rows[0], "1.0")], "one")
    for path in (tmp_path / "repository").rglob("*"):
        os.utime(path, (1, 1))
    before = state(tmp_path / "repository")
    estimated(repository, [(rows[0], "1.0"), (rows[1], "0.5")])
    assert state(tmp_path / "repository") == before
    backend = MemoryBackend()
    estimated(Repository(backend), [(rows[0], "1.0")])
    backend.flush()
    assert backend.snapshot() == {}


def test_a_sample_is_bounded_and_of_all_of_the_file(
    repository: Repository, rows: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = estimated(repository, [(rows[0], "1.0")])  # the sample holds all rows
    assert exact.tokens == tokenize(Repository(MemoryBackend()), [(rows[0], "1.0")], "one").tokens
    monkeypatch.setattr(module, "_SAMPLE_BYTES_MIN", 4096)
    monkeypatch.setattr(module, "SAMPLE_BYTES", 16384)
    seen: list[int] = []
    real = module._Drawn.source
    monkeypatch.setattr(module._Drawn, "source", lambda self, name: seen.append(self.size) or real(self, name))
    near = estimated(repository, [(rows[0], "1.0")])
    assert 16384 <= seen[0] < 16384 + 1000
    assert near.tokens == pytest.approx(exact.tokens, rel=0.1)
    assert near.tokens == estimated(repository, [(rows[0], "1.0")]).tokens


def test_what_a_run_would_refuse_is_refused(repository: Repository, tmp_path: Path) -> None:
    bad = write_rows(tmp_path / "bad.jsonl", [row("a", "b"), b'{"messages": 3}'])
    with pytest.raises(SourceError, match=r"bad.jsonl, row 2, messages"):
        estimated(repository, [(bad, "1.0")])
    assert estimated(repository, [(bad, "1.0")], on_error="skip").rows == 2
    with pytest.raises(SourceError, match="No such file"):
        estimated(repository, [(tmp_path / "none.jsonl", "1.0")])
    with pytest.raises(InvalidInputError, match="--num-examples 3 of at most 2"):
        estimated(repository, [(bad, "1.0")], num_examples=3)
    nothing = write_rows(tmp_path / "nothing.jsonl", [b'{"messages": [{"role": "user", "content": "hello"}]}'])
    assert estimated(repository, [(nothing, "1.0")]).tokens == 0


def test_time_is_that_of_the_workers_there_are() -> None:
    assert _tokenizing_s(10.0, WORKERS_BYTES_MIN - 1, 8) == 10.0
    assert _tokenizing_s(10.0, WORKERS_BYTES_MIN, 1) == 10.0
    many = processors()
    assert _tokenizing_s(10.0, WORKERS_BYTES_MIN, None) == pytest.approx(10.0 if many == 1 else 0.6 + 10 / many)


def test_a_backend_that_is_only_read_refuses_to_write() -> None:
    inner = MemoryBackend()
    inner.put("a/b", b"x")
    inner.flush()
    backend = ReadOnly(inner)
    assert (backend.get("a/b", 9), backend.has("a/b"), backend.touch("a/b"), backend.touch("a/c")) == (
        b"x", True, True, False
    )  # fmt: skip
    assert list(backend.touch_many(["a/b", "a/c"])) == [("a/b", True), ("a/c", False)]
    assert list(backend.get_many(["a/b"], 9)) == [("a/b", b"x")]
    assert [entry.key for entry in backend.entries("a")] == list(backend.list("")) == ["a/b"]
    backend.flush()
    assert inner.renewals("a/b") == 0
    for write in (
        lambda: backend.put("a", b""),
        lambda: backend.create("a", b""),
        lambda: backend.delete("a/b"),
        lambda: backend.expire("a/b", 1e12),
    ):
        with pytest.raises(BackendError, match="memory-backend is only read here"):
            write()


def test_what_hides_values_is_seen_through_a_backend_that_is_only_read(tmp_path: Path) -> None:
    (tmp_path / "refs").mkdir()
    (tmp_path / "refs" / "lost").symlink_to(tmp_path / "nowhere")
    inner = LocalBackend(str(tmp_path))
    found = sorted(everything(ReadOnly(inner), "refs", details=True))
    assert found == sorted(everything(inner, "refs", details=True))
    assert [entry.key for entry in found if entry.fault] == ["refs/lost"]


def test_the_conversations_of_the_examples(repository: Repository, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", example_rows())
    assert estimated(repository, [(path, "1.0")]).tokens == 33858
