"""What stands in place of a root and objects for a directory that is read without making trees of it."""

from __future__ import annotations

from castore.errors import NotFoundError
from castore.format.digest import Digest
from castore.format.manifest import Manifest, Root, SplitRule
from castore.format.node import Entry
from castore.format.schema import DATA_ARRAYS
from castore.tree.split import CHUNK_BYTES, FANOUT, RULE_NAME

NO_ROOT = Digest(b"")
"""In place of the root of what has no trees."""


def folder_manifest(samples: int, tokens: int) -> Manifest:
    """Arrays and counts of a directory; the entries name nothing."""
    arrays = {}
    for array in DATA_ARRAYS:
        entry = Entry(NO_ROOT, samples, tokens if array.axis == "token" else samples)
        arrays[array.name] = array, Root(array.grain, (entry,))
    return Manifest(samples, arrays, SplitRule(RULE_NAME, CHUNK_BYTES, FANOUT), None)


def no_objects(digest: Digest) -> bytes:
    """A ``fetch`` of what has no objects."""
    raise NotFoundError("a directory has no objects")
