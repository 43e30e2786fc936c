"""Records of writes that are not finished: which samples are stored already, so that a writer can go on behind them.

``writes/<64 hexadecimal digits>/<20 digits>``, sealed (``records``), each written by create-if-absent: two processes
that go on with the same write are told so. Accelerators, as unit records are: nothing is lost when they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from castore.errors import CorruptionError, FormatError, InvalidInputError
from castore.format.codec import Value, encode
from castore.format.digest import DIGEST_BYTES, Digest, digest_hex, digest_of, is_digest_hex
from castore.format.fields import decode_map, expect, expect_count
from castore.format.schema import KEY_BYTES
from castore.store.backend import Backend
from castore.store.records import Holds, RecordKind, seal, unseal

WRITE_KIND = "castore/write"
WRITE_VERSION = 1
WRITE_BYTES_MAX = 64 * 1024 * 1024
"""Bytes of the largest record; a writer makes one long before."""

_ENTRIES = frozenset({"chunks", "columns", "counts", "keys", "lengths", "sources"})


@dataclass(frozen=True, slots=True)
class SourceTotal:
    """A source of an unfinished write: its name, and what it has contributed so far."""

    name: str
    samples: int = 0
    tokens: int = 0
    trainable: int = 0


@dataclass(frozen=True, slots=True)
class Stored:
    """Samples that were stored since the record before.

    Attributes:
        counts: Samples in each chunk of the arrays of grain 0.
        chunks: Those chunks: digests by array, one mapping for each of ``counts``.
        lengths: Tokens of each sample, uint32 little-endian.
        keys: Key of each sample, 16 bytes each.
        columns: Elements of the other arrays of grain 1 by name, as they are stored.
        sources: Of the whole write up to here.
    """

    counts: Sequence[int]
    chunks: Sequence[Mapping[str, Digest]]
    lengths: bytes
    keys: bytes
    columns: Mapping[str, bytes]
    sources: Sequence[SourceTotal]

    @property
    def samples(self) -> int:
        """Samples of this record."""
        return len(self.lengths) // 4

    def __post_init__(self) -> None:
        if len(self.lengths) % 4 or len(self.keys) != KEY_BYTES * self.samples:
            raise FormatError("lists of a write record differ in length")
        if sum(self.counts) != self.samples or len(self.counts) != len(self.chunks) or 0 in self.counts:
            raise FormatError(f"chunks of a write record do not hold its {self.samples} samples")

    def encode(self) -> bytes:
        """Canonical bytes of the record."""
        return encode(
            {
                "chunks": [dict(chunks) for chunks in self.chunks],
                "columns": dict(self.columns),
                "counts": list(self.counts),
                "format": WRITE_VERSION,
                "keys": self.keys,
                "kind": WRITE_KIND,
                "lengths": self.lengths,
                "sources": [[total.name, total.samples, total.tokens, total.trainable] for total in self.sources],
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Stored:
        """Read a record; ``FormatError`` if it is none or contradicts itself."""
        fields = decode_map(data, WRITE_KIND, WRITE_VERSION, _ENTRIES)
        chunks = []
        for value in expect(list, fields["chunks"], "chunks of a write record"):
            named = expect(dict, value, "chunks of a write record")
            chunks.append({name: _digest(raw) for name, raw in named.items()})
        columns = expect(dict, fields["columns"], "columns of a write record")
        sources = []
        for value in expect(list, fields["sources"], "sources of a write record"):
            parts = expect(list, value, "source of a write record")
            if len(parts) != 4:
                raise FormatError("source of a write record does not have 4 elements")
            name, *numbers = parts
            sources.append(SourceTotal(expect(str, name, "name"), *(expect_count(n, "count") for n in numbers)))
        return cls(
            [expect_count(count, "samples of a chunk") for count in expect(list, fields["counts"], "counts")],
            chunks,
            expect(bytes, fields["lengths"], "lengths"),
            expect(bytes, fields["keys"], "keys"),
            {name: expect(bytes, raw, f"column {name}") for name, raw in columns.items()},
            sources,
        )


def write_name(resume_key: str, what: Value) -> Digest:
    """Name of a write: the key that its writer chose, and what must be equal for it to go on."""
    return digest_of(encode(["castore/write-name", resume_key, what]))


def write_key(name: Digest, sequence: int) -> str:
    """The key of a record of a write."""
    return f"{WRITES.folder}/{digest_hex(name)}/{sequence:020d}"


class WriteStore:
    """Records of one unfinished write."""

    def __init__(self, backend: Backend, name: Digest) -> None:
        self._backend = backend
        self._name = name

    def get(self, sequence: int) -> Stored | None:
        """A record, or None if there is none. One that is damaged or of another version counts as absent."""
        key = write_key(self._name, sequence)
        try:
            data = self._backend.get(key, WRITE_BYTES_MAX)
            return None if data is None else Stored.decode(unseal(data, key))
        except (CorruptionError, FormatError):
            return None

    def create(self, sequence: int, record: Stored) -> bool:
        """Store a record, durable on return; False if another process did. What it names must be durable before."""
        data = seal(record.encode())
        if len(data) > WRITE_BYTES_MAX:
            raise InvalidInputError(f"a write record of {len(data)} bytes exceeds the {WRITE_BYTES_MAX} it may have")
        return self._backend.create(write_key(self._name, sequence), data)

    def forget(self, sequence: int = 0) -> None:
        """Remove the records from ``sequence`` on, the last one first: what is left is always a beginning."""
        folder, _, first = write_key(self._name, sequence).rpartition("/")
        keys = [key for key in self._backend.list(folder) if key.rpartition("/")[2] >= first]
        for key in reversed(keys):
            self._backend.delete(key)
        if keys:
            self._backend.flush()


def _references(data: bytes, key: str) -> list[Digest]:
    return [digest for chunks in Stored.decode(unseal(data, key)).chunks for digest in chunks.values()]


def _is_key(key: str) -> bool:
    folder, name, sequence = [*key.split("/"), "", ""][:3]
    numbered = len(sequence) == 20 and sequence.isascii() and sequence.isdecimal()
    return folder == WRITES.folder and is_digest_hex(name) and numbered and key.count("/") == 2


WRITES = RecordKind("writes", WRITE_BYTES_MAX, _references, Holds.OBJECTS, expires=True, is_key=_is_key)


def _digest(value: Value) -> Digest:
    raw = expect(bytes, value, "chunk of a write record")
    if len(raw) != DIGEST_BYTES:
        raise FormatError(f"chunk of a write record is named by {len(raw)} bytes")
    return Digest(raw)
