"""Signatures as they are stored: that a key vouches for a name, a root, and a position.

::

    signatures/<name>/<64 digits of the root>/<20 digits of the position>/<32 digits of the key>
        a record (``records``) of the msgpack array
        ["castore/signature", 1, name, position, root: bin 32, public key: bin 32, signature: bin 64]

The position is the sequence of the entry of the name's log that was signed, so that a root which is moved back later
is not vouched for by what was signed then (``castore.care.vouch``). The signature is Ed25519 (RFC 8032) over
``signed_bytes``. The digits of the key are BLAKE3 of its 32 bytes, cut to 16. Written by create-if-absent: a key signs
a name, root and position once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from castore.errors import CorruptionError, FormatError, UnsupportedVersionError
from castore.format.codec import decode, encode
from castore.format.digest import DIGEST_BYTES, Digest, digest_hex, digest_of
from castore.format.fields import expect
from castore.store.backend import Backend
from castore.store.records import Holds, RecordKind, seal, unseal
from castore.store.refs import check_ref_name, is_ref_name

SIGNATURE_KIND = "castore/signature"
SIGNATURE_VERSION = 1
SIGNATURE_BYTES_MAX = 4096
PUBLIC_BYTES, SIGNATURE_BYTES = 32, 64
POSITION_MAX = (1 << 63) - 1

_KEY_DIGITS, _POSITION_DIGITS = 32, 20


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature.

    Attributes:
        name: The name that is vouched for.
        position: From which entry of its log on, counted from 0.
        root: What it is vouched to mean there.
        public_key: Of the signer, 32 bytes.
        signature: 64 bytes.
    """

    name: str
    position: int
    root: Digest
    public_key: bytes
    signature: bytes

    @property
    def key(self) -> str:
        """Where it is stored."""
        place = f"{digest_hex(self.root)}/{self.position:0{_POSITION_DIGITS}d}/{key_id(self.public_key)}"
        return f"{SIGNATURES.folder}/{self.name}/{place}"

    def encode(self) -> bytes:
        """Its record."""
        head = (SIGNATURE_KIND, SIGNATURE_VERSION, self.name, self.position, self.root)
        return seal(encode([*head, self.public_key, self.signature]))

    @classmethod
    def decode(cls, data: bytes, key: str) -> Signature:
        """The signature in the record that is stored under ``key``.

        Raises:
            CorruptionError: The record is damaged, or belongs elsewhere.
            UnsupportedVersionError: It was written by a newer castore.
            FormatError: It is no signature.
        """
        fields = decode(unseal(data, key))
        if type(fields) is not list or len(fields) < 2 or fields[0] != SIGNATURE_KIND or type(fields[1]) is not int:
            raise FormatError(f"{key} is no signature")
        if fields[1] != SIGNATURE_VERSION:
            raise UnsupportedVersionError(key, fields[1], SIGNATURE_VERSION)
        if len(fields) != 7:
            raise FormatError(f"{key} is no signature: it has {len(fields)} elements, not 7")
        name, position, root, public_key, signature = fields[2:]
        parts = [expect(bytes, part, "part of a signature") for part in (root, public_key, signature)]
        if [len(part) for part in parts] != [DIGEST_BYTES, PUBLIC_BYTES, SIGNATURE_BYTES]:
            raise FormatError(f"{key} is no signature: its parts have other lengths")
        at = expect(int, position, "position of a signature")
        if not 0 <= at <= POSITION_MAX:
            raise FormatError(f"{key} is no signature: its position is {at}")
        found = cls(expect(str, name, "name of a signature"), at, Digest(parts[0]), parts[1], parts[2])
        if not is_ref_name(found.name) or found.key != key:
            raise CorruptionError(f"{key} holds a signature of something else: it was moved or copied here")
        return found


def signed_bytes(name: str, position: int, root: Digest) -> bytes:
    """What is signed: no other message of castore, and no other name, position or root, has these bytes."""
    check_ref_name(name)
    return b"castore signature 1\0" + encode([SIGNATURE_KIND, SIGNATURE_VERSION, name, position, root])


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

    def of(self, name: str) -> Iterator[Signature]:
        """All signatures of a name, of whatever root. Damaged ones are passed over: they vouch for nothing."""
        check_ref_name(name)
        yield from self._read(lambda found, root: found == name, f"{SIGNATURES.folder}/{name}")

    def of_root(self, root: Digest) -> Iterator[Signature]:
        """All signatures of a root, of whatever name. Damaged ones are passed over."""
        digits = digest_hex(root)
        yield from self._read(lambda name, found: found == digits, SIGNATURES.folder)

    def copy_to(self, other: SignatureStore, name: str, root: Digest) -> None:
        """Store the signatures of a name and root in another repository too."""
        for signature in self.of(name):
            if signature.root == root:
                other.put(signature)

    def _read(self, wanted: Callable[[str, str], bool], folder: str) -> Iterator[Signature]:
        for key in self._backend.list(folder):
            name, root = _place(key)
            data = self._backend.get(key, SIGNATURE_BYTES_MAX) if wanted(name, root) else None
            try:
                if data is not None:
                    yield Signature.decode(data, key)
            except (CorruptionError, FormatError):  # fsck tells
                continue


def _place(key: str) -> tuple[str, str]:
    """Name and digits of the root of the signature that is stored under ``key``; empty where none would be."""
    parts = key.split("/")
    return ("/".join(parts[1:-3]), parts[-3]) if len(parts) > 4 else ("", "")
