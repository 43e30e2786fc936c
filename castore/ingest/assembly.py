"""The one order in which a dataset enters a repository: children, parents, manifest, run record.

Each is durable before anything that names it is written, so that a crash at any moment leaves objects that nothing
names, and never a name of what is not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import NamedTuple

from castore.errors import InvalidInputError
from castore.format.digest import Digest
from castore.format.object import Object
from castore.format.order import Order
from castore.format.run import Run
from castore.format.samples import Piece
from castore.format.schema import Array
from castore.store.objects import ObjectStore
from castore.tree.build import Cut
from castore.tree.dataset_builder import DatasetBuilder, RunFields
from castore.tree.split import CHUNK_BYTES, FANOUT


class Step:
    """Tells whether a step that must be taken as a whole was left half-way, by an interrupt between two instructions.

    A context manager around each such step; steps may lie within steps. What raises out of one leaves it open for good.
    """

    def __init__(self) -> None:
        self._open = 0

    @property
    def is_torn(self) -> bool:
        """Whether a step began and has not ended."""
        return self._open > 0

    def __enter__(self) -> None:
        self._open += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._open -= 1


class Growth:
    """What a repository has grown by since this was made."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._before = objects.writes, objects.bytes_written

    @property
    def objects_new(self) -> int:
        """Objects that were not there."""
        return self._objects.writes - self._before[0]

    @property
    def bytes_new(self) -> int:
        """Their bytes as they are stored."""
        return self._objects.bytes_written - self._before[1]


class Assembled(NamedTuple):
    """A stored dataset: digests of its run record and manifest."""

    run: Digest
    root: Digest


class Assembly:
    """Stores one dataset, a piece at a time.

    Args:
        objects: Where everything goes.
        arrays, provenance, chunk_bytes, fanout: As ``DatasetBuilder`` takes them.

    Attributes:
        step: Around each step after which trees, store and what the caller keeps of them must agree. Torn, the
            assembly is in a state of which nothing may be recorded.
    """

    def __init__(
        self,
        objects: ObjectStore,
        arrays: Sequence[Array],
        provenance: Sequence[Array] = (),
        *,
        chunk_bytes: int = CHUNK_BYTES,
        fanout: int = FANOUT,
    ) -> None:
        self._objects = objects
        self._builder = DatasetBuilder(arrays, provenance, chunk_bytes=chunk_bytes, fanout=fanout)
        self._ended = False
        self.step = Step()

    @property
    def samples(self) -> int:
        """Samples so far."""
        return self._builder.samples

    @property
    def tokens(self) -> int:
        """Tokens so far."""
        return self._builder.tokens

    @property
    def cut_at(self) -> int:
        """Samples in finished chunks of grain 0, which have been handed to the store; durable after its next flush."""
        return self._builder.cut_at

    def add(self, piece: Piece) -> None:
        """Append samples and store the objects that became final."""
        with self.step:
            self._objects.put_all(self._builder.add(piece))

    def cuts(self) -> list[Cut]:
        """The level-0 runs that were finished since the last call; their chunks are durable after the next flush."""
        return self._builder.cuts()

    def end(self) -> None:
        """End the sequence and store the last objects of its trees; durable after the next flush."""
        if not self._ended:
            with self.step:
                self._objects.put_all(self._builder.end())
                self._ended = True

    def flush(self) -> None:
        """Make all that was stored so far durable."""
        self._objects.flush()

    def finish(self, order: Order | None, run_fields: RunFields, files: Mapping[str, Object]) -> Assembled:
        """Store the documents; everything is durable on return.

        Args:
            order: The order of the samples; None for that in which they were added.
            run_fields: What the run record says beside what is known here.
            files: Files that are kept beside the data, by name.
        """
        self.end()
        self._objects.put_all(files.values())
        manifest = self._builder.manifest(order)
        run = self._builder.run(manifest.digest, run_fields, _digests(files))
        _store_documents(self._objects, manifest, run)
        return Assembled(run.digest, manifest.digest)

    def finish_manifest(self, order: Order | None, order_objects: Iterable[Object] = ()) -> Digest:
        """Store the trees, the objects that the order names, and the manifest, which is durable on return."""
        self.end()
        self._objects.put_all(order_objects)
        manifest = self._builder.manifest(order)
        _store_documents(self._objects, manifest)
        return manifest.digest


def store_run(
    objects: ObjectStore, manifest: Digest, samples: int, run_fields: RunFields, files: Mapping[str, Object]
) -> Digest:
    """Store the run record of a manifest that is stored, without provenance; it is durable on return."""
    objects.put_all(files.values())
    run = Run(manifest, samples, files=_digests(files), **run_fields).encode()
    _store_documents(objects, run)
    return run.digest


def recorded_order(seed: int | None, take: int | None, samples: int, option: str) -> Order | None:
    """The order that a shuffle by ``seed`` gives, of which the first ``take`` samples are used; None without a seed.

    Raises:
        InvalidInputError: There are not so many samples; ``option`` is what the user calls ``take``.
    """
    if take is not None and not 1 <= take <= samples:
        raise InvalidInputError(f"{option} {take} of {samples} samples: ask for 1 to {samples}")
    return None if seed is None else Order.shuffled(seed, samples, take)


def _digests(files: Mapping[str, Object]) -> dict[str, Digest]:
    return {name: made.digest for name, made in files.items()}


def _store_documents(objects: ObjectStore, *documents: Object) -> None:
    """Store documents, each of which names those before it, and objects that were put."""
    for document in documents:
        objects.barrier()  # nothing is ever seen without what it names
        objects.put(document.digest, document.data)
    objects.flush()
