"""Which samples a page shows, and one of them as HTML."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, groupby, islice
from typing import TYPE_CHECKING, Any

from castore_cli.formatting import number, plural
from castore_cli.pages import clip, render, token_text

if TYPE_CHECKING:
    from markupsafe import Markup

    from castore.diff.compare import Comparison
    from castore.diff.hunks import Hunk
    from castore.diff.side_by_side import ShownPair, ShownSample, Stretch
    from castore.read.columns import Columns

STRETCH_TOKENS_MAX, STRETCHES_MAX, TOKEN_CHARACTERS_MAX = 400, 400, 100
"""Most tokens of a stretch, stretches of a sample, and characters of a token on a page."""

_SIGNS = {"replace": ("~", "replaced"), "insert": ("+", "inserted"), "delete": ("−", "deleted")}


@dataclass(frozen=True, slots=True)
class Picked:
    """A pair of a hunk that a page shows; for ``insert`` and ``delete`` one of the samples is only a place."""

    op: str
    a: int
    b: int
    arrays: tuple[str, ...]

    @property
    def anchor(self) -> str:
        """Its name in the page's links."""
        return {"replace": f"s{self.a}-{self.b}", "delete": f"d{self.a}", "insert": f"i{self.b}"}[self.op]


def pick(result: Comparison, limit: int) -> list[Picked]:
    """The pairs that a page shows, in stored order: all, or examples of every kind of change, the first, and some from
    everywhere."""
    from castore.diff.side_by_side import shown_hunks

    hunks = list(shown_hunks(result.hunks))
    ends = list(accumulate(hunk.size for hunk in hunks))
    total = ends[-1] if ends else 0
    if total <= limit:
        chosen = set(range(total))
    else:
        examples = [(c.sample_a, c.sample_b) for group in result.changes.groups for c in group.examples]
        spread = (total * i // limit for i in range(limit))
        wanted = chain(_indices(hunks, ends, examples), _alone(hunks, ends), range(limit // 2), spread, range(limit))
        chosen = set()
        for index in wanted:
            if len(chosen) < limit:
                chosen.add(index)
    return [_picked(hunks, ends, index) for index in sorted(chosen)]


def _alone(hunks: Sequence[Hunk], ends: Sequence[int]) -> Iterator[int]:
    """Where the first samples that one side alone has stand among all pairs."""
    for op in ("delete", "insert"):
        places = (
            at for hunk, end in zip(hunks, ends, strict=True) if hunk.op == op for at in range(end - hunk.size, end)
        )
        yield from islice(places, 3)


def _picked(hunks: Sequence[Hunk], ends: Sequence[int], index: int) -> Picked:
    at = bisect_right(ends, index)
    hunk = hunks[at]
    offset = index - (ends[at] - hunk.size)
    a = hunk.a[0] + (0 if hunk.op == "insert" else offset)
    return Picked(hunk.op, a, hunk.b[0] + (0 if hunk.op == "delete" else offset), hunk.arrays)


def _indices(hunks: Sequence[Hunk], ends: Sequence[int], samples: Sequence[tuple[int, int]]) -> Iterator[int]:
    """Where pairs of samples stand among all pairs."""
    starts = [hunk.a[0] for hunk in hunks]
    for a, b in samples:
        at = bisect_right(starts, a) - 1
        while at >= 0 and hunks[at].op != "replace":
            at -= 1
        if at >= 0 and hunks[at].a[0] <= a < hunks[at].a[1] and b - hunks[at].b[0] == a - hunks[at].a[0]:
            yield ends[at] - hunks[at].size + a - hunks[at].a[0]


# ---- one of them


def card(a: Columns, b: Columns, one: Picked, names: tuple[str, str], context: int) -> Markup:
    """A pair of samples as HTML."""
    from castore.diff.side_by_side import read_pair

    pair = read_pair(a, b, one.op, one.a, one.b, one.arrays, context)
    sign, word = _SIGNS[one.op]
    where = {"replace": f"sample {one.a:,} → sample {one.b:,}", "delete": f"sample {one.a:,}"}
    return render(
        "diff_sample.html.jinja",
        anchor=one.anchor,
        op=one.op,
        arrays=" ".join(pair.arrays),
        badge=f"{sign} {word}",
        title=where.get(one.op, f"sample {one.b:,}"),
        summary=_summary(pair),
        sides=[_side(pair, side, name) for side, name in enumerate(names)],
    )


def _summary(pair: ShownPair) -> str:
    """What differs, in counts."""
    if pair.op != "replace":
        alone = pair.a or pair.b
        return plural(len(alone.token_ids), "token") if alone is not None else ""
    ops = ("replace", "insert", "delete")
    gone = sum(one.a[1] - one.a[0] for one in pair.stretches if one.op in ops)
    come = sum(one.b[1] - one.b[0] for one in pair.stretches if one.op in ops)
    flips = sum(one.a[1] - one.a[0] for one in pair.stretches if one.op == "label")
    said = [f"−{number(gone)} +{number(come)} tokens"] if gone or come else []
    said += [f"labels of {plural(flips, 'token')} differ"] if flips else []
    others = [name for name in pair.arrays if name not in ("token_ids", "labels_mask")]
    said += [f"{', '.join(others)} differs"] if others else []
    return "; ".join(said) + (" (too many tokens to align)" if pair.coarse else "")


def _side(pair: ShownPair, side: int, name: str) -> dict[str, Any]:
    """One sample of a pair; without a count of tokens where there is none."""
    sample = (pair.a, pair.b)[side]
    if sample is None:
        return {"letter": "ab"[side], "name": name, "count": None}
    origin = "" if sample.origin is None else f", {clip(sample.origin.source, 200)}"
    if sample.origin is not None and sample.origin.row is not None:
        origin += f" row {number(sample.origin.row + 1)}"
    shown = [_stretch(one, sample, side) for one in pair.stretches[:STRETCHES_MAX]]
    return {
        "letter": "ab"[side],
        "name": name,
        "count": len(sample.token_ids),
        "origin": origin,
        "stretches": [one for one in shown if one],
        "more": max(len(pair.stretches) - STRETCHES_MAX, 0),
    }


def _stretch(one: Stretch, sample: ShownSample, side: int) -> dict[str, Any]:
    """Tokens that are shown alike, or what stands for them; empty where nothing is to be shown."""
    lo, hi = (one.a, one.b)[side]
    if one.op == "skip":
        return {"op": "skip", "count": hi - lo} if hi > lo else {}
    if lo == hi:  # something is on the other side only
        other = (one.b, one.a)[side]
        sign, kind = ("▸", "gap") if side == 0 else ("◂", "gap away")
        what = f"{plural(other[1] - other[0], 'token')} {'added' if side == 0 else 'removed'} here"
        return {"op": "gap", "sign": sign, "kind": kind, "title": what}
    tokens = sample.tokens(lo, min(hi, lo + STRETCH_TOKENS_MAX))
    title = ""
    if one.op == "label":
        title = "trained on here, not there" if tokens[0][1] else "not trained on here, but there"
    return {
        "op": one.op,
        "tag": {"equal": "", "label": "mark"}.get(one.op, "ins" if side else "del"),
        "title": title,
        "runs": _runs(tokens),
        "more": max(hi - lo - STRETCH_TOKENS_MAX, 0),
    }


def _runs(tokens: Sequence[tuple[str, bool, int]]) -> list[tuple[bool, list[tuple[str, str, int]]]]:
    """Tokens, by whether they are trained on: text, what follows it, id."""
    return [
        (trained, [(*_token(text), token) for text, _, token in run])
        for trained, run in groupby(tokens, key=lambda token: token[1])
    ]


def _token(text: str) -> tuple[str, str]:
    """The text of a token, and its last line end: that stands behind the id that the page puts after the token."""
    shown = token_text(clip(text, TOKEN_CHARACTERS_MAX))
    end = "\n" if shown.endswith("\n") else ""
    return shown.removesuffix(end), end
