"""A sequence built in memory, with everything a test wants to ask it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from castore.dataset import Dataset
from castore.format.chunk import decode_values, uint32s
from castore.format.digest import Digest, digest_of
from castore.format.manifest import Manifest, Root, SplitRule
from castore.format.node import decode_node
from castore.format.object import Object
from castore.format.samples import Piece
from castore.format.schema import Array
from castore.tree.build import Cut, SequenceBuilder
from castore.tree.walk import Tree, leaves
from tests.support.spans import decode_spans
from tests.support.strategies import ARRAYS, Row, piece_of

SMALL = 512
"""Token bytes of a chunk in small trees: a few samples."""

FEW = 4
"""Children of a node in small trees."""


@dataclass
class Built:
    """A built sequence; ``fetch`` gives its objects and remembers which were asked for."""

    objects: dict[Digest, bytes]
    sequence: list[Digest]
    roots: dict[str, Root]
    cuts: list[Cut]
    arrays: dict[str, Array]
    split: SplitRule
    fetched: list[Digest] = field(default_factory=list)

    def fetch(self, digest: Digest) -> bytes:
        self.fetched.append(digest)
        data = self.objects[digest]
        assert digest_of(data) == digest
        return data

    def tree(self, name: str) -> Tree:
        return Tree(self.arrays[name], self.roots[name])

    @property
    def samples(self) -> int:
        return self.roots["token_ids"].samples

    @property
    def root(self) -> Digest:
        """Digest of the manifest."""
        return self.manifest().digest

    def manifest(self) -> Object:
        """The manifest."""
        trees = {name: (array, self.roots[name]) for name, array in self.arrays.items()}
        return Manifest(self.samples, trees, self.split, None).encode()

    def dataset(self) -> Dataset:
        """The sequence as a reader opens it."""
        manifest = self.manifest()
        self.objects[manifest.digest] = manifest.data
        return Dataset(self.fetch, manifest.digest, None)

    def rows(self) -> list[Row]:
        """All samples, read back through the trees."""
        lengths: list[int] = []
        for leaf in leaves(self.fetch, self.tree("length")):
            lengths.extend(uint32s(decode_values(self.fetch(leaf.entry.digest), "uint32").items))
        tokens: list[int] = []
        for leaf in leaves(self.fetch, self.tree("token_ids")):
            tokens.extend(uint32s(decode_values(self.fetch(leaf.entry.digest), "uint32").items))
        spans: list[list[tuple[int, int]]] = []
        for leaf in leaves(self.fetch, self.tree("labels_mask")):
            spans.extend(decode_spans(self.fetch(leaf.entry.digest)).by_sample())
        out: list[Row] = []
        at = 0
        for length, row_spans in zip(lengths, spans, strict=True):
            out.append((tuple(tokens[at : at + length]), tuple(row_spans)))
            at += length
        assert at == len(tokens)
        return out

    def chunks(self, name: str = "token_ids") -> list[Digest]:
        """The chunks of an array, in order."""
        return [leaf.entry.digest for leaf in leaves(self.fetch, self.tree(name))]

    def nodes(self) -> set[Digest]:
        """All nodes of all arrays."""
        return {digest for digest, data in self.objects.items() if b"castore/node" in data[:16]}

    def sizes(self, name: str) -> list[list[int]]:
        """Children of every node by level, lowest level of nodes first; the root last."""
        tree = self.tree(name)
        level, entries = tree.root.level, list(tree.root.entries)
        out = [[len(entries)]]
        while level > tree.array.grain:
            below = [decode_node(self.fetch(entry.digest), level) for entry in entries]
            out.append([len(children) for children in below])
            entries = [child for children in below for child in children]
            level -= 1
        return out[::-1]


def build(
    rows: Sequence[Row],
    *,
    batches: Iterable[int] | None = None,
    chunk_bytes: int = SMALL,
    fanout: int = FEW,
    pieces: Iterable[Piece] | None = None,
) -> Built:
    """Build a sequence from rows at once, in batches that end at the given places, or from ready pieces."""
    builder = SequenceBuilder(ARRAYS, chunk_bytes=chunk_bytes, fanout=fanout)
    if pieces is None:
        edges = [0, *(batches or ()), len(rows)]
        pieces = [piece_of(rows[lo:hi]) for lo, hi in itertools.pairwise(edges)]
    made = [an_object for piece in pieces for an_object in builder.add(piece)]
    roots, rest = builder.finish()
    made += rest
    return Built(
        {o.digest: o.data for o in made},
        [o.digest for o in made],
        roots,
        builder.take_cuts(),
        {array.name: array for array in ARRAYS},
        SplitRule("rank-4", chunk_bytes, fanout),
    )
