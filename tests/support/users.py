"""Users whose datasets are nearly the same, stored small, and what is told of the frames that are stored for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from unittest import mock

import numpy as np

from castore.format.delta import delta_of
from castore.format.digest import Digest
from castore.ingest import write_job
from castore.repository import Repository
from castore.store.backend import Backend
from castore.store.marker import open_layout
from castore.store.object_keys import object_key
from castore.store.packs import PackedBackend, packed
from tests.support.jobs import ORIGIN
from tests.support.layouts import Layout, in_packs

Rows = list[tuple[int, ...]]
"""Token ids of samples; of each the first token is not trained on."""

CHUNK_BYTES, FANOUT = 8192, 16

FRAME_BYTES = 1 << 24


def make_rows(count: int, seed: int, tokens: int = 40) -> Rows:
    """Rows that have nothing in common."""
    rng = np.random.default_rng(seed)
    return [tuple(row) for row in rng.integers(0, 50_000, (count, tokens)).tolist()]


def some_bytes(count: int, seed: int = 0) -> bytes:
    """Bytes in which nothing comes twice."""
    return np.random.default_rng(seed).bytes(count)


def edit(rows: Sequence[tuple[int, ...]], seed: int, count: int) -> Rows:
    """The same rows, of which some have another token, some are longer, and some are gone."""
    rng = np.random.default_rng(seed)
    edited: dict[int, tuple[int, ...] | None] = {}
    for which, at in enumerate(rng.choice(len(rows), count, replace=False).tolist()):
        row, new = rows[at], tuple(rng.integers(0, 50_000, 3).tolist())
        edited[at] = (None, (*row[:5], new[0], *row[6:]), row + new)[which % 3]
    kept = (edited.get(at, row) for at, row in enumerate(rows))
    return [row for row in kept if row is not None]


def store(backend: Backend, name: str, rows: Iterable[tuple[int, ...]]) -> Digest:
    """Write rows under a name, in small chunks; returns the root."""
    open_layout(backend, create=True)
    repository = Repository(backend)
    small = partial(write_job.WriteJob, chunk_bytes=CHUNK_BYTES, fanout=FANOUT)
    with mock.patch.object(write_job, "WriteJob", small), repository.writer(name, origin=ORIGIN) as writer:
        for row in rows:
            writer.append(np.array(row, np.uint32), np.arange(len(row)) > 0)
    return repository.dataset(name).root


def store_at_once(backends: Sequence[Backend], rows: Sequence[Rows]) -> list[Digest]:
    """As ``store`` of users 0, 1, …, of whom none sees what another stores."""
    with mock.patch.object(PackedBackend, "similar", return_value=[]):
        pairs = enumerate(zip(backends, rows, strict=True))
        return [store(backend, f"user-{number}", some) for number, (backend, some) in pairs]


def put_frames(place: Backend, *frames: tuple[Digest, bytes], layout: Layout = in_packs) -> None:
    """Store frames as they are: in a pack of their own, unless another layout is given."""
    door = layout(place)
    for digest, frame in frames:
        door.put(object_key(digest), frame)
    door.flush()


def bases_of(place: Backend) -> dict[Digest, list[tuple[Digest, ...]]]:
    """All stored objects, and what each copy of them needs."""
    found: dict[Digest, list[tuple[Digest, ...]]] = {}
    door = packed(place)
    for key in door.list("objects"):
        digest = Digest(bytes.fromhex(key[-64:]))
        for frame in door.copies(key, FRAME_BYTES):
            delta = delta_of(frame)
            found.setdefault(digest, []).append(delta.bases if delta else ())
    return found


def check_bases(place: Backend) -> int:
    """No frame needs what is not there, or what itself needs others; how many frames need others."""
    found = bases_of(place)
    count = 0
    for copies in found.values():
        for bases in copies:
            count += bool(bases)
            for base in bases:
                assert base in found, "a base is missing"
                assert () in found[base], "a base that needs others"
    return count


def stored_bytes(place: Backend) -> int:
    """Bytes of objects and packs."""
    return sum(entry.size_bytes for folder in ("objects", "packs") for entry in place.entries(folder))
