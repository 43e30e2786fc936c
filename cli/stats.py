"""``castore stats``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from castore_cli.context import State
from castore_cli.formatting import echo_json, number, plural, share, visible
from castore_cli.parameters import Number, dataset_argument, json_option

if TYPE_CHECKING:
    from castore.read.columns import Columns
    from castore.train.summary import Summary

BAR = 30
"""Characters of the longest bar."""


@click.command()
@dataset_argument("address")
@click.option(
    "--sequence-length",
    "sequence_lengths",
    type=Number(1),
    multiple=True,
    metavar="N",
    help="Tell packing for this length; may be given again. Default: 1024 to 32768.",
)
@click.option("--html", "html_file", type=click.Path(dir_okay=False), metavar="FILE", help="A page with plots.")
@json_option
@click.pass_obj
def stats(state: State, address: str, sequence_lengths: tuple[int, ...], html_file: str | None, as_json: bool) -> None:
    """Show lengths, trained shares by source and packing of the dataset at ADDRESS."""
    from castore.train.summary import SEQUENCE_LENGTHS, summary

    if html_file is not None:
        from castore_cli.page_file import check_page, write_file
        from castore_cli.stats_page import MARK, page

        check_page(html_file, MARK, "castore stats")  # before anything is read for it
    _, data = state.dataset(address)
    found = summary(data, sequence_lengths or SEQUENCE_LENGTHS)
    if html_file is not None:
        write_file(html_file, page(address, data, found).encode())
    if as_json:
        echo_json(_document(data, found))
    elif html_file is None:
        _print(found)
    else:
        click.echo(f"{html_file}: {plural(found.samples, 'sample')}, {plural(found.tokens, 'token')}")


def _document(data: Columns, found: Summary) -> dict[str, Any]:
    from castore.train.summary import PERCENTILES

    percentiles = {f"p{p}": n for p, n in zip(PERCENTILES, found.percentiles, strict=True)}
    return {
        "root": data.root,
        "samples": found.samples,
        "tokens": found.tokens,
        "trainable": found.trainable,
        "lengths": {
            "min": found.shortest,
            "max": found.longest,
            "mean": found.tokens / found.samples if found.samples else 0.0,
            **percentiles,
            "bins": [{"lo": b.lo, "hi": b.hi, "samples": b.samples, "tokens": b.tokens} for b in found.bins],
        },
        "sources": [
            {
                "name": source.name,
                "samples": source.samples,
                "tokens": source.tokens,
                "trainable": source.trainable,
                "trainable_share": source.trainable / source.tokens if source.tokens else 0.0,
            }
            for source in found.sources
        ],
        "packing": [
            {
                "sequence_length": packing.sequence_length,
                "instances": packing.instances,
                "efficiency": packing.efficiency,
                "samples_split": packing.split,
            }
            for packing in found.packings
        ],
    }


def _print(found: Summary) -> None:
    trained = f"{number(found.trainable)} trained on ({share(found.trainable, found.tokens)})"
    click.echo(f"{plural(found.samples, 'sample')}, {plural(found.tokens, 'token')}, {trained}")
    if not found.samples:
        return
    half, most = found.percentiles[3], found.percentiles[5]
    click.echo(f"\nlengths: {found.shortest:,} to {found.longest:,}, half up to {half:,}, 9 of 10 up to {most:,}")
    widest = max(b.samples for b in found.bins)
    rows = [(f"{b.lo:,} to {b.hi - 1:,}", number(b.samples), "█" * (b.samples * BAR // widest)) for b in found.bins]
    _table(("tokens", "samples", ""), rows)
    click.echo("\nsources")
    _table(
        ("", "samples", "tokens", "trained on", "share"),
        [
            (visible(s.name), number(s.samples), number(s.tokens), number(s.trainable), share(s.trainable, s.tokens))
            for s in found.sources
        ],
    )
    click.echo("\npacking, true boundaries")
    _table(
        ("sequence length", "instances", "full", "samples split"),
        [
            (number(p.sequence_length), number(p.instances), f"{100 * p.efficiency:.2f} %", number(p.split))
            for p in found.packings
        ],
    )


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Columns: the first and bars to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        cells = [
            cell.ljust(width) if i == 0 or not head[i] else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        click.echo("  " + "  ".join(cells).rstrip())
