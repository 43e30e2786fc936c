"""Comparing two datasets: equal or not, and if not, where and how (``docs/reference/diff.md``)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import isfinite
from struct import unpack

from blake3 import blake3

from castore.format.schema import ITEM_BYTES, KEY_BYTES
from castore.tree.align import Gap, align
from castore.tree.diff import differing, unequal
from castore.tree.walk import Tree
from castore.view.dataset import Dataset, Origin
from castore.view.layout import Place, place_of

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

FEW_STRETCHES = 8
"""Up to this many differing stretches the keys are computed from the token chunks, which are read anyway for the first
of them; beyond, the array of keys costs less."""


@dataclass(frozen=True, slots=True)
class Hunk:
    """Samples ``[a.0, a.1)`` of one side stand where ``[b.0, b.1)`` of the other stand.

    Attributes:
        op: ``replace`` (as many on both sides, pair by pair), ``delete`` or ``insert``.
        a, b: Half-open ranges of samples in stored order.
        arrays: Arrays that differ, in order of the manifest; for ``insert`` and ``delete`` all of them.
    """

    op: str
    a: tuple[int, int]
    b: tuple[int, int]
    arrays: tuple[str, ...]


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
    """The first difference in stored order: array, index within the sample, and both sides."""

    array: str
    index: int
    a: Side
    b: Side


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
    """

    equal: bool
    arrays: dict[str, bool]
    same_order: bool
    samples_a: int
    samples_b: int
    hunks: list[Hunk] = field(default_factory=list)
    first: Divergence | None = None
    recipe: list[tuple[str, object, object]] = field(default_factory=list)

    def count(self, op: str) -> int:
        """Samples of all hunks of one kind."""
        return sum((h.b[1] - h.b[0]) if op == "insert" else (h.a[1] - h.a[0]) for h in self.hunks if h.op == op)

    @property
    def same_samples(self) -> bool:
        """The samples are equal, whatever their order."""
        return not self.hunks


def compare(a: Dataset, b: Dataset, *, context: int = 8, only: str | None = None) -> Comparison:
    """Compare two datasets, reading only what differs.

    Args:
        a, b: The datasets; their ``fetch`` may be of two repositories.
        context: Tokens shown before and after the first divergence.
        only: Name of the one array to compare.
    """
    recipe = list(_recipes(a, b))
    names = _names(a, b)
    if a.root == b.root:
        samples = a.manifest.samples
        return Comparison(True, dict.fromkeys(names, True), True, samples, samples, recipe=recipe)
    roots = {name: _same_tree(a, b, name) for name in names}
    hunks = list(_hunks(a, b, [name for name in names if name not in DERIVED] if only is None else [only]))
    return Comparison(
        False,
        roots,
        a.manifest.order == b.manifest.order,
        a.manifest.samples,
        b.manifest.samples,
        hunks,
        _first(a, b, hunks[0], context) if hunks else None,
        recipe,
    )


def _names(a: Dataset, b: Dataset) -> list[str]:
    """Arrays of either side: the first of the manifest first, so that the tokens lead."""
    lead = [name for name in ("token_ids", "labels_mask") if name in a.manifest.arrays or name in b.manifest.arrays]
    rest = {*a.manifest.arrays, *b.manifest.arrays}.difference(lead)
    return [*lead, *sorted(rest)]


def _same_tree(a: Dataset, b: Dataset, name: str) -> bool:
    return a.manifest.arrays.get(name) == b.manifest.arrays.get(name)


# ---- hunks


