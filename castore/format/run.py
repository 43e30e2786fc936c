"""The run record: how a manifest came to be. A ref names one; it names the manifest (``docs/format/run.md``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from castore.errors import FormatError
from castore.format.codec import Value, encode
from castore.format.digest import DIGEST_BYTES, Digest
from castore.format.fields import decode_map, expect, expect_count
from castore.format.manifest import Root, trees_of, trees_value
from castore.format.object import Object
from castore.format.schema import Array

RUN_KIND = "castore/run"
RUN_VERSION = 1

_ENTRIES = frozenset(
    {
        "configuration",
        "files",
        "manifest",
        "origin",
        "provenance",
        "recipe",
        "samples",
        "sources",
        "statistics",
    }
)


@dataclass(frozen=True, slots=True)
class Run:
    """Who made a dataset, when, from what and how. Nothing in it touches the root.

    Attributes:
        manifest: The root.
        samples: Samples of the manifest.
        provenance: Arrays that tell where a sample came from, with their trees.
        recipe: All that can change tokens: text, integers, lists and maps.
        configuration: What the user asked for as they spelled it (tokenizer, template, seeds, amounts).
        sources: One map a source in mixer order: name, digest, amount, counts.
        statistics: Counts over all: samples, tokens, trainable tokens, dropped by reason.
        files: Objects kept beside the data by name (tokenizer files, template, vocabulary, dropped rows).
        origin: Author, host, time in seconds since 1970 (UTC), message, software versions.
    """

    manifest: Digest
    samples: int
    provenance: Mapping[str, tuple[Array, Root]] = field(default_factory=dict)
    recipe: Mapping[str, Value] = field(default_factory=dict)
    configuration: Mapping[str, Value] = field(default_factory=dict)
    sources: Sequence[Mapping[str, Value]] = ()
    statistics: Mapping[str, Value] = field(default_factory=dict)
    files: Mapping[str, Digest] = field(default_factory=dict)
    origin: Mapping[str, Value] = field(default_factory=dict)

    def encode(self) -> Object:
        """The run record as an object."""
        return Object.of(
            encode(
                {
                    "configuration": dict(self.configuration),
                    "files": dict(self.files),
                    "format": RUN_VERSION,
                    "kind": RUN_KIND,
                    "manifest": self.manifest,
                    "origin": dict(self.origin),
                    "provenance": trees_value(self.provenance),
                    "recipe": dict(self.recipe),
                    "samples": self.samples,
                    "sources": [dict(source) for source in self.sources],
                    "statistics": dict(self.statistics),
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
        samples = expect_count(fields.get("samples"), "samples")
        return cls(
            _digest(fields.get("manifest"), "manifest"),
            samples,
            trees_of(fields.get("provenance"), samples),
            expect(dict, fields.get("recipe"), "recipe"),
            expect(dict, fields.get("configuration"), "configuration"),
            [expect(dict, source, "source") for source in expect(list, fields.get("sources"), "sources")],
            expect(dict, fields.get("statistics"), "statistics"),
            {name: _digest(raw, name) for name, raw in expect(dict, fields.get("files"), "files").items()},
            expect(dict, fields.get("origin"), "origin"),
        )


def _digest(value: Value, what: str) -> Digest:
    raw = expect(bytes, value, what)
    if len(raw) != DIGEST_BYTES:
        raise FormatError(f"digest of {what} is {len(raw)} bytes")
    return Digest(raw)
