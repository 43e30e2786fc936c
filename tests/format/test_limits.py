"""Values at their limits and beyond, and signatures, by the vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from castore.errors import CastoreError
from castore.format.codec import decode
from castore.format.manifest import Manifest
from castore.format.node import decode_node
from castore.format.run import Run
from castore.store.backend import MemoryBackend, is_key
from castore.store.refs import RefStore, entry_key
from castore.store.signatures import Signature, signed_bytes
from tests.format.test_vectors import cases, load, opened
from tests.support import ed25519

Case = dict[str, Any]


def read_ref(data: bytes, case: Case) -> object:
    backend = MemoryBackend()
    backend.create(entry_key("r", 0), data)
    return RefStore(backend).read("r")


def read_frame(data: bytes, case: Case) -> bytes:
    return opened(data, {bytes.fromhex(name): bytes_of({"parts": parts}) for name, parts in case.get("bases", [])})


READERS: dict[str, Callable[[bytes, Case], object]] = {
    "encoding": lambda data, case: decode(data),
    "node": lambda data, case: decode_node(data, case["level"]),
    "manifest": lambda data, case: Manifest.decode(data),
    "run": lambda data, case: Run.decode(data),
    "ref": read_ref,
    "frame": read_frame,
}


def bytes_of(case: Case) -> bytes:
    return b"".join(bytes.fromhex(part) * times for part, times in case["parts"])


@pytest.mark.parametrize("case", cases("limits"))
def test_what_is_at_a_limit_is_read(case: Case) -> None:
    assert READERS[case["kind"]](bytes_of(case), case)


@pytest.mark.parametrize("case", cases("limits", "invalid"))
def test_what_is_beyond_a_limit_is_refused(case: Case) -> None:
    with pytest.raises(CastoreError) as caught:
        READERS[case["kind"]](bytes_of(case), case)
    assert caught.value.code == case["error"]


def test_keys() -> None:
    keys = load("limits")["keys"]
    assert [key for key in keys["valid"] if not is_key(key)] == []
    assert [key for key in keys["invalid"] if is_key(key)] == []


@pytest.mark.parametrize("case", cases("signatures"))
def test_signatures(case: Case) -> None:
    found = Signature.decode(bytes.fromhex(case["hex"]), case["key"])
    assert found.encode().hex() == case["hex"]
    assert found.key == case["key"]
    assert (found.name, found.position, found.root.hex()) == (case["ref"], case["position"], case["root"])
    message = signed_bytes(found.name, found.position, found.root)
    assert message.hex() == case["signed"]
    assert found.signature.hex() == case["signature"]
    assert ed25519.sign(bytes.fromhex(load("signatures")["secret"]), message) == found.signature
    assert ed25519.is_signed(found.public_key, message, found.signature)


def test_signatures_are_those_of_the_library() -> None:
    module = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    key = module.Ed25519PrivateKey.from_private_bytes(bytes.fromhex(load("signatures")["secret"]))
    for case in load("signatures")["valid"]:
        assert key.sign(bytes.fromhex(case["signed"])).hex() == case["signature"]


@pytest.mark.parametrize("case", cases("signatures", "invalid"))
def test_records_that_are_no_signatures(case: Case) -> None:
    with pytest.raises(CastoreError) as caught:
        Signature.decode(bytes.fromhex(case["hex"]), case["key"])
    assert caught.value.code == case["error"]


def test_a_signature_over_something_else_is_none() -> None:
    wrong = {name: bytes.fromhex(text) for name, text in load("signatures")["wrong"].items() if name != "name"}
    assert not ed25519.is_signed(wrong["public_key"], wrong["signed"], wrong["signature"])