def _hunks(a: Dataset, b: Dataset, names: Sequence[str]) -> Iterator[Hunk]:
    """Hunks in order. The tokens align the samples; other arrays are compared between samples that are aligned."""
    shared = [n for n in names if n != "token_ids" and n in a.manifest.arrays and n in b.manifest.arrays]
    gaps: list[Gap] = [] if _same_tree(a, b, "token_ids") else _sample_gaps(a, b)
    a_at = b_at = 0
    end = Gap(a.manifest.samples, a.manifest.samples, b.manifest.samples, b.manifest.samples)
    for gap in [*gaps, end]:
        yield from _value_hunks(a, b, shared, a_at, b_at, gap.a_lo - a_at)
        whole = "token_ids" in names
        if not whole:  # the tokens of these pairs differ, the array that was asked for need not
            pairs = min(gap.a_hi - gap.a_lo, gap.b_hi - gap.b_lo)
            yield from _value_hunks(a, b, shared, gap.a_lo, gap.b_lo, pairs)
        yield from (hunk for hunk in _gap_hunks(gap, tuple(names)) if whole or hunk.op != "replace")
        a_at, b_at = gap.a_hi, gap.b_hi


def _sample_gaps(a: Dataset, b: Dataset) -> list[Gap]:
    """Samples whose tokens differ."""
    stretches = differing(a.fetch, a.tree("token_ids"), b.fetch, b.tree("token_ids"))
    few = len(stretches) <= FEW_STRETCHES
    gaps: list[Gap] = []
    for stretch in stretches:
        keys_a = _keys(a, stretch.a_lo, stretch.a_hi, few)
        keys_b = _keys(b, stretch.b_lo, stretch.b_hi, few)
        for gap in align(keys_a, keys_b):
            gaps.extend(_by_row(a, b, gap.shifted(stretch.a_lo, stretch.b_lo)))
    return gaps


def _by_row(a: Dataset, b: Dataset, gap: Gap) -> Iterator[Gap]:
    """Split a gap so that samples of the same raw row stand across from each other.

    Another template changes every token and drops other rows: only the raw rows then tell what has become of what.
    """
    counts = gap.a_hi - gap.a_lo, gap.b_hi - gap.b_lo
    if min(counts) == 0 or max(counts) == 1 or not (a.has("raw_key") and b.has("raw_key")):
        yield gap
        return
    rows_a = a.keys("raw_key", gap.a_lo, gap.a_hi)
    rows_b = b.keys("raw_key", gap.b_lo, gap.b_hi)
    a_at, b_at = gap.a_lo, gap.b_lo
    for part in align(rows_a, rows_b):
        lost = part.shifted(gap.a_lo, gap.b_lo)
        if lost.a_lo > a_at:
            yield Gap(a_at, lost.a_lo, b_at, lost.b_lo)
        yield lost
        a_at, b_at = lost.a_hi, lost.b_hi
    if a_at < gap.a_hi:
        yield Gap(a_at, gap.a_hi, b_at, gap.b_hi)


def _keys(data: Dataset, lo: int, hi: int, few: bool) -> list[bytes]:
    if not few and data.has("key"):
        return data.keys("key", lo, hi)
    return [sample_key(tokens) for tokens in data.token_ids(lo, hi)]


def sample_key(token_ids: Sequence[int]) -> bytes:
    """The key of one sample: BLAKE3 of its token ids as little-endian uint32, cut to 16 bytes."""
    if isinstance(token_ids, memoryview) and memoryview(b"\1\0").cast("H")[0] == 1:
        data: bytes | memoryview = token_ids.cast("B")
    else:
        data = b"".join(token.to_bytes(4, "little") for token in token_ids)
    return blake3(data).digest(length=KEY_BYTES)


def _gap_hunks(gap: Gap, names: tuple[str, ...]) -> Iterator[Hunk]:
    """A gap as hunks: as many pairs as there are, then what is left over on one side."""
    pairs = min(gap.a_hi - gap.a_lo, gap.b_hi - gap.b_lo)
    a_mid, b_mid = gap.a_lo + pairs, gap.b_lo + pairs
    if pairs:
        yield Hunk("replace", (gap.a_lo, a_mid), (gap.b_lo, b_mid), names[:1])
    if gap.a_hi > a_mid:
        yield Hunk("delete", (a_mid, gap.a_hi), (b_mid, b_mid), names)
    if gap.b_hi > b_mid:
        yield Hunk("insert", (a_mid, a_mid), (b_mid, gap.b_hi), names)


