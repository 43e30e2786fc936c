"""``castore tokenize --dry-run``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from castore_cli.context import State
from castore_cli.formatting import duration, echo_json, number, plural, size, visible

if TYPE_CHECKING:
    from castore.ingest.estimate import Estimate


def show_estimate(
    state: State,
    mix: list[tuple[str, str]],
    options: dict[str, Any],
    *,
    warn: Callable[[str], None],
    as_json: bool,
    quiet: bool,
) -> None:
    """Say what a job would come to; nothing is written, not even a repository where there is none."""
    from castore_cli.progress import ProgressDisplay

    repository = state.open_or_empty()
    with ProgressDisplay("estimating", "rows", as_json=as_json, quiet=quiet) as display:
        found = repository.estimate(mix, report=display.update, warn=warn, **options)
    if as_json:
        echo_json(_estimate_document(found))
        return
    for source in found.sources:
        taken = f"{number(source.selected)} of {plural(source.rows, 'row')}"
        click.echo(f"{visible(source.name)}: {taken}, {_about(source.tokens, source.tokens_known)} tokens")
    click.echo(f"  rows     {number(found.rows)}, {number(found.rows_reused)} of them tokenized before or taken twice")
    click.echo(f"  units    {number(found.units)}, {number(found.units_reused)} of them found in the repository")
    click.echo(f"  tokens   {_about(found.tokens, found.tokens_known)}")
    click.echo(f"  to store about {size(found.bytes_new)}")
    click.echo(f"  to take  about {duration(found.seconds)}")
    click.echo("nothing was written")


def _about(tokens: int, known: int) -> str:
    return number(tokens) if tokens == known else f"about {number(tokens)}"


def _estimate_document(found: Estimate) -> dict[str, object]:
    return {
        "sources": [
            {
                "name": source.name,
                "rows": source.rows,
                "selected": source.selected,
                "tokens": source.tokens,
                "tokens_known": source.tokens_known,
            }
            for source in found.sources
        ],
        "rows": {"total": found.rows, "reused": found.rows_reused},
        "units": {"total": found.units, "reused": found.units_reused},
        "tokens": found.tokens,
        "tokens_known": found.tokens_known,
        "bytes_new": found.bytes_new,
        "seconds": round(found.seconds, 1),
    }
