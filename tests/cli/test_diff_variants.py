"""The ways in which a second run differs from a first: one line that is right, and an exit code, in every form.

The same as ``tests/benchmarks/diff_costs.py`` checks at a gigabyte.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.outputs import write_variants
from tests.cli.conftest import Run

DOCUMENTS = 600
SAID = {
    "1": (0, "equal: 600 samples, "),
    "2": (1, "different: 1 replaced of 600 samples; equal: labels_mask, length"),
    "3": (1, "different: 1 replaced of 600 samples"),
    "4": (
        1,
        "different: 500 replaced of 600 samples; equal: token_ids, key, length",
    ),
    "5": (1, "different: 1 deleted of 600 and 599 samples"),
    "6": (1, "another order of the same 600 samples"),
    "7": (0, "equal: 600 samples, "),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directories v1 to v7."""
    rng = np.random.default_rng(1)
    lengths = rng.integers(8, 60, DOCUMENTS)
    ids = rng.integers(0, 50_000, int(lengths.sum())).astype(np.uint32)
    labels = (np.arange(len(ids)) % 7 > 2).astype(np.uint8)
    folder = tmp_path_factory.mktemp("variants")
    write_variants(folder, ids, labels, lengths, "1234567")
    return folder


@pytest.mark.parametrize("variant", SAID)
def test_directories(run: Run, folder: Path, variant: str) -> None:
    status, line = SAID[variant]
    said = run("diff", folder / "v1", folder / f"v{variant}", status=status)
    assert said.out.startswith(line)
    assert run("diff", folder / "v1", folder / f"v{variant}", "-q", status=status).out == ""
    assert run("diff", folder / "v1", folder / f"v{variant}", "--json", status=status).json["a"]["root"] is None


@pytest.mark.parametrize("variant", SAID)
def test_datasets_and_a_directory_beside_one(run: Run, folder: Path, tmp_path: Path, variant: str) -> None:
    status, line = SAID[variant]
    run("--repo", tmp_path, "import", folder / "v1", "--as", "first", "-q")
    run("--repo", tmp_path, "import", folder / f"v{variant}", "--as", "second", "-q")
    assert run("--repo", tmp_path, "diff", "first", "second", status=status).out.startswith(line)
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    said = run("--repo", tmp_path, "diff", "first", folder / f"v{variant}", status=status)
    assert said.out.startswith(line)
    said = run("--repo", tmp_path, "diff", folder / "v1", f"{tmp_path}#second", status=status)
    assert said.out.startswith(line)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before, "comparing writes nothing"


def test_the_shuffle_undone(run: Run, folder: Path, tmp_path: Path) -> None:
    """Two shuffles of one run: with their seeds the samples are equal in stored order, and the order is a value."""
    run("--repo", tmp_path, "import", folder / "v1", "--as", "first", "--shuffle-seed", "42", "-q")
    run("--repo", tmp_path, "import", folder / "v6", "--as", "second", "--shuffle-seed", "43", "-q")
    said = run("--repo", tmp_path, "diff", "first", "second", status=1)
    assert said.out.startswith("another order of the same 600 samples\n")
    run("--repo", tmp_path, "import", folder / "v1", "--as", "shuffled", "-q")
    said = run("--repo", tmp_path, "diff", "first", "shuffled", status=1)
    assert said.out.startswith("another order of the same 600 samples")


def test_kinds_of_change_in_json(run: Run, folder: Path) -> None:
    changes = run("diff", folder / "v1", folder / "v3", "--json", status=1).json["changes"]
    assert (changes["replaced"], changes["looked_at"], changes["other"]) == (1, 1, 0)
    (group,) = changes["groups"]
    assert group["samples"] == 1
    assert group["text"].startswith("3 tokens inserted, tokens 1, 2, 3, after tokens ")
    (example,) = group["examples"]
    assert example["edits"] == [["insert", 3, 3, 3, 6]]
    changes = run("diff", folder / "v1", folder / "v4", "--json", status=1).json["changes"]
    assert (changes["replaced"], changes["looked_at"]) == (500, 500)
    assert sum(group["samples"] for group in changes["groups"]) + changes["other"] == 500
    assert all(example["edits"] == [] and example["flips"] for g in changes["groups"] for example in g["examples"])


def test_the_place_of_a_large_shuffled_dataset_is_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("castore.olmo.layout.PLACED_SAMPLES_MAX", 10)
    first = run("diff", "base", "word", "--json", status=1).json["first"]
    assert (first["placed"], first["place_a"], first["place_b"]) == (False, None, None)
    assert "--place says where" in run("diff", "base", "word", status=1).out
    first = run("diff", "base", "word", "--json", "--place", status=1).json["first"]
    assert first["placed"]
    assert first["place_a"] == {"file": "token_ids_part_0000.npy", "offset": 9110}
