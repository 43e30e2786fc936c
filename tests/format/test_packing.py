"""The document of a packing: one encoding, and a reader that no bytes can mislead."""

from __future__ import annotations

import pytest

from castore.errors import CastoreError, FormatError, UnsupportedVersionError
from castore.format.codec import Value, decode, encode
from castore.format.digest import Digest, digest_hex
from castore.format.packing import COLUMNS, PACKING_CHUNK, Packing, packing_name
from tests.format.test_documents import variants

ROOT = Digest(bytes(range(32)))
RULE: dict[str, Value] = {"mode": "documents", "sequence_length": 4096}


def packing(**changes: int) -> Packing:
    counts = {"instances": 2, "documents": PACKING_CHUNK + 1, "segments": PACKING_CHUNK + 1, "tokens": 7000} | changes
    chunks = {name: (Digest(bytes([i]) * 32),) * (1 if i == 0 else 2) for i, name in enumerate(COLUMNS)}
    return Packing(ROOT, RULE, columns=chunks, **counts)


def test_it_is_read_as_it_was_written() -> None:
    data = packing().encode().data
    assert Packing.decode(data) == packing()
    assert Packing.decode(data).rows("document_segments") == PACKING_CHUNK + 1


def test_its_digest_and_its_name_stay_what_they_are() -> None:
    assert digest_hex(packing().encode().digest)[:16] == "e2d23233efed3d40"
    assert digest_hex(packing_name(ROOT, RULE))[:16] == "737ef0fed710037b"
    assert packing_name(ROOT, RULE | {"sequence_length": 2048}) != packing_name(ROOT, RULE)
    assert packing_name(Digest(bytes(32)), RULE) != packing_name(ROOT, RULE)


def test_any_field_may_hold_anything() -> None:
    refused = 0
    for other in variants(decode(packing().encode().data)):
        try:
            Packing.decode(encode(other))
        except CastoreError:
            refused += 1
    assert refused > 100


def test_a_claim_takes_no_memory() -> None:
    with pytest.raises(FormatError, match="bytes of digests"):
        Packing.decode(packing(segments=1 << 62).encode().data)


def test_what_is_newer_is_refused() -> None:
    document = decode(packing().encode().data)
    assert isinstance(document, dict)
    with pytest.raises(UnsupportedVersionError):
        Packing.decode(encode({**document, "format": 2}))
    with pytest.raises(FormatError, match="best-fit-9"):
        Packing.decode(encode({**document, "algorithm": "best-fit-9"}))
