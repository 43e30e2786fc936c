"""Repositories that somebody harmed on purpose, and places that fail at the wrong moment."""

from __future__ import annotations

import random
import resource
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from castore.care.fsck import check
from castore.care.gc import Policy, collect
from castore.care.usage import usage
from castore.errors import BackendError, CastoreError, CorruptionError, FormatError
from castore.format.chunk import encode_values
from castore.format.codec import decode, encode
from castore.format.digest import Digest, digest_of
from castore.format.manifest import Manifest, Root
from castore.format.node import Entry, decode_node, encode_node
from castore.format.object import Object
from castore.format.order import PCG64_PERMUTATION
from castore.format.samples import SpanColumn
from castore.format.schema import ITEM_BYTES, LABELS_MASK, LENGTH, SOURCE, TOKEN_IDS, Array
from castore.repository import Repository
from castore.store.backend import Backend, MemoryBackend
from castore.store.local import LocalBackend
from castore.store.object_keys import object_key
from castore.store.objects import ObjectStore
from castore.store.refs import RefEntry
from castore.tree.walk import Tree, leaves
from tests.care.test_copy import opened
from tests.care.test_fsck import healthy, names_of  # noqa: F401 - a fixture
from tests.cli.conftest import Run, run  # noqa: F401 - a fixture
from tests.support.faults import FaultyBackend
from tests.support.layouts import LAYOUTS, Layout, filled, objects_of
from tests.support.sweep import sweep


@pytest.fixture
def repo(healthy: dict[str, bytes], tmp_path: Path) -> Path:  # noqa: F811
    """The healthy repository on a disk, one for each test."""
    backend = LocalBackend(str(tmp_path / "repo"))
    for key, value in healthy.items():
        backend.put(key, value)
    backend.flush()
    return tmp_path / "repo"


def commands(folder: Path, name: str) -> list[tuple[str | Path, ...]]:
    """Everything that reads a dataset, most of it whole."""
    shutil.rmtree(folder, ignore_errors=True)
    return [
        ("show", name),
        ("cat", name, "--sample", "0"),
        ("diff", name, "golden/one"),
        ("diff", "golden/one", name, "--decode"),
        ("export", name, folder / "out", "-q"),
        ("copy", name, f"{folder / 'copy'}#copied", "--create", "-q"),
        ("du", name),
    ]


