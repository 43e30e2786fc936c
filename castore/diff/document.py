"""The parts of a comparison as JSON has them (``docs/reference/diff.md``): plain values, digests in hexadecimal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from castore.diff.change_groups import Changes
    from castore.diff.edits import Change
    from castore.diff.first_difference import FirstDifference, Side
    from castore.diff.hunks import Hunk

DOCUMENT_VERSION = 1
"""Grows when a field changes its meaning or goes; fields may be added without."""


def plain(value: Any) -> Any:
    """A value of a record as JSON has it: bytes in hexadecimal, tuples as lists."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def hunk_document(hunk: Hunk) -> dict[str, Any]:
    """Samples that differ; ``moved`` only where they have."""
    moved = {} if hunk.moved is None else {"moved": list(hunk.moved)}
    return {"op": hunk.op, "a": list(hunk.a), "b": list(hunk.b), "arrays": list(hunk.arrays), **moved}


def change_document(change: Change) -> dict[str, Any]:
    """How one sample differs from another."""
    return {
        "sample_a": change.sample_a,
        "sample_b": change.sample_b,
        "edits": [[edit.op, *edit.a, *edit.b] for edit in change.edits],
        "flips": [[*flip.a, *flip.b, flip.trained] for flip in change.flips],
        "coarse": change.coarse,
    }


def changes_document(changes: Changes | None) -> dict[str, Any]:
    """The kinds of change among replaced samples; none where no samples were aligned."""
    if changes is None:
        return {"replaced": 0, "looked_at": 0, "other": 0, "groups": []}
    return {
        "replaced": changes.replaced,
        "looked_at": changes.looked_at,
        "other": changes.other,
        "groups": [
            {
                "kind": group.kind,
                "text": group.text,
                "samples": group.samples,
                "examples": [change_document(example) for example in group.examples],
            }
            for group in changes.groups
        ],
    }


def first_document(first: FirstDifference) -> dict[str, Any]:
    """The first difference in detail."""
    return {
        "array": first.array,
        "index": first.index,
        "placed": first.placed,
        **_side(first.a, "a"),
        **_side(first.b, "b"),
    }


def _side(side: Side, letter: str) -> dict[str, Any]:
    origin, place = side.origin, side.place
    return {
        f"sample_{letter}": side.sample,
        letter: side.value,
        f"text_{letter}": side.text,
        f"context_{letter}": None if side.context is None else list(side.context),
        f"origin_{letter}": None if origin is None else {"source": origin.source, "row": origin.row},
        f"place_{letter}": None if place is None else {"file": place.file, "offset": place.offset},
    }
