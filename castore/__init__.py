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

from typing import TYPE_CHECKING, Any

from castore.version import __version__

if TYPE_CHECKING:
    from os import PathLike

    from castore.dataset import Dataset
    from castore.read.zarr_store import CastoreStore
    from castore.repository import Repository

__all__ = ["Dataset", "Repository", "__version__", "open", "zarr_store"]


def __getattr__(name: str) -> Any:
    """The classes, for annotations: loaded when somebody asks."""
    if name == "Repository":
        from castore.repository import Repository

        return Repository
    if name == "Dataset":
        from castore.dataset import Dataset

        return Dataset
    raise AttributeError(f"module 'castore' has no attribute {name!r}")


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
    """A dataset as a read-only zarr store: ``zarr.open_group(castore.zarr_store(url, name), mode="r")``.

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
    from castore.repository import zarr_store as opened

    return opened(url, name, grid=grid)
