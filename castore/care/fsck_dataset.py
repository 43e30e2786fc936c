"""The part of a check that derives a dataset anew: cuts, levels and counts from its keys and lengths, and its order."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from castore.care.fsck_samples import Chunks, FewScalars, NotingReader, sample_faults, scalar_items
from castore.care.graph import Graph
from castore.care.skeleton import Skeleton, skeleton_of
from castore.errors import CastoreError, CorruptionError, FormatError, NotFoundError, UnsupportedVersionError
from castore.format.digest import Digest, digest_hex
from castore.format.fields import kind_of
from castore.format.manifest import Manifest, Root
from castore.format.order import Order
from castore.format.run import RUN_KIND, Run
from castore.format.schema import KEY, LENGTH, PROVENANCE_ARRAYS, Array
from castore.tree.split import RULE_NAME

Trees = dict[str, tuple[Array, Root]]


def dataset_faults(
    reader: NotingReader, graph: Graph, target: Digest, seen: set[object], share: float = 1.0
) -> Generator[tuple[str, str], None, bool]:
    """What is wrong with a dataset: name of the finding, and what it is. Its chunks of tokens and labels are read.

    What is damaged or missing is told where it is read, and what depends on it is not looked at.

    Args:
        reader: Gives the repository's objects.
        graph: What is known of them: all nodes.
        target: A run record or manifest.
        seen: Trees and chunks that were looked at already; those of this dataset are added.
        share: Part of the chunks that is read. What takes all of them is left out unless it is 1.

    Returns:
        Whether all could be looked at. If not, it may be called again when more can be had.
    """
    data = reader.kept(target)
    run = None
    if data is not None and kind_of(data) == RUN_KIND:
        run = Run.decode(data)
        data = reader.kept(run.manifest)
    if data is None:
        return False
    try:
        manifest = Manifest.decode(data)
    except CastoreError:  # the target is something else, which is told of the name
        return True
    trees = {**manifest.arrays, **({} if run is None else run.provenance)}
    wrong = list(_type_faults(trees))
    if wrong:
        yield from wrong
        return True
    if not manifest.samples:
        return True
    complete = yield from _array_faults(reader, graph, manifest, trees, seen, share)
    # An order of as many samples as a wrong manifest says may take any memory.
    if manifest.order is not None and _sized(trees) in seen:
        complete &= yield from _order_faults(reader, graph, manifest.order, seen)
    return complete


def _sized(trees: Trees) -> tuple[object, ...]:
    """What is in ``seen`` when lengths and keys were found to be one a sample."""
    return ("sized", trees[LENGTH.name][1].digest, trees[KEY.name][1].digest)


def _array_faults(
    reader: NotingReader, graph: Graph, manifest: Manifest, trees: Trees, seen: set[object], share: float
) -> Generator[tuple[str, str], None, bool]:
    known = (manifest.split, *((name, root.digest) for name, (_, root) in sorted(trees.items())))
    if known in seen:
        return True
    arrays: dict[str, Chunks] = {}
    levels: dict[str, list[NDArray[np.int64]]] = {}
    for name, (array, root) in trees.items():
        found = _chunks_of(graph, array, root)
        if found is not None:
            levels[name], arrays[name] = found
    if not {KEY.name, LENGTH.name} <= arrays.keys():
        return False
    if share < 1:
        complete = yield from sample_faults(reader, graph, arrays, FewScalars(reader, graph, arrays), seen)
        return complete
    keys, lengths = (_column(reader, graph, arrays[name], manifest.samples) for name in (KEY.name, LENGTH.name))
    if keys is None or lengths is None:
        return False
    seen.add(_sized(trees))
    rule, cut = manifest.split, ("cut", *known)
    if rule.name == RULE_NAME and cut not in seen:
        skeleton = skeleton_of(keys, lengths, rule.chunk_bytes, rule.fanout)
        cuts = list(_skeleton_faults(arrays, levels, skeleton, lengths))
        yield from cuts
        seen.add(cut)
        if cuts:  # lengths and chunks do not belong together
            seen.add(known)
            return True
    columns: dict[str, NDArray[Any]] = {KEY.name: keys, LENGTH.name: lengths}
    complete = yield from sample_faults(reader, graph, arrays, lambda name, lo, hi: columns[name][lo:hi], seen)
    complete &= len(arrays) == len(trees)
    if complete:
        seen.add(known)
    return complete


def _order_faults(
    reader: NotingReader, graph: Graph, order: Order, seen: set[object]
) -> Generator[tuple[str, str], None, bool]:
    known = ("order", order)
    if known in seen:
        return True

    def fetch(digest: Digest) -> bytes:
        data = next(reader.read(graph.numbers([digest])))
        if data is None:
            raise NotFoundError(f"there is no object {digest_hex(digest)}")
        return data

    try:
        order.positions(fetch)
    except UnsupportedVersionError as error:
        yield "object-newer", str(error)
    except (CorruptionError, FormatError) as error:
        yield "wrong-order", str(error)
    except CastoreError:
        return False
    seen.add(known)
    return True


def _chunks_of(graph: Graph, array: Array, root: Root) -> tuple[list[NDArray[np.int64]], Chunks] | None:
    """The children of each node by level, from the root's down to those above chunks, and the chunks.

    None if a node is missing or damaged, or states other counts than the one above it: the link tells.
    """
    numbers = np.array(graph.numbers([entry.digest for entry in root.entries]), np.int64)
    samples = np.array([entry.samples for entry in root.entries], np.int64)
    items = np.array([entry.items for entry in root.entries], np.int64)
    levels = []
    for _ in range(root.level, array.grain, -1):
        if not graph.is_known(numbers):
            return None
        counts, numbers, samples_below, items_below = graph.below(numbers)
        starts = np.cumsum(counts) - counts
        if not counts.all() or not (
            np.array_equal(np.add.reduceat(samples_below, starts), samples)
            and np.array_equal(np.add.reduceat(items_below, starts), items)
        ):
            return None
        levels.append(counts)
        samples, items = samples_below, items_below
    return levels, Chunks(array, numbers, samples, items)


def _column(reader: NotingReader, graph: Graph, chunks: Chunks, samples: int) -> NDArray[Any] | None:
    """All elements of ``length`` or ``key``; None if they cannot be had, or are not one a sample."""
    parts = []
    for at in range(len(chunks.numbers)):
        items = scalar_items(reader, graph, chunks, at)
        if items is None:
            return None
        parts.append(items)
    column: NDArray[Any] = np.concatenate(parts)
    return column if len(column) == samples else None


def _type_faults(trees: Trees) -> Iterator[tuple[str, str]]:
    """Arrays of another type than the format has for their names."""
    for known in PROVENANCE_ARRAYS:  # those of the data a manifest cannot have otherwise
        found = trees[known.name][0] if known.name in trees else known
        if found != known:
            yield "wrong-kind", f"array {known.name} is {found.dtype}, one a {found.axis}, of grain {found.grain}"


def _skeleton_faults(
    arrays: dict[str, Chunks],
    levels: dict[str, list[NDArray[np.int64]]],
    skeleton: Skeleton,
    lengths: NDArray[np.uint32],
) -> Iterator[tuple[str, str]]:
    for name, chunks in arrays.items():
        grain = chunks.array.grain
        top, found = max(len(skeleton.levels) - 1, grain), grain + len(levels[name])
        if found != top:
            yield "wrong-boundaries", f"array {name} has its root at level {found}, not {top}"
            continue
        fine = skeleton.levels[0] if grain == 0 else skeleton.coarse
        for level, counts in zip(range(top, grain, -1), levels[name], strict=True):
            if not np.array_equal(counts, skeleton.levels[level]):
                yield "wrong-boundaries", f"array {name} is cut elsewhere than its keys say, at level {level}"
                break
        else:
            if not np.array_equal(chunks.samples, fine):
                yield "wrong-boundaries", f"array {name} is cut elsewhere than its keys say, at its chunks"
            elif chunks.array.axis == "token" and not np.array_equal(
                chunks.items, np.add.reduceat(lengths.astype(np.int64), np.cumsum(fine) - fine)
            ):
                yield "wrong-lengths", f"array {name} has other elements than the lengths of its samples add up to"
