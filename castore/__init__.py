"""castore: a content-addressed store for tokenized training data.

::

    import castore

    repository = castore.open("/data/tokens")
    dataset = repository["golden/sft"]
    dataset[0].token_ids                          # uint32[t]
    token_ids, offsets, labels_mask = dataset.read(0, 1000)

Importing castore loads none of its libraries; what a call needs is loaded by the call.
"""

from __future__ import annotations

from castore.version import __version__

TYPE_CHECKING = False  # that of typing, whose import takes as long as Python's start

if TYPE_CHECKING:
    from os import PathLike
    from typing import Any

    from castore.dataset import Dataset
    from castore.diff.compare import Comparison
    from castore.errors import (
        BackendError,
        CastoreError,
        ConflictError,
        CorruptionError,
        FormatError,
        InvalidInputError,
        MissingBaseError,
        MissingExtraError,
        NotCanonicalError,
        NotFoundError,
        SignatureError,
        SourceError,
        UnsupportedVersionError,
        WorkerDiedError,
    )
    from castore.ingest.run_file import read_config
    from castore.read.reader import Batch, Sample
    from castore.read.zarr_store import CastoreStore
    from castore.repository import Repository
    from castore.store.run_origin import Origin

__all__ = [
    "BackendError",
    "Batch",
    "CastoreError",
    "Comparison",
    "ConflictError",
    "CorruptionError",
    "Dataset",
    "FormatError",
    "InvalidInputError",
    "MissingBaseError",
    "MissingExtraError",
    "NotCanonicalError",
    "NotFoundError",
    "Origin",
    "Repository",
    "Sample",
    "SignatureError",
    "SourceError",
    "UnsupportedVersionError",
    "WorkerDiedError",
    "__version__",
    "open",
    "read_config",
    "zarr_store",
]

_FOUND_IN = {
    "Batch": "castore.read.reader",
    "Comparison": "castore.diff.compare",
    "Dataset": "castore.dataset",
    "Origin": "castore.store.run_origin",
    "Repository": "castore.repository",
    "Sample": "castore.read.reader",
    "read_config": "castore.ingest.run_file",
}
"""Modules of the classes and functions that are loaded when somebody asks for them; what is not here is an error's."""


def __getattr__(name: str) -> Any:
    """The classes and errors: loaded when somebody asks."""
    if name not in __all__:
        raise AttributeError(f"module 'castore' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_FOUND_IN.get(name, "castore.errors")), name)


def __dir__() -> list[str]:
    """What is here, loaded or not."""
    return sorted({*globals(), *__all__})


def open(  # noqa: A001 - callers write castore.open
    url: str | PathLike[str] | None = None, *, create: bool = False
) -> Repository:
    """Open the repository at a path or URL.

    Args:
        url: A folder, or any URL that fsspec knows; by default ``CASTORE_REPO``, else ``castore`` under your data
            directory.
        create: Make it if there is nothing.

    Raises:
        NotFoundError: There is no repository and ``create`` is False.
        UnsupportedVersionError: It is of a newer format.
    """
    from castore.repository import Repository

    return Repository.open(url, create=create)


def zarr_store(url: str | PathLike[str], name: str, *, grid: str = "regular") -> CastoreStore:
    """A dataset as a zarr store: ``zarr.open_group(castore.zarr_store(url, name))``. Every write is refused.

    The group has token_ids uint32[m], labels_mask bool[m], sample_offsets int64[n + 1], source uint32[n] and the extra
    arrays, in stored order; every byte is verified when it is read. What ``name`` means now is what is shown, also if
    the name moves.

    Args:
        url: Of the repository.
        name: Any address of a dataset in it.
        grid: ``regular``: chunks of equal size, for dask, xarray, tensorstore and every zarr. ``rectilinear``: the
            chunks of the repository as they are, for zarr 3.2 or later with ``array.rectilinear_chunks`` switched on.

    Raises:
        NotFoundError: There is no repository, or nothing called ``name``.
        InvalidInputError: The installed zarr cannot read the grid.
    """
    return open(url)[name].zarr_store(grid=grid)
