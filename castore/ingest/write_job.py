"""What a write is told, what it comes to, and what its run record says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from castore.format.codec import Value
from castore.format.digest import Digest
from castore.ingest.caller_samples import ArraySpec
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


def run_fields(
    job: WriteJob, totals: Sequence[SourceTotal], vocab_size: int | None, origin: Mapping[str, Value]
) -> RunFields:
    """What the run record of a finished write says; ``vocab_size`` is that of its tokenizer, if it has one."""
    configuration: dict[str, Value] = {"num_examples": job.num_examples, "shuffle_seed": job.shuffle_seed}
    if job.tokenizer is not None:
        configuration |= {"tokenizer": job.tokenizer, "vocab_size": vocab_size}
    names = ("samples", "tokens", "trainable")
    sources: list[dict[str, Value]] = [
        {"name": total.name, **{name: getattr(total, name) for name in names}} for total in totals
    ]
    counts = {name: sum(getattr(total, name) for total in totals) for name in names}
    return {
        "recipe": dict(job.recipe),
        "configuration": configuration,
        "sources": sources,
        "statistics": {"dropped": {}, **counts},
        "origin": origin,
    }