def _value_hunks(a: Dataset, b: Dataset, names: Sequence[str], a_lo: int, b_lo: int, count: int) -> Iterator[Hunk]:
    """Samples with equal tokens whose other arrays differ, runs of neighbours as one hunk."""
    if count == 0:
        return
    changed: dict[int, list[str]] = {}
    for name in names:
        for at in _changed(a, b, name, a_lo, b_lo, count):
            changed.setdefault(at, []).append(name)
    run: list[int] = []
    for at in [*sorted(changed), -1]:
        if run and (at != run[-1] + 1 or changed[at] != changed[run[0]]):
            lo, hi = run[0], run[-1] + 1
            yield Hunk("replace", (a_lo + lo, a_lo + hi), (b_lo + lo, b_lo + hi), tuple(changed[lo]))
            run = []
        run.append(at)


def _changed(a: Dataset, b: Dataset, name: str, a_lo: int, b_lo: int, count: int) -> Iterator[int]:
    tree_a, tree_b = a.tree(name), b.tree(name)
    for lo, hi in unequal(a.fetch, tree_a, b.fetch, tree_b, a_lo, b_lo, count):
        values_a = _elements(a, tree_a, a_lo + lo, a_lo + hi)
        values_b = _elements(b, tree_b, b_lo + lo, b_lo + hi)
        for i, (x, y) in enumerate(zip(values_a, values_b, strict=True)):
            if x != y:
                yield lo + i


def _elements(data: Dataset, tree: Tree, lo: int, hi: int) -> Sequence[object]:
    """One comparable value a sample."""
    name = tree.array.name
    if tree.array.is_spans:
        return data.spans(lo, hi, name)
    if tree.array.axis == "sample" and tree.array.dtype in ("uint32", "uint64"):
        return data.integers(name, lo, hi)
    return data.elements(name, lo, hi)


# ---- the first divergence


def _first(a: Dataset, b: Dataset, hunk: Hunk, context: int) -> Divergence:
    sample_a = None if hunk.op == "insert" else hunk.a[0]
    sample_b = None if hunk.op == "delete" else hunk.b[0]
    array, index = ("token_ids", 0)
    if sample_a is not None and sample_b is not None:
        array, index = _first_element(a, sample_a, b, sample_b, hunk.arrays[0])
    return Divergence(
        array, index, _side(a, sample_a, array, index, context), _side(b, sample_b, array, index, context)
    )


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


def _side(data: Dataset, sample: int | None, array: str, index: int, context: int) -> Side:
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
    place = place_of(data, sample, index, array) if array in _EXPORTED else None
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


# ---- recipes


def _recipes(a: Dataset, b: Dataset) -> Iterator[tuple[str, object, object]]:
    """What differs in how the two came to be, apart from names, times and places."""
    if a.run is None or b.run is None or a.run_digest == b.run_digest:
        return
    if not a.run.recipe or not b.run.recipe:
        if a.run.recipe or b.run.recipe:
            said = ["recorded" if side.recipe else "not recorded" for side in (a.run, b.run)]
            yield "recipe", said[0], said[1]
        return
    yield from _differences("recipe", dict(a.run.recipe), dict(b.run.recipe))
    for name in ("mix_seed", "num_examples", "shuffle_seed"):
        pair = a.run.configuration.get(name), b.run.configuration.get(name)
        if pair[0] != pair[1]:
            yield name, pair[0], pair[1]
    digests = [_digests(side.run.sources) for side in (a, b) if side.run]
    if digests[0] != digests[1]:
        yield "sources", digests[0], digests[1]


def _digests(sources: Iterable[object]) -> list[str]:
    return [f"{s.get('amount')} of {str(s.get('digest'))[:12]}" for s in sources if isinstance(s, dict)]


def _differences(path: str, x: object, y: object) -> Iterator[tuple[str, object, object]]:
    if isinstance(x, dict) and isinstance(y, dict):
        for key in sorted({*x, *y}):
            yield from _differences(f"{path}.{key}", x.get(key), y.get(key))
    elif x != y:
        yield path, x, y
