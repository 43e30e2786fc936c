"""Hypothesis strategies and generators for samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from castore.format.samples import Piece, Samples, SpanColumn, sample_keys
from castore.format.schema import DATA_ARRAYS, LABELS_MASK, TOKEN_IDS

FINE = (TOKEN_IDS, LABELS_MASK)
"""Arrays of grain 0."""

Row = tuple[tuple[int, ...], tuple[tuple[int, int], ...]]
"""A sample in the plainest form: token ids, and half-open true spans of the mask."""

Edit = tuple[str, int, int, Row]
"""What to do, where (taken modulo the length), how many rows, and a row to put there."""


@st.composite
def rows(draw: st.DrawFn, max_tokens: int = 24, max_id: int = 120_000) -> Row:
    """One sample, often from a tiny alphabet so that equal samples are common."""
    ids = tuple(draw(st.lists(st.integers(0, draw(st.sampled_from([1, 3, max_id]))), max_size=max_tokens)))
    edges = sorted(draw(st.sets(st.integers(0, len(ids)), max_size=4)))
    return ids, tuple(zip(edges[0::2], edges[1::2], strict=False))


row_lists = st.one_of(
    st.lists(rows(), max_size=60),
    st.builds(lambda row, n: [row] * n, rows(), st.integers(0, 120)),
    st.builds(lambda period, n: period * n, st.lists(rows(), min_size=1, max_size=5), st.integers(0, 30)),
)
"""Sequences of samples: mixed, all the same, and short periods."""


def random_rows(count: int, seed: int, tokens: int = 30) -> list[Row]:
    """Samples of varied lengths, one trainable span each."""
    rng = np.random.default_rng(seed)
    out: list[Row] = []
    for _ in range(count):
        n = int(rng.integers(1, 2 * tokens))
        start = int(rng.integers(0, n))
        out.append((tuple(rng.integers(0, 100_000, n).tolist()), ((start, n),)))
    return out


def samples_of(rows: Sequence[Row]) -> Samples:
    """A batch of samples with token_ids and labels_mask."""
    lengths = np.array([len(ids) for ids, _ in rows], np.uint32)
    ids = np.array([t for row, _ in rows for t in row], np.uint32)
    spans = [span for _, row_spans in rows for span in row_spans]
    column = SpanColumn(
        np.array([len(s) for _, s in rows], np.uint32),
        np.array([a for a, _ in spans], np.uint32),
        np.array([b for _, b in spans], np.uint32),
    )
    return Samples(lengths, {"token_ids": ids, "labels_mask": column})


def piece_of(rows: Sequence[Row], chunks: Any = None) -> Piece:
    """A piece for a builder, source 0."""
    samples = samples_of(rows)
    keys = sample_keys(samples.columns["token_ids"], samples.lengths)  # type: ignore[arg-type]
    scalars = {"source": np.zeros(len(rows), np.uint32)}
    return Piece(samples.lengths, keys, scalars, lambda: samples, chunks)


@st.composite
def edit_scripts(draw: st.DrawFn, max_edits: int = 6) -> list[Edit]:
    """A few edits, to be applied one after the other with ``edited``."""
    kinds = st.sampled_from(["replace", "insert", "delete", "labels", "move", "copy"])
    edit = st.tuples(kinds, st.integers(0, 10**6), st.integers(1, 8), rows())
    return draw(st.lists(edit, min_size=1, max_size=max_edits))


def edited(before: Sequence[Row], script: Sequence[Edit]) -> list[Row]:
    """The rows after a script of edits."""
    out = list(before)
    for kind, place, count, row in script:
        at = place % (len(out) + 1)
        if kind == "insert":
            out[at:at] = [row]
        elif kind == "copy":
            out[at:at] = out[:count]
        elif kind == "delete":
            del out[at : at + count]
        elif kind == "move":
            block = out[at : at + count]
            del out[at : at + count]
            target = place // 7 % (len(out) + 1)
            out[target:target] = block
        elif at < len(out):
            out[at] = row if kind == "replace" else (out[at][0], relabelled(out[at]))
    return out


def relabelled(row: Row) -> tuple[tuple[int, int], ...]:
    """Other labels for a row, the same if it has no tokens."""
    ids, spans = row
    if not ids:
        return spans
    return () if spans else ((0, len(ids)),)


ARRAYS = DATA_ARRAYS
__all__ = [
    "ARRAYS",
    "FINE",
    "Edit",
    "Row",
    "edit_scripts",
    "edited",
    "piece_of",
    "random_rows",
    "relabelled",
    "row_lists",
    "rows",
    "samples_of",
]
