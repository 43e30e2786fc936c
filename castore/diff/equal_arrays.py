"""Which arrays of two datasets are equal, element by element, though their trees need not be.

All arrays are cut where the tokens are, so that other tokens may cut equal labels in other places.
"""

from __future__ import annotations

from collections.abc import Sequence

from castore.diff.hunks import DatasetPair, Hunk

CUTS_MAX, CUT_TOKENS_MAX = 1024, 1 << 22
"""Samples that differ, or tokens in all, up to which an array of an element a token is compared by its elements. Labels
and arrays of an element a sample, of some bytes each, are however many there are."""

_TOKENS = ("token_ids", "key")


def equal_arrays(
    pair: DatasetPair, names: Sequence[str], hunks: Sequence[Hunk], reordered: int
) -> dict[str, bool | None]:
    """Whether each array is equal; None where that was not looked at.

    Args:
        pair: The datasets.
        names: The arrays.
        hunks, reordered: What differs in these arrays, as ``find_hunks`` tells it.
    """
    return {name: pair.same(name) or _same_elements(pair, name, hunks, reordered) for name in names}


def _same_elements(pair: DatasetPair, name: str, hunks: Sequence[Hunk], reordered: int) -> bool | None:
    a, b = pair.a, pair.b
    if a.samples != b.samples or not (a.has_data(name) and b.has_data(name)):
        return False
    if not a.root and not b.root:
        return False  # directories were compared by their elements
    if name in _TOKENS:
        return not reordered and all(hunk.op == "replace" and not set(_TOKENS) & set(hunk.arrays) for hunk in hunks)
    if any(hunk.op == "replace" and hunk.a == hunk.b and name in hunk.arrays for hunk in hunks):
        return False
    array = a.tree(name).array
    large = sum(hunk.size for hunk in hunks) > CUTS_MAX and a.manifest.tokens > CUT_TOKENS_MAX
    if array.axis == "token" and not array.is_spans and large:
        return None
    return next(pair.unequal(name, 0, 0, a.samples), None) is None
