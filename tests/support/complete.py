"""A small checker of whole repositories, for tests: reads everything that any name reaches and derives it anew."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from blake3 import blake3

from castore.format.chunk import decode_values, uint32s
from castore.format.digest import Digest
from castore.format.fields import kind_of
from castore.format.manifest import Manifest
from castore.format.node import Entry, decode_node
from castore.format.run import RUN_KIND, Run
from castore.repository import Repository
from castore.store.units import UnitStore
from castore.tree.walk import Fetch, Tree
from tests.support.reference import Skeleton, skeleton
from tests.support.spans import decode_spans

Row = tuple[tuple[int, ...], tuple[tuple[int, int], ...], int]
"""A stored sample: token ids, trainable spans, source."""


@dataclass(frozen=True)
class Checked:
    """What a checked dataset holds.

    Attributes:
        rows: All samples in stored order.
        origins: Row number and raw key of each, if a run record tells them.
    """

    rows: list[Row]
    origins: list[tuple[int, bytes]]


def check_complete(repository: Repository) -> dict[str, Checked]:
    """Check every entry of every name that has not been removed, and every unit record; datasets by name."""
    found = {}
    for name in repository.refs.names():
        targets = [entry.target for entry in repository.refs.log(name) if entry.target is not None]
        checked = {target: check_dataset(repository, target) for target in targets}
        found[name] = checked[targets[0]]
    check_units(repository)
    return found


def check_dataset(repository: Repository, digest: Digest) -> Checked:
    """Read all of a dataset and derive its keys, lengths and trees from its tokens."""
    fetch = repository.objects.get
    data = fetch(digest)
    run = Run.decode(data) if kind_of(data) == RUN_KIND else None
    manifest = Manifest.decode(fetch(run.manifest) if run else data)
    trees = {name: Tree(*pair) for name, pair in manifest.arrays.items()}
    if run is not None:
        trees |= {name: Tree(*pair) for name, pair in run.provenance.items()}
        for file in run.files.values():
            fetch(file)
    tokens = _all_tokens(fetch, trees)
    keys = [blake3(struct.pack(f"<{len(row)}I", *row)).digest(16) for row in tokens]
    assert _keys(fetch, trees["key"]) == keys
    spans = [row for entry in _leaves(fetch, trees["labels_mask"])[0] for row in _spans(fetch, entry)]
    for row, row_spans in zip(tokens, spans, strict=True):
        assert all(0 <= lo < hi <= len(row) for lo, hi in row_spans)
    wanted = skeleton(keys, list(map(len, tokens)), manifest.split.chunk_bytes, manifest.split.fanout)
    for tree in trees.values():
        _check_shape(fetch, tree, wanted)
        _check_elements(fetch, tree, list(map(len, tokens)))
    if manifest.order is not None:
        assert len(set(manifest.order.positions(fetch).tolist())) == manifest.order.take
    sources = _integers(fetch, trees["source"])
    rows = [(t, tuple(s), source) for t, s, source in zip(tokens, spans, sources, strict=True)]
    origins = []
    if run is not None:
        assert run.statistics is not None
        assert run.samples == manifest.samples == run.statistics.samples == len(rows)
        assert run.statistics.tokens == sum(map(len, tokens))
        assert run.statistics.trainable == sum(hi - lo for row in spans for lo, hi in row)
        if run.provenance:  # an import has none
            origins = list(zip(_integers(fetch, trees["row"]), _keys(fetch, trees["raw_key"]), strict=True))
    return Checked(rows, origins)


def check_units(repository: Repository) -> int:
    """Check that every unit record names chunks that are there and hold the samples it tells of; how many there are."""
    fetch = repository.objects.get
    count = 0
    for key in repository.backend.list("units"):
        unit = UnitStore(repository.backend).get(Digest(bytes.fromhex(key[-64:])))
        assert unit is not None, key
        at = 0
        lengths = list(uint32s(unit.lengths))
        trainable = 0
        for part in unit.slices:
            values = decode_values(fetch(part.chunks["token_ids"]), "uint32")
            spans = decode_spans(fetch(part.chunks["labels_mask"])).by_sample(part.lo, part.hi)
            assert values.sample_count == part.count == len(decode_spans(fetch(part.chunks["labels_mask"])).counts)
            item = part.item_lo
            for row_spans in spans:
                ids = bytes(values.items[4 * item : 4 * (item + lengths[at])])
                assert unit.keys[16 * at : 16 * at + 16] == blake3(ids).digest(16), key
                trainable += sum(hi - lo for lo, hi in row_spans)
                item += lengths[at]
                at += 1
        assert at == unit.sample_count
        assert trainable == unit.trainable
        count += 1
    return count


def _all_tokens(fetch: Fetch, trees: dict[str, Tree]) -> list[tuple[int, ...]]:
    lengths = _integers(fetch, trees["length"])
    rows: list[tuple[int, ...]] = []
    for entry in _leaves(fetch, trees["token_ids"])[0]:
        values = decode_values(fetch(entry.digest), "uint32")
        assert (values.sample_count, values.item_count) == (entry.samples, entry.items)
        ids, at = list(uint32s(values.items)), 0
        for length in lengths[len(rows) : len(rows) + entry.samples]:
            rows.append(tuple(ids[at : at + length]))
            at += length
        assert at == entry.items
    assert len(rows) == len(lengths)
    return rows


def _leaves(fetch: Fetch, tree: Tree) -> tuple[list[Entry], dict[int, list[int]]]:
    """Chunks in order, and the numbers of children of all nodes by level."""
    items, sizes = list(tree.root.entries), {}
    for level in range(tree.root.level, tree.array.grain, -1):
        below = [decode_node(fetch(entry.digest), level) for entry in items]
        for entry, parts in zip(items, below, strict=True):
            assert (entry.samples, entry.items) == (sum(p.samples for p in parts), sum(p.items for p in parts))
        sizes[level] = [len(parts) for parts in below]
        items = [part for parts in below for part in parts]
    return items, sizes


def _check_shape(fetch: Fetch, tree: Tree, wanted: Skeleton) -> None:
    leaves, sizes = _leaves(fetch, tree)
    runs = wanted.levels[0]
    if tree.array.grain == 1:
        groups, at = [], 0
        for size in wanted.coarse:
            groups.append(sum(runs[at : at + size]))
            at += size
        runs = groups
    assert [entry.samples for entry in leaves] == runs, tree.array.name
    assert tree.root.level == max(len(wanted.levels) - 1, tree.array.grain), tree.array.name
    for level, counts in sizes.items():
        assert counts == wanted.levels[level], (tree.array.name, level)


def _check_elements(fetch: Fetch, tree: Tree, lengths: list[int]) -> None:
    """Every chunk has the elements that its samples take, whatever array it is of."""
    at = 0
    for entry in _leaves(fetch, tree)[0]:
        inside = lengths[at : at + entry.samples]
        assert entry.items == (sum(inside) if tree.array.axis == "token" else entry.samples), tree.array.name
        if tree.array.is_spans:
            rows = _spans(fetch, entry)
            assert len(rows) == entry.samples
            assert all(0 <= lo < hi <= n for row, n in zip(rows, inside, strict=True) for lo, hi in row)
        else:
            values = decode_values(fetch(entry.digest), tree.array.dtype)
            assert (values.sample_count, values.item_count) == (entry.samples, entry.items), tree.array.name
        at += entry.samples
    assert at == len(lengths)


def _spans(fetch: Fetch, entry: Entry) -> list[list[tuple[int, int]]]:
    return decode_spans(fetch(entry.digest)).by_sample()


def _integers(fetch: Fetch, tree: Tree) -> list[int]:
    width = 8 if tree.array.dtype == "uint64" else 4
    out: list[int] = []
    for entry in _leaves(fetch, tree)[0]:
        raw = bytes(decode_values(fetch(entry.digest), tree.array.dtype).items)
        out += [int.from_bytes(raw[i : i + width], "little") for i in range(0, len(raw), width)]
    return out


def _keys(fetch: Fetch, tree: Tree) -> list[bytes]:
    raw = b"".join(bytes(decode_values(fetch(e.digest), "bytes16").items) for e in _leaves(fetch, tree)[0])
    return [raw[i : i + 16] for i in range(0, len(raw), 16)]
