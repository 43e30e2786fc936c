"""Two datasets that part in one sample, in a repository wherever a test wants it."""

from __future__ import annotations

from pathlib import Path

from castore.format.digest import Digest
from castore.repository import Repository
from castore.store.backend import Backend
from castore.store.marker import open_layout
from tests.support.jobs import ORIGIN, PROCESS_SIZES, example_rows, run_job, write_rows
from tests.support.servers import Server

ROWS = 120
CHANGED = 25
"""The sample in which ``golden/one`` and ``two`` differ."""


def make_source(folder: Path) -> Repository:
    """``golden/one`` and ``two``, on a disk, in a few dozen objects."""
    from castore.store.local import LocalBackend

    rows = list(example_rows()[:ROWS])
    other = [*rows[:CHANGED], rows[CHANGED].replace(b"the", b"teh", 1), *rows[CHANGED + 1 :]]
    backend = LocalBackend(str(folder / "source"))
    for name, chosen in (("golden/one", rows), ("two", other)):
        mix = write_rows(folder / f"{name.rpartition('/')[2]}.jsonl", chosen)
        run_job(backend, [(mix, "1.0")], name=name, sizes=PROCESS_SIZES, shuffle_seed=None)
    return Repository(backend)


def opened(backend: Backend) -> Repository:
    open_layout(backend, create=True)
    return Repository(backend)


def chunk_of_change(repository: Repository, name: str = "two") -> Digest:
    """The chunk of tokens in which the two differ."""
    return repository.dataset(name).reader.index("token_ids").leaf(CHANGED).entry.digest


def copied(source: Repository, to: Repository, *names: str) -> Repository:
    for name in names:
        source.copy(name, to, name, ORIGIN)
    return to


def reach(server: Server, monkeypatch: object, tmp_path: Path) -> str:
    """A fresh place in a server, which this process and its children can reach."""
    for name, value in {**server.env, "CASTORE_CACHE": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)  # type: ignore[attr-defined]
    return server.url()
