"""The run record: how a manifest came to be. A ref names one; it names the manifest (``docs/format/run.md``).

All that it holds but the recipe, which is what differs between ways of making data, is of known names and types. They
are checked where a value is made, so that what was decoded needs no second look and what is encoded can be decoded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any, ClassVar, Self, TypeAlias

from castore.errors import FormatError, InvalidInputError
from castore.format.codec import Value, encode
from castore.format.digest import Digest
from castore.format.fields import decode_map, expect, expect_count, expect_digest, expect_entries
from castore.format.manifest import Root, trees_of, trees_value
from castore.format.object import Object
from castore.format.schema import Array
from castore.frozen import frozen

RUN_KIND = "castore/run"
RUN_VERSION = 1

RUN_SOURCES_MAX = 1 << 16
"""Most sources of a run record. A large mix has hundreds; all of them are in memory whenever a dataset is opened."""

RUN_TEXT_BYTES_MAX = 1 << 16
"""Most bytes of a text in a run record, in UTF-8: as many as an entry in the log of a ref takes with its message."""

VOCAB_SIZE_MAX = 1 << 63
"""Largest vocabulary. Token ids have 32 bits, but trainers' files may store them in 64."""

_ENTRIES = frozenset(
    ("configuration", "files", "manifest", "origin", "provenance", "recipe", "samples", "sources", "statistics")
)

# Wider than what a mix takes, for trainers' files tell of other mixes: any float written out, but for the very largest.
_AMOUNT = re.compile(r"[0-9]{1,308}(\.[0-9]{0,400})?|\.[0-9]{1,400}")

_Check: TypeAlias = Callable[[object, str], object]
"""Takes a value and its name, and raises ``FormatError`` for one that cannot be."""


def is_amount(text: str) -> bool:
    """Whether a text is an amount: a share with a point (``0.37``) or a count (``5000``), without sign or exponent."""
    return _AMOUNT.fullmatch(text) is not None


def unnamed_source(number: int) -> str:
    """What source ``number`` (from 0, as in the array ``source``) is called where the run record has no name of it."""
    return f"source {number}"


# ---- what the entries must be


def _text(value: object, name: str) -> str:
    text = expect(str, value, name)
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > RUN_TEXT_BYTES_MAX:
        raise FormatError(f"{name} is a text of {size} bytes: at most {RUN_TEXT_BYTES_MAX} are possible")
    return text


def _name(value: object, name: str) -> str:
    if not (text := _text(value, name)):
        raise FormatError(f"{name} is empty")
    return text


def _amount(value: object, name: str) -> str:
    text = expect(str, value, name)
    if not is_amount(text):
        raise FormatError(f"{name} {text[:40]!r} is neither a share with a point nor a count")
    return text


def _counts(value: object, name: str) -> dict[str, int]:
    counts = expect(dict, value, name)
    for reason, count in counts.items():
        _text(reason, f"a reason of {name}")
        expect_count(count, f"{name} for {reason[:80]!r}")
    return counts


def _lost(value: object, name: str) -> object:
    for reason, counts in expect(dict, value, name).items():
        _counts(counts, f"{name} for {_text(reason, f'a reason of {name}')[:80]!r}")
    return value


def _vocab_size(value: object, name: str) -> int:
    size = expect(int, value, name)
    if not 1 <= size <= VOCAB_SIZE_MAX:
        raise FormatError(f"{name} is {size}, outside 1 to 2**63")
    return size


def _optional(check: _Check) -> _Check:
    return lambda value, name: None if value is None else check(value, name)


class _Entries:
    """A map of known entries; checked when it is made, by whomever.

    Attributes:
        checks: Every entry by its name, which is that of the attribute.
    """

    checks: ClassVar[Mapping[str, _Check]]

    def __post_init__(self) -> None:
        try:
            for name, check in self.checks.items():
                check(getattr(self, name), name)
        except FormatError as error:
            raise InvalidInputError(str(error)) from error

    def value(self) -> dict[str, Value]:
        """The document's form: every entry, None where nothing is known."""
        return {name: getattr(self, name) for name in self.checks}

    @classmethod
    def of(cls, value: object, what: str) -> Self:
        """Read the document's form.

        Args:
            value: A decoded value.
            what: What it should be, for messages.

        Raises:
            FormatError: It is no such map, or has an entry too few, too many or of another type.
        """
        fields: dict[str, Any] = expect(dict, value, what)
        expect_entries(fields, frozenset(cls.checks), what)
        try:
            return cls(**fields)
        except InvalidInputError as error:
            raise FormatError(f"{what}: {error}") from error


