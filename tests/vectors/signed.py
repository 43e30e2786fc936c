"""Vectors of signatures, made without a library: by the key of RFC 8032's second test."""

from __future__ import annotations

from typing import Any

from castore.format.codec import encode
from castore.format.digest import Digest, digest_of
from castore.store.records import seal
from castore.store.signatures import Signature, signed_bytes
from tests.support import ed25519

SECRET = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")


def signatures() -> dict[str, Any]:
    """Signatures as they are stored, under their keys, and records that are none."""
    public, root = ed25519.public_key(SECRET), digest_of(b"root")
    cases = [("golden/olmo", 0), ("golden/olmo", 300), ("x", 2**63 - 1)]
    made = [(name, at, ed25519.sign(SECRET, signed_bytes(name, at, root))) for name, at in cases]
    name, at, signature = made[0]
    place = Signature(name, at, root, public, signature).key

    def record(*elements: Any) -> bytes:
        return seal(encode(["castore/signature", *elements]))

    good = record(1, name, at, root, public, signature)
    other = Digest(bytes(32))
    invalid = [
        ("damaged", good[:-1] + bytes([good[-1] ^ 1]), "corruption"),
        ("cut short", good[:31], "corruption"),
        ("a newer version", record(2, "whatever"), "unsupported-version"),
        ("version 0", record(0, name, at, root, public, signature), "unsupported-version"),
        ("a version that is text", record("1", name, at, root, public, signature), "format"),
        ("another kind", seal(encode(["castore/ref", 1, name, at, root, public, signature])), "format"),
        ("a map", seal(encode({})), "format"),
        ("an element too few", record(1, name, at, root, public), "format"),
        ("an element too many", record(1, name, at, root, public, signature, None), "format"),
        ("a root of 31 bytes", record(1, name, at, root[:31], public, signature), "format"),
        ("a key of 31 bytes", record(1, name, at, root, public[:31], signature), "format"),
        ("a signature of 63 bytes", record(1, name, at, root, public, signature[:63]), "format"),
        ("a signature as text", record(1, name, at, root, public, signature.hex()), "format"),
        ("a position below 0", record(1, name, -1, root, public, signature), "format"),
        ("a position of 2**63", record(1, name, 2**63, root, public, signature), "format"),
        ("a position that is true", record(1, name, True, root, public, signature), "format"),
        ("of another name", record(1, "other", at, root, public, signature), "corruption"),
        ("of another position", record(1, name, 1, root, public, signature), "corruption"),
        ("of another root", record(1, name, at, other, public, signature), "corruption"),
        ("by another key", record(1, name, at, root, bytes(32), signature), "corruption"),
        ("not canonical", seal(good[:-32].replace(b"\x01\xab", b"\xcc\x01\xab")), "not-canonical"),
        ("something behind it", seal(good[:-32] + b"\x00"), "format"),
    ]
    return {
        "about": "docs/format/signatures.md. hex is the stored record under key; signed is what the signature is over.",
        "secret": SECRET.hex(),
        "valid": [
            {
                "name": f"{name} from {at} on",
                "ref": name,
                "position": at,
                "root": root.hex(),
                "public_key": public.hex(),
                "signature": signature.hex(),
                "signed": signed_bytes(name, at, root).hex(),
                "key": Signature(name, at, root, public, signature).key,
                "hex": Signature(name, at, root, public, signature).encode().hex(),
            }
            for name, at, signature in made
        ],
        "invalid": [{"name": what, "key": place, "hex": data.hex(), "error": error} for what, data, error in invalid],
        "wrong": {
            "name": "a signature over another position",
            "public_key": public.hex(),
            "signed": signed_bytes(name, at, root).hex(),
            "signature": made[1][2].hex(),
        },
    }