BAD_NAMES = [
    "..",
    "../x",
    "a/../b",
    "/etc/passwd",
    "a//b",
    "a\nb",
    "a\x1b[31m",
    "a\x00b",
    ".hidden",
    "a/.b",
    "-x",
    "a" * 300,
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names(run: Run, repo: Path, tmp_path: Path, name: str) -> None:  # noqa: F811
    before = sorted(path for path in tmp_path.rglob("*"))
    for arguments in (
        ("tag", "two", "--", name),
        ("copy", "two", f"{tmp_path / 'elsewhere'}#{name}", "--create"),
        ("rm", "--", name),
        ("du", "--", name),
    ):
        said = run(*arguments, status=2)
        assert len(said.err.splitlines()) == 1
        assert said.err.isprintable() or said.err.strip("\n").isprintable()
    after = [path for path in tmp_path.rglob("*") if "elsewhere" not in path.parts]
    assert sorted(after) == before


def put(repo: Path, *objects: tuple[Digest, bytes]) -> ObjectStore:
    store = ObjectStore(LocalBackend(str(repo)))
    for digest, data in objects:
        store.put(digest, data)
    store.flush()
    return store


def name_it(repo: Path, target: Digest) -> None:
    backend = LocalBackend(str(repo))
    Repository(backend).refs.update("evil", target, time_s=1, author="mallory", message="")


def manifest_of(repo: Path) -> tuple[Manifest, ObjectStore]:
    repository = Repository(LocalBackend(str(repo)))
    return repository.dataset("two").manifest, repository.objects


def claiming(manifest: Manifest, samples: int) -> dict[str, Any]:
    """The value of a manifest that claims so many samples, all in the first entry of every array."""
    value = decode(manifest.encode().data)
    assert isinstance(value, dict)
    value["samples"] = samples
    for array in value["arrays"].values():  # type: ignore[union-attr]
        counts = array["samples"]
        array["samples"] = [samples - sum(counts[1:]), *counts[1:]]
        if array["axis"] == "sample":
            array["items"] = array["samples"]
    return value


def all_refuse(run: Run, folder: Path, *, seconds: float = 60) -> None:  # noqa: F811
    """Every reading command says one line, soon, and writes nothing that could be taken for data."""
    for arguments in commands(folder, "evil"):
        before = resource.getrusage(resource.RUSAGE_SELF)
        said = run(*arguments, status=None)
        after = resource.getrusage(resource.RUSAGE_SELF)
        assert "Traceback" not in said.err
        assert after.ru_utime - before.ru_utime < seconds
        assert (after.ru_maxrss - before.ru_maxrss) < 400 * 1024, f"{arguments} takes memory for what is claimed"
        if arguments[0] in ("cat", "export", "copy"):
            assert said.status == 2, said
            assert len(said.err.splitlines()) == 1
    assert not (folder / "out").exists() or not list((folder / "out").glob("*.npy"))


def test_a_claim_of_many_samples(run: Run, repo: Path, tmp_path: Path) -> None:  # noqa: F811
    manifest, store = manifest_of(repo)
    for claim in (1 << 60, 1 << 31):
        data = encode({**claiming(manifest, claim), "order": None})
        put(repo, (digest_of(data), data))
        name_it(repo, digest_of(data))
        all_refuse(run, tmp_path / "folder")
        found = names_of(check(LocalBackend(str(repo))))
        assert found & {"wrong-counts", "object-malformed"}
    assert store.reads


def test_a_shuffle_of_many_samples_that_are_not_there(repo: Path) -> None:
    """The permutation would take 32 GB; all else is checked."""
    manifest, _ = manifest_of(repo)
    claim = 1 << 32
    seeded = {"algorithm": PCG64_PERMUTATION, "chunks": b"", "count": claim, "digest": bytes(32), "seed": 1, "take": 5}
    data = encode({**claiming(manifest, claim), "order": seeded})
    put(repo, (digest_of(data), data))
    name_it(repo, digest_of(data))
    assert names_of(check(LocalBackend(str(repo)))) == {"wrong-counts"}


def test_a_bomb(run: Run, repo: Path, tmp_path: Path) -> None:  # noqa: F811
    manifest, _ = manifest_of(repo)
    victim = manifest.arrays["token_ids"][1].entries[0].digest
    zeros = zstandard.ZstdCompressor(level=3)
    for size in (1 << 30, 200 << 20):
        chunks = zeros.chunker(size=size)
        frame = (
            b"\x01"
            + b"".join(piece for _ in range(size >> 20) for piece in chunks.compress(bytes(1 << 20)))
            + b"".join(chunks.finish())
        )
        assert len(frame) < 200_000
        (repo / object_key(victim)).write_bytes(frame)
        name_it(repo, Repository(LocalBackend(str(repo))).resolve("two"))
        all_refuse(run, tmp_path / "folder")
        assert names_of(check(LocalBackend(str(repo)))) == {"object-damaged"}


def test_wrong_levels(run: Run, repo: Path, tmp_path: Path) -> None:  # noqa: F811
    """A node in the place of its child, a chunk in the place of a node, and the other way round."""
    manifest, store = manifest_of(repo)
    array, root = manifest.arrays["token_ids"]
    top = root.entries[0]
    node = decode_node(store.get(top.digest), root.level)
    totals = sum(entry.samples for entry in node), sum(entry.items for entry in node)
    same_level = encode_node(root.level, [Entry(top.digest, *totals)])
    fake_chunk = encode_values("uint32", totals[0], bytes(4 * totals[1]))
    no_chunk = encode_node(1, [Entry(top.digest, *totals)])
    for replacement in (same_level, fake_chunk, no_chunk):
        entries = (Entry(replacement.digest, *totals), *root.entries[1:])
        arrays = {**manifest.arrays, "token_ids": (array, type(root)(root.level, entries))}
        evil = Manifest(manifest.samples, arrays, manifest.split, None).encode()
        put(repo, (replacement.digest, replacement.data), (evil.digest, evil.data))
        name_it(repo, evil.digest)
        all_refuse(run, tmp_path / "folder")
        assert names_of(check(LocalBackend(str(repo)))) & {"node-wrong-level", "wrong-boundaries", "wrong-kind"}


def test_other_boundaries_and_counts(repo: Path) -> None:
    manifest, store = manifest_of(repo)
    array, root = manifest.arrays["token_ids"]
    first, second = root.entries[:2]
    nodes = [decode_node(store.get(entry.digest), root.level) for entry in (first, second)]
    moved = nodes[0] + nodes[1][:1], nodes[1][1:]
    made = [encode_node(root.level, part) for part in moved if part]
    entries = [
        Entry(o.digest, sum(e.samples for e in part), sum(e.items for e in part))
        for o, part in zip(made, moved, strict=False)
    ]
    shifted = Manifest(
        manifest.samples,
        {**manifest.arrays, "token_ids": (array, type(root)(root.level, (*entries, *root.entries[2:])))},
        manifest.split,
        manifest.order,
    ).encode()
    put(repo, *((o.digest, o.data) for o in (*made, shifted)))
    name_it(repo, shifted.digest)
    assert "wrong-boundaries" in names_of(check(LocalBackend(str(repo))))
    miscounted = (Entry(first.digest, first.samples, first.items + 1), *root.entries[1:])
    labels, labels_root = manifest.arrays["labels_mask"]
    one_more = labels_root.entries[0]._replace(items=labels_root.entries[0].items + 1)
    wrong = Manifest(
        manifest.samples,
        {
            **manifest.arrays,
            "token_ids": (array, type(root)(root.level, miscounted)),
            "labels_mask": (labels, type(root)(labels_root.level, (one_more, *labels_root.entries[1:]))),
        },
        manifest.split,
        None,
    ).encode()
    put(repo, (wrong.digest, wrong.data))
    name_it(repo, wrong.digest)
    assert "wrong-counts" in names_of(check(LocalBackend(str(repo))))


def with_array(repo: Path, array: Array, objects: Iterable[Object], entries: Iterable[Entry]) -> Digest:
    """A manifest in which an array is another one; its objects and it are stored and named."""
    manifest, _ = manifest_of(repo)
    arrays = {**manifest.arrays, array.name: (array, Root(array.grain, tuple(entries)))}
    evil = Manifest(manifest.samples, arrays, manifest.split, manifest.order).encode()
    put(repo, *((item.digest, item.data) for item in (*objects, evil)))
    name_it(repo, evil.digest)
    return evil.digest


def none_breaks(run: Run, repo: Path, folder: Path, says: str) -> None:  # noqa: F811
    """Whatever reads these samples refuses in one line; what does not read them may not notice."""
    data = Repository(LocalBackend(str(repo)))["evil"]
    reads: list[Callable[[], object]] = [
        lambda: list(data),
        lambda: data.read(),
        lambda: data.pack(64),
        lambda: {name: array[:] for name, array in data.arrays.items()},
    ]
    outcomes = []
    for read in reads:
        try:
            read()
        except CastoreError as error:
            outcomes.append(str(error))
    for arguments in (
        *commands(folder, "evil"),
        ("stats", "evil"),
        *(("export", "evil", folder / layout, "--layout", layout, "-q") for layout in ("megatron", "mds")),
        ("check", "evil", "--trainer", "olmo-core", "--sequence-length", "64", "--eos", "3", "-q"),
    ):
        said = run(*arguments, status=None)
        assert "Traceback" not in said.err, said.err
        if said.status == 2:
            outcomes.append(said.err)
        if arguments[0] in ("export", "check"):
            assert said.status == 2, arguments
    assert any(says in outcome for outcome in outcomes), outcomes
    check(LocalBackend(str(repo)))


@pytest.mark.parametrize("dtype", ["uint8", "uint64", "bytes16"])
@pytest.mark.parametrize("known", [TOKEN_IDS, LENGTH, SOURCE], ids=lambda array: array.name)
def test_an_array_of_another_type(
    run: Run,  # noqa: F811
    repo: Path,
    tmp_path: Path,
    known: Array,
    dtype: str,
) -> None:
    manifest, _ = manifest_of(repo)
    items = manifest.arrays[known.name][1].items
    chunk = encode_values(dtype, manifest.samples, bytes(ITEM_BYTES[dtype] * items))
    array = Array(known.name, dtype, known.axis, known.grain)
    with_array(repo, array, [chunk], [Entry(chunk.digest, manifest.samples, items)])
    says = f"array {known.name} is {dtype}, one a {known.axis}"
    with pytest.raises(FormatError, match=says):
        list(Repository(LocalBackend(str(repo)))["evil"])
    for command in (("show", "evil"), ("export", "evil", str(tmp_path / "folder")), ("cat", "evil", "--sample", "0")):
        assert says in run(*command, status=2).err
    assert "object-malformed" in names_of(check(LocalBackend(str(repo))))


@pytest.mark.parametrize("change", ["rolled", "longer", "endless"])
def test_lengths_of_other_samples(run: Run, repo: Path, tmp_path: Path, change: str) -> None:  # noqa: F811
    lengths = Repository(LocalBackend(str(repo)))["two"].reader.lengths()
    changed = {"rolled": np.roll(lengths, 1), "longer": lengths + 1, "endless": np.full_like(lengths, 2**32 - 1)}
    count = len(lengths)
    chunk = encode_values("uint32", count, changed[change].astype("<u4").tobytes())
    with_array(repo, LENGTH, [chunk], [Entry(chunk.digest, count, count)])
    none_breaks(run, repo, tmp_path / "folder", "do not add up to their tokens")


def test_labels_of_other_samples(run: Run, repo: Path, tmp_path: Path) -> None:  # noqa: F811
    """One chunk for all, and spans that end far behind the samples, in the chunks of the tokens."""
    manifest, store = manifest_of(repo)
    count, tokens = manifest.samples, manifest.tokens
    far = np.full(count, 1 << 31, np.uint32)
    spans = SpanColumn(np.ones(count, np.uint32), np.zeros(count, np.uint32), far)
    one = spans.encode()
    with_array(repo, LABELS_MASK, [one], [Entry(one.digest, count, tokens)])
    none_breaks(run, repo, tmp_path / "folder", "are not cut as those of token_ids")
    array, root = manifest.arrays["labels_mask"]
    places = list(leaves(store.get, Tree(array, root)))
    assert 1 < len(places) < 4096
    pieces = [spans.slice(leaf.start, leaf.stop).encode() for leaf in places]
    with_array(
        repo,
        LABELS_MASK,
        pieces,
        [Entry(piece.digest, *leaf.entry[1:]) for piece, leaf in zip(pieces, places, strict=True)],
    )
    none_breaks(run, repo, tmp_path / "folder", "reach")
    assert "reach over its end" in run("diff", "evil", "two", status=2).err


def test_counts_that_no_array_holds(run: Run, repo: Path, tmp_path: Path) -> None:  # noqa: F811
    """Each is possible, and their sum is over 2**63."""
    manifest, _ = manifest_of(repo)
    _, root = manifest.arrays["token_ids"]
    node = encode_node(1, [Entry(root.entries[0].digest, 1, (1 << 63) - 1)] * 3)
    put(repo, (node.digest, node.data))
    assert names_of(check(LocalBackend(str(repo)))) == {"object-malformed"}
    with_array(repo, TOKEN_IDS, [], [Entry(root.entries[0].digest, manifest.samples, (1 << 63) - 1)])
    none_breaks(run, repo, tmp_path / "folder", "elements")


@pytest.mark.slow
def test_a_flipped_bit_reaches_nobody(run: Run, repo: Path, tmp_path: Path) -> None:  # noqa: F811
    """Every object of a dataset in turn: a command that touches it refuses, one that does not says what it said."""
    name_it(repo, Repository(LocalBackend(str(repo))).resolve("two"))
    whole = tmp_path / "healthy"
    good = {}
    for arguments in commands(whole, "evil"):
        said = run(*arguments, status=None)
        good[arguments[0], arguments[-1]] = said.out
    exported = {path.name: path.read_bytes() for path in (whole / "out").glob("*.npy")}
    draw = random.Random(5)
    reached = [*Repository.open(str(whole / "copy")).backend.list("objects")]
    refused = dict.fromkeys(("show", "cat", "diff", "export", "copy", "du"), 0)
    for key in draw.sample(reached, 25):
        victim = repo / key
        data = victim.read_bytes()
        at = draw.randrange(1, len(data) - 8)
        victim.write_bytes(data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :])
        try:
            ObjectStore(LocalBackend(str(repo))).get(Digest(bytes.fromhex(victim.name)))
        except CorruptionError:
            for arguments in commands(whole, "evil"):
                said = run(*arguments, status=None)
                if said.status == 2:
                    refused[str(arguments[0])] += 1
                    assert "damaged" in said.err
                else:
                    assert said.out == good[arguments[0], arguments[-1]]
            for npy in (whole / "out").glob("*.npy"):
                assert npy.read_bytes() == exported[npy.name]
            assert run("fsck", "-q", status=1).out.count("object-damaged") >= 1
        victim.write_bytes(data)
    assert refused["copy"] >= 20
    assert refused["export"] >= 10
    assert refused["diff"]
    assert refused["cat"]


