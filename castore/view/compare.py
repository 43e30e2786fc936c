"""Comparing two datasets: equal or not, and if not, where and how (``docs/reference/diff.md``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import isfinite
from struct import unpack

from castore.format.schema import ITEM_BYTES
from castore.view.changes import Change, change_of, label_flips, token_edits
from castore.view.dataset import Dataset, Origin
from castore.view.groups import Changes, Grouping
from castore.view.hunks import Hunk, Pair, find
from castore.view.layout import Place, place_is_cheap, place_of
from castore.view.recipes import RecipeChange, recipe_changes, recipe_differences
from castore.view.trees import TreePair, sample_key

__all__ = ["Comparison", "Divergence", "Hunk", "Side", "compare", "sample_key"]

DERIVED = frozenset({"key", "length"})
"""Arrays that follow from the token ids, so that comparing them would say everything twice."""

_EXPORTED = ("token_ids", "labels_mask")

_STRUCT = {
    "uint8": "B",
    "uint16": "H",
    "uint32": "I",
    "uint64": "Q",
    "int64": "q",
    "float32": "f",
    "float64": "d",
}

LOOKED_AT_MAX = 2048
"""Replaced pairs that are aligned token by token; of more, some from places that are evenly spaced."""

LOOKED_AT_ONCE = 32
"""Neighbouring pairs that are read together."""


@dataclass(frozen=True, slots=True)
class Side:
    """The first divergence as one side has it.

    Attributes:
        sample: The sample, None if this side has none there.
        value: The element (a key in hexadecimal), None if the sample is shorter or absent.
        text: Text of the token at the index, None if there is none or no vocabulary was recorded.
        context: Text before, at and after the index, None likewise.
        labels: Whether the tokens of the context are trained on: before, at, after, one flag a token.
        origin: Where the sample came from.
        place: Where the element stands in an export, None if it is in none.
    """

    sample: int | None
    value: int | float | str | None = None
    text: str | None = None
    context: tuple[str, str, str] | None = None
    origin: Origin | None = None
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first difference in stored order: array, index within the sample, and both sides.

    Attributes:
        placed: Whether places were looked for. In large shuffled datasets they are only if asked for.
    """

    array: str
    index: int
    a: Side
    b: Side
    placed: bool = True


@dataclass(frozen=True, slots=True)
class Comparison:
    """What ``compare`` found.

    Attributes:
        equal: The roots are the same.
        arrays: By name, whether the trees are equal.
        same_order: Both are read in the same order of samples.
        hunks: All differences between the samples in stored order.
        first: The first of them in detail, None if the samples are equal.
        recipe: Entries of the recipes and sources that differ, as (name, a, b); empty where a side has no run record.
        causes: The same in words, the likeliest explanation of differing data first.
        first_change: How the two samples of ``first`` differ as a whole; None if one side has no sample there.
        changes: The kinds of change among replaced samples.
        reordered: Samples that both sides have, if their orders are too different to be told as moves; else 0. The
            hunks then are what one side alone has, and samples whose labels differ; they do not make b of a.
    """

    equal: bool
    arrays: dict[str, bool]
    same_order: bool
    samples_a: int
    samples_b: int
    hunks: list[Hunk] = field(default_factory=list)
    first: Divergence | None = None
    recipe: list[tuple[str, object, object]] = field(default_factory=list)
    causes: list[RecipeChange] = field(default_factory=list)
    first_change: Change | None = None
    changes: Changes = field(default_factory=Changes)
    reordered: int = 0

    def count(self, op: str) -> int:
        """Samples of one kind: ``replace``, and ``insert`` and ``delete`` without those that have only moved."""
        return sum(hunk.count for hunk in self.hunks if hunk.op == op and not hunk.moved)

    @property
    def moved(self) -> int:
        """Samples that both sides have, in another place."""
        return self.reordered + sum(hunk.count for hunk in self.hunks if hunk.op == "delete" and hunk.moved)

    @property
    def same_samples(self) -> bool:
        """The samples are equal, whatever their order."""
        return all(hunk.moved and not hunk.arrays for hunk in self.hunks)


