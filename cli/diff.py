"""``castore diff``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from castore_cli.context import State
from castore_cli.text import echo_json

if TYPE_CHECKING:
    from castore.view.compare import Comparison, Divergence, Side
    from castore.view.dataset import Dataset


WHOLE = 1 << 40
"""Tokens around a difference that are all of a sample."""


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--strict", is_flag=True, help="Differences of recipe and sources count too.")
@click.option("--stat", is_flag=True, help="Counts only.")
@click.option("--first", "first_only", is_flag=True, help="The first difference only, without the list of changes.")
@click.option("--only", metavar="ARRAY", help="Compare one array, for example token_ids.")
@click.option(
    "--context", type=click.IntRange(0, 1000), metavar="N", default=8, show_default=True, help="Tokens shown around."
)
@click.option(
    "--limit", type=click.IntRange(1), metavar="N", default=20, show_default=True, help="Changes listed at most."
)
@click.option("--decode", is_flag=True, help="Show both samples of the first difference whole, as text.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Markdown, for a pull request.")
@click.option("--require-signature", metavar="FILE", help="Stop unless a key in FILE vouches for the protected names.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing; the exit code is the answer.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_obj
def diff(
    state: State,
    a: str,
    b: str,
    strict: bool,
    stat: bool,
    first_only: bool,
    only: str | None,
    context: int,
    limit: int,
    decode: bool,
    as_markdown: bool,
    require_signature: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Compare the datasets at A and B and show where they part.

    Either may be an output directory of open-instruct or of castore export: write ./DIRECTORY.

    Equal data have equal roots, whoever made them and however. What differs is found by going down the trees: only the
    changed parts are read. Exit code 0 if equal, 1 if not.
    """
    from castore.view.compare import compare

    data_a, data_b = state.pair(a, b)
    if require_signature is not None:
        from castore_cli.sign import require

        require(state, [(a, data_a.root), (b, data_b.root)], require_signature)
    if only is not None and not (only in data_a.manifest.arrays and only in data_b.manifest.arrays):
        raise click.UsageError(f"no array {only} on both sides")
    result = compare(data_a, data_b, context=WHOLE if decode else context, only=only)
    different = not result.equal if only is None else bool(result.hunks)
    different = different or (strict and bool(result.recipe))
    reads = state.reads()
    if as_json:
        echo_json(_document(result, data_a, data_b, reads))
    elif as_markdown:
        from castore_cli.diff_markdown import markdown

        click.echo(markdown(result, (data_a, data_b), (a, b), limit=limit, only=only))
    elif not quiet:
        from castore_cli.diff_text import print_comparison

        names = a, b
        print_comparison(
            result,
            (data_a, data_b),
            names,
            reads,
            stat=stat,
            first_only=first_only,
            limit=limit,
            only=only,
            decode=decode,
        )
    raise click.exceptions.Exit(1 if different else 0)


def _document(result: Comparison, a: Dataset, b: Dataset, reads: dict[str, int]) -> dict[str, object]:
    """The document of ``--json``; docs/reference/diff.md describes it."""
    return {
        "version": 1,
        "equal": result.equal,
        "same_order": result.same_order,
        "a": {"root": a.root, "run": a.run_digest},
        "b": {"root": b.root, "run": b.run_digest},
        "arrays": {name: {"equal": equal} for name, equal in result.arrays.items()},
        "samples": {
            "a": result.samples_a,
            "b": result.samples_b,
            "replaced": result.count("replace"),
            "inserted": result.count("insert"),
            "deleted": result.count("delete"),
        },
        "hunks": [{"op": h.op, "a": h.a, "b": h.b, "arrays": h.arrays} for h in result.hunks],
        "first": None if result.first is None else _first(result.first),
        "recipe": [{"field": field, "a": x, "b": y} for field, x, y in result.recipe],
        "reads": reads,
    }


def _first(first: Divergence) -> dict[str, object]:
    return {
        "array": first.array,
        "index": first.index,
        **_side(first.a, "a"),
        **_side(first.b, "b"),
    }


def _side(side: Side, letter: str) -> dict[str, object]:
    origin, place = side.origin, side.place
    return {
        f"sample_{letter}": side.sample,
        letter: side.value,
        f"text_{letter}": side.text,
        f"context_{letter}": side.context,
        f"origin_{letter}": None if origin is None else {"source": origin.source, "row": origin.row},
        f"place_{letter}": None if place is None else {"file": place.file, "offset": place.offset},
    }
