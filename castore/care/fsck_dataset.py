"""The part of a check that derives a dataset anew: cuts, levels and counts from its keys and lengths, and its order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from castore.care.fsck_samples import sample_faults
from castore.care.graph import Graph
from castore.care.skeleton import Skeleton, skeleton_of
from castore.errors import CastoreError, CorruptionError, FormatError, UnsupportedVersionError
from castore.format.chunk import decode_values
from castore.format.digest import Digest
from castore.format.fields import kind_of
from castore.format.manifest import Manifest, Root
from castore.format.run import RUN_KIND, Run
from castore.format.schema import KEY, KEY_BYTES, LENGTH, PROVENANCE_ARRAYS, Array
from castore.store.objects import ObjectStore
from castore.tree.split import RULE_NAME
from castore.tree.walk import Tree, leaves

Trees = dict[str, tuple[Array, Root]]


def dataset_faults(
    objects: ObjectStore, graph: Graph, target: Digest, seen: set[tuple[object, ...]], share: float = 1.0
) -> Iterator[tuple[str, str]]:
    """What is wrong with a dataset whose objects are whole: name of the finding, and what it is.

    What is damaged or missing was found before, and ends this quietly.

    Args:
        objects: The repository's objects.
        graph: What is known of them.
        target: A run record or manifest.
        seen: Trees and chunks that were looked at already; those of this dataset are added.
        share: Part of the chunks that was read. What takes all of them is left out unless it is 1.
    """
    try:
        data = objects.get(target)
        run = Run.decode(data) if kind_of(data) == RUN_KIND else None
        manifest = Manifest.decode(objects.get(run.manifest) if run else data)
    except CastoreError:
        return
    trees = {**manifest.arrays, **({} if run is None else run.provenance)}
    wrong = list(_type_faults(trees))
    if wrong:
        yield from wrong
        return
    known = (manifest.split, *((name, root.digest) for name, (_, root) in sorted(trees.items())))
    if not manifest.samples or not {KEY.name, LENGTH.name} <= trees.keys():
        return
    if share < 1:
        if known not in seen:
            seen.add(known)
            with suppress(CastoreError):
                yield from sample_faults(objects, trees, graph.was_read, seen)
        return
    if known not in seen:
        try:
            keys = _column(objects, trees, KEY.name).reshape(-1, KEY_BYTES)
            lengths = _column(objects, trees, LENGTH.name).view("<u4")
        except CastoreError:
            return
        if len(keys) != manifest.samples or len(lengths) != manifest.samples:
            return  # counts are wrong, which was found before; and an order of so many may take any memory
        seen.add(known)
        rule = manifest.split
        cuts = []
        if rule.name == RULE_NAME:
            skeleton = skeleton_of(keys, lengths, rule.chunk_bytes, rule.fanout)
            yield from (cuts := list(_skeleton_faults(graph, trees, skeleton, lengths)))
        if not cuts:  # else lengths and chunks do not belong together
            del keys, lengths
            with suppress(CastoreError):
                yield from sample_faults(objects, trees, graph.was_read, seen)
    if manifest.order is not None:
        try:
            manifest.order.positions(objects.get)
        except UnsupportedVersionError as error:
            yield "object-newer", str(error)
        except (CorruptionError, FormatError) as error:
            yield "wrong-order", str(error)
        except CastoreError:
            return


def _type_faults(trees: Trees) -> Iterator[tuple[str, str]]:
    """Arrays of another type than the format has for their names."""
    for known in PROVENANCE_ARRAYS:  # those of the data a manifest cannot have otherwise
        found = trees[known.name][0] if known.name in trees else known
        if found != known:
            yield "wrong-kind", f"array {known.name} is {found.dtype}, one a {found.axis}, of grain {found.grain}"


def _column(objects: ObjectStore, trees: Trees, name: str) -> NDArray[np.uint8]:
    array, root = trees[name]
    found = leaves(objects.get, Tree(array, root))
    parts = [
        np.frombuffer(decode_values(objects.get(leaf.entry.digest), array.dtype).items, np.uint8) for leaf in found
    ]
    return np.concatenate([np.zeros(0, np.uint8), *parts])


def _skeleton_faults(
    graph: Graph, trees: Trees, skeleton: Skeleton, lengths: NDArray[np.uint32]
) -> Iterator[tuple[str, str]]:
    for name, (array, root) in trees.items():
        top = max(len(skeleton.levels) - 1, array.grain)
        if root.level != top:
            yield "wrong-boundaries", f"array {name} has its root at level {root.level}, not {top}"
            continue
        fine = skeleton.levels[0] if array.grain == 0 else skeleton.coarse
        numbers = graph.census.find(b"".join(entry.digest for entry in root.entries))
        samples = np.array([entry.samples for entry in root.entries], np.int64)
        items = np.array([entry.items for entry in root.entries], np.int64)
        for level in range(root.level, array.grain, -1):
            if not graph.is_known(numbers):
                return
            counts, numbers, samples, items = graph.below(numbers)
            if not np.array_equal(counts, skeleton.levels[level]):
                yield "wrong-boundaries", f"array {name} is cut elsewhere than its keys say, at level {level}"
                break
        else:
            if not np.array_equal(samples, fine):
                yield "wrong-boundaries", f"array {name} is cut elsewhere than its keys say, at its chunks"
            elif array.axis == "token" and not np.array_equal(
                items, np.add.reduceat(lengths.astype(np.int64), np.cumsum(fine) - fine)
            ):
                yield "wrong-lengths", f"array {name} has other elements than the lengths of its samples add up to"