# ---- what a run record holds


@frozen
class SourceRecord(_Entries):
    """One source of a dataset; what is not known of it is None.

    Attributes:
        name: In the user's words, usually a path; never empty.
        amount: How much of it was asked for, as the user spelled it; ``is_amount`` holds.
        digest: Of its content.
        dropped: Rows that became no sample, by reason.
        revision: Of a dataset on a hub.
        rows: Rows that it has.
        samples: Samples that are of it.
        selected: Rows that were taken, copies counted.
        split: Of a dataset on a hub.
        tokens: Tokens of its samples.
        trainable: Those of them that are trained on.

    Raises:
        InvalidInputError: An attribute is of another type or beyond its limits.
    """

    name: str
    amount: str | None = None
    digest: Digest | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)
    revision: str | None = None
    rows: int | None = None
    samples: int | None = None
    selected: int | None = None
    split: str | None = None
    tokens: int | None = None
    trainable: int | None = None

    checks: ClassVar[Mapping[str, _Check]] = {
        "amount": _optional(_amount),
        "digest": _optional(expect_digest),
        "dropped": _counts,
        "name": _name,
        "revision": _optional(_text),
        "rows": _optional(expect_count),
        "samples": _optional(expect_count),
        "selected": _optional(expect_count),
        "split": _optional(_text),
        "tokens": _optional(expect_count),
        "trainable": _optional(expect_count),
    }


@frozen
class RunConfiguration(_Entries):
    """What the user asked for, as they spelled it; None where they did not, or where it does not apply.

    Attributes:
        chat_template: Name or file of the chat template; None for the tokenizer's own.
        imported: The directory that was imported.
        max_seq_length: Tokens at which a sample was cut.
        mix_seed: Seed of the rows picked of a source.
        num_examples: Samples used of the shuffled ones.
        shuffle_seed: Seed of the recorded order.
        tokenizer: Folder of the tokenizer.
        vocab_size: Of the tokenizer; decides the width of exported ids.

    Raises:
        InvalidInputError: An attribute is of another type or beyond its limits.
    """

    chat_template: str | None = None
    imported: str | None = None
    max_seq_length: int | None = None
    mix_seed: int | None = None
    num_examples: int | None = None
    shuffle_seed: int | None = None
    tokenizer: str | None = None
    vocab_size: int | None = None

    checks: ClassVar[Mapping[str, _Check]] = {
        "chat_template": _optional(_text),
        "imported": _optional(_text),
        "max_seq_length": _optional(expect_count),
        "mix_seed": _optional(expect_count),
        "num_examples": _optional(expect_count),
        "shuffle_seed": _optional(expect_count),
        "tokenizer": _optional(_text),
        "vocab_size": _optional(_vocab_size),
    }


@frozen
class RunStatistics(_Entries):
    """Counts over all sources.

    Attributes:
        samples, tokens: Of the manifest.
        trainable: Tokens that are trained on.
        dropped: Rows that became no sample, by reason.
        lost: What rows lost that became samples: counts by reason and by what was lost.

    Raises:
        InvalidInputError: An attribute is of another type or beyond its limits.
    """

    samples: int
    tokens: int
    trainable: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    lost: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    checks: ClassVar[Mapping[str, _Check]] = {
        "dropped": _counts,
        "lost": _lost,
        "samples": expect_count,
        "tokens": expect_count,
        "trainable": expect_count,
    }


@frozen
class RunOrigin(_Entries):
    """Who made a dataset, when, where, why and with what.

    Attributes:
        author: In the user's words.
        castore: Version of castore.
        host: Name of the machine.
        message: Why, in the user's words; may be empty.
        time: Seconds since 1970 (UTC).

    Raises:
        InvalidInputError: An attribute is of another type or beyond its limits.
    """

    author: str
    castore: str
    host: str
    message: str
    time: int

    checks: ClassVar[Mapping[str, _Check]] = {
        "author": _text,
        "castore": _text,
        "host": _text,
        "message": _text,
        "time": expect_count,
    }


