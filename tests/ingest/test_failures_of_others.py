"""What goes wrong, silently or dearly, with a conversion that keeps its work in caches and partial files.

Each test is a story of somebody who changed something between two runs, or made a mistake. Stories that have their
tests where the code has them are not told again: killed and interrupted runs (``test_resume``), upsampled copies
(``test_write``, three copies are tokenized once), bad rows and what is kept before them (``test_write``), folders that
hold parts of an earlier export, and readers that look while one is written (``tests/view/test_export``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from castore.errors import InvalidInputError, SourceError
from castore.export.olmo_core import export_olmo_core
from castore.ingest.job import TokenizeResult
from castore.ingest.run_writer import Progress
from castore.repository import Repository
from castore.store.backend import Backend, MemoryBackend
from tests.ingest.tiny import make_folder
from tests.support.complete import Row, check_complete
from tests.support.jobs import counted_tokenizing, example_rows, row, run_job, write_rows

TEXTS = [row for row in example_rows() if b'"content": null' not in row]
"""Conversations that every template takes."""

ROWS = 60


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.jsonl", TEXTS[:ROWS])


def interrupted(backend: Backend, mix: Sequence[tuple[Path, str]], **options: Any) -> None:
    """Run a job and interrupt it in the middle."""

    def report(progress: Progress) -> None:
        if progress.rows_done > progress.rows_total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(backend, mix, report=report, **options)
    assert Repository(backend).refs.names() == []


def samples(backend: Backend) -> list[Row]:
    """Samples of ``out`` in the recorded order."""
    repository = Repository(backend)
    rows = check_complete(repository)["out"].rows
    order = repository.dataset("out").manifest.order
    return rows if order is None else [rows[i] for i in order.positions().tolist()]


# ---- other arguments on resume


def test_another_seed_on_resume_is_another_order_of_the_same_samples(path: Path) -> None:
    """Not the first half of one permutation and the second half of another."""
    backend, fresh = MemoryBackend(), MemoryBackend()
    interrupted(backend, [(path, "1.0")], shuffle_seed=42)
    with counted_tokenizing() as calls:
        resumed = run_job(backend, [(path, "1.0")], shuffle_seed=7)
    assert 0 < sum(calls) < ROWS  # the rest, and nothing twice
    assert resumed.root == run_job(fresh, [(path, "1.0")], shuffle_seed=7).root
    plain = MemoryBackend()
    run_job(plain, [(path, "1.0")], shuffle_seed=None)
    in_mix_order = samples(plain)
    permutation = np.random.default_rng(7).permutation(ROWS)
    assert samples(backend) == [in_mix_order[i] for i in permutation]


def test_another_seed_on_resume_exports_every_document_once(tmp_path: Path, path: Path) -> None:
    """And the statistics are those of the datasets that the documents came from."""
    other = write_rows(tmp_path / "other.jsonl", TEXTS[ROWS : ROWS + 30])
    mix = [(path, "1.0"), (other, "1.0")]
    backend, fresh = MemoryBackend(), MemoryBackend()
    interrupted(backend, mix, shuffle_seed=42)
    run_job(backend, mix, shuffle_seed=7)
    run_job(fresh, mix, shuffle_seed=7)
    for name, place in (("resumed", backend), ("fresh", fresh)):
        export_olmo_core(Repository(place).dataset("out"), str(tmp_path / name))
    for file in ("token_ids_part_0000.npy", "labels_mask_part_0000.npy", "token_ids_part_0000.csv.gz"):
        assert (tmp_path / "resumed" / file).read_bytes() == (tmp_path / "fresh" / file).read_bytes()
    found = [json.loads((tmp_path / name / "dataset_statistics.json").read_bytes()) for name in ("resumed", "fresh")]
    assert found[0]["per_dataset_statistics"] == found[1]["per_dataset_statistics"]
    counts = {entry["dataset_name"]: entry["final_instances_in_output"] for entry in found[0]["per_dataset_statistics"]}
    assert counts == {str(path): ROWS, str(other): 29}  # nothing of one row is trained on


@pytest.mark.parametrize(
    "changed",
    [
        {"max_seq_length": 40},
        {"chat_template": "tulu"},
        {"mix_seed": 1},
        {"num_examples": 20},
        {"shuffle_seed": None},
        {"last_turn": True},
        {"add_bos": True, "chat_template": "tulu"},
        {"workers": 2},
    ],
    ids=str,
)
def test_other_arguments_on_resume_are_those_of_the_second_run(path: Path, changed: dict[str, Any]) -> None:
    mix = [(path, "1.7")]
    backend = MemoryBackend()
    interrupted(backend, mix)
    assert run_job(backend, mix, **changed).root == run_job(MemoryBackend(), mix, **changed).root
    check_complete(Repository(backend))


def test_another_mix_on_resume(tmp_path: Path, path: Path) -> None:
    other = write_rows(tmp_path / "other.jsonl", TEXTS[ROWS : ROWS + 30])
    for mix in ([(other, "1.0"), (path, "1.0")], [(path, "13")], [(path, "0.5"), (path, "2.0")]):
        backend = MemoryBackend()
        interrupted(backend, [(path, "1.0"), (other, "1.0")])
        assert run_job(backend, mix).root == run_job(MemoryBackend(), mix).root


# ---- an edited row


def test_an_edited_row_is_seen_whatever_the_file_looks_like(path: Path) -> None:
    """As many rows, as many bytes, the same time: only the content tells."""
    backend = MemoryBackend()
    before = run_job(backend, [(path, "1.0")])
    stat = path.stat()
    data = path.read_bytes()
    at = data.index(b"the", len(data) // 2)
    path.write_bytes(data[:at] + b"teh" + data[at + 3 :])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    after = run_job(backend, [(path, "1.0")])
    assert after.root != before.root
    assert after.root == run_job(MemoryBackend(), [(path, "1.0")]).root
    assert _changed(backend) == 1


def _changed(backend: Backend) -> int:
    """Samples that differ between the last two values of ``out``."""
    repository = Repository(backend)
    old, new = (check_complete_of(repository, address) for address in ("out@{1}", "out"))
    return sum(a != b for a, b in zip(old, new, strict=True))


def check_complete_of(repository: Repository, address: str) -> list[tuple[int, ...]]:
    data = repository.dataset(address)
    return [tuple(sample.token_ids.tolist()) for sample in data]


# ---- more examples than there are


def test_too_many_examples_cost_nothing(tmp_path: Path, path: Path) -> None:
    """Refused before the work where the rows tell, else after it, and then the work is kept."""
    backend = MemoryBackend()
    nobody = write_rows(tmp_path / "nobody.jsonl", [row("nobody answers")])
    mix = [(path, "1.0"), (nobody, "1.0")]
    with counted_tokenizing() as calls:
        with pytest.raises(InvalidInputError, match=f"of at most {ROWS + 1} samples"):
            run_job(backend, mix, num_examples=ROWS + 2)
        assert not calls
        with pytest.raises(InvalidInputError, match=f"of {ROWS} samples: ask for 1 to {ROWS}"):
            run_job(backend, mix, num_examples=ROWS + 1)
        assert sum(calls) == ROWS + 1
        calls.clear()
        assert Repository(backend).refs.names() == []
        run_job(backend, mix, num_examples=ROWS)
        assert not calls
    assert len(samples(backend)) == ROWS


# ---- one bad row


BAD = {
    "no messages": (b'{"messages": []}', "tulu", "messages"),
    "no content": (
        b'{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": null}]}',
        "tulu",
        "messages[1]",
    ),
    "no column": (b'{"text": "x"}', "olmo", "messages"),
    "bad tools": (b'{"messages": [{"role": "user", "content": "x"}], "tools": "[{"}', "olmo", "tools"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_one_bad_row_at_the_end_of_hours(tmp_path: Path, case: str, on_error: str) -> None:
    bad, template, field = BAD[case]
    rows = TEXTS[:ROWS]
    path = write_rows(tmp_path / "rows.jsonl", [*rows[:-1], bad])
    backend = MemoryBackend()

    def run(on_error: str = "stop") -> TokenizeResult:
        return run_job(backend, [(path, "1.0")], chat_template=template, on_error=on_error)

    if on_error == "skip":
        assert run("skip").dropped["bad-row"] == 1
        return
    with pytest.raises(SourceError) as caught:
        run()
    assert caught.value.row == len(rows)
    assert str(caught.value.field).startswith(field)
    write_rows(path, rows)
    with counted_tokenizing() as calls:
        result = run()
    assert sum(calls) < len(rows) // 2  # the block of the row that was mended
    assert result.samples == len(rows)


# ---- a tokenizer that the library would rebuild


@pytest.mark.parametrize(("name", "warned"), [("GPT2Tokenizer", True), ("PreTrainedTokenizerFast", False)])
def test_a_tokenizer_class_that_changes_ids_is_warned_of(tmp_path: Path, path: Path, name: str, warned: bool) -> None:
    make_folder(tmp_path / "tokenizer", tokenizer_class=name)
    make_folder(tmp_path / "plain")
    said: list[str] = []
    options: dict[str, Any] = {"chat_template": "olmo"}
    result = run_job(
        MemoryBackend(), [(path, "1.0")], tokenizer=str(tmp_path / "tokenizer"), warn=said.append, **options
    )
    assert [line for line in said if f"names {name}: transformers 5 then replaces the pre-tokenizer" in line] == (
        said if warned else []
    )
    assert len(said) == warned
    # The tokens are those of the file, whatever the class is called.
    plain = run_job(MemoryBackend(), [(path, "1.0")], tokenizer=str(tmp_path / "plain"), **options)
    assert result.root == plain.root
