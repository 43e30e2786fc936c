"""Import records: which manifest the files of a directory became, so that they are not cut and hashed again.

``imports/<first 2 of the 64 hexadecimal digits>/<the 64 digits>``, sealed (``records``). The name is a digest over the
content of the directory and how it was imported. Accelerators, as unit records are: nothing is lost when they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from castore.errors import CorruptionError, FormatError
from castore.format.codec import Value, encode
from castore.format.digest import Digest, digest_of
from castore.format.fields import decode_map, expect_count, expect_digest
from castore.format.run import SourceRecord, sources_of
from castore.store.backend import Backend
from castore.store.records import Holds, RecordKind, record_key, seal, unseal

IMPORT_KIND = "castore/import"
IMPORT_VERSION = 1
IMPORT_BYTES_MAX = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Imported:
    """What a directory became: the root, its sources as a run record lists them, and its trainable tokens."""

    manifest: Digest
    sources: Sequence[SourceRecord]
    trainable: int

    def encode(self) -> bytes:
        """The payload of the record."""
        return encode(
            {
                "format": IMPORT_VERSION,
                "kind": IMPORT_KIND,
                "manifest": self.manifest,
                "sources": [source.value() for source in self.sources],
                "trainable": self.trainable,
            }
        )

    @classmethod
    def decode(cls, payload: bytes) -> Imported:
        """Read the payload of a record.

        Raises:
            FormatError: It is none.
            UnsupportedVersionError: Written by a newer castore.
        """
        fields = decode_map(payload, IMPORT_KIND, IMPORT_VERSION, frozenset({"manifest", "sources", "trainable"}))
        return cls(
            expect_digest(fields["manifest"], "manifest of an import record"),
            sources_of(fields["sources"]),
            expect_count(fields["trainable"], "trainable"),
        )


def import_name(content: str, shuffle_seed: int | None, statistics: Value) -> Digest:
    """Name of the record of a directory with this content digest, undone shuffle and statistics of its datasets."""
    return digest_of(encode(["castore/import-name", content, shuffle_seed, statistics]))


class ImportStore:
    """What has been imported already, by what went in."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def get(self, name: Digest) -> Imported | None:
        """The record, or None. One that is damaged or of another version counts as absent.

        Its age is renewed: a collection removes records that are not used for long.
        """
        key = import_key(name)
        try:
            if not self._backend.touch(key):
                return None
            data = self._backend.get(key, IMPORT_BYTES_MAX)
            return None if data is None else Imported.decode(unseal(data, key))
        except (CorruptionError, FormatError):
            return None

    def put(self, name: Digest, record: Imported) -> None:
        """Store a record; durable after the next flush of the backend. What it names must be durable before."""
        self._backend.put(import_key(name), seal(record.encode()))


def import_key(name: Digest) -> str:
    """The key of the record of an import."""
    return record_key(IMPORTS.folder, name)


def _references(data: bytes, key: str) -> list[Digest]:
    return [Imported.decode(unseal(data, key)).manifest]


IMPORTS = RecordKind("imports", IMPORT_BYTES_MAX, _references, Holds.DATASETS, expires=True)
