"""``castore diff``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from castore.frozen import frozen
from castore_cli.context import State
from castore_cli.diff_options import DiffOptions, DiffOutcome
from castore_cli.formatting import echo_json
from castore_cli.parameters import Number, dataset_argument, json_option, require_option
from castore_cli.progress import ProgressDisplay

if TYPE_CHECKING:
    from castore.diff.compare import Comparison
    from castore.read.columns import Columns
    from castore_cli.diff_against_lock import Expected


@click.command()
@dataset_argument("a")
@dataset_argument("b", required=False)
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
@require_option
@click.option(
    "--unsigned", metavar="ADDRESS", multiple=True, help="A or B that --require-signature does not ask for: your own."
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing; the exit code is the answer.")
@json_option
@click.pass_obj
def diff(state: State, /, **parameters: Any) -> None:
    """Compare the datasets at A and B and show where they part.

    Either may be an output directory of open-instruct or of castore export: write ./DIRECTORY.

    Equal data have equal roots, whoever made them and however. What differs is found by going down the trees: only the
    changed parts are read. Exit code 0 if equal, 1 if not.
    """
    options = DiffOptions(**parameters)
    if options.html_file is not None:
        from castore_cli.diff_page import MARK
        from castore_cli.page_file import check_page

        check_page(options.html_file, MARK, "castore diff")  # before anything is compared for it
    with ProgressDisplay("comparing", "bytes", ask=state.reads, as_json=options.as_json, quiet=options.quiet):
        sides = _open(state, options)
        if options.exit_code_only:
            raise click.exceptions.Exit(1 if _differ(sides, options) else 0)
        outcome = _compare(state, sides, options)
    if options.html_file is not None:
        _write_page(options.html_file, outcome, options)
    _show(state, outcome, options)
    raise click.exceptions.Exit(1 if outcome.different else 0)


@frozen
class _Sides:
    """Both sides: as the user spelled them, opened, and the lock file if A is compared with one."""

    names: tuple[str, str]
    data: tuple[Columns, Columns]
    expected: Expected | None


def _open(state: State, options: DiffOptions) -> _Sides:
    """Open both sides, and refuse what may not or cannot be compared."""
    expected = None
    if options.expect is not None:
        from castore_cli.diff_against_lock import Expected

        expected = Expected.open(state, options.expect, options.a)
        names = expected.name, options.a
        data = expected.data or expected.found, expected.found
    else:
        names = options.a, options.b or ""
        data = state.pair(*names)
    if options.require_signature is not None:
        from castore_cli.verify import require

        # A lock file is the user's own, as a directory is: who reads from it knows the root that is expected.
        asked = list(zip(names, data, strict=True))[expected is not None :]
        require(state, [(name, side.root) for name, side in asked], options.require_signature, options.unsigned)
    only = options.only
    if only is not None and not all(only in side.manifest.arrays for side in data):
        raise click.UsageError(f"no array {only} on both sides")
    return _Sides(names, data, expected)


def _differ(sides: _Sides, options: DiffOptions) -> bool:
    """What the exit code says, found without looking for the places."""
    data, expected = sides.data, sides.expected
    if expected is not None and expected.data is None:
        return _counts(expected.by_roots(options.only), options)
    from castore.diff.compare import differ
    from castore.diff.recipes import recipe_differences

    if differ(*data, only=options.only):
        return True
    causes = None if expected is None else expected.lock.causes(expected.found)
    return options.strict and bool(causes or list(recipe_differences(*data)))


def _compare(state: State, sides: _Sides, options: DiffOptions) -> DiffOutcome:
    """Compare both sides and find where they part."""
    names, data, expected, only = sides.names, sides.data, sides.expected, options.only
    if expected is not None and expected.data is None:
        result = expected.by_roots(only)
    else:
        from castore.diff.compare import compare

        result = compare(*data, context=options.around, only=only, changes=options.detailed, places=options.places)
        result = expected.with_causes(result) if expected is not None else result
    different = _counts(result, options)
    title = _title(result, data, only, expected)
    if different and not result:
        title = title.replace("equal", "equal data, made otherwise", 1)
    return DiffOutcome(result, title, names, data, expected, different, state.reads())


def _counts(result: Comparison, options: DiffOptions) -> bool:
    """Whether what was found is a difference by the options."""
    return bool(result) or (options.strict and bool(result.recipe))


def _write_page(path: str, outcome: DiffOutcome, options: DiffOptions) -> None:
    from castore_cli.diff_page import render
    from castore_cli.page_file import write_file

    with ProgressDisplay("reading samples", "samples", quiet=options.quiet) as progress:
        page = render(outcome, limit=options.page_samples, context=options.page_around, report=progress.update)
    write_file(path, page)


def _show(state: State, outcome: DiffOutcome, options: DiffOptions) -> None:
    """Print what was found in the form that was asked for."""
    if options.as_json:
        document = outcome.result.to_dict(outcome.reads)
        echo_json(document if outcome.expected is None else outcome.expected.document(document))
    elif options.quiet:
        pass  # in whatever form: the exit code is the answer
    elif options.as_markdown:
        from castore_cli.diff_markdown import markdown

        click.echo(markdown(outcome, options))
    elif options.side_by_side and not options.stat:
        from castore_cli.diff_side_by_side import print_side_by_side

        print_side_by_side(outcome, options, state.reads)
    else:
        from castore_cli.diff_text import print_comparison

        print_comparison(outcome, options)


def _title(result: Comparison, data: tuple[Columns, Columns], only: str | None, expected: Expected | None) -> str:
    from castore_cli.diff_text import headline

    if expected is None:
        return headline(result, data, only)
    return expected.headline(result, "" if expected.data is None else headline(result, data, only))
