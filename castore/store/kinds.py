"""The kinds of records that a repository may hold, one a line. Census, collection and check go by this table."""

from __future__ import annotations

from castore.store.imports import IMPORTS
from castore.store.packings import PACKINGS
from castore.store.records import RecordKind
from castore.store.refs import REFS
from castore.store.signatures import SIGNATURES
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