def compare(
    a: Dataset, b: Dataset, *, context: int = 8, only: str | None = None, changes: bool = True, places: bool = False
) -> Comparison:
    """Compare two datasets, reading only what differs.

    Args:
        a, b: The datasets; their ``fetch`` may be of two repositories.
        context: Tokens shown before and after the first divergence.
        only: Name of the one array to compare.
        changes: Align replaced samples, and group what changed in them.
        places: Find the places in an export even if that takes the lengths of very many samples.
    """
    recipe = list(recipe_differences(a, b))
    names = _names(a, b)
    pair = _pair(a, b)
    if pair.equal():
        samples = a.manifest.samples
        causes = recipe_changes(a, b, recipe) if recipe else []
        return Comparison(
            True, dict.fromkeys(names, True), True, samples, samples, recipe=recipe, causes=causes
        )
    roots = {name: pair.same(name) for name in names}
    found = find(pair, [name for name in names if name not in DERIVED] if only is None else [only])
    hunks = found.hunks
    return Comparison(
        False,
        roots,
        a.manifest.order == b.manifest.order,
        a.manifest.samples,
        b.manifest.samples,
        hunks,
        _first(a, b, hunks[0], context, places) if hunks else None,
        recipe,
        recipe_changes(a, b, recipe),
        _first_change(a, b, hunks[0]) if hunks else None,
        _changes(a, b, hunks) if changes else Changes(),
        found.reordered,
    )


# ---- kinds of change


def _first_change(a: Dataset, b: Dataset, hunk: Hunk) -> Change | None:
    return change_of(a, hunk.a[0], b, hunk.b[0]) if hunk.op == "replace" else None


def _changes(a: Dataset, b: Dataset, hunks: Sequence[Hunk]) -> Changes:
    """Align replaced samples, all or some of every region, and group what changed in them."""
    replaced = [(hunk.a[0], hunk.b[0], hunk.a[1] - hunk.a[0]) for hunk in hunks if hunk.op == "replace"]
    total = sum(count for _, _, count in replaced)
    grouping = Grouping(a.vocabulary, b.vocabulary) if replaced else Grouping()
    labels = a.has("labels_mask") and b.has("labels_mask")
    for a_lo, b_lo, count in _looked_at(replaced, total):
        tokens_a, tokens_b = a.token_ids(a_lo, a_lo + count), b.token_ids(b_lo, b_lo + count)
        spans_a = a.spans(a_lo, a_lo + count) if labels else [[]] * count
        spans_b = b.spans(b_lo, b_lo + count) if labels else [[]] * count
        for i in range(count):
            edits, coarse = token_edits(tokens_a[i], tokens_b[i])
            flips = label_flips(spans_a[i], spans_b[i], edits)
            grouping.add(Change(a_lo + i, b_lo + i, edits, flips, coarse), tokens_a[i], tokens_b[i])
    return grouping.changes(total)


