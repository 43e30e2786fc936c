"""From pieces of a sequence to the documents of a dataset: trees, then the manifest over them, then the run record.

As ``SequenceBuilder``, on which it stands, it returns objects and stores none. What it returns comes children first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

from castore.format.codec import Value
from castore.format.digest import Digest
from castore.format.manifest import Manifest, Root, SplitRule
from castore.format.object import Object
from castore.format.order import Order
from castore.format.run import Run, RunConfiguration, RunOrigin, RunStatistics, SourceRecord
from castore.format.samples import Piece
from castore.format.schema import Array
from castore.tree.build import Cut, SequenceBuilder
from castore.tree.split import CHUNK_BYTES, FANOUT, RULE_NAME


class RunFields(TypedDict, total=False):
    """What a run record says beside what its trees say: the fields of ``Run`` of the same names."""

    recipe: Mapping[str, Value]
    configuration: RunConfiguration
    sources: Sequence[SourceRecord]
    statistics: RunStatistics
    origin: RunOrigin


class DatasetBuilder:
    """Builds the trees of one dataset and the documents above them.

    Args:
        arrays: The arrays of the manifest.
        provenance: The arrays of the run record, over the same samples.
        chunk_bytes, fanout: As ``SequenceBuilder`` takes them.

    Attributes:
        samples: Samples so far.
        tokens: Tokens so far.
    """

    def __init__(
        self,
        arrays: Sequence[Array],
        provenance: Sequence[Array] = (),
        *,
        chunk_bytes: int = CHUNK_BYTES,
        fanout: int = FANOUT,
    ) -> None:
        self._arrays, self._provenance = arrays, provenance
        self._builder = SequenceBuilder((*arrays, *provenance), chunk_bytes=chunk_bytes, fanout=fanout)
        self._rule = SplitRule(RULE_NAME, chunk_bytes, fanout)
        self._roots: Mapping[str, Root] | None = None
        self.samples = self.tokens = 0

    @property
    def cut_at(self) -> int:
        """Samples in finished chunks of grain 0, which have been returned."""
        return self._builder.cut_at

    def add(self, piece: Piece) -> list[Object]:
        """Append samples; returns the objects that became final."""
        objects = self._builder.add(piece)
        self.samples += len(piece.lengths)
        self.tokens += int(piece.lengths.sum(dtype="int64"))
        return objects

    def cuts(self) -> list[Cut]:
        """The level-0 runs that were finished since the last call."""
        return self._builder.take_cuts()

    def end(self) -> list[Object]:
        """End the sequence; returns the last objects of its trees."""
        self._roots, objects = self._builder.finish()
        return objects

    def manifest(self, order: Order | None) -> Object:
        """The manifest of the ended sequence."""
        return Manifest(self.samples, self._trees(self._arrays), self._rule, order).encode()

    def run(self, manifest: Digest, fields: RunFields, files: Mapping[str, Digest]) -> Object:
        """The run record of the ended sequence; ``files`` are those that are kept beside the data."""
        return Run(manifest, self.samples, self._trees(self._provenance), files=files, **fields).encode()

    def _trees(self, arrays: Sequence[Array]) -> dict[str, tuple[Array, Root]]:
        assert self._roots is not None
        return {array.name: (array, self._roots[array.name]) for array in arrays}
