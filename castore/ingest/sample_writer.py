"""Samples from any iterator become a run: Megatron, datatrove or a notebook write as ``tokenize`` does.

The trees are those of any other writer of the same samples. With a resume key the samples are recorded as they are
stored, a stretch at a time: objects, then the record that names them. A write that was killed goes on behind the last
record, and comes to the root of one that was not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from castore.errors import CastoreError, ConflictError, InvalidInputError
from castore.format.codec import Value, encode
from castore.format.digest import Digest
from castore.format.run import RunOrigin
from castore.format.samples import Piece
from castore.format.schema import DATA_ARRAYS, SOURCE
from castore.ingest.assembly import Assembly, Growth, recorded_order
from castore.ingest.caller_samples import Checked, Gathered, as_numpy, checked, extra_arrays
from castore.ingest.tokenizer_folder import TokenizerFolder
from castore.ingest.unfinished import StoredSamples, Waiting, is_whole, pieces_of, record_of
from castore.ingest.write_job import WriteJob, WriteResult, check_source, run_fields
from castore.store.backend import Backend
from castore.store.objects import ObjectStore
from castore.store.writes import SourceTotal, WriteStore, write_name
from castore.tree.build import Cut

BATCH_TOKENS = 1 << 18
BATCH_SAMPLES = 1 << 13
"""Samples that are gathered before they enter the builder."""

RECORD_TOKENS = 1 << 24
RECORD_SAMPLES = 1 << 18
"""Stored samples after which a record of them is made: what a write that is killed repeats at most, and one batch."""

_NO_SOURCE = (1 << 32) - 1
"""Number of a source that has not been named."""


class SampleWriter:
    """Takes samples in order; as a context manager it finishes at the end of the block, unless that raises.

    Args:
        job: What is written.
        backend: Where the records of the write go.
        objects: Where everything else goes.
        origin: Who, where and when, for the run record.
        publish: Called with the digest of the finished run record; lets the name mean it.

    Attributes:
        position: Samples that the writer has. After going on with a write: those that need not be given again.
        result: What the write came to; None until it is finished.
    """

    def __init__(
        self,
        job: WriteJob,
        backend: Backend,
        objects: ObjectStore,
        origin: RunOrigin,
        publish: Callable[[Digest], None],
    ) -> None:
        _check_recipe(job.recipe)
        if job.shuffle_seed is None and job.num_examples is not None:
            raise InvalidInputError("num_examples takes the first samples of a shuffle: give a shuffle_seed too")
        self._job, self._objects, self._origin, self._publish = job, objects, origin, publish
        self._extra = extra_arrays(job.arrays)
        self._arrays = (*DATA_ARRAYS, *self._extra)
        self._scalars = [SOURCE, *(array for array in self._extra if array.grain == 1)]
        self._fine = [array for array in self._arrays if array.grain == 0]
        tokenizer = None if job.tokenizer is None else TokenizerFolder.load(job.tokenizer)
        self._vocab_size = None if tokenizer is None else tokenizer.vocab_size
        self._files = {} if tokenizer is None else tokenizer.kept_files()
        self._totals = [SourceTotal(name) for name in job.sources]
        self._numbers = _numbered(job.sources)
        self._assembly = Assembly(objects, self._arrays, chunk_bytes=job.chunk_bytes, fanout=job.fanout)
        self._step = self._assembly.step
        self._gathered = Gathered(self._extra)
        self._closed = False
        self._growth = Growth(objects)
        self._waiting: deque[Waiting] = deque()
        self._cuts: list[Cut] = []
        self._recorded = 0  # samples in records
        self._parted = False  # whether the chunks no longer fit the records
        self._sequence = 0
        self._known = StoredSamples(self._extra, self._fine, objects)
        self.result: WriteResult | None = None
        self.position = 0
        self._records = None if job.resume_key is None else WriteStore(backend, self._write_name(job.resume_key))
        if self._records is not None:
            self._take_up(self._records)

    def _write_name(self, resume_key: str) -> Digest:
        job = self._job
        arrays: list[Value] = [[array.name, array.dtype, array.axis] for array in self._extra]
        return write_name(resume_key, [dict(job.recipe), arrays, list(job.sources), job.chunk_bytes, job.fanout])

    # ---- taking samples

    def append(
        self,
        token_ids: ArrayLike,
        labels_mask: ArrayLike | None = None,
        *,
        source: str | int | None = None,
        **arrays: ArrayLike,
    ) -> None:
        """Append one sample; what is given is copied.

        Args:
            token_ids: Integers [t], 0 to 2**32 − 1.
            labels_mask: Booleans (or 0 and 1) [t]; None if all tokens are trained on.
            source: Name of its source, or the number of one that has been named; the name of the result by default.
            **arrays: The extra arrays that were declared: [t], or one element for the axis ``sample``.

        Raises:
            InvalidInputError: Something has another type, shape or range. The writer has what it had before.
        """
        self._check_open()
        try:
            some, number = self._one(token_ids, labels_mask, arrays), self._number(source)
        except InvalidInputError as error:
            raise InvalidInputError(f"sample {self.position}: {error}") from error
        self._gather(some, number)

    def _one(self, token_ids: ArrayLike, labels_mask: ArrayLike | None, arrays: Mapping[str, ArrayLike]) -> Checked:
        """One sample, checked."""
        ids = as_numpy("token_ids", token_ids)
        per_sample = {array.name for array in self._extra if array.axis == "sample" and array.dtype != "bytes16"}
        more: dict[str, Any] = {name: [given] if name in per_sample else given for name, given in arrays.items()}
        return checked(self._extra, ids, np.array([ids.size], np.int64), labels_mask, more)

    def extend(
        self,
        token_ids: NDArray[Any],
        offsets: NDArray[np.int64],
        labels_mask: NDArray[np.bool_] | None = None,
        *,
        source: str | int | None = None,
        **arrays: NDArray[Any],
    ) -> None:
        """Append n samples at once, in the form that ``Dataset.read`` gives.

        Args:
            token_ids: Integers [m].
            offsets: Where samples begin and end in them: int64[n + 1].
            labels_mask: Booleans [m]; None if all tokens are trained on.
            source: Name or number of the source of all of them.
            **arrays: The extra arrays: [m], or [n] for the axis ``sample``.

        Raises:
            InvalidInputError: As ``append``; samples before the first bad batch were taken.
        """
        edges, count = np.asarray(offsets, np.int64), len(token_ids)
        lengths = np.diff(edges)
        if edges.ndim != 1 or not len(edges) or edges[0] != 0 or edges[-1] != count or np.any(lengths < 0):
            raise InvalidInputError(f"offsets do not ascend from 0 to the {count} tokens")
        per_token = {array.name for array in self._extra if array.axis == "token"}
        at = 0
        while at < len(lengths):
            stop = int(np.searchsorted(edges, edges[at] + BATCH_TOKENS, side="right")) - 1
            stop = min(max(stop, at + 1), at + BATCH_SAMPLES)
            lo, hi = edges[at], edges[stop]
            more = {name: given[lo:hi] if name in per_token else given[at:stop] for name, given in arrays.items()}
            mask = None if labels_mask is None else labels_mask[lo:hi]
            self._check_open()
            try:
                some = checked(self._extra, token_ids[lo:hi], lengths[at:stop], mask, more)
                number = self._number(source)
            except InvalidInputError as error:
                raise InvalidInputError(f"sample {self.position}: {error}") from error
            self._gather(some, number)
            at = stop

    def _gather(self, some: Checked, source: int) -> None:
        with self._step:
            self._gathered.add(some, source)
            self.position += len(some.lengths)
        if self._gathered.tokens >= BATCH_TOKENS or self._gathered.count >= BATCH_SAMPLES:
            self._hand_over()

    def pass_over(
        self,
        token_ids: ArrayLike,
        labels_mask: ArrayLike | None = None,
        *,
        source: str | int | None = None,
        **arrays: ArrayLike,
    ) -> None:
        """Compare a sample, given as to ``append``, with the next one of those that an interrupted write has stored.

        They are compared a chunk at a time, and all of them when ``position`` samples were passed over.

        Raises:
            InvalidInputError: As ``append``; or a sample is another than the stored one.
        """
        self._check_open()
        name = self._job.name if source is None else source
        try:
            some = self._one(token_ids, labels_mask, arrays)
            number = self._number(name) if isinstance(name, int) else self._numbers.get(name, _NO_SOURCE)
        except InvalidInputError as error:
            raise InvalidInputError(f"sample {self._known.position}: {error}") from error
        self._known.compare(some, number)

    def _number(self, source: str | int | None) -> int:
        if isinstance(source, int):
            if not 0 <= source < len(self._totals):
                raise InvalidInputError(f"source {source} has no name: give sources to the writer")
            return source
        name = self._job.name if source is None else source
        if name not in self._numbers:
            check_source(name, len(self._totals))
            self._numbers[name] = len(self._totals)
            self._totals.append(SourceTotal(name))
        return self._numbers[name]

    def _check_open(self) -> None:
        if self._closed:
            raise InvalidInputError("the write is over: open another writer")
        if self._step.is_torn:
            raise InvalidInputError("the write was interrupted half-way: open another writer with the same resume_key")

    # ---- into the repository

    def _hand_over(self) -> None:
        """Give the gathered samples to the builder."""
        if not self._gathered.count:
            return
        samples, keys, trainable = self._gathered.samples()
        scalars = {array.name: np.asarray(samples.columns[array.name]) for array in self._scalars}
        with self._step:
            self._gathered = Gathered(self._extra)
            self._waiting.append(Waiting(samples.lengths, keys, scalars, trainable))
            self._add(Piece(samples.lengths, keys, dict(scalars), lambda: samples))
        if self._records is None or self._parted:
            self._settle(sum(len(waiting.lengths) for waiting in self._waiting))
            self._cuts.clear()
        elif self._due():
            self.checkpoint()

    def _add(self, piece: Piece) -> None:
        self._assembly.add(piece)
        self._cuts += self._assembly.cuts()

    def _settle(self, count: int) -> list[Waiting]:
        """Count the next samples towards their sources, and let them go."""
        done = []
        while count:
            first = self._waiting.popleft()
            if len(first.lengths) > count:
                first, rest = first.split(count)
                self._waiting.appendleft(rest)
            count -= len(first.lengths)
            first.added_to(self._totals)
            done.append(first)
        return done

    # ---- records of an unfinished write

    def _due(self) -> bool:
        tokens = sum(waiting.tokens for waiting in self._waiting)
        samples = sum(len(waiting.lengths) for waiting in self._waiting)
        return bool(self._cuts) and (tokens >= RECORD_TOKENS or samples >= RECORD_SAMPLES)

    def checkpoint(self) -> int:
        """Record what is stored so far; how many samples a write that goes on from here need not be given again.

        Called now and then by the writer itself. Without a resume key nothing is recorded, and the answer is 0.

        Raises:
            ConflictError: Another process goes on with the same write.
        """
        if self._records is None or self._step.is_torn or self._parted:
            return self._recorded
        # After going on, the cuts of recorded samples come out once more.
        cuts = [cut for cut in self._cuts if cut.start >= self._recorded]
        if cuts and cuts[0].start != self._recorded:
            # Where a chunk ends may hang on what comes after it. What was given now is other than the first time, and a
            # chunk reaches over the end of the records: they stay a beginning, to which nothing can be added.
            self._parted = True
            return self._recorded
        with self._step:
            self._cuts = []
            if cuts:
                done = self._settle(cuts[-1].stop - self._recorded)
                self._assembly.flush()
                if not self._records.create(self._sequence, record_of(cuts, done, self._scalars, self._totals)):
                    raise ConflictError(f"another process writes with the resume_key {self._job.resume_key!r} too")
                self._sequence += 1
                self._recorded = cuts[-1].stop
        return self._recorded

    def _take_up(self, records: WriteStore) -> None:
        """Go on behind the last record whose chunks are all there."""
        while (stored := records.get(self._sequence)) is not None:
            before = sum(total.samples for total in stored.sources) - stored.samples
            # A record of a writer that others took for dead may stand behind records that are not its own.
            if before != self._recorded or not is_whole(stored, self._fine, self._scalars, self._objects):
                break
            pieces = pieces_of(stored, self._fine, self._scalars, self._objects)
            for piece in pieces:
                self._add(piece)
            self._sequence += 1
            self._known.add(pieces)
            self._totals = list(stored.sources)
            self._numbers = _numbered([total.name for total in self._totals])
            self._recorded += stored.samples
        self.position = self._recorded
        records.forget(self._sequence)

    # ---- the end

    def close(self) -> WriteResult:
        """Finish: everything is durable and the name means it on return.

        Raises:
            InvalidInputError: No sample was written.
            ConflictError: Somebody moved the name meanwhile; the run is stored.
        """
        self._check_open()
        self._hand_over()
        if self.position == 0:
            raise InvalidInputError("no sample was written")
        job, samples = self._job, self.position
        order = recorded_order(job.shuffle_seed, job.num_examples, samples, "num_examples")
        with self._step:
            self._settle(sum(len(waiting.lengths) for waiting in self._waiting))
            said = run_fields(job, self._totals, self._vocab_size, self._origin)
            run, root = self._assembly.finish(order, said, self._files)
            self._publish(run)
            if self._records is not None:
                self._records.forget()
            self._closed = True
        tokens, trainable = (sum(getattr(total, name) for total in self._totals) for name in ("tokens", "trainable"))
        self.result = WriteResult(
            run, root, samples, tokens, trainable, self._growth.objects_new, self._growth.bytes_new
        )
        return self.result

    def __enter__(self) -> SampleWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._closed:
            return
        if error is None:
            self.close()
        elif isinstance(error, (Exception, KeyboardInterrupt)) and not self._step.is_torn:
            # What is stored need not be given again; the name stays as it is.
            with suppress(CastoreError):  # the first error counts
                self._hand_over()
                self.checkpoint()
            self._closed = True


def _numbered(names: Sequence[str]) -> dict[str, int]:
    """Numbers of sources by name, of a name that is there twice the first one."""
    numbers: dict[str, int] = {}
    for number, name in enumerate(names):
        numbers.setdefault(name, number)
    return numbers


def _check_recipe(recipe: Mapping[str, Value]) -> None:
    """Refuse what cannot be recorded before the work."""
    for name, value in recipe.items():
        try:
            encode(value)
        except InvalidInputError as error:
            raise InvalidInputError(
                f"recipe[{name!r}]: {error}; give text, integers, lists and maps, of a float its text"
            ) from error
    encode(dict(recipe))