def _looked_at(replaced: Sequence[tuple[int, int, int]], total: int) -> Iterator[tuple[int, int, int]]:
    """Which pairs to align, as stretches: all if they are few, else some from places that are evenly spaced."""
    if total <= LOOKED_AT_MAX:
        for a_lo, b_lo, count in replaced:
            for at in range(0, count, LOOKED_AT_ONCE):
                yield a_lo + at, b_lo + at, min(LOOKED_AT_ONCE, count - at)
        return
    places = LOOKED_AT_MAX // LOOKED_AT_ONCE
    wanted = [total * place // places for place in range(places)]
    before = 0
    for a_lo, b_lo, count in replaced:
        while wanted and wanted[0] < before + count:
            at = wanted.pop(0) - before
            yield a_lo + at, b_lo + at, min(LOOKED_AT_ONCE, count - at)
        before += count


def _pair(a: Dataset, b: Dataset) -> Pair:
    if a.root or b.root:
        return TreePair(a, b)
    from castore.view.folders import FolderDataset, FolderPair

    assert isinstance(a, FolderDataset)
    assert isinstance(b, FolderDataset)
    return FolderPair(a, b)


def _names(a: Dataset, b: Dataset) -> list[str]:
    """Arrays of either side: the first of the manifest first, so that the tokens lead."""
    lead = [name for name in ("token_ids", "labels_mask") if name in a.manifest.arrays or name in b.manifest.arrays]
    rest = {*a.manifest.arrays, *b.manifest.arrays}.difference(lead)
    return [*lead, *sorted(rest)]


# ---- the first divergence


def _first(a: Dataset, b: Dataset, hunk: Hunk, context: int, places: bool) -> Divergence:
    sample_a = None if hunk.op == "insert" else hunk.a[0]
    sample_b = None if hunk.op == "delete" else hunk.b[0]
    array, index = ("token_ids", 0)
    if sample_a is not None and sample_b is not None:
        array, index = _first_element(a, sample_a, b, sample_b, hunk.arrays[0])
    placed = places or all(place_is_cheap(data) for data in (a, b))
    sides = [_side(data, at, array, index, context, placed) for data, at in ((a, sample_a), (b, sample_b))]
    return Divergence(array, index, sides[0], sides[1], placed)


def _first_element(a: Dataset, sample_a: int, b: Dataset, sample_b: int, array: str) -> tuple[str, int]:
    """Array and index at which two samples part."""
    if array == "token_ids":
        pair = a.token_ids(sample_a, sample_a + 1)[0], b.token_ids(sample_b, sample_b + 1)[0]
        return array, _first_unequal(*pair)
    kind_a, kind_b = a.tree(array).array, b.tree(array).array
    if kind_a != kind_b or kind_a.axis == "sample":
        return array, 0
    if kind_a.is_spans:
        edges_a = [edge for span in a.spans(sample_a, sample_a + 1, array)[0] for edge in span]
        edges_b = [edge for span in b.spans(sample_b, sample_b + 1, array)[0] for edge in span]
        at = _first_unequal(edges_a, edges_b)
        # Two masks agree up to the smaller of the first edges in which they differ.
        return array, min([*edges_a[at : at + 1], *edges_b[at : at + 1]])
    bytes_a, bytes_b = a.elements(array, sample_a, sample_a + 1)[0], b.elements(array, sample_b, sample_b + 1)[0]
    return array, _first_unequal(bytes_a, bytes_b) // ITEM_BYTES[kind_a.dtype]


def _first_unequal(x: Sequence[int], y: Sequence[int]) -> int:
    return next((i for i, (p, q) in enumerate(zip(x, y, strict=False)) if p != q), min(len(x), len(y)))


def _side(data: Dataset, sample: int | None, array: str, index: int, context: int, placed: bool) -> Side:
    if sample is None:
        return Side(None)
    tokens = data.token_ids(sample, sample + 1)[0]
    token_array = data.tree(array).array.axis == "token"
    value = _element(data, array, sample, index, tokens) if index < len(tokens) or not token_array else None
    text = around = None
    if data.vocabulary is not None and token_array:
        decode = data.vocabulary.decode
        parts = tokens[max(index - context, 0) : index], tokens[index : index + 1]
        around = decode(parts[0]), decode(parts[1]), decode(tokens[index + 1 : index + 1 + context])
        text = around[1] if len(parts[1]) else None
    place = place_of(data, sample, index, array) if array in _EXPORTED and placed else None
    return Side(sample, value, text, around, data.origin(sample), place)


def _element(data: Dataset, name: str, sample: int, index: int, tokens: Sequence[int]) -> int | float | str:
    if name == "token_ids":
        return tokens[index]
    array = data.tree(name).array
    if array.is_spans:
        return int(any(lo <= index < hi for lo, hi in data.spans(sample, sample + 1, name)[0]))
    at = ITEM_BYTES[array.dtype] * (index if array.axis == "token" else 0)
    raw = data.elements(name, sample, sample + 1)[0][at : at + ITEM_BYTES[array.dtype]]
    if array.dtype == "bytes16":
        return raw.hex()
    value: int | float = unpack("<" + _STRUCT[array.dtype], raw)[0]
    return value if isfinite(value) else f"{value} ({raw.hex()})"  # JSON has no such numbers; NaNs come in many kinds
