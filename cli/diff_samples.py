"""Which samples a page shows, and one of them as HTML."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, groupby, islice
from typing import TYPE_CHECKING

from castore_cli.html import clip, element, safe, token_text
from castore_cli.text import number, plural

if TYPE_CHECKING:
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


def card(a: Columns, b: Columns, one: Picked, names: tuple[str, str], context: int) -> str:
    """A pair of samples as HTML."""
    from castore.diff.side_by_side import read_pair

    pair = read_pair(a, b, one.op, one.a, one.b, one.arrays, context)
    sign, word = _SIGNS[one.op]
    where = {"replace": f"sample {one.a:,} → sample {one.b:,}", "delete": f"sample {one.a:,}"}
    title = where.get(one.op, f"sample {one.b:,}")
    badge = element("span", f"{sign} {word}", f"badge {one.op}")
    left = _side(pair, 0, names[0])
    right = _side(pair, 1, names[1])
    return (
        f'<article class="card" id="{one.anchor}" data-op="{one.op}" data-arrays="{safe(" ".join(pair.arrays))}">'
        f"<header><h3>{badge} {title}</h3>{element('span', _summary(pair), 'aside')}</header>"
        f'<div class="pair">{left}{right}</div></article>\n'
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


def _side(pair: ShownPair, side: int, name: str) -> str:
    sample = (pair.a, pair.b)[side]
    letter = "ab"[side]
    if sample is None:
        head = f"<p><b>{safe(clip(name, 200))}</b></p>"
        return f'<section class="side {letter}">{head}<p class="none">no such sample</p></section>'
    origin = "" if sample.origin is None else f", {clip(sample.origin.source, 200)}"
    if sample.origin is not None and sample.origin.row is not None:
        origin += f" row {number(sample.origin.row + 1)}"
    head = f"<p><b>{safe(clip(name, 200))}</b>{safe(origin)}, {plural(len(sample.token_ids), 'token')}</p>"
    parts = [_stretch(one, sample, side) for one in pair.stretches[:STRETCHES_MAX]]
    if len(pair.stretches) > STRETCHES_MAX:
        parts.append(element("span", f"… {number(len(pair.stretches) - STRETCHES_MAX)} more stretches", "skip"))
    return f'<section class="side {letter}">{head}<pre class="text" dir="ltr">{"".join(parts)}</pre></section>'


def _stretch(one: Stretch, sample: ShownSample, side: int) -> str:
    lo, hi = (one.a, one.b)[side]
    if one.op == "skip":
        return element("span", f"… {plural(hi - lo, 'token')} …", "skip") if hi > lo else ""
    if lo == hi:  # something is on the other side only
        other = (one.b, one.a)[side]
        sign, kind = ("▸", "gap") if side == 0 else ("◂", "gap away")
        what = f"{plural(other[1] - other[0], 'token')} {'added' if side == 0 else 'removed'} here"
        return element("span", sign, kind, role="img", **{"aria-label": what}, title=what)
    tokens = sample.tokens(lo, min(hi, lo + STRETCH_TOKENS_MAX))
    inner = "".join(_tokens(tokens, ids=one.op in ("replace", "insert", "delete")))
    if hi - lo > STRETCH_TOKENS_MAX:
        inner += element("span", f"… {number(hi - lo - STRETCH_TOKENS_MAX)} more tokens", "skip")
    if one.op == "equal":
        return inner
    if one.op == "label":
        what = "trained on here, not there" if tokens[0][1] else "not trained on here, but there"
        return f'<mark title="{what}">{inner}</mark>'
    tag = "ins" if side else "del"
    return f"<{tag}>{inner}</{tag}>"


def _tokens(tokens: Sequence[tuple[str, bool, int]], *, ids: bool) -> Iterator[str]:
    for trained, run in groupby(tokens, key=lambda token: token[1]):
        if trained:
            yield '<span class="y">'
        for text, _, token in run:
            told = f' data-id="{token}"' if ids else ""
            shown = token_text(clip(text, TOKEN_CHARACTERS_MAX))
            end = "\n" if shown.endswith("\n") else ""  # behind the id that the page puts after the token
            yield f'<span class="t"{told}>{shown.removesuffix(end)}</span>{end}'
        if trained:
            yield "</span>"
