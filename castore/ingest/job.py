"""``tokenize``: from what the user asked for to a run record that a ref can name."""

from __future__ import annotations

import datetime
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Unpack, cast

from castore.errors import InvalidInputError, did_you_mean
from castore.format.codec import Value
from castore.format.digest import Digest, digest_from_hex
from castore.format.files import DROPPED_FILE, TEMPLATE_FILE, encode_dropped, encode_file
from castore.format.object import Object
from castore.format.run import RUN_SOURCES_MAX, RunConfiguration, RunOrigin, RunStatistics, SourceRecord
from castore.format.schema import DATA_ARRAYS, PROVENANCE_ARRAYS
from castore.ingest.assembly import Assembly, Growth, recorded_order
from castore.ingest.clock import parse_date
from castore.ingest.defaults import (
    ERRORS,
    FILE_SPLIT,
    MAIN_REVISION,
    MESSAGES_FORMAT,
    MIX_SEED,
    ON_ERROR,
    SHUFFLE_SEED,
    TokenizeOptions,
)
from castore.ingest.dropped import warnings_of_dropped, why_none
from castore.ingest.lost import LostKey, totals
from castore.ingest.mix import Amount, MixEntry, small_count_warning, spelled_mix
from castore.ingest.places import STDIN, expanded, open_source
from castore.ingest.pool import open_pool
from castore.ingest.run_writer import MixItem, Progress, RunWriter, Written
from castore.ingest.shapes import read_format
from castore.ingest.source import BLOCK_BYTES_TARGET
from castore.ingest.tokenizer import ChatTemplate, ChatTokenizer, TokenizerFolder
from castore.ingest.units import RunUnits
from castore.store.objects import ObjectStore
from castore.store.units import UnitStore
from castore.tree.dataset_builder import RunFields
from castore.tree.split import CHUNK_BYTES, FANOUT


@dataclass(frozen=True, slots=True)
class TokenizeJob:
    """What to tokenize and how, with what holds where nothing was said.

    Attributes:
        mix: Path (or name of a Hugging Face dataset) and amount of each source, in order, as the user spelled them.

    All others are as in ``TokenizeOptions``, paths as text.

    Raises:
        InvalidInputError: A number out of its range, or no such ``on_error``.
    """

    mix: Sequence[tuple[str, str]]
    tokenizer: str
    chat_template: str | None = None
    template_fallback: bool = False
    date: str | None = None
    max_seq_length: int | None = None
    add_bos: bool = False
    last_turn: bool = False
    num_examples: int | None = None
    shuffle_seed: int | None = SHUFFLE_SEED
    mix_seed: int = MIX_SEED
    split: Sequence[str] = (FILE_SPLIT,)
    revision: str = MAIN_REVISION
    workers: int | None = None
    on_error: str = ON_ERROR
    format: str = MESSAGES_FORMAT
    strict: bool = False

    def __post_init__(self) -> None:
        _check_number("max_seq_length", self.max_seq_length, 1)
        _check_number("num_examples", self.num_examples, 1)
        _check_number("shuffle_seed", self.shuffle_seed, 0, (1 << 63) - 1)
        _check_number("mix_seed", self.mix_seed, 0, (1 << 32) - 1)
        _check_number("workers", self.workers, 1)
        read_format(self.format)
        if self.on_error not in ERRORS:
            raise InvalidInputError(f"on_error is {self.on_error!r:.80}: give one of {', '.join(ERRORS)}")

    @classmethod
    def of(cls, mix: Iterable[MixEntry], **options: Unpack[TokenizeOptions]) -> TokenizeJob:
        """The job that a program spells.

        Raises:
            InvalidInputError: The mix is none, or as for the class.
            TypeError: There is no such option, or none says the tokenizer.
        """
        known = TokenizeOptions.__annotations__
        for name in options.keys() - known:
            raise TypeError(f"tokenize() got an unexpected keyword argument {name!r}{did_you_mean(name, known)}")
        if "tokenizer" not in options:
            raise TypeError("tokenize() missing the keyword argument 'tokenizer', the folder of a tokenizer")
        spelled: dict[str, Any] = {
            name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in options.items()
        }
        split = options.get("split", FILE_SPLIT)
        spelled["split"] = (split,) if isinstance(split, str) else tuple(split)
        return cls(spelled_mix(mix), **spelled)


def _check_number(name: str, value: int | None, low: int, high: int | None = None) -> None:
    if value is None:
        return
    if type(value) is not int or value < low or (high is not None and value > high):
        said = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise InvalidInputError(f"{name} is {value!r:.80}: give a whole number {said}")


@dataclass(frozen=True, slots=True)
class Sizes:
    """Wanted sizes of blocks, chunks and nodes. Part of the format but for the first: only tests want other ones."""

    block_bytes: int = BLOCK_BYTES_TARGET
    chunk_bytes: int = CHUNK_BYTES
    fanout: int = FANOUT


