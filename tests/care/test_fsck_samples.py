"""``fsck`` compares the arrays of a dataset with one another: keys with tokens, and labels with lengths."""

from __future__ import annotations

import numpy as np
import pytest

from castore.care.fsck import check
from castore.format.chunk import encode_spans, encode_values
from castore.format.digest import Digest
from castore.format.manifest import Manifest, Root
from castore.format.node import Entry
from castore.format.samples import sample_keys
from castore.format.schema import KEY, LABELS_MASK, LENGTH, Array
from castore.store.backend import MemoryBackend
from castore.store.marker import open_layout
from castore.store.object_keys import object_key
from castore.store.objects import ObjectStore
from castore.store.refs import RefStore
from tests.care.test_fsck import filled
from tests.support.built import build
from tests.support.strategies import random_rows

ROWS = random_rows(200, seed=5)
COUNT = len(ROWS)


def stored(
    replaced: Array | None = None, data: bytes = b"", copies: int = 1, chunk_bytes: int = 1 << 20
) -> MemoryBackend:
    """A repository with a dataset of ``ROWS`` under some names, one array of which is another chunk."""
    backend = MemoryBackend()
    open_layout(backend, create=True)
    objects, refs = ObjectStore(backend), RefStore(backend)
    built = build(ROWS, chunk_bytes=chunk_bytes, fanout=32)
    for digest, content in built.objects.items():
        objects.put(digest, content)
    manifest = Manifest.decode(built.manifest().data)
    arrays = dict(manifest.arrays)
    if replaced is not None:
        items = manifest.tokens if replaced.axis == "token" else COUNT
        entry = Entry(objects.put_bytes(data), COUNT, items)
        arrays[replaced.name] = replaced, Root(replaced.grain, (entry,))
    for copy in range(copies):
        named = Manifest(manifest.samples, arrays, manifest.split, None)
        objects.put_all([named.encode()])
        refs.update(f"n{copy}", Digest(named.encode().digest), time_s=1, author="", message="")
    backend.flush()
    return backend


def findings(backend: MemoryBackend, share: float = 1.0) -> list[tuple[str, str]]:
    return [(found.name, found.text) for found in check(backend, share=share).findings.listed]


def target(backend: MemoryBackend) -> Digest:
    """The manifest that the first name means."""
    entry = RefStore(backend).read("n0")
    assert entry is not None
    assert entry.target is not None
    return entry.target


def digests(backend: MemoryBackend, name: str) -> list[Digest]:
    """The chunks of an array of the dataset, which all are named by its manifest."""
    manifest = Manifest.decode(ObjectStore(backend).get(target(backend)))
    return [entry.digest for entry in manifest.arrays[name][1].entries]


def keys() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    ids = np.array([token for tokens, _ in ROWS for token in tokens], np.uint32)
    return sample_keys(ids, np.array([len(tokens) for tokens, _ in ROWS], np.uint32)).copy()


def labels(last: int) -> bytes:
    """One span a sample, from its start, of its length; that of the last sample that has tokens ends ``last`` later."""
    lengths = np.array([len(tokens) for tokens, _ in ROWS])
    widths = lengths[lengths > 0]
    widths[-1] += last
    counts = (lengths > 0).astype("<u4")
    return encode_spans(counts.tobytes(), bytes(4 * len(widths)), widths.astype("<u4").tobytes()).data


@pytest.mark.parametrize("share", [1.0, 0.999999])
def test_a_sound_dataset(share: float) -> None:
    assert findings(stored(), share) == []
    assert findings(stored(LABELS_MASK, labels(0)), share) == []


@pytest.mark.parametrize("share", [1.0, 0.999999])
def test_a_key_of_other_tokens(share: float) -> None:
    """The part of the key that decides no cut, so that everything but the tokens agrees with it."""
    wrong = keys()
    wrong[7, 15] ^= 1
    found = findings(stored(KEY, encode_values("bytes16", COUNT, wrong.tobytes()).data, copies=2), share)
    assert [name for name, _ in found] == ["wrong-keys"]
    assert "sample 7 of it has another key" in found[0][1]


@pytest.mark.parametrize("share", [1.0, 0.999999])
def test_labels_over_the_end_of_a_sample(share: float) -> None:
    found = findings(stored(LABELS_MASK, labels(1)), share)
    assert [name for name, _ in found] == ["wrong-lengths"]
    assert "a span reaches over the end of its sample" in found[0][1]


def test_what_is_damaged_hides_no_wrong_key() -> None:
    """Neither before it is repaired nor where it is gone and comes from a copy."""
    wrong = keys()
    wrong[7, 15] ^= 1
    backend = stored(KEY, encode_values("bytes16", COUNT, wrong.tobytes()).data, chunk_bytes=2048)
    good = backend.snapshot()
    chunk = object_key(digests(backend, "token_ids")[-1])
    assert len(digests(backend, "token_ids")) > 2
    for harmed in ({**good, chunk: good[chunk][:-1]}, {key: data for key, data in good.items() if key != chunk}):
        for source in (None, filled(good)):
            done = check(filled(harmed), source=source)
            names = [found.name for found in done.findings.listed if not found.repaired]
            lost = [] if source else ["object-damaged" if chunk in harmed else "object-missing"]
            assert sorted(names) == sorted(["wrong-keys", *lost])


@pytest.mark.parametrize("at", [0, -1])
def test_a_wrong_key_in_a_chunk_that_comes_from_a_copy(at: int) -> None:
    wrong = keys()
    wrong[at, 15] ^= 1
    backend = stored(KEY, encode_values("bytes16", COUNT, wrong.tobytes()).data, chunk_bytes=2048)
    good = backend.snapshot()
    chunk = object_key(digests(backend, "token_ids")[at])
    for harmed in ({**good, chunk: b""}, {key: data for key, data in good.items() if key != chunk}):
        assert "wrong-keys" not in [name for name, _ in findings(filled(harmed))]
        done = check(filled(harmed), source=filled(good))
        assert [found.name for found in done.findings.listed if not found.repaired] == ["wrong-keys"]


def test_a_chunk_under_other_lengths_is_compared_again() -> None:
    """Two datasets share tokens and divide them into other samples; whichever is looked at first, one is wrong."""
    backend = stored()
    manifest = Manifest.decode(ObjectStore(backend).get(target(backend)))
    lengths = np.array([len(tokens) for tokens, _ in ROWS], "<u4")
    full = np.flatnonzero(lengths > 1)[-1]
    lengths[full] -= 1
    lengths[full - 1] += 1
    moved = encode_values("uint32", COUNT, lengths.tobytes())
    objects = ObjectStore(backend)
    objects.put_all([moved])
    arrays = {**manifest.arrays, LENGTH.name: (LENGTH, Root(1, (Entry(moved.digest, COUNT, COUNT),)))}
    other = Manifest(manifest.samples, arrays, manifest.split, None).encode()
    objects.put_all([other])
    for name in ("a", "z"):
        RefStore(backend).update(name, Digest(other.digest), time_s=1, author="", message="")
    assert {name for name, _ in findings(backend)} == {"wrong-keys", "wrong-lengths"}
