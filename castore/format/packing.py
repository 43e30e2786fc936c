"""A packing: the samples of a dataset put into instances of one length, stored because others need the same one.

Derived: it can be computed again from the dataset, and nothing is lost when it is (``docs/format/packings.md``). It
names the root of its dataset, so that a packing never outlives the data that it is of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from castore.errors import FormatError, UnsupportedVersionError
from castore.format.codec import Value, encode
from castore.format.digest import DIGEST_BYTES, Digest, digest_of
from castore.format.fields import decode_map, expect, expect_count
from castore.format.object import Object

PACKING_KIND = "castore/packing"
PACKING_VERSION = 1

PACKING_CHUNK = 1 << 20
"""Numbers in a chunk of a packing's column, the last one aside."""

ALGORITHM = "best-fit-1"
"""``tight_fit`` of ``castore.train.best_fit`` for mode ``documents``, else ``best_fit``. Others have another name."""

COLUMNS = ("instance_documents", "document_segments", "segment_sample", "segment_start", "segment_length")
"""Columns of uint32: documents in each instance, segments in each document, and of each segment the sample it is of,
its first token in it, and its tokens."""

_COUNTS = ("documents", "instances", "segments", "tokens")


def packing_name(root: Digest, rule: Mapping[str, Value]) -> Digest:
    """Name of the record of a packing: what it is of, and how it was made."""
    return digest_of(encode(["castore/packing-name", root, ALGORITHM, dict(rule)]))


@dataclass(frozen=True, slots=True)
class Packing:
    """What a packing is; the numbers are in its columns.

    Attributes:
        root: Digest of the manifest of the dataset.
        rule: How documents were found, and the tokens of an instance: ``mode``, ``sequence_length``, and for mode
            ``olmo-core`` ``eos``, ``bos``, ``fragment``, ``part_items``.
        instances, documents, segments: How many there are.
        tokens: Tokens in instances.
        columns: Digests of the chunks of each of ``COLUMNS``.
    """

    root: Digest
    rule: Mapping[str, Value]
    instances: int
    documents: int
    segments: int
    tokens: int
    columns: Mapping[str, tuple[Digest, ...]]

    def encode(self) -> Object:
        """The document as an object."""
        document: dict[str, Value] = {
            "algorithm": ALGORITHM,
            "columns": {name: b"".join(self.columns[name]) for name in COLUMNS},
            "format": PACKING_VERSION,
            "kind": PACKING_KIND,
            "root": self.root,
            "rule": dict(self.rule),
            **{name: getattr(self, name) for name in _COUNTS},
        }
        return Object.of(encode(document))

    @classmethod
    def decode(cls, data: bytes) -> Packing:
        """Read a document.

        Raises:
            FormatError: It is none, or contradicts itself.
            UnsupportedVersionError: A newer castore wrote it.
        """
        names = frozenset({"algorithm", "columns", "root", "rule", *_COUNTS})
        fields = decode_map(data, PACKING_KIND, PACKING_VERSION, names)
        if fields["algorithm"] != ALGORITHM:
            raise UnsupportedVersionError.unknown(f"the packing algorithm {str(fields['algorithm'])[:80]!r}")
        root = Digest(expect(bytes, fields["root"], "root of a packing"))
        if len(root) != DIGEST_BYTES:
            raise FormatError(f"root of a packing is {len(root)} bytes")
        counts = {name: expect_count(fields[name], f"{name} of a packing") for name in _COUNTS}
        raw = expect(dict, fields["columns"], "columns of a packing")
        if raw.keys() != set(COLUMNS):
            raise FormatError("a packing has other columns than it should")
        columns = {}
        for name in COLUMNS:
            digests = expect(bytes, raw[name], f"column {name} of a packing")
            expected = -(-counts[_rows(name)] // PACKING_CHUNK)
            if len(digests) != expected * DIGEST_BYTES:
                raise FormatError(f"column {name} of a packing has {len(digests)} bytes of digests")
            columns[name] = tuple(
                Digest(digests[at : at + DIGEST_BYTES]) for at in range(0, len(digests), DIGEST_BYTES)
            )
        return cls(root, expect(dict, fields["rule"], "rule of a packing"), columns=columns, **counts)

    def rows(self, name: str) -> int:
        """How many numbers a column has."""
        return int(getattr(self, _rows(name)))


def _rows(name: str) -> str:
    return name.partition("_")[0] + "s"
