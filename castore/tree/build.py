"""Building the trees of all arrays over one skeleton, a piece of the sequence at a time.

``SequenceBuilder`` returns objects; it stores none. Objects come out children first. What it returns in the end is a
function of the samples alone: neither the pieces they came in nor what was reused shows (``docs/format/split.md``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from castore.errors import InvalidInputError
from castore.format.digest import Digest
from castore.format.manifest import Root
from castore.format.node import Entry, encode_node
from castore.format.object import Object
from castore.format.samples import TOKENS_MAX, Column, Piece, Samples
from castore.format.schema import Array
from castore.tree.features import features_of, merged, sketch_of
from castore.tree.split import (
    CHUNK_BYTES,
    FANOUT,
    WINDOW,
    Splitter,
    boundary_hashes,
    level_hashes,
    sample_weights,
)


@dataclass(frozen=True, slots=True)
class Cut:
    """One finished level-0 run: samples ``start`` to ``stop`` of the sequence and their chunks of grain 0 by array.

    ``item_start`` is the number of tokens before it.
    """

    start: int
    stop: int
    item_start: int
    chunks: Mapping[str, Digest]


@dataclass(slots=True)
class _Level:
    """The open run at one level: entries by array that wait for their parent."""

    splitter: Splitter
    entries: dict[str, list[Entry]]
    last_hashes: list[int] = field(default_factory=list)
    sketches: list[tuple[int, ...]] = field(default_factory=list)  # of the samples below each entry
    item_count: int = 0  # items ever, to know whether all of them fit into a root


class SequenceBuilder:
    """Turns pieces of a sequence into chunks and nodes.

    Args:
        arrays: The arrays to build; each gets a tree, all of them the same skeleton.
        chunk_bytes: Wanted weight of a level-0 run (``CHUNK_BYTES`` unless a test wants small trees).
        fanout: Wanted children of a node.
    """

    def __init__(self, arrays: Sequence[Array], *, chunk_bytes: int = CHUNK_BYTES, fanout: int = FANOUT) -> None:
        self._fine = [array for array in arrays if array.grain == 0]
        self._coarse = [array for array in arrays if array.grain == 1]
        self._fanout = fanout
        self._root_max = 2 * fanout
        self._samples = Splitter(chunk_bytes)
        self._levels: list[_Level] = []
        self._before = np.zeros(WINDOW - 1, np.uint64)
        self._pieces: deque[tuple[Piece, int, NDArray[np.uint64]]] = deque()  # piece, samples already cut, its hashes
        self._open_scalars: list[Samples] = []  # of the open level-1 run
        self._cut_at = 0  # samples in finished level-0 runs
        self._cut_items = 0  # tokens in them
        self._cuts: list[Cut] = []

    @property
    def cut_at(self) -> int:
        """Samples of the sequence that are in finished level-0 runs, whose objects have been returned."""
        return self._cut_at

    def take_cuts(self) -> list[Cut]:
        """The level-0 runs that were finished since the last call."""
        cuts, self._cuts = self._cuts, []
        return cuts

    def add(self, piece: Piece) -> list[Object]:
        """Append samples; returns the objects that became final, children first."""
        if len(piece.lengths) == 0:
            return []
        if int(piece.lengths.max()) > TOKENS_MAX:
            raise InvalidInputError(f"a sample of {int(piece.lengths.max())} tokens: at most {TOKENS_MAX} are possible")
        hashes = boundary_hashes(piece.keys, self._before)
        words = np.concatenate([self._before, np.ascontiguousarray(piece.keys[:, :8]).view("<u8").ravel()])
        self._before = words[-(WINDOW - 1) :].astype(np.uint64)
        self._pieces.append((piece, 0, hashes))
        objects: list[Object] = []
        for size in self._samples.push(level_hashes(hashes, 0), sample_weights(piece.lengths)):
            self._end_run(size, objects)
            # Not once for all of them: objects come in the same order however the samples came in pieces.
            self._split_levels(objects)
        return objects

    def finish(self) -> tuple[dict[str, Root], list[Object]]:
        """End the sequence: the root of every array by name, and the last objects."""
        objects: list[Object] = []
        for size in self._samples.finish():
            self._end_run(size, objects)
        level = self._split_levels(objects, final=True)
        if level == 0 and self._levels:
            self._end_low_tree(objects)
        return {array.name: self._root(array, level) for array in (*self._fine, *self._coarse)}, objects

    def _root(self, array: Array, level: int) -> Root:
        """The root of an array, given the lowest level whose items fit into a root."""
        at = max(level, array.grain)
        return Root(at, tuple(self._levels[at].entries[array.name])) if self._levels else Root(0, ())

    def _level(self, level: int) -> _Level:
        while len(self._levels) <= level:
            names = [a.name for a in self._fine] + [a.name for a in self._coarse if len(self._levels) >= 1]
            self._levels.append(_Level(Splitter(self._fanout), {name: [] for name in names}))
        return self._levels[level]

    # ---- level 0: samples to chunks

    def _end_run(self, size: int, objects: list[Object]) -> None:
        """Close a level-0 run of ``size`` samples: its chunks, and one item for level 1."""
        parts, last_hash = self._take(size)
        lengths = np.concatenate([piece.lengths[lo:hi] for piece, lo, hi in parts])
        tokens = int(lengths.sum(dtype=np.int64))
        sketch = sketch_of(np.concatenate([piece.keys[lo:hi] for piece, lo, hi in parts]))
        chunks = self._reused(parts)
        if chunks is None:
            loaded = [piece.load().slice(lo, hi, self._fine) for piece, lo, hi in parts]
            samples = Samples.concat(loaded, self._fine) if len(loaded) > 1 else loaded[0]
            made = {array.name: _told(samples.encode(array), sketch, array, 0) for array in self._fine}
            objects.extend(made.values())
            chunks = {name: made_object.digest for name, made_object in made.items()}
        self._keep_scalars(parts, lengths)
        self._cuts.append(Cut(self._cut_at, self._cut_at + size, self._cut_items, chunks))
        self._cut_at += size
        self._cut_items += tokens
        self._append(0, {name: Entry(digest, size, tokens) for name, digest in chunks.items()}, last_hash, sketch)

    def _take(self, size: int) -> tuple[list[tuple[Piece, int, int]], int]:
        """Remove the next ``size`` samples from the pieces: parts, and the boundary hash of the last sample."""
        parts = []
        while size:
            piece, at, hashes = self._pieces[0]
            count = min(size, len(piece.lengths) - at)
            parts.append((piece, at, at + count))
            last_hash = int(hashes[at + count - 1])
            size -= count
            if at + count == len(piece.lengths):
                self._pieces.popleft()
            else:
                self._pieces[0] = (piece, at + count, hashes)
        return parts, last_hash

    @staticmethod
    def _reused(parts: list[tuple[Piece, int, int]]) -> Mapping[str, Digest] | None:
        """Digests of existing chunks if the run is exactly one of them, which may have come in several pieces."""
        first = parts[0][0]
        at = 0
        for piece, lo, hi in parts:
            if piece.chunks is None or piece.chunks != first.chunks or piece.chunk_lo + lo != at:
                return None
            at += hi - lo
        return first.chunks if at == (first.chunk_count or len(first.lengths)) else None

    def _keep_scalars(self, parts: list[tuple[Piece, int, int]], lengths: NDArray[np.uint32]) -> None:
        columns: dict[str, Column] = {}
        for array in self._coarse:
            if array.name == "length":
                columns["length"] = lengths
            elif array.name == "key":
                columns["key"] = np.concatenate([piece.keys[lo:hi] for piece, lo, hi in parts])
            else:
                pieces: list[Any] = [piece.scalars[array.name] for piece, _, _ in parts]
                slices = [column[lo:hi] for column, (_, lo, hi) in zip(pieces, parts, strict=True)]
                columns[array.name] = np.concatenate(slices)
        self._open_scalars.append(Samples(lengths, columns))

    # ---- levels above

    def _append(self, level: int, entries: dict[str, Entry], last_hash: int, sketch: tuple[int, ...]) -> None:
        """Add one item to ``level``."""
        here = self._level(level)
        here.item_count += 1
        for name, entry in entries.items():
            here.entries[name].append(entry)
        here.last_hashes.append(last_hash)
        here.sketches.append(sketch)

    def _split_levels(self, objects: list[Object], *, final: bool = False) -> int:
        """Split the items of all levels that have too many for a root; returns the lowest level that has not."""
        level = 0
        while level < len(self._levels) and self._levels[level].item_count > self._root_max:
            for size in self._run_sizes(level, final=final):
                self._end_node(level, size, objects)
            level += 1
        return level

    def _run_sizes(self, level: int, *, final: bool) -> list[int]:
        """Sizes of runs of items of ``level`` that are complete; all of them if the sequence ends.

        Items wait until they are enough for a run: splitting them one by one would cost more than all else here.
        """
        here = self._levels[level]
        waiting = here.last_hashes[here.splitter.pending :]
        sizes = []
        if waiting and (final or len(waiting) >= self._fanout // 2):
            hashes = level_hashes(np.array(waiting, np.uint64), level + 1)
            sizes = here.splitter.push(hashes, np.ones(len(waiting), np.int64))
        return [*sizes, *here.splitter.finish()] if final else sizes

    def _end_node(self, level: int, size: int, objects: list[Object]) -> None:
        """Close a run of ``size`` items of ``level``: a node over them for every array, one item for ``level + 1``."""
        here = self._levels[level]
        sketch = merged(here.sketches[:size])
        del here.sketches[:size]
        parents: dict[str, Entry] = {}
        run_samples = 0
        for name, entries in here.entries.items():
            run = entries[:size]
            del entries[:size]
            node = encode_node(level + 1, run)
            objects.append(node._replace(features=features_of(sketch, name, level + 1)))
            run_samples = sum(entry.samples for entry in run)
            parents[name] = Entry(node.digest, run_samples, sum(entry.items for entry in run))
        last_hash = here.last_hashes[size - 1]
        del here.last_hashes[:size]
        if level == 0:
            parents.update(self._coarse_chunks(size, sketch, objects))
        self._append(level + 1, parents, last_hash, sketch)

    def _coarse_chunks(self, size: int, sketch: tuple[int, ...], objects: list[Object]) -> dict[str, Entry]:
        """Chunks of the arrays of grain 1 over the next ``size`` level-0 runs, of which there is a sketch."""
        run = self._open_scalars[:size]
        del self._open_scalars[:size]
        if not self._coarse:
            return {}
        samples = Samples.concat(run, self._coarse)
        entries = {}
        for array in self._coarse:
            chunk = _told(samples.encode(array), sketch, array, 1)
            objects.append(chunk)
            entries[array.name] = Entry(chunk.digest, len(samples), len(samples))
        return entries

    def _end_low_tree(self, objects: list[Object]) -> None:
        """Few level-0 runs are the root themselves; arrays of grain 1 still get their chunks, at level 1."""
        above, sketches = self._level(1), self._levels[0].sketches
        at = 0
        for size in self._run_sizes(0, final=True):
            for name, entry in self._coarse_chunks(size, merged(sketches[at : at + size]), objects).items():
                above.entries[name].append(entry)
            at += size


def _told(chunk: Object, sketch: tuple[int, ...], array: Array, grain: int) -> Object:
    """A chunk of an array with the features of the samples in it."""
    return chunk._replace(features=features_of(sketch, array.name, grain))
