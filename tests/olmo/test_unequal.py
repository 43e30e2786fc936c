"""Files and directories compared byte by byte: what is told differs, and nothing else does."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from castore.errors import SourceError
from castore.olmo import part_file
from castore.olmo.equal import agreement
from castore.olmo.folder import OlmoCoreFolder
from castore.olmo.part_file import PartFile, unequal_blocks
from castore.olmo.parts import IDS, LABELS
from castore.olmo.unequal import unequal_elements
from tests.support.olmo_core import documents, set_byte, write_bounds, write_folder


@pytest.mark.parametrize("seed", range(8))
def test_blocks_that_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(part_file, "WINDOW_BYTES", 1 << 12)
    monkeypatch.setattr(part_file, "BLOCK_BYTES", 1 << 8)
    rng = np.random.default_rng(seed)
    a_lo, b_lo, size = (int(n) for n in rng.integers(0, 9000, 3))
    data = rng.bytes(size)
    places = sorted({int(n) for n in rng.integers(0, size, 3)})
    changed = bytearray(data)
    for place in places:
        changed[place] ^= 1
    (tmp_path / "a").write_bytes(rng.bytes(a_lo) + data)
    (tmp_path / "b").write_bytes(rng.bytes(b_lo) + changed + b"more")
    a, b = PartFile(str(tmp_path / "a")), PartFile(str(tmp_path / "b"))
    found = list(unequal_blocks(a, b, a_lo, b_lo, size))
    assert found == sorted(set(found))
    assert all(any(lo <= place < lo + count for place in places) for lo, count in found)
    assert all(any(lo <= place < lo + count for lo, count in found) for place in places)
    os.truncate(tmp_path / "b", b_lo + size - 1)
    with pytest.raises(SourceError, match="became shorter"):
        list(unequal_blocks(a, b, a_lo, b_lo, size))
    a.close()
    b.close()


@pytest.mark.parametrize("dtypes", [("<u4", "<u4"), ("<u2", "<u4"), ("<u1", "<u2")])
def test_elements_that_differ(tmp_path: Path, dtypes: tuple[str, str]) -> None:
    """In parts of other sizes, in ids of other widths, at other places."""
    made = documents(200, 1)
    ids = [token for tokens, _ in made for token in tokens]
    lead = [([7] * 13, [1] * 13)]
    a = OlmoCoreFolder(str(write_folder(tmp_path / "a", made, part_items=700, dtype=dtypes[0])))
    other = [list(tokens) for tokens, _ in made]
    other[150][0] = 251
    changed = [(tokens, labels) for tokens, (_, labels) in zip(other, made, strict=True)]
    b = OlmoCoreFolder(str(write_folder(tmp_path / "b", lead + changed, part_items=900, dtype=dtypes[1])))
    at = int(a.starts[150])
    assert np.concatenate(list(unequal_elements(a, b, IDS, 0, 13, len(ids)))).tolist() == [at]
    assert list(unequal_elements(a, b, LABELS, 0, 13, len(ids))) == []
    assert np.concatenate(list(unequal_elements(a, b, IDS, at - 5, at + 8, 6))).tolist() == [5]


@pytest.mark.parametrize("part_items", [1 << 28, 300])
def test_equal_directories_are_counted(tmp_path: Path, part_items: int) -> None:
    made = documents(200, 1)
    folders = [write_folder(tmp_path / name, made, part_items=part_items) for name in "ab"]
    bounds = folders[1] / "token_ids_part_0000.csv.gz"
    bounds.write_bytes(gzip.compress(gzip.decompress(bounds.read_bytes()), mtime=77))  # another time in the header
    tokens = sum(len(ids) for ids, _ in made)
    found = agreement(*map(str, folders))
    assert found is not None
    assert found[:5] == (4, tokens, tokens, tokens, 200)


@pytest.mark.parametrize("part_items", [1 << 28, 300])
def test_the_front_that_is_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part_items: int) -> None:
    monkeypatch.setattr(part_file, "BLOCK_BYTES", 64)
    made = documents(200, 1)
    tokens = sum(len(ids) for ids, _ in made)
    a, b = (write_folder(tmp_path / name, made, part_items=part_items) for name in "ab")
    last = f"token_ids_part_{(tokens - 1) // part_items:04d}.npy"
    size = (b / last).stat().st_size
    set_byte(b / last, size - 40, 255)
    found = agreement(str(a), str(b))
    assert found is not None
    assert tokens - 10 - 16 <= found.ids <= tokens - 10
    assert (found.labels, found.samples) == (tokens, None)


def test_what_is_not_in_order_is_not_called_equal(tmp_path: Path) -> None:
    """Nor is it said here what is wrong: that is for those who open the directory."""
    made = documents(50, 1)
    tokens = sum(len(ids) for ids, _ in made)
    for name, text in (("gap", b"0,3\n4,%d\n" % tokens), ("word", b"0,x\n"), ("short", b"0,3\n")):
        folders = [write_folder(tmp_path / f"{name}{side}", made) for side in "ab"]
        for folder in folders:
            write_bounds(folder, 0, text)
        found = agreement(*map(str, folders))
        assert found is None or found.samples is None
    bare = [write_folder(tmp_path / f"bare{side}", made, statistics=False) for side in "ab"]
    assert agreement(*map(str, bare)) is None
    wide = write_folder(tmp_path / "wide", made, dtype="<u8")
    assert agreement(str(wide), str(folders[0])) is None
    (wide / "labels_mask_part_0000.npy").unlink()
    with pytest.raises(SourceError, match="is missing"):
        agreement(str(wide), str(wide))
