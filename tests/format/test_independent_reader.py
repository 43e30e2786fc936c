"""A repository on disk, read by a program that imports nothing of castore, gives back what was put in."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import castore
from castore.format.digest import Digest
from castore.format.files import encode_file
from castore.format.manifest import Manifest, SplitRule
from castore.format.object import Object
from castore.format.order import EXPLICIT, PCG64_PERMUTATION, Order, explicit_order
from castore.format.run import Run, RunConfiguration, RunOrigin, RunStatistics, SourceRecord
from castore.format.schema import DATA_ARRAYS, PROVENANCE_ARRAYS
from castore.store.backend import Backend
from castore.store.local import LocalBackend
from castore.store.marker import open_layout
from castore.store.objects import ObjectStore
from castore.store.refs import RefStore
from castore.tree.build import SequenceBuilder
from castore.tree.split import CHUNK_BYTES, FANOUT
from tests.support import bare_reader, reference
from tests.support.layouts import in_packs, loose, small_packs
from tests.support.strategies import Row, piece_of, random_rows

BIG_IDS: list[Row] = [((2**32 - 1, 65536, 7), ((0, 1), (2, 3))), ((), ()), ((131071,) * 40, ((39, 40),))]


class Written:
    """What a writer put into a repository."""

    def __init__(
        self,
        backend: Backend,
        rows: list[Row],
        chunk_bytes: int,
        fanout: int,
        order: Order | None = None,
        more: Sequence[Object] = (),
        name: str = "some/name",
    ) -> None:
        self.rows, self.split = rows, SplitRule("rank-4", chunk_bytes, fanout)
        open_layout(backend, create=True)
        self.objects: set[str] = set()
        self._store = ObjectStore(backend)
        roots = self._write(rows)
        manifest = Manifest(len(rows), {a.name: (a, roots[a.name]) for a in DATA_ARRAYS}, self.split, order).encode()
        file = encode_file(b"{}")
        provenance = {a.name: (a, roots[a.name]) for a in PROVENANCE_ARRAYS}
        run = Run(
            manifest.digest,
            len(rows),
            provenance,
            configuration=RunConfiguration(shuffle_seed=5),
            sources=[SourceRecord("ä.jsonl", amount="3.0", digest=file.digest), SourceRecord("other", samples=2)],
            statistics=RunStatistics(len(rows), 1 << 40, 7, {"empty": 2}, {"weight-ignored": {"a": 2}}),
            files={"a": file.digest},
            origin=RunOrigin("ada", "0.1", "here", "", 1),
        )
        self.root, self.run = manifest.digest, run.encode().digest
        for made in (*more, file, manifest, run.encode()):
            self._put(made)
        self._store.flush()
        refs = RefStore(backend)
        refs.update(name, Digest(bytes(32)), time_s=1, author="", message="before")
        refs.update(name, self.run, time_s=2, author="ada", message="é")

    def _write(self, rows: list[Row]) -> Any:
        builder = SequenceBuilder(
            (*DATA_ARRAYS, *PROVENANCE_ARRAYS), chunk_bytes=self.split.chunk_bytes, fanout=self.split.fanout
        )
        for lo in range(0, len(rows), 100):
            piece = piece_of(rows[lo : lo + 100])
            count = len(piece.lengths)
            raw_keys = np.full((count, 16), lo % 251, np.uint8)
            more = {"row": np.arange(lo, lo + count, dtype=np.uint64) * 2**33, "raw_key": raw_keys}
            piece.scalars = {"source": np.full(count, lo // 100, np.uint32), **more}
            for made in builder.add(piece):
                self._put(made)
        roots, rest = builder.finish()
        for made in rest:
            self._put(made)
        return roots

    def _put(self, made: Object) -> None:
        self._store.put_all([made])
        self.objects.add(made.digest.hex())


LAYOUTS: dict[str, Callable[[Backend], Backend]] = {"loose": loose, "packed": small_packs}

CASES: dict[str, tuple[list[Row], int, int, str | None]] = {
    "tall": (random_rows(1500, seed=91) + BIG_IDS, 512, 4, PCG64_PERMUTATION),
    "low": (random_rows(300, seed=92) + BIG_IDS, CHUNK_BYTES, FANOUT, EXPLICIT),
    "one": (BIG_IDS[:1], CHUNK_BYTES, FANOUT, PCG64_PERMUTATION),
    "empty": ([], CHUNK_BYTES, FANOUT, None),
}


def order_of(algorithm: str | None, count: int) -> tuple[Order | None, list[Object]]:
    """An order of ``count`` samples, and the objects that it needs."""
    if algorithm == EXPLICIT:
        return explicit_order(np.arange(count)[::-1])
    return (Order.shuffled(5, count, count // 2) if algorithm else None), []


def printed(folder: Path, name: str) -> dict[str, Any]:
    """What the bare reader finds under a name."""
    command = [sys.executable, "-I", bare_reader.__file__, str(folder), name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module", params=[(case, layout) for case in CASES for layout in LAYOUTS], ids="-".join)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Written, dict[str, Any]]:
    """What was written, and what the bare reader printed."""
    case, layout = request.param
    rows, chunk_bytes, fanout, algorithm = CASES[case]
    folder = tmp_path_factory.mktemp("repository")
    backend = LAYOUTS[layout](LocalBackend(str(folder)))
    written = Written(backend, rows, chunk_bytes, fanout, *order_of(algorithm, len(rows)))
    assert any((folder / "packs").glob("*")) == (layout == "packed")
    return written, printed(folder, "some/name")


def test_the_reader_knows_nothing_of_castore(both: tuple[Written, dict[str, Any]]) -> None:
    assert both[1]["castore"] == []


def test_samples(both: tuple[Written, dict[str, Any]]) -> None:
    written, found = both
    assert found["token_ids"] == [list(ids) for ids, _ in written.rows]
    assert found["spans"] == [[list(span) for span in spans] for _, spans in written.rows]
    assert found["length"] == [len(ids) for ids, _ in written.rows]
    assert found["key"] == [reference.sample_key(ids).hex() for ids, _ in written.rows]


def test_where_samples_came_from(both: tuple[Written, dict[str, Any]]) -> None:
    written, found = both
    places = range(len(written.rows))
    assert found["source"] == [i // 100 for i in places]
    assert found["row"] == [i * 2**33 for i in places]
    assert found["raw_key"] == [bytes([i // 100 * 100 % 251] * 16).hex() for i in places]


def test_documents(both: tuple[Written, dict[str, Any]]) -> None:
    written, found = both
    assert (found["root"], found["run"]) == (written.root.hex(), written.run.hex())
    assert found["split"] == written.split.value()
    assert found["files"] == {"a": b"{}".hex()}
    counts: dict[str, Any] = {"samples": len(written.rows), "tokens": 1 << 40, "trainable": 7, "dropped": {"empty": 2}}
    counts["lost"] = {"weight-ignored": {"a": 2}}
    assert found["statistics"] == counts
    assert found["configuration"]["shuffle_seed"] == 5
    assert found["origin"] == {"author": "ada", "castore": "0.1", "host": "here", "message": "", "time": 1}
    assert [(source["name"], source["amount"], source["samples"]) for source in found["sources"]] == [
        ("ä.jsonl", "3.0", None),
        ("other", None, 2),
    ]
    count = len(written.rows)
    if found["order"] and found["order"]["algorithm"] == EXPLICIT:
        assert found["order"]["stored"] == list(range(count))[::-1]
    elif found["order"]:
        assert found["order"] == {"algorithm": PCG64_PERMUTATION, "seed": 5, "take": count // 2, "stored": None}


def test_every_object_is_reachable_from_the_ref(both: tuple[Written, dict[str, Any]]) -> None:
    written, found = both
    assert set(found["objects"]) == written.objects


def test_the_root_can_be_found_from_the_samples_alone(both: tuple[Written, dict[str, Any]]) -> None:
    """The cuts, computed from the printed tokens by the slow reference, are those of the stored chunks."""
    written, found = both
    if found["token_ids"]:
        keys = [bytes.fromhex(key) for key in found["key"]]
        skeleton = reference.skeleton(keys, found["length"], written.split.chunk_bytes, written.split.fanout)
        assert sum(skeleton.levels[0]) == len(keys)


def test_more_arrays_are_read_too(tmp_path: Path) -> None:
    repository = castore.open(str(tmp_path / "repo"), create=True)
    rows = random_rows(500, 6)
    weights = np.arange(sum(len(ids) for ids, _ in rows), dtype=np.float32) / 3
    at = 0
    with repository.writer("x", arrays={"weight": "float32", "rank": ("int64", "sample")}) as writer:
        for i, (ids, _) in enumerate(rows):
            writer.append(ids, weight=weights[at : at + len(ids)], rank=i)
            at += len(ids)
    found = bare_reader.read(tmp_path / "repo", "x")
    assert found["extra"]["rank"] == list(range(500))
    assert bytes.fromhex("".join(found["extra"]["weight"])) == weights.astype("<f4").tobytes()
    assert found["root"] == repository["x"].root.hex()


def test_objects_that_are_stored_on_others(tmp_path: Path) -> None:
    """Two datasets of which one was made from the other by a few edits: in packs, and mostly by what differs."""
    rows = random_rows(1500, seed=93)
    edited = list(rows)
    for at in range(100, 1500, 200):
        edited[at] = ((*edited[at][0], 5), edited[at][1])
    backend = in_packs(LocalBackend(str(tmp_path)), 1 << 16)
    first = Written(backend, rows, 8192, 8, name="first")
    second = Written(backend, edited, 8192, 8, name="second")
    for name, written in (("first", first), ("second", second)):
        found = printed(tmp_path, name)
        assert found["token_ids"] == [list(ids) for ids, _ in written.rows]
        assert found["spans"] == [[list(span) for span in spans] for _, spans in written.rows]
        assert set(found["objects"]) == written.objects
        if written is second:
            assert len(found["bases"]) > 10
            assert {*found["bases"]} <= first.objects | second.objects
    deltas = [path for path in (tmp_path / "packs").iterdir() if any(entry[0] == 4 for entry in frames_in(path))]
    assert deltas
    assert len([*(tmp_path / "packs").iterdir()]) > len(deltas) > 0


def frames_in(pack: Path) -> list[bytes]:
    return [value for kind, _, _, value, _ in bare_reader.entries_of(pack.read_bytes()) if kind == 0]


def test_a_copy_that_is_right_is_read_where_another_is_damaged(tmp_path: Path) -> None:
    rows = random_rows(200, seed=94)
    written = Written(in_packs(LocalBackend(str(tmp_path))), rows, 1024, 8)
    Written(loose(LocalBackend(str(tmp_path / "other"))), rows, 1024, 8)
    (tmp_path / "other" / "objects").rename(tmp_path / "objects")
    (pack,) = (tmp_path / "packs").iterdir()
    data = bytearray(pack.read_bytes())
    _, _, offset, _, _ = next(bare_reader.entries_of(data))
    data[offset + 5] ^= 1
    data[-1] ^= 1
    pack.write_bytes(data)
    assert set(printed(tmp_path, "some/name")["objects"]) == written.objects