def test_a_log_with_a_gap(run: Run, repo: Path) -> None:  # noqa: F811
    (repo / f"refs/two/{0:020d}").unlink()
    assert "no entry 0" in run("log", "two", status=2).err
    assert run("show", "two").out, "the newest entry counts"
    assert "ref-gap" in run("fsck", "-q", status=1).out
    assert "nothing was removed" in run("gc", "-q", status=2).err


def test_times_in_a_log_that_go_backwards(run: Run, repo: Path) -> None:  # noqa: F811
    repository = Repository(LocalBackend(str(repo)))
    target = repository.resolve("two")
    for time_s in (2_000_000_000, 5, 0):
        repository.refs.update("odd", target, time_s=time_s, author="a", message="")
    assert len(run("log", "odd").out.splitlines()) == 3
    assert run("fsck", "-q").status == 0
    before = objects_of(LocalBackend(str(repo)))
    run("gc", "-q")
    assert objects_of(LocalBackend(str(repo))) == before


def test_two_formats_in_one_folder(run: Run, repo: Path, tmp_path: Path) -> None:  # noqa: F811
    (repo / "config").write_text("[repository]\nversion = 1\n")
    (repo / "data").mkdir()
    (repo / "data/0").write_bytes(b"BORG")
    out = run("fsck", "-q", status=1).out
    assert out.count("unknown-file") == 2
    run("gc", "--grace", "0s", "--force", "-q")
    assert (repo / "data/0").read_bytes() == b"BORG", "what is not ours is not touched"
    (repo / "format").write_text("castore repository, format 2\n")
    for arguments in (("ls",), ("gc",), ("du",), ("copy", "two", str(tmp_path / "x"), "--create")):
        assert "newer castore" in run(*arguments, status=2).err
    foreign = tmp_path / "foreign"
    shutil.copytree(repo / "data", foreign)
    assert (
        "neither empty nor a castore repository"
        in run("--repo", repo, "copy", f"{tmp_path / 'good'}#two", foreign, status=2).err
        or not (tmp_path / "good").exists()
    )