@frozen
class Run:
    """Who made a dataset, when, from what and how. Nothing in it touches the root.

    Attributes:
        manifest: The root.
        samples: Samples of the manifest.
        provenance: Arrays that tell where a sample came from, with their trees.
        recipe: All that can change tokens: text, integers, lists and maps.
        configuration: What the user asked for.
        sources: In mixer order, at most ``RUN_SOURCES_MAX``.
        statistics: Counts over all; None where nobody counted.
        files: Objects kept beside the data by name (tokenizer files, template, vocabulary, dropped rows).
        origin: Who, when and where; None of a directory that nobody imported.

    Raises:
        InvalidInputError: There are too many sources, or the statistics are of other samples.
    """

    manifest: Digest
    samples: int
    provenance: Mapping[str, tuple[Array, Root]] = field(default_factory=dict)
    recipe: Mapping[str, Value] = field(default_factory=dict)
    configuration: RunConfiguration = field(default_factory=RunConfiguration)
    sources: Sequence[SourceRecord] = ()
    statistics: RunStatistics | None = None
    files: Mapping[str, Digest] = field(default_factory=dict)
    origin: RunOrigin | None = None

    def __post_init__(self) -> None:
        if len(self.sources) > RUN_SOURCES_MAX:
            raise InvalidInputError(f"{len(self.sources)} sources: a run record takes at most {RUN_SOURCES_MAX}")
        if (counts := self.statistics) is None:
            return
        if counts.samples != self.samples:
            raise InvalidInputError(f"statistics of {counts.samples} samples in a run record of {self.samples}")
        if counts.trainable > counts.tokens:
            raise InvalidInputError(f"statistics of {counts.trainable} trainable tokens of {counts.tokens}")

    def encode(self) -> Object:
        """The run record as an object."""
        return Object.of(
            encode(
                {
                    "configuration": self.configuration.value(),
                    "files": dict(self.files),
                    "format": RUN_VERSION,
                    "kind": RUN_KIND,
                    "manifest": self.manifest,
                    "origin": None if self.origin is None else self.origin.value(),
                    "provenance": trees_value(self.provenance),
                    "recipe": dict(self.recipe),
                    "samples": self.samples,
                    "sources": [source.value() for source in self.sources],
                    "statistics": None if self.statistics is None else self.statistics.value(),
                }
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> Run:
        """Read a run record.

        Raises:
            FormatError: Not a run record, or one that contradicts itself.
            UnsupportedVersionError: Written by a newer castore.
        """
        fields = decode_map(data, RUN_KIND, RUN_VERSION, _ENTRIES)
        samples = expect_count(fields["samples"], "samples")
        statistics, origin = fields["statistics"], fields["origin"]
        try:
            return cls(
                expect_digest(fields["manifest"], "manifest"),
                samples,
                trees_of(fields["provenance"], samples),
                expect(dict, fields["recipe"], "recipe"),
                RunConfiguration.of(fields["configuration"], "configuration of the run record"),
                sources_of(fields["sources"]),
                None if statistics is None else RunStatistics.of(statistics, "statistics of the run record"),
                {name: expect_digest(raw, name) for name, raw in expect(dict, fields["files"], "files").items()},
                None if origin is None else RunOrigin.of(origin, "origin of the run record"),
            )
        except InvalidInputError as error:
            raise FormatError(str(error)) from error


def sources_of(value: Value) -> tuple[SourceRecord, ...]:
    """Read a list of sources, as run records and import records have it.

    Raises:
        FormatError: It is no list, too long a one, or one of something else.
    """
    listed = expect(list, value, "sources")
    if len(listed) > RUN_SOURCES_MAX:
        raise FormatError(f"{len(listed)} sources: a run record takes at most {RUN_SOURCES_MAX}")
    return tuple(SourceRecord.of(raw, f"source {number} of the run record") for number, raw in enumerate(listed))
