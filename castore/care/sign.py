"""Vouching for a name and root with an Ed25519 key, and checking who did. The only door to ``cryptography``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from castore.errors import InvalidInputError, MissingExtraError, SignatureError
from castore.format.digest import Digest, digest_hex
from castore.store.files import open_regular
from castore.store.signatures import Signature, SignatureStore, signed_bytes

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


def sign(store: SignatureStore, name: str, root: Digest, key: Ed25519PrivateKey) -> tuple[Signature, bool]:
    """Vouch that ``name`` rightly means ``root``.

    Returns:
        The signature, and whether it is new.
    """
    public = key.public_key().public_bytes_raw()
    signature = Signature(name, root, public, key.sign(signed_bytes(name, root)))
    return signature, store.put(signature)


def verify(store: SignatureStore, name: str, root: Digest, trusted: list[TrustedKey]) -> list[TrustedKey]:
    """The trusted keys that vouch for a name and root.

    Raises:
        SignatureError: None does.
    """
    ed25519 = _ed25519()
    by_key = {key.public_key: key for key in trusted}
    message = signed_bytes(name, root)
    found, others, wrong = [], 0, 0
    for signature in store.of(name, root):
        key = by_key.get(signature.public_key)
        if key is None:
            others += 1
            continue
        try:
            ed25519.Ed25519PublicKey.from_public_bytes(signature.public_key).verify(signature.signature, message)
            found.append(key)
        except _invalid_signature():
            wrong += 1
    if not found:
        told = [f"{others} by keys that are not trusted"] * (others > 0) + [f"{wrong} that are forged"] * (wrong > 0)
        has = f"has signatures, but only {' and '.join(told)}" if told else "has no signature"
        raise SignatureError(f"{name} with root {digest_hex(root)[:12]} {has}")
    return found


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
