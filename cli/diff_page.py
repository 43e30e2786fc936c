"""A comparison as one self-contained page: ``castore diff A B --html FILE``.

Everything is rendered here; the page's script only filters, so that it reads without one, in print, and offline. A
Content-Security-Policy permits the page's own style and script alone. No time or host is in it: the same comparison
gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from castore import __version__
from castore_cli.diff_page_map import extent, strip_map
from castore_cli.diff_page_samples import Picked, card, pick
from castore_cli.formatting import number, plural, size
from castore_cli.pages import asset, clip, policy_source
from castore_cli.pages import render as render_template

if TYPE_CHECKING:
    from castore.diff.compare import Comparison
    from castore.diff.first_difference import FirstDifference, Side
    from castore.read.columns import Columns
    from castore_cli.diff_options import DiffOutcome

MARK = b"<!doctype html>\n<!-- castore diff -->\n"
"""How a page begins, by which it is known to be one."""

PAGE_BYTES_MAX = 5_000_000
CARDS_BYTES_MAX = 3_500_000
"""Most bytes of a page, and of the samples in it; what else is in it is bounded item by item, far below the rest."""

CAUSES_MAX, LINES_MAX, SOURCES_MAX, ARRAYS_MAX = 100, 40, 400, 50

_OPS = {"replace": "~ replaced", "insert": "+ inserted", "delete": "− deleted"}


def render(
    outcome: DiffOutcome, *, limit: int, context: int, report: Callable[[int, int], None] = lambda done, total: None
) -> bytes:
    """The page.

    Args:
        outcome: What was found.
        limit: Samples shown at most, token by token.
        context: Equal tokens kept around what differs.
        report: Called with samples read and to read.
    """
    shown, cards = _cards(outcome, limit, context, report) if outcome.readable else ([], [])
    result = outcome.result
    sources = _sources(outcome.data[0]) if outcome.readable else []
    verdict = "equal" if result.equal else "different"
    style, script = asset("diff.css"), asset("diff.js")
    policy = (
        f"default-src 'none'; style-src '{policy_source(style)}'; script-src '{policy_source(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    read = f"{plural(outcome.reads['objects'], 'object')}, {size(outcome.reads['bytes'])}"
    page = render_template(
        "diff.html.jinja",
        style=style,
        script=script,
        policy=policy,
        version=__version__,
        read=read,
        title=f"castore diff: {clip(outcome.title, 200)}",
        names=outcome.names,
        note=outcome.note,
        verdict=verdict,
        equal=result.equal,
        headline=clip(outcome.title.removeprefix(f"{verdict}: "), 600),
        tiles=list(_tiles(result)),
        chips=[*list(result.arrays.items())[:ARRAYS_MAX], ("order", result.same_order)],
        causes=[
            {"text": clip(cause.text, 1000), "lines": "\n".join(clip(line, 300) for line in cause.lines[:LINES_MAX])}
            for cause in result.causes[:CAUSES_MAX]
        ],
        more_causes=max(len(result.causes) - CAUSES_MAX, 0),
        groups=list(_groups(result, shown)) if result.hunks else [],
        groups_aside=_groups_aside(result),
        map=strip_map(result, shown, sources, outcome.names[0]) if result.hunks else "",
        extent=extent(result, outcome.names[0]),
        first=_first(result.first, outcome.names) if result.first is not None else None,
        cards=cards,
        samples_aside=_samples_aside(result, len(shown)),
        ops=list(dict.fromkeys(one.op for one in shown)),
        op_words=_OPS,
        arrays=list(dict.fromkeys(name for one in shown for name in one.arrays)),
        roots=_roots(outcome) if outcome.readable else [],
    )
    return f"{page}\n".encode()


def _cards(
    outcome: DiffOutcome, limit: int, context: int, report: Callable[[int, int], None]
) -> tuple[list[Picked], list[Markup]]:
    """The samples of the page, as many as it has room for, and each as HTML."""
    picked = pick(outcome.result, limit)
    cards: list[Markup] = []
    room = CARDS_BYTES_MAX
    for one in picked:
        text = card(*outcome.data, one, outcome.names, context)
        room -= len(text.encode())
        if room < 0:
            break
        cards.append(text)
        report(len(cards), len(picked))
    return picked[: len(cards)], cards


def _roots(outcome: DiffOutcome) -> list[tuple[str, str]]:
    """Both sides and their roots; directories are compared without."""
    sides = zip(outcome.names, outcome.data, strict=True)
    return [(name, data.root.hex()) for name, data in sides if data.root]


def _tiles(result: Comparison) -> Iterator[tuple[str, int, int | None]]:
    """What is counted, on one side or both."""
    counts = [("replaced", result.count("replace")), ("inserted", result.count("insert"))]
    counts.append(("deleted", result.count("delete")))
    if result.moved:
        counts.append(("moved", result.moved))
    yield "samples", result.samples_a, result.samples_b
    if result.hunks or result.equal:
        same = result.samples_a - result.count("replace") - result.count("delete") - result.moved
        for word, count in [*counts, ("unchanged", same)]:
            yield word, count, None


def _groups(result: Comparison, shown: list[Picked]) -> Iterator[dict[str, Any]]:
    """Kinds of change: how many samples, what happened to them, and examples, with links where they are on the page."""
    changes, anchors = result.changes, {one.anchor for one in shown}
    for group in changes.groups:
        examples = [(change.sample_a, f"s{change.sample_a}-{change.sample_b}") for change in group.examples]
        linked = [(sample, anchor if anchor in anchors else "") for sample, anchor in examples]
        yield _group(group.samples, changes.looked_at, clip(group.text, 600), linked)
    if changes.other:
        yield _group(changes.other, changes.looked_at, "other kinds", [])
    for op, word in (("delete", "deleted"), ("insert", "inserted")):
        if count := result.count(op):
            alone = [one for one in shown if one.op == op][:3]
            yield _group(count, 0, word, [(one.a if op == "delete" else one.b, one.anchor) for one in alone])
    if result.moved:
        yield _group(result.moved, 0, "moved: the same samples in another place", [])


def _group(samples: int, total: int, text: str, examples: list[tuple[int, str]]) -> dict[str, Any]:
    """One kind; ``total`` is what a bar shows its share of, 0 for none."""
    width = f"{max(100 * samples / total, 1):.1f}" if total else ""
    return {"samples": samples, "width": width, "text": text.replace("\n", "⏎"), "examples": examples}


def _groups_aside(result: Comparison) -> str:
    changes = result.changes
    if changes.looked_at < changes.replaced:
        return f"{number(changes.looked_at)} of {number(changes.replaced)} replaced samples were looked at"
    return "among the replaced samples, as shares of them"


def _first(first: FirstDifference, names: tuple[str, str]) -> dict[str, Any]:
    """The first difference on both sides."""
    tags = ("del", "ins") if first.array == "token_ids" else ("mark", "mark")
    sides = [
        _first_side(side, name, tag, first.placed)
        for side, name, tag in zip((first.a, first.b), names, tags, strict=True)
    ]
    where = f"{first.array}[{first.index}]" if first.a.context or first.b.context else first.array
    return {"where": where, "sides": sides}


def _first_side(side: Side, name: str, tag: str, placed: bool) -> dict[str, Any]:
    if side.sample is None:
        return {"name": name, "said": "no such sample", "place": "", "context": None}
    context = None
    if side.context is not None:
        before, at, after = side.context
        context = {"before": before[-300:], "at": clip(at, 200), "after": clip(after, 300), "tag": tag}
    origin = ""
    if side.origin is not None:
        row = "" if side.origin.row is None else f" row {number(side.origin.row + 1)}"
        origin = f", {clip(side.origin.source, 200)}{row}"
    place = "; not in an export" if placed else ""
    if side.place is not None:
        place = f"; in an export: {side.place.file} at byte {number(side.place.offset)}"
    value = "ends here" if side.value is None else f"value {side.value}"
    return {"name": name, "said": f"sample {number(side.sample)}{origin}: {value}", "place": place, "context": context}


def _samples_aside(result: Comparison, shown: int) -> str:
    total = sum(result.count(op) for op in ("replace", "insert", "delete"))
    total += sum(hunk.size for hunk in result.hunks if hunk.op == "delete" and hunk.moved and hunk.arrays)
    aside = f"{number(shown)} of {number(total)} that differ"
    if shown < total:
        aside += "; the others are left out of this page (--limit N shows more, diff --json names all)"
    return aside


def _sources(data: Columns) -> list[tuple[str, int]]:
    """Names of the sources and the samples of each, in stored order; empty if that is not known."""
    if data.run is None:
        return []
    found = [(source.name, source.samples) for source in data.run.sources if source.samples is not None]
    known = len(found) == len(data.run.sources) and sum(count for _, count in found) == data.manifest.samples
    return found if known and len(found) <= SOURCES_MAX else []
