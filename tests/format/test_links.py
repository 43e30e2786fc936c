"""Objects that are whole and do not fit together, by the vectors: what a reader of castore says, and what fsck says."""

from __future__ import annotations

from typing import Any

import pytest

from castore.care.fsck import check
from castore.dataset import Dataset
from castore.errors import CastoreError
from castore.format.digest import Digest, digest_from_hex
from castore.read.whole import span_column
from castore.store.backend import MemoryBackend
from castore.store.marker import open_layout
from castore.store.object_keys import object_key
from castore.store.objects import ObjectStore
from castore.store.refs import RefStore
from castore.tree.walk import leaves
from tests.format.test_vectors import cases, load

Case = dict[str, Any]


def stored(case: Case) -> MemoryBackend:
    """A repository of the objects of a case, whatever they hold."""
    backend = MemoryBackend()
    open_layout(backend, create=True)
    for name, text in [*load("links")["objects"], *case["more"]]:
        digest = digest_from_hex(name)
        assert digest is not None
        backend.put(object_key(digest), b"\0" + bytes.fromhex(text))
    RefStore(backend).update("r", Digest(bytes.fromhex(case["root"])), time_s=1, author="", message="")
    backend.flush()
    return backend


def read_all(case: Case) -> int:
    """Read all arrays of a dataset; its samples."""
    data = Dataset(ObjectStore(stored(case)).get, Digest(bytes.fromhex(case["root"])), None)
    for name, (array, _) in data.manifest.arrays.items():
        for leaf in leaves(data.fetch, data.tree(name)):
            if array.is_spans:
                span_column(data, array, leaf)
            else:
                data.values(leaf, array)
    return len(list(data.reader.samples(0, len(data))))


@pytest.mark.parametrize("case", cases("links"))
def test_a_sound_dataset(case: Case) -> None:
    assert read_all(case) == load("links")["generator"]["count"]
    assert check(stored(case)).findings.clean


@pytest.mark.parametrize("case", cases("links", "invalid"))
def test_what_does_not_hold_what_is_said_of_it(case: Case) -> None:
    with pytest.raises(CastoreError) as caught:
        read_all(case)
    assert caught.value.code == case["error"]
    assert not check(stored(case)).findings.clean


BESIDE = {
    "lengths of other tokens": {"wrong-lengths"},
    "tokens divided into other samples": {"wrong-keys", "wrong-lengths"},
    "a key of other tokens": {"wrong-keys"},
    "a span past the end of its sample": {"wrong-lengths"},
}


@pytest.mark.parametrize("case", cases("links", "beside"))
def test_arrays_that_do_not_fit_one_another(case: Case) -> None:
    """A check compares all of them; a reader lengths with tokens and spans with lengths."""
    found = set(check(stored(case)).findings.counts)
    assert found == BESIDE[case["name"]]
    if "wrong-lengths" in found:
        with pytest.raises(CastoreError) as caught:
            read_all(case)
        assert caught.value.code == case["error"]
