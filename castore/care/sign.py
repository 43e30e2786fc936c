"""Signing what a name means with an Ed25519 key, and reading keys. The only door to ``cryptography``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from castore.errors import InvalidInputError, MissingExtraError
from castore.format.digest import Digest
from castore.store.files import open_regular
from castore.store.signatures import POSITION_MAX, Signature, SignatureStore, signed_bytes

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY_FILE_BYTES_MAX = 1024 * 1024
_PEM_BEGIN, _PEM_END = "-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----"
_SSH_TYPE = "ssh-ed25519"
_LIMITS = re.compile(
    r"(?:^|[\s,])(cert-authority|namespaces|valid-after|valid-before|expiry-time)(?:$|[\s,]|=\"([^\"]*)\"|=(\S*))", re.I
)
NAMESPACE = "castore"
"""What a key must be trusted for, where a line of ``allowed_signers`` says for what it is."""


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A key that is trusted: its 32 public bytes, and what the file says of its owner."""

    public_key: bytes
    owner: str


def sign(
    store: SignatureStore, name: str, sequence: int, root: Digest, key: Ed25519PrivateKey
) -> tuple[Signature, bool]:
    """Vouch that ``name`` rightly means ``root`` from this position of its log on.

    Args:
        store: Where the signature is stored.
        name: The name.
        sequence: Of the entry of the log by which it means the root. A later position is signed where this key has
            signed a later one for another root, in another repository from which that was copied.
        root: The root.
        key: The signer's.

    Returns:
        The signature, and whether it is new.

    Raises:
        InvalidInputError: No later position is possible.
    """
    public = key.public_key().public_bytes_raw()
    own = (one for one in store.of(name) if one.public_key == public and one.root != root)
    position = max([sequence, *(one.position + 1 for one in own if is_true(one))])
    if position > POSITION_MAX:
        raise InvalidInputError(f"{name} was signed at the last position that is possible: sign under another name")
    signature = Signature(name, position, root, public, key.sign(signed_bytes(name, position, root)))
    return signature, store.put(signature)


def is_true(signature: Signature) -> bool:
    """Whether the key that a signature names has made it."""
    message = signed_bytes(signature.name, signature.position, signature.root)
    try:
        _ed25519().Ed25519PublicKey.from_public_bytes(signature.public_key).verify(signature.signature, message)
    except _invalid_signature():
        return False
    return True


def read_private_key(path: str, ask: Callable[[], str]) -> Ed25519PrivateKey:
    """The private key in a file of OpenSSH or PEM (PKCS 8).

    Args:
        path: The file.
        ask: Called for the passphrase if there is one.

    Raises:
        InvalidInputError: It is no such file, or another kind of key, or the passphrase is wrong.
    """
    ed25519 = _ed25519()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    data = _read(path)
    if data.startswith(b"ssh-"):
        raise InvalidInputError(f"{path} holds a public key: sign with the private one, the file without .pub")
    load = (
        serialization.load_ssh_private_key
        if b"BEGIN OPENSSH PRIVATE KEY" in data
        else serialization.load_pem_private_key
    )
    try:
        try:
            key = load(data, None)
        except TypeError:  # it is encrypted
            key = load(data, ask().encode())
        except ValueError as error:
            if "password" not in str(error).lower():
                raise
            key = load(data, ask().encode())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidInputError(f"{path} holds no private key that can be read: {_line(error)}") from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise InvalidInputError(f"{path} holds another kind of key: make one with 'ssh-keygen -t ed25519'")
    private: Ed25519PrivateKey = key
    return private


def read_trusted(path: str) -> list[TrustedKey]:
    """The keys in a file: public keys of OpenSSH a line, as in ``id_ed25519.pub``, ``authorized_keys`` or
    ``allowed_signers``, or PEM blocks.

    Raises:
        InvalidInputError: A line holds no Ed25519 key, or one that OpenSSH trusts for a time or a purpose alone, which
            is not this one; or the file holds none at all.
    """
    ed25519 = _ed25519()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        lines = _read(path).decode().splitlines()
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} is no text") from error
    keys = []
    block: list[str] = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if block or text == _PEM_BEGIN:
            block.append(text)
            if text != _PEM_END:
                continue
        elif not text or text.startswith("#"):
            continue
        try:
            if block:
                owner = f"{path}:{number - len(block) + 1}"
                key = serialization.load_pem_public_key("\n".join([*block, ""]).encode())
                block = []
            else:
                words = text.split()
                at = words.index(_SSH_TYPE)
                _check_limits(" ".join(words[:at]), f"{path}, line {number}")
                owner = " ".join(words[:at] + words[at + 2 :]) or f"{path}:{number}"
                key = serialization.load_ssh_public_key(f"{_SSH_TYPE} {words[at + 1]}".encode())
        except InvalidInputError:
            raise
        except (ValueError, IndexError, UnsupportedAlgorithm) as error:
            raise InvalidInputError(f"{path}, line {number}: no {_SSH_TYPE} public key") from error
        if not isinstance(key, ed25519.Ed25519PublicKey):
            raise InvalidInputError(f"{path}, line {number}: another kind of key")
        keys.append(TrustedKey(key.public_bytes_raw(), owner))
    if block or not keys:
        raise InvalidInputError(f"{path} holds no public key")
    return keys


def _check_limits(options: str, place: str) -> None:
    """Refuse a key that OpenSSH trusts for a time or for other purposes alone: a signature here says no time."""
    for found in _LIMITS.finditer(options):
        patterns = (found[2] or found[3] or "").split(",")
        if found[1].lower() != "namespaces" or not any(fnmatchcase(NAMESPACE, pattern) for pattern in patterns):
            raise InvalidInputError(
                f"{place}: {found[1]} limits this key, which is not looked at here: give a file with the keys that you "
                "trust, one a line"
            )


def _read(path: str) -> bytes:
    with open_regular(path, pipes=True) as file:
        data = file.read(KEY_FILE_BYTES_MAX + 1)
    if len(data) > KEY_FILE_BYTES_MAX:
        raise InvalidInputError(f"{path} is too large for a file of keys")
    return data


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _ed25519() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise MissingExtraError("cryptography", "sign") from error
    return ed25519


def _invalid_signature() -> type[Exception]:
    from cryptography.exceptions import InvalidSignature

    kind: type[Exception] = InvalidSignature
    return kind
