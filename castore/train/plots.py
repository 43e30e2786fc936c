"""Plots of a summary as SVG, by matplotlib: text that stands in a page without another file or a script."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from castore.errors import MissingExtraError
from castore.train.summary import PackingLine, SourceSummary, Summary

BLUE, ORANGE, GREY = "#2b6cb0", "#c05621", "#4a5568"

SOURCES_MAX = 30
"""Sources that one plot shows, those with most tokens; the table of a page has them all."""

_STYLE: Any = {
    "svg.hashsalt": "castore",  # else ids differ from run to run
    "svg.fonttype": "none",  # text stays text
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
}


def plots(found: Summary) -> dict[str, str]:
    """SVG by what it shows: ``lengths``, ``sources``, ``packing``; the same numbers give the same text.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "stats") from error
    with matplotlib.rc_context(_STYLE):
        return {
            "lengths": _lengths(Figure, found),
            "sources": _sources(Figure, found.sources),
            "packing": _packing(Figure, found.packings),
        }


def _lengths(figure: Any, found: Summary) -> str:
    """Samples by length on a logarithmic axis, four bins to a doubling, with the tokens they hold."""
    plot = figure(figsize=(8, 3), layout="constrained")
    axes = plot.subplots()
    lengths = np.maximum(found.lengths, 1)
    top = np.log2(max(found.longest, 2))
    bottom = np.floor(np.log2(max(found.shortest, 1)))
    edges = np.unique(np.round(2 ** np.arange(bottom, top + 0.5, 0.25)).astype(np.int64))
    edges = np.append(edges, max(int(edges[-1]), found.longest) + 1)
    axes.hist(lengths, bins=edges, color=BLUE)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    axes.yaxis.set_major_formatter(lambda y, _: f"{y:,.0f}")
    axes.set_xlabel("tokens in a sample")
    axes.set_ylabel("samples")
    tokens, _ = np.histogram(lengths, edges, weights=found.lengths)
    right = axes.twinx()
    right.stairs(100 * np.cumsum(tokens) / max(found.tokens, 1), edges, color=ORANGE, baseline=None)
    right.set_ylim(0, 105)
    right.set_ylabel("% of the tokens up to here", color=ORANGE)
    return _svg(plot)


def _sources(figure: Any, sources: Sequence[SourceSummary]) -> str:
    """Tokens of each source, the trained ones in front."""
    shown = sorted(sources, key=lambda source: -source.tokens)[:SOURCES_MAX][::-1]
    plot = figure(figsize=(8, 1 + 0.4 * max(len(shown), 1)), layout="constrained")
    axes = plot.subplots()
    places = list(range(len(shown)))
    axes.barh(places, [source.tokens for source in shown], color="#cbd5e0", label="all tokens")
    axes.barh(places, [source.trainable for source in shown], color=BLUE, label="trained on")
    for place, source in zip(places, shown, strict=True):
        share = 100 * source.trainable / source.tokens if source.tokens else 0
        axes.annotate(f"{share:.1f} %", (source.tokens, place), (4, 0), textcoords="offset points", va="center")
    axes.set_yticks(places, [_short(source.name) for source in shown])
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    axes.set_xlabel("tokens")
    axes.margins(x=0.12)
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)  # over no bar
    return _svg(plot)


def _packing(figure: Any, packings: Sequence[PackingLine]) -> str:
    """Share of the places that stay empty, by sequence length."""
    plot = figure(figsize=(8, 2.6), layout="constrained")
    axes = plot.subplots()
    places = list(range(len(packings)))
    empty = [100 * (1 - packing.efficiency) for packing in packings]
    bars = axes.bar(places, empty, color=BLUE, width=0.6)
    axes.bar_label(bars, [f"{100 * packing.efficiency:.2f} % full" for packing in packings], padding=2)
    axes.set_xticks(places, [f"{packing.sequence_length:,}" for packing in packings])
    axes.margins(y=0.2)
    axes.set_xlabel("sequence length")
    axes.set_ylabel("% padding")
    return _svg(plot)


def _short(name: str) -> str:
    # A dollar would begin a formula; what is not printable would stand in a comment of the page.
    text = "".join(character if character.isprintable() else "\ufffd" for character in name[-40:])
    text = text if len(name) <= 40 else "…" + text[1:]
    return text.replace("$", r"\$")


def _svg(plot: Any) -> str:
    """The figure as an element of a page."""
    out = io.StringIO()
    plot.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
