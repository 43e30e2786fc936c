"""The page of ``castore stats --html``: one file, no script, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from castore_cli.formatting import number, share
from castore_cli.pages import asset, render

if TYPE_CHECKING:
    from castore.read.columns import Columns
    from castore.train.summary import Summary

MARK = b"<!doctype html>\n<!-- castore stats -->\n"
"""What a page begins with."""


def page(address: str, data: Columns, found: Summary) -> str:
    """The page.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    from castore.train.plots import plots

    drawn = plots(found)
    tiles = [
        ("samples", number(found.samples)),
        ("tokens", number(found.tokens)),
        ("trained on", share(found.trainable, found.tokens)),
        ("median length", number(found.percentiles[3])),
        ("longest", number(found.longest)),
    ]
    bins = [(f"{b.lo:,} to {b.hi - 1:,}", number(b.samples), number(b.tokens)) for b in found.bins]
    sources = [
        (s.name, number(s.samples), number(s.tokens), number(s.trainable), share(s.trainable, s.tokens))
        for s in found.sources
    ]
    packings = [
        (number(p.sequence_length), number(p.instances), f"{100 * p.efficiency:.2f} %", number(p.split))
        for p in found.packings
    ]
    packing = "Packing over true boundaries"
    page = render(
        "stats.html.jinja",
        address=address,
        root=data.root.hex(),
        style=asset("stats.css"),
        tiles=tiles,
        sections=[
            _section("Lengths", drawn["lengths"], ("tokens", "samples", "tokens in all"), bins),
            _section("Sources", drawn["sources"], ("source", "samples", "tokens", "trained on", "share"), sources),
            _section(packing, drawn["packing"], ("sequence length", "instances", "full", "samples split"), packings),
        ],
    )
    return f"{page}\n"


def _section(title: str, drawn: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> dict[str, Any]:
    """A plot, which is markup that matplotlib wrote, and its table."""
    figure = Markup(drawn.replace("<svg", Markup('<svg role="img" aria-label="{}"').format(title), 1))
    return {"title": title, "figure": figure, "head": head, "rows": rows}