@dataclass(frozen=True, slots=True)
class TokenizeResult:
    """What a job came to.

    Attributes:
        run: Digest of the run record, not yet named by any ref.
        root: Digest of the manifest.
        samples, tokens, trainable: Counts of all samples.
        dropped: Rows that became no sample, by reason.
        lost: What rows lost that became samples: counts by reason and by what was lost.
        progress: The last progress report: rows and units, and how many of them were found.
        objects_new, bytes_new: What the repository grew by.
    """

    run: Digest
    root: Digest
    samples: int
    tokens: int
    trainable: int
    dropped: Mapping[str, int]
    lost: Mapping[str, Mapping[str, int]]
    progress: Progress
    objects_new: int
    bytes_new: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is known of a job before a row is tokenized.

    Attributes:
        folder: The tokenizer.
        template: The chat template.
        mix: The sources, opened and counted.
        make: Makes a tokenizer; may be pickled.
        recipe: All that can change tokens.
    """

    folder: TokenizerFolder
    template: ChatTemplate
    mix: Sequence[MixItem]
    make: Callable[[], ChatTokenizer]
    recipe: dict[str, Value]


def prepare(job: TokenizeJob, time_s: int, sizes: Sizes, warn: Callable[[str], None]) -> Prepared:
    """Look at the job, the tokenizer and the sources, and refuse what cannot be.

    Args:
        job: What to do.
        time_s: When the run began, in seconds since 1970.
        sizes: Of blocks.
        warn: Called with one line for each thing that the user should know.

    Raises:
        InvalidInputError: The job, the tokenizer or a source is wrong.
    """
    if job.shuffle_seed is None and job.num_examples is not None:
        raise InvalidInputError("--num-examples takes the first samples of a shuffle: give a --shuffle-seed too")
    folder = TokenizerFolder.load(job.tokenizer)
    template = _template(job, folder)
    for warning in (*folder.warnings, *filter(None, [template.warning])):
        warn(warning)
    mix = _open_mix(job, sizes)
    for item in mix:
        for line in item.source.warnings:
            warn(line)
        hint = small_count_warning(item.amount, item.source.row_count())
        if hint:
            warn(f"{item.source.name}: {hint}")
    _check_take(job, sum(item.amount.target(item.source.row_count()) for item in mix))
    make = partial(
        ChatTokenizer,
        folder,
        template,
        job.max_seq_length,
        last_turn_only=job.last_turn,
        now=_now(job, time_s),
    )
    return Prepared(folder, template, mix, make, cast("dict[str, Value]", make().recipe()))


def tokenize(
    job: TokenizeJob,
    objects: ObjectStore,
    units: UnitStore,
    origin: RunOrigin,
    *,
    report: Callable[[Progress], None] = lambda progress: None,
    warn: Callable[[str], None] = lambda message: None,
    sizes: Sizes = Sizes(),
) -> TokenizeResult:
    """Run a job; everything the result names is durable on return.

    Args:
        job: What to do.
        objects: The repository's objects.
        units: The repository's unit records.
        origin: Who, where and when, for the run record.
        report: Called after every unit.
        warn: Called with one line for each thing that the user should know.
        sizes: Of blocks, chunks and nodes.

    Raises:
        InvalidInputError: The job, the tokenizer or a source is wrong. What was tokenized is kept.
    """
    prepared = prepare(job, origin.time, sizes, warn)
    folder, template, mix, recipe = prepared.folder, prepared.template, prepared.mix, prepared.recipe
    last = Progress()

    def remember(progress: Progress) -> None:
        nonlocal last
        last = progress
        report(progress)

    growth = Growth(objects)
    tree_sizes = {"chunk_bytes": sizes.chunk_bytes, "fanout": sizes.fanout}
    assembly = Assembly(objects, DATA_ARRAYS, PROVENANCE_ARRAYS, **tree_sizes)
    pool = open_pool(prepared.make, job.on_error, job.workers)
    try:
        run_units = RunUnits(objects, units, **tree_sizes)
        writer = RunWriter(assembly, run_units, pool, recipe, on_error=job.on_error, strict=job.strict, report=remember)
        written = writer.write(mix, job.mix_seed)
    finally:
        pool.close()
    try:
        if written.samples == 0:
            raise InvalidInputError(why_none(mix, written.counts))
        order = recorded_order(job.shuffle_seed, job.num_examples, written.samples, "--num-examples")
        for line in warnings_of_dropped(mix, written.counts):
            warn(line)
        run_fields = _run_fields(job, written, mix, recipe, folder, origin)
        run, root = assembly.finish(order, run_fields, _files(written, folder, template))
    except (InvalidInputError, KeyboardInterrupt):
        assembly.flush()  # it was done already, and need not be done again
        raise
    counts = written.counts
    return TokenizeResult(
        run,
        root,
        written.samples,
        sum(count.tokens for count in counts),
        sum(count.trainable for count in counts),
        _dropped(written),
        _lost(written),
        last,
        growth.objects_new,
        growth.bytes_new,
    )


def _open_mix(job: TokenizeJob, sizes: Sizes) -> list[MixItem]:
    if not job.mix:
        raise InvalidInputError("nothing to tokenize: give at least one --mix PATH AMOUNT")
    if len(job.mix) > RUN_SOURCES_MAX:
        raise InvalidInputError(f"{len(job.mix)} sources: a run record takes at most {RUN_SOURCES_MAX}")
    if len(job.split) not in (1, len(job.mix)):
        raise InvalidInputError(
            f"{len(job.split)} splits for {len(job.mix)} sources: give one --split for all, or one for each --mix"
        )
    if [name for name, _ in job.mix].count(STDIN) > 1:
        raise InvalidInputError("standard input (-) is in the mix twice, and can be read once")
    splits = job.split if len(job.split) == len(job.mix) else [*job.split] * len(job.mix)
    # All amounts are read before a dataset is loaded, which may take long.
    amounts = [Amount.parse(amount) for _, amount in job.mix]
    entries = [
        (path, split, amount)
        for (name, _), split, amount in zip(job.mix, splits, amounts, strict=True)
        for path in expanded(name)
    ]
    if len(entries) > RUN_SOURCES_MAX:
        raise InvalidInputError(f"{len(entries)} files: a run record takes at most {RUN_SOURCES_MAX} sources")
    return [
        MixItem(open_source(path, split, job.revision, block_bytes=sizes.block_bytes, format_name=job.format), amount)
        for path, split, amount in entries
    ]


def _check_take(job: TokenizeJob, row_count: int) -> None:
    """Refuse before the work what cannot be after it: there are at most as many samples as rows."""
    if job.num_examples is not None and job.num_examples > row_count:
        raise InvalidInputError(
            f"--num-examples {job.num_examples} of at most {row_count} samples: the mix has no more rows"
        )


def _template(job: TokenizeJob, folder: TokenizerFolder) -> ChatTemplate:
    if job.chat_template is None:
        return ChatTemplate.own(folder, add_bos=job.add_bos)
    return ChatTemplate.resolve(job.chat_template, folder, add_bos=job.add_bos, fallback=job.template_fallback)


def _now(job: TokenizeJob, time_s: int) -> datetime.datetime:
    """The moment that templates see: one for the whole run, which its recipe holds."""
    if job.date is not None:
        return parse_date(job.date)
    return parse_date(datetime.datetime.fromtimestamp(time_s).date().isoformat())


def _files(written: Written, folder: TokenizerFolder, template: ChatTemplate) -> dict[str, Object]:
    return {
        **folder.kept_files(),
        TEMPLATE_FILE: encode_file(template.text.encode()),
        DROPPED_FILE: encode_dropped(written.dropped),
    }


def _run_fields(
    job: TokenizeJob,
    written: Written,
    mix: Sequence[MixItem],
    recipe: Mapping[str, Value],
    folder: TokenizerFolder,
    origin: RunOrigin,
) -> RunFields:
    return {
        "recipe": {**recipe, **_formats(mix)},
        "configuration": RunConfiguration(
            chat_template=None if job.chat_template is None else _text(job.chat_template),
            max_seq_length=job.max_seq_length,
            mix_seed=job.mix_seed,
            num_examples=job.num_examples,
            shuffle_seed=job.shuffle_seed,
            tokenizer=_text(job.tokenizer),
            vocab_size=folder.vocab_size,
        ),
        "sources": [_source(item, written, index) for index, item in enumerate(mix)],
        "statistics": RunStatistics(
            written.samples,
            sum(count.tokens for count in written.counts),
            sum(count.trainable for count in written.counts),
            _dropped(written),
            _lost(written),
        ),
        "origin": origin,
    }


def _formats(mix: Sequence[MixItem]) -> dict[str, Value]:
    """The entry of a run's recipe for sources whose rows are not messages, by their numbers."""
    formats: dict[str, Value] = {
        str(index): item.source.format for index, item in enumerate(mix) if item.source.format != MESSAGES_FORMAT
    }
    return {"formats": formats} if formats else {}


def _source(item: MixItem, written: Written, index: int) -> SourceRecord:
    count = written.counts[index]
    revision = item.source.revision
    return SourceRecord(
        _text(item.source.name),
        amount=item.amount.text,
        digest=digest_from_hex(item.source.digest),
        dropped=dict(sorted(count.dropped.items())),
        revision=None if revision is None else _text(revision),
        rows=count.rows,
        samples=count.samples,
        selected=count.selected,
        split=_text(item.source.split),
        tokens=count.tokens,
        trainable=count.trainable,
    )


def _text(path: str) -> str:
    """A path as text: bytes of it that are no UTF-8 are spelled out."""
    return path.encode("utf-8", "backslashreplace").decode()


def _lost(written: Written) -> dict[str, dict[str, int]]:
    return totals(sum((count.lost for count in written.counts), Counter[LostKey]()))


def _dropped(written: Written) -> dict[str, int]:
    return dict(sorted(sum((count.dropped for count in written.counts), Counter[str]()).items()))
