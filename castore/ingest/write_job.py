"""What a write is told, what it comes to, and what its run record says."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from castore.errors import InvalidInputError
from castore.format.codec import Value, encode
from castore.format.digest import Digest
from castore.format.run import RUN_SOURCES_MAX, RunConfiguration, RunOrigin, RunStatistics, SourceRecord
from castore.ingest.caller_samples import ArraySpec
from castore.store.move import Why
from castore.store.run_origin import Origin
from castore.store.writes import SourceTotal
from castore.tree.dataset_builder import RunFields
from castore.tree.split import CHUNK_BYTES, FANOUT


@dataclass(frozen=True, slots=True, repr=False)
class WriteResult:
    """What a write came to: digests of run record and manifest, counts, and what the repository grew by."""

    run: Digest
    root: Digest
    samples: int
    tokens: int
    trainable: int
    objects_new: int
    bytes_new: int

    def __repr__(self) -> str:
        return f"<WriteResult {self.root.hex()[:12]}: {self.samples} samples, {self.tokens} tokens>"


class WriteOptions(Why, total=False):
    """What ``Repository.writer`` takes as keywords."""

    recipe: Mapping[str, Value] | None
    arrays: ArraySpec | None
    sources: Sequence[str]
    shuffle_seed: int | None
    num_examples: int | None
    resume_key: str | None
    tokenizer: str | os.PathLike[str] | None
    origin: Origin | None


@dataclass(frozen=True, slots=True)
class WriteJob:
    """What is written, apart from the samples.

    Attributes:
        name: Of the result; also of the only source, where none is named.
        recipe: All that can change tokens: text, integers, lists and maps.
        arrays: Extra arrays by name.
        sources: Names of sources in the order of their numbers; others are numbered as they appear.
        shuffle_seed: Seed of the recorded order; None for the order of writing.
        num_examples: Samples used of the order; None for all.
        resume_key: Name of the write for going on with it; None to keep no records.
        tokenizer: Folder of the tokenizer, kept beside the data so that diff and show have its text.
        chunk_bytes, fanout: As ``SequenceBuilder`` takes them. Part of the format: only tests want other ones.
    """

    name: str
    recipe: Mapping[str, Value] = field(default_factory=dict)
    arrays: ArraySpec = field(default_factory=dict)
    sources: Sequence[str] = ()
    shuffle_seed: int | None = None
    num_examples: int | None = None
    resume_key: str | None = None
    tokenizer: str | None = None
    chunk_bytes: int = CHUNK_BYTES
    fanout: int = FANOUT

    def __post_init__(self) -> None:
        for number, name in enumerate(self.sources):
            try:
                check_source(name, number)
            except InvalidInputError as error:
                raise InvalidInputError(f"source {number}: {error}") from error


def check_source(name: str, number: int) -> None:
    """Refuse a source of a write that its run record could not have.

    Raises:
        InvalidInputError: The name is empty, too long or no text that can be recorded; or it is one source too many.
    """
    if number >= RUN_SOURCES_MAX:
        raise InvalidInputError(f"a run record takes at most {RUN_SOURCES_MAX} sources")
    encode(SourceRecord(name).name)


def run_fields(job: WriteJob, totals: Sequence[SourceTotal], vocab_size: int | None, origin: RunOrigin) -> RunFields:
    """What the run record of a finished write says; ``vocab_size`` is that of its tokenizer, if it has one."""
    samples, tokens, trainable = (
        sum(getattr(total, name) for total in totals) for name in ("samples", "tokens", "trainable")
    )
    return {
        "recipe": dict(job.recipe),
        "configuration": RunConfiguration(
            num_examples=job.num_examples,
            shuffle_seed=job.shuffle_seed,
            tokenizer=job.tokenizer,
            vocab_size=vocab_size,
        ),
        "sources": [SourceRecord(t.name, samples=t.samples, tokens=t.tokens, trainable=t.trainable) for t in totals],
        "statistics": RunStatistics(samples, tokens, trainable),
        "origin": origin,
    }