def test_an_object_of_a_newer_format(healthy: dict[str, bytes]) -> None:  # noqa: F811
    backend = filled(healthy)
    data = encode({"kind": "castore/manifest", "format": 2, "future": True})
    ObjectStore(backend).put_bytes(data)
    backend.flush()
    assert names_of(check(backend)) == {"object-newer"}


def test_objects_that_are_whole_and_wrong(healthy: dict[str, bytes]) -> None:  # noqa: F811
    for data in (b"", b"\xc1", encode("text"), encode(["castore/node", 1, b"", [], []]), encode(["castore/what", 1])):
        backend = filled(healthy)
        ObjectStore(backend).put_bytes(data)
        backend.flush()
        assert names_of(check(backend)) == {"object-malformed"}


def test_a_name_for_a_chunk(run: Run, repo: Path, tmp_path: Path) -> None:  # noqa: F811
    manifest, _ = manifest_of(repo)
    name_it(repo, manifest.arrays["length"][1].entries[0].digest)
    assert "ref-wrong-target" in run("fsck", "-q", status=1).out
    for arguments in (("show", "evil"), ("copy", "evil", tmp_path / "x", "--create"), ("diff", "evil", "two")):
        assert len(run(*arguments, status=2).err.splitlines()) == 1


@LAYOUTS
def test_a_fault_at_every_write_of_a_repair(healthy: dict[str, bytes], layout: Layout) -> None:  # noqa: F811
    """It stops with the reason, harms nothing, and succeeds when it is started again."""
    broken = {key: value for key, value in healthy.items() if not key.endswith(("1", "2"))}
    rest = objects_of(filled(broken, layout))

    def repaired(backend: Backend) -> set[str]:
        assert check(backend, source=filled(healthy)).findings.clean
        return objects_of(backend)

    def unharmed(survivor: Backend) -> None:
        assert objects_of(survivor) >= rest

    sweep(repaired, lambda: filled(broken, layout), check=unharmed, every=2)


def test_permission_lost_while_reading(healthy: dict[str, bytes]) -> None:  # noqa: F811
    class Locked(FaultyBackend):
        def _note(self, operation: str, key: str) -> None:
            super()._note(operation, key)
            if key.endswith("7") and operation in ("get", "get_part"):
                raise BackendError(f"cannot read {key}: no permission")

    done = check(Locked(filled(healthy)))
    locked = [key for key in healthy if key.endswith("7")]
    assert {finding.key for finding in done.findings.listed} >= {key for key in locked if key.startswith("objects/")}
    assert names_of(done) == {"object-unreadable"}
    for act in (lambda b: collect(b, Policy(0, 0, 0), force=True), lambda b: usage(b, [])):
        backend = filled(healthy)
        before = objects_of(backend)
        try:
            act(Locked(backend))
        except CastoreError:
            assert objects_of(backend) == before


def test_a_rotten_entry_that_is_well_sealed() -> None:
    backend = MemoryBackend()
    opened(backend)
    entry = RefEntry("a", 5, Digest(bytes(32)), 1, "x", "y")
    backend.put(f"refs/b/{0:020d}", entry.encode())
    backend.flush()
    assert names_of(check(backend)) == {"ref-damaged"}
