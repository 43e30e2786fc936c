"""``castore diff``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from castore_cli.context import State
from castore_cli.numbers import Number
from castore_cli.text import echo_json
from castore_cli.watch import Watch

if TYPE_CHECKING:
    from castore.diff.compare import Comparison
    from castore.read.columns import Columns
    from castore_cli.expect import Expected


CONTEXT, LIMIT = 8, 20
"""Tokens around a difference, and changes listed, where the user does not say."""

WHOLE = 1 << 40
"""Tokens around a difference that are all of a sample."""


@click.command()
@click.argument("a")
@click.argument("b", required=False)
@click.option("--expect", metavar="FILE", help="Compare A with a lock file, in place of B.")
@click.option("--strict", is_flag=True, help="Differences of recipe and sources count too.")
@click.option("--stat", is_flag=True, help="Counts only.")
@click.option("--first", "first_only", is_flag=True, help="The first difference only, without the list of changes.")
@click.option("--only", metavar="ARRAY", help="Compare one array, for example token_ids.")
@click.option("--context", type=Number(0, 1000), metavar="N", help="Tokens shown around: 8, in a page 24.")
@click.option("--limit", type=Number(1), metavar="N", help="Changes listed at most: 20, in a page 100 samples.")
@click.option("--decode", is_flag=True, help="Show both samples of the first difference whole, as text.")
@click.option("--side-by-side", is_flag=True, help="Samples in two columns, in place of the list of changes.")
@click.option("--place", "places", is_flag=True, help="Name file and byte in an export however large the data are.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Markdown, for a pull request.")
@click.option("--html", "html_file", metavar="FILE", help="Write one self-contained page too, to be read in a browser.")
@click.option("--require-signature", metavar="FILE", help="Stop unless a key in FILE vouches for the protected names.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing; the exit code is the answer.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_obj
def diff(
    state: State,
    a: str,
    b: str | None,
    expect: str | None,
    strict: bool,
    stat: bool,
    first_only: bool,
    only: str | None,
    context: int | None,
    limit: int | None,
    decode: bool,
    side_by_side: bool,
    places: bool,
    as_markdown: bool,
    html_file: str | None,
    require_signature: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Compare the datasets at A and B and show where they part.

    Either may be an output directory of open-instruct or of castore export: write ./DIRECTORY.

    Equal data have equal roots, whoever made them and however. What differs is found by going down the trees: only the
    changed parts are read. Exit code 0 if equal, 1 if not.
    """
    if (b is None) == (expect is None):
        raise click.UsageError("give B, or --expect FILE in its place")
    if html_file is not None:
        from castore_cli.diff_page import MARK
        from castore_cli.page_file import check_page

        check_page(html_file, MARK, "castore diff")  # before anything is compared for it
    around = WHOLE if decode else CONTEXT if context is None else context
    detailed = not (quiet or stat) or as_json or html_file is not None
    expected = None
    with Watch("comparing", state.reads, as_json=as_json, quiet=quiet):
        if expect is not None:
            from castore_cli.expect import Expected

            expected = Expected.open(state, expect, a)
            names = expected.name, a
            data = expected.data or expected.found, expected.found
        else:
            names = a, b or ""
            data = state.pair(*names)
        if require_signature is not None:
            from castore_cli.sign import require

            require(state, [(name, side.root) for name, side in zip(names, data, strict=True)], require_signature)
        if only is not None and not all(only in side.manifest.arrays for side in data):
            raise click.UsageError(f"no array {only} on both sides")
        if expected is not None and expected.data is None:
            result = expected.by_roots()
            different = not (result.equal if only is None else result.arrays[only])
        else:
            from castore.diff.compare import compare

            result = compare(*data, context=around, only=only, changes=detailed, places=places)
            result = expected.with_causes(result) if expected is not None else result
            different = bool(result)
    different = different or (strict and bool(result.recipe))
    reads = state.reads()
    title = _title(result, data, only, expected)
    note = "" if expected is None or expected.data is not None else expected.missing()
    if html_file is not None:
        from castore_cli.diff_page import Page
        from castore_cli.page_file import write_page

        page = Page(result, title, names, None if note else data, note, reads)
        write_page(html_file, page, limit or 100, 24 if context is None else context, quiet=quiet)
    if as_json:
        document = result.to_dict(reads)
        echo_json(document if expected is None else expected.document(document))
    elif quiet:
        pass  # in whatever form: the exit code is the answer
    elif as_markdown:
        from castore_cli.diff_markdown import markdown

        click.echo(markdown(result, title, names, limit=limit or LIMIT, note=note))
    elif side_by_side and not stat:
        from castore_cli.diff_columns import print_side_by_side

        most = 1 if first_only else limit or LIMIT
        print_side_by_side(result, title, data, names, state.reads, limit=most, context=around, note=note)
    else:
        from castore_cli.diff_text import print_comparison

        print_comparison(
            result, title, names, reads, stat=stat, first_only=first_only, limit=limit or LIMIT, decode=decode
        )
        if note:
            click.echo(note)
    raise click.exceptions.Exit(1 if different else 0)


def _title(result: Comparison, data: tuple[Columns, Columns], only: str | None, expected: Expected | None) -> str:
    from castore_cli.diff_text import headline

    if expected is None:
        return headline(result, data, only)
    return expected.headline(result, "" if expected.data is None else headline(result, data, only))
