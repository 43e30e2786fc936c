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

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from castore.repository import Repository

__version__ = "0.1.0"

__all__ = ["__version__", "open"]


def open(url: str, *, create: bool = False) -> Repository:  # noqa: A001 - callers write castore.open
    """Open the repository at a path or URL.

    Args:
        url: A folder, or any URL that fsspec knows.
        create: Make it if there is nothing.

    Raises:
        NotFoundError: There is no repository and ``create`` is False.
        UnsupportedVersionError: It is of a newer format.
    """
    from castore.repository import Repository

    return Repository.open(url, create=create)
