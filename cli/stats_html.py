"""The page of ``castore stats --html``: one file, no script, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from castore_cli.html import safe
from castore_cli.text import number, share

if TYPE_CHECKING:
    from castore.read.columns import Columns
    from castore.train.summary import Summary

MARK = b"<!doctype html>\n<!-- castore stats -->\n"
"""What a page begins with."""

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1a202c; background: #fff; max-width: 56rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin-top: 2.5rem; }
code { font-size: .85rem; color: #4a5568; overflow-wrap: anywhere; }
dl { display: flex; flex-wrap: wrap; gap: .5rem 2.5rem; }
dt { color: #4a5568; } dd { margin: 0; font-size: 1.4rem; font-variant-numeric: tabular-nums; }
svg { width: 100%; height: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: right; padding: .25rem .5rem; border-bottom: 1px solid #e2e8f0;
  font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere; }
"""


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
    return "\n".join(
        [
            MARK.decode() + '<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{safe(address)}: statistics</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
            f"<h1>{safe(address)}</h1>\n<code>{data.root.hex()}</code>",
            "<dl>" + "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in tiles) + "</dl>",
            _section("Lengths", drawn["lengths"], ("tokens", "samples", "tokens in all"), bins),
            _section("Sources", drawn["sources"], ("source", "samples", "tokens", "trained on", "share"), sources),
            _section(
                "Packing over true boundaries",
                drawn["packing"],
                ("sequence length", "instances", "full", "samples split"),
                packings,
            ),
            "</body>\n</html>\n",
        ]
    )


def _section(title: str, drawn: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    cells = "".join(f'<th scope="col">{safe(cell)}</th>' for cell in head)
    body = "\n".join("<tr>" + "".join(f"<td>{safe(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    figure = drawn.replace("<svg", f'<svg role="img" aria-label="{safe(title)}"', 1)
    return f"<h2>{safe(title)}</h2>\n{figure}\n<table>\n<tr>{cells}</tr>\n{body}\n</table>"
