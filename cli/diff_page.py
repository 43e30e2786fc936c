"""A comparison as one self-contained page: ``castore diff A B --html FILE``.

Everything is rendered here; the page's script only filters, so that it reads without one, in print, and offline. No
text of the data reaches the page but through ``safe``, and a Content-Security-Policy permits the page's own style and
script alone. No time or host is in it: the same comparison gives the same bytes.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

from castore import __version__
from castore_cli.diff_map import places, strip_map
from castore_cli.diff_samples import Picked, card, pick
from castore_cli.html import clip, element, safe, token_text
from castore_cli.text import number, plural, size

if TYPE_CHECKING:
    from castore.diff.compare import Comparison
    from castore.diff.divergence import Divergence, Side
    from castore.diff.recipes import RecipeChange
    from castore.read.columns import Columns

MARK = b"<!doctype html>\n<!-- castore diff -->\n"
"""How a page begins, by which it is known to be one."""

PAGE_BYTES_MAX = 5_000_000
CARDS_BYTES_MAX = 3_500_000
"""Most bytes of a page, and of the samples in it; what else is in it is bounded item by item, far below the rest."""

CAUSES_MAX, LINES_MAX, SOURCES_MAX = 100, 40, 400


@dataclass(frozen=True, slots=True)
class Page:
    """What a page tells.

    Attributes:
        result: The comparison.
        title: What it says in one line.
        names: Both sides as the user spelled them.
        data: Both datasets; None where samples cannot be read.
        note: What is to be said of the page as a whole, or nothing.
        reads: Objects and bytes that were read.
    """

    result: Comparison
    title: str
    names: tuple[str, str]
    data: tuple[Columns, Columns] | None
    note: str
    reads: dict[str, int]

    def render(
        self, *, limit: int, context: int, report: Callable[[int, int], None] = lambda done, total: None
    ) -> bytes:
        """The page.

        Args:
            limit: Samples shown at most, token by token.
            context: Equal tokens kept around what differs.
            report: Called with samples read and to read.
        """
        picked = pick(self.result, limit) if self.data is not None else []
        cards: list[str] = []
        shown: list[Picked] = []
        room = CARDS_BYTES_MAX
        for one in picked if self.data is not None else []:
            text = card(*self.data, one, self.names, context) if self.data is not None else ""
            room -= len(text.encode())
            if room < 0:
                break
            cards.append(text)
            shown.append(one)
            report(len(cards), len(picked))
        body = "\n".join(filter(None, self._parts(shown, cards)))
        return _document(self.title, body)

    def _parts(self, shown: list[Picked], cards: list[str]) -> Iterator[str]:
        result = self.result
        yield self._head()
        yield _causes(result.causes)
        yield _groups(result, shown)
        if result.hunks:
            sources = [] if self.data is None else _sources(self.data[0])
            yield section("Where", strip_map(result, shown, sources), f"along {_total(result)} in stored order", "map")
        if result.first is not None:
            yield _first(result.first, self.names)
        if cards:
            yield _samples(result, shown, cards)
        yield self._foot()

    def _head(self) -> str:
        result = self.result
        verdict = "equal" if result.equal else "different"
        names = " → ".join(element("b", clip(name, 200)) for name in self.names)
        title = safe(clip(self.title.removeprefix(f"{verdict}: "), 600))
        chips = "".join(_chip(name, same) for name, same in list(result.arrays.items())[:50])
        order = _chip("order", result.same_order)
        note = element("p", self.note, "note", role="note") if self.note else ""
        return (
            f'<header><p class="verdict {verdict}">{"=" if result.equal else "≠"} {verdict}</p>'
            f'<h1>{title}</h1><p class="names">castore diff: {names}</p></header>{note}'
            f'<ul class="tiles">{"".join(_tiles(result))}</ul>'
            f'<ul class="chips" aria-label="Arrays">{chips}{order}</ul>'
        )

    def _foot(self) -> str:
        lines = []
        if self.data is not None:
            for name, data in zip(self.names, self.data, strict=True):
                if not data.root:  # directories are compared without
                    continue
                lines.append(f"{safe(clip(name, 200))}: root {element('code', data.root.hex())}")
        read = f"{plural(self.reads['objects'], 'object')}, {size(self.reads['bytes'])}"
        lines.append(f"Written by castore {__version__}, which read {read} to compare.")
        return f"<footer>{''.join(f'<p>{line}</p>' for line in lines)}</footer>"


def section(title: str, inner: str, aside: str = "", panel: str = "") -> str:
    """A part of the page under its heading."""
    small = f" {element('small', aside)}" if aside else ""
    body = f'<div class="panel {panel}">{inner}</div>' if panel else inner
    return f"<section><h2>{safe(title)}{small}</h2>{body}</section>"


def _document(title: str, body: str) -> bytes:
    style, script = _part("diff.css"), _part("diff.js")
    policy = (
        f"default-src 'none'; style-src '{_source(style)}'; script-src '{_source(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    fields = {"policy": policy, "version": __version__, "style": style, "script": script}
    page = Template(_part("diff.html")).substitute(title=safe(f"castore diff: {clip(title, 200)}"), body=body, **fields)
    return page.encode()


def _part(name: str) -> str:
    return (files("castore_cli") / "page" / name).read_text(encoding="utf-8")


def _source(text: str) -> str:
    """How a Content-Security-Policy names one inline text."""
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


# ---- parts


def _tiles(result: Comparison) -> Iterator[str]:
    counts = [("replaced", result.count("replace")), ("inserted", result.count("insert"))]
    counts.append(("deleted", result.count("delete")))
    if result.moved:
        counts.append(("moved", result.moved))
    yield _tile("samples", result.samples_a, result.samples_b)
    if result.hunks or result.equal:
        same = result.samples_a - result.count("replace") - result.count("delete") - result.moved
        for word, count in [*counts, ("unchanged", same)]:
            yield _tile(word, count)


def _tile(word: str, count: int, other: int | None = None) -> str:
    text = number(count) if other is None or other == count else f"{number(count)} → {number(other)}"
    return f"<li><b>{text}</b><span>{word}</span></li>"


def _chip(name: str, same: bool) -> str:
    sign, word = ("=", "equal") if same else ("≠", "different")
    said = safe(clip(name, 60))
    return f'<li class="{"yes" if same else "no"}" title="{said}: {word}">{sign} {said}</li>'


def _causes(causes: list[RecipeChange]) -> str:
    if not causes:
        return ""
    items = []
    for cause in causes[:CAUSES_MAX]:
        lines = "\n".join(clip(line, 300) for line in cause.lines[:LINES_MAX])
        items.append(f"<li>{safe(clip(cause.text, 1000))}{element('pre', lines) if lines else ''}</li>")
    if len(causes) > CAUSES_MAX:
        items.append(f"<li>… and {number(len(causes) - CAUSES_MAX)} more</li>")
    aside = "what differs in how the two were made"
    return section("Likely causes", f'<ul class="causes">{"".join(items)}</ul>', aside, "of-causes")


def _groups(result: Comparison, shown: list[Picked]) -> str:
    if not result.hunks:
        return ""
    changes, anchors = result.changes, {one.anchor for one in shown}
    items = []
    for group in changes.groups:
        links = [_link(f"s{change.sample_a}-{change.sample_b}", change.sample_a, anchors) for change in group.examples]
        items.append(_group(group.samples, changes.looked_at, clip(group.text, 600), links))
    if changes.other:
        items.append(_group(changes.other, changes.looked_at, "other kinds", []))
    for op, word in (("delete", "deleted"), ("insert", "inserted")):
        if count := result.count(op):
            alone = [one for one in shown if one.op == op][:3]
            links = [_link(one.anchor, one.a if op == "delete" else one.b, anchors) for one in alone]
            items.append(_group(count, 0, word, links))
    if result.moved:
        items.append(_group(result.moved, 0, "moved: the same samples in another place", []))
    aside = "among the replaced samples, as shares of them"
    if changes.looked_at < changes.replaced:
        aside = f"{number(changes.looked_at)} of {number(changes.replaced)} replaced samples were looked at"
    return section("Kinds of change", f'<ul class="groups">{"".join(items)}</ul>', aside, "of-groups")


def _group(count: int, total: int, text: str, links: list[str]) -> str:
    bar = ""
    if total:
        width = max(100 * count / total, 1)
        drawn = f'<rect width="{width:.1f}" height="5"/>'
        bar = f'<svg viewBox="0 0 100 5" preserveAspectRatio="none" aria-hidden="true">{drawn}</svg>'
    small = f"<small>{', '.join(links)}</small>" if links else ""
    shown = text.replace("\n", "⏎")
    return f"<li><div><b>{plural(count, 'sample')}</b>{bar}</div><p>{safe(shown)}</p>{small}</li>"


def _link(anchor: str, sample: int, anchors: set[str]) -> str:
    text = f"sample {number(sample)}"
    return f'<a href="#{anchor}">{text}</a>' if anchor in anchors else text


def _first(first: Divergence, names: tuple[str, str]) -> str:
    tags = ("del", "ins") if first.array == "token_ids" else ("mark", "mark")
    rows = _first_side(first.a, names[0], tags[0], first.placed) + _first_side(first.b, names[1], tags[1], first.placed)
    where = f"{first.array}[{first.index}]" if first.a.context or first.b.context else first.array
    return section("First difference", f'<ul class="causes">{rows}</ul>', where, "of-first")


def _first_side(side: Side, name: str, tag: str, placed: bool) -> str:
    if side.sample is None:
        return f"<li><b>{safe(clip(name, 200))}</b>: no such sample</li>"
    value = "ends here" if side.value is None else f"value {side.value}"
    text = ""
    if side.context is not None:
        before, at, after = side.context
        marked = f"<{tag}>{token_text(clip(at, 200)) or '&nbsp;'}</{tag}>"
        text = f'<pre class="text">{token_text(before[-300:])}{marked}{token_text(clip(after, 300))}</pre>'
    origin = ""
    if side.origin is not None:
        row = "" if side.origin.row is None else f" row {number(side.origin.row + 1)}"
        origin = f", {safe(clip(side.origin.source, 200))}{row}"
    place = ""
    if side.place is not None:
        place = f"; in an export: {side.place.file} at byte {number(side.place.offset)}"
    elif placed:
        place = "; not in an export"
    return (
        f"<li><b>{safe(clip(name, 200))}</b>: sample {number(side.sample)}{origin}: {safe(value)}"
        f'<span class="aside">{safe(place)}</span>{text}</li>'
    )


def _samples(result: Comparison, shown: list[Picked], cards: list[str]) -> str:
    total = sum(result.count(op) for op in ("replace", "insert", "delete"))
    total += sum(hunk.size for hunk in result.hunks if hunk.op == "delete" and hunk.moved and hunk.arrays)
    aside = f"{number(len(shown))} of {number(total)} that differ"
    if len(shown) < total:
        aside += "; the others are left out of this page (--limit N shows more, diff --json names all)"
    ops = _boxes("op", "Show", dict.fromkeys(one.op for one in shown), _OPS)
    arrays = _boxes("array", "where", dict.fromkeys(name for one in shown for name in one.arrays), {})
    form = (
        f'<form id="filters" class="panel bar-of-filters" hidden autocomplete="off">{ops}{arrays}'
        '<output id="shown" aria-live="polite"></output></form>'
    )
    return section("Samples", form + _LEGEND + "\n".join(cards), aside)


_OPS = {"replace": "~ replaced", "insert": "+ inserted", "delete": "− deleted"}
_LEGEND = (
    '<ul class="legend"><li><del>removed</del></li><li><ins>added</ins></li>'
    '<li><span class="y">trained on</span></li><li><mark>label differs</mark></li>'
    '<li><span class="t">token</span> ends at a thin line</li></ul>'
)


def _boxes(name: str, title: str, values: Iterable[str], words: dict[str, str]) -> str:
    boxes = "".join(
        f'<label><input type="checkbox" name="{name}" value="{safe(value)}" checked> '
        f"{safe(words.get(value, value))}</label>"
        for value in values
    )
    return f"<fieldset><legend>{title}</legend>{boxes}</fieldset>"


def _total(result: Comparison) -> str:
    return plural(places(result), "sample")


def _sources(data: Columns) -> list[tuple[str, int]]:
    """Names of the sources and the samples of each, in stored order; empty if that is not known."""
    if data.run is None:
        return []
    found = [(source.name, source.samples) for source in data.run.sources if source.samples is not None]
    known = len(found) == len(data.run.sources) and sum(count for _, count in found) == data.manifest.samples
    return found if known and len(found) <= SOURCES_MAX else []
