"""The golden repository: made alike by this code, and read alike by castore, the bare reader and the walk-through."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path
from typing import Any

import pytest

import castore
from castore.care.fsck import check
from castore.store.local import LocalBackend
from tests.format.test_vectors import load
from tests.support import bare_reader, pcg64
from tests.vectors import generate, golden

PAGE = Path(__file__).parents[2] / "docs" / "format" / "walk-through.md"
BLOCKS = re.findall(r"^```\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def extracted(name: str, folder: Path) -> Path:
    with tarfile.open(generate.FOLDER / name) as tar:
        tar.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return extracted("golden.tar", tmp_path_factory.mktemp("golden"))


@pytest.fixture(scope="module")
def packed_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return extracted("golden-packed.tar", tmp_path_factory.mktemp("golden-packed"))


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    return dict(load("golden"))


def test_the_archives_are_those_which_the_code_makes() -> None:
    assert (generate.FOLDER / "golden.tar").read_bytes() == golden.archive(golden.content())
    assert (generate.FOLDER / "golden-packed.tar").read_bytes() == golden.archive(golden.packed_content())


@pytest.mark.parametrize("layout", ["folder", "packed_folder"])
def test_castore_reads_it(layout: str, told: dict[str, Any], request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(layout)
    data = castore.open(str(folder))[told["name"]]
    assert [sample.token_ids.tolist() for sample in data.reader.samples(0, 3)] == told["token_ids"]
    assert data.reader.spans("labels_mask", 0, 3).by_sample() == [[tuple(s) for s in row] for row in told["spans"]]
    assert [sample.source for sample in data.reader.samples(0, 3)] == told["source"]
    assert check(LocalBackend(str(folder))).findings.listed == []


def test_the_bare_reader_reads_it(folder: Path, told: dict[str, Any]) -> None:
    found = bare_reader.read(folder, told["name"])
    assert {name: found[name] for name in ("run", "token_ids", "spans", "source")} == {
        name: told[name] for name in ("run", "token_ids", "spans", "source")
    }
    assert pcg64.permutation(found["order"]["seed"], 3)[: found["order"]["take"]] == told["order"]
    stored = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert sorted(stored) == told["keys"]
    assert {f"objects/{digest[:2]}/{digest}" for digest in found["objects"]} == {
        key for key in stored if key.startswith("objects/")
    }


def test_the_bare_reader_reads_the_same_from_a_pack(folder: Path, packed_folder: Path, told: dict[str, Any]) -> None:
    found = bare_reader.read(packed_folder, told["name"])
    assert len(found.pop("bases")) == 1
    loose = bare_reader.read(folder, told["name"])
    assert loose.pop("bases") == []
    assert found == loose
    stored = [path.relative_to(packed_folder).as_posix() for path in packed_folder.rglob("*") if path.is_file()]
    assert sorted(stored) == told["packed_keys"]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.partition("\n")[0][:20])
def test_the_walk_through_has_the_bytes_that_are_there(folder: Path, block: str) -> None:
    key, *lines = block.splitlines()
    value = (folder / key).read_bytes()
    said = ""
    for line in lines:
        if line.strip() == "…":
            assert value.hex().startswith(said)
            assert len(said) < 2 * len(value)
            return
        said += line.partition("#")[0].replace(" ", "")
    assert said == value.hex()


def test_the_walk_through_goes_from_a_name_to_tokens() -> None:
    assert len(BLOCKS) == 8
    assert set(re.findall(r"^(?:objects|refs)/\S+|^format$", "\n".join(BLOCKS), re.MULTILINE)) <= set(golden.content())
