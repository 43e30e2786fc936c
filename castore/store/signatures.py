"""Signatures as they are stored: that a key vouches for a name and a root.

::

    signatures/<name>/<64 digits of the root>/<32 digits of the key>    a record (``records``) of the msgpack array
                               ["castore/signature", 1, name, root: bin 32, public key: bin 32, signature: bin 64]

The signature is Ed25519 (RFC 8032) over ``signed_bytes``. The digits of the key are BLAKE3 of its 32 bytes, cut to 16.
Written by create-if-absent: a key signs a name and root once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from castore.errors import CorruptionError, FormatError
from castore.format.codec import encode
from castore.format.digest import DIGEST_BYTES, Digest, digest_hex, digest_of
from castore.format.fields import decode_list, expect
from castore.store.backend import Backend
from castore.store.records import Holds, RecordKind, seal, unseal
from castore.store.refs import check_ref_name, is_ref_name

SIGNATURE_KIND = "castore/signature"
SIGNATURE_VERSION = 1
SIGNATURE_BYTES_MAX = 4096
PUBLIC_BYTES, SIGNATURE_BYTES = 32, 64

_KEY_DIGITS = 32


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature.

    Attributes:
        name: The name that is vouched for.
        root: What it is vouched to mean.
        public_key: Of the signer, 32 bytes.
        signature: 64 bytes.
    """

    name: str
    root: Digest
    public_key: bytes
    signature: bytes

    @property
    def key(self) -> str:
        """Where it is stored."""
        return f"{SIGNATURES.folder}/{self.name}/{digest_hex(self.root)}/{key_id(self.public_key)}"

    def encode(self) -> bytes:
        """Its record."""
        head = (SIGNATURE_KIND, SIGNATURE_VERSION, self.name, self.root)
        return seal(encode([*head, self.public_key, self.signature]))

    @classmethod
    def decode(cls, data: bytes, key: str) -> Signature:
        """The signature in the record that is stored under ``key``.

        Raises:
            CorruptionError: The record is damaged, or belongs elsewhere.
            FormatError: It is no signature.
        """
        _, version, name, root, public_key, signature = decode_list(unseal(data, key), SIGNATURE_KIND, 6)
        if version != SIGNATURE_VERSION or type(version) is not int:
            raise FormatError(f"{key} is a signature of version {version!r:.20}, not {SIGNATURE_VERSION}")
        parts = [expect(bytes, part, "part of a signature") for part in (root, public_key, signature)]
        if [len(part) for part in parts] != [DIGEST_BYTES, PUBLIC_BYTES, SIGNATURE_BYTES]:
            raise FormatError(f"{key} is no signature: its parts have other lengths")
        found = cls(expect(str, name, "name of a signature"), Digest(parts[0]), parts[1], parts[2])
        if not is_ref_name(found.name) or found.key != key:
            raise CorruptionError(f"{key} holds a signature of something else: it was moved or copied here")
        return found


def signed_bytes(name: str, root: Digest) -> bytes:
    """What is signed: no other message of castore, and no other name or root, has these bytes."""
    check_ref_name(name)
    return b"castore signature 1\0" + encode([SIGNATURE_KIND, SIGNATURE_VERSION, name, root])


def key_id(public_key: bytes) -> str:
    """The digits that stand for a key."""
    return digest_hex(digest_of(public_key))[:_KEY_DIGITS]


def _references(data: bytes, key: str) -> list[Digest]:
    Signature.decode(data, key)
    return []  # it vouches for a root, and does not keep it


SIGNATURES = RecordKind(
    "signatures",
    SIGNATURE_BYTES_MAX,
    _references,
    Holds.NOTHING,
    expires=False,
    is_key=lambda key: True,  # a signature says itself where it belongs
    damage="signature-damaged",
)


class SignatureStore:
    """The signatures of a repository."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def put(self, signature: Signature) -> bool:
        """Store a signature; False if it was there."""
        return self._backend.create(signature.key, signature.encode())

    def of(self, name: str, root: Digest) -> Iterator[Signature]:
        """All signatures of a name and root. Damaged ones are passed over: they vouch for nothing, and fsck tells."""
        check_ref_name(name)
        for key in self._backend.list(f"{SIGNATURES.folder}/{name}/{digest_hex(root)}"):
            data = self._backend.get(key, SIGNATURE_BYTES_MAX)
            try:
                if data is not None:
                    yield Signature.decode(data, key)
            except (CorruptionError, FormatError):
                continue

    def copy_to(self, other: SignatureStore, name: str, root: Digest) -> None:
        """Store the signatures of a name and root in another repository too."""
        for signature in self.of(name, root):
            other.put(signature)
