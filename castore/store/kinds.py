"""The kinds of records that a repository may hold, one a line. Census, collection and check go by this table."""

from __future__ import annotations

from castore.format.digest import is_digest_hex
from castore.store.imports import IMPORTS
from castore.store.marker import FORMAT_KEY
from castore.store.object_keys import digest_of_key
from castore.store.pack_catalog import is_pack_key
from castore.store.packings import PACKINGS
from castore.store.protection import PROTECTED_KEY
from castore.store.records import RecordKind
from castore.store.refs import REFS
from castore.store.signatures import SIGNATURES
from castore.store.trash import TRASH_FOLDER
from castore.store.units import UNITS
from castore.store.writes import WRITES

KINDS: tuple[RecordKind, ...] = (
    REFS,
    UNITS,
    IMPORTS,
    PACKINGS,
    WRITES,
    SIGNATURES,
)
"""In the order in which a check looks at them."""


def is_value_key(key: str) -> bool:
    """Whether a value may be stored under a key, so that nothing else may have it: no folder, no pipe."""
    kept = key.removeprefix(f"{TRASH_FOLDER}/")
    if key in (FORMAT_KEY, PROTECTED_KEY) or digest_of_key(kept) is not None or is_pack_key(kept):
        return True
    folder, *parts = key.split("/")
    if folder == SIGNATURES.folder:  # which say themselves where they belong: behind a root, by the digits of a key
        return any(map(is_digest_hex, parts[:-1])) and is_digest_hex(2 * parts[-1])
    return any(kind.folder == folder and kind.is_key(key) for kind in KINDS)
