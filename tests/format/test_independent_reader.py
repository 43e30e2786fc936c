"""A repository on disk, read by a program that imports nothing of castore, gives back what was put in."""

from __future__ import annotations

import json
import subprocess
import sys
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
from castore.store.local import LocalBackend
from castore.store.marker import open_layout
from castore.store.objects import ObjectStore
from castore.store.refs import RefStore
from castore.tree.build import SequenceBuilder
from castore.tree.split import CHUNK_BYTES, FANOUT
from tests.support import bare_reader, reference
from tests.support.strategies import Row, piece_of, random_rows

BIG_IDS: list[Row] = [((2**32 - 1, 65536, 7), ((0, 1), (2, 3))), ((), ()), ((131071,) * 40, ((39, 40),))]


class Written:
    """What a writer put into a repository."""

    def __init__(
        self, folder: Path, rows: list[Row], chunk_bytes: int, fanout: int, order: Order | None, more: list[Object]
    ) -> None:
        self.rows, self.split = rows, SplitRule("rank-4", chunk_bytes, fanout)
        backend = LocalBackend(str(folder))
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
        refs.update("some/name", Digest(bytes(32)), time_s=1, author="", message="before")
        refs.update("some/name", self.run, time_s=2, author="ada", message="é")

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
        self._store.put(made.digest, made.data, u32_tail=made.u32_tail)
        self.objects.add(made.digest.hex())


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


@pytest.fixture(scope="module", params=CASES)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Written, dict[str, Any]]:
    """What was written, and what the bare reader printed."""
    rows, chunk_bytes, fanout, algorithm = CASES[request.param]
    folder = tmp_path_factory.mktemp("repository")
    written = Written(folder, rows, chunk_bytes, fanout, *order_of(algorithm, len(rows)))
    command = [sys.executable, "-I", bare_reader.__file__, str(folder), "some/name"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return written, json.loads(done.stdout)


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
