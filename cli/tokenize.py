"""``castore tokenize``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from castore.ingest.defaults import (
    ERRORS,
    FILE_SPLIT,
    FORMATS,
    MAIN_REVISION,
    MESSAGES_FORMAT,
    MIX_SEED,
    ON_ERROR,
    SHUFFLE_SEED,
)
from castore_cli.context import SEED_MAX, State, origin
from castore_cli.formatting import echo_json, lost_lines, number, plural, share, size
from castore_cli.parameters import (
    Number,
    choice_option,
    force_option,
    json_summary_option,
    message_option,
    silent_option,
)

if TYPE_CHECKING:
    from castore.ingest.job import TokenizeResult
    from castore.ingest.run_writer import Progress


@click.command()
@click.option(
    "--mix",
    nargs=2,
    multiple=True,
    metavar="PATH AMOUNT",
    help="A file (.jsonl, .json, .parquet; .gz, .zst), a pattern of files, a URL, - for standard input, a folder or a "
    "Hugging Face dataset, and how much of each: a share with a point (1.0 all, 3.0 three times, 0.37), or a count of "
    "rows (5000). Repeat for more.",
)
@click.option(
    "--split",
    multiple=True,
    metavar="NAME",
    default=(FILE_SPLIT,),
    show_default=FILE_SPLIT,
    help="Split of the Hugging Face datasets: one for all, or one for each --mix.",
)
@click.option(
    "--revision",
    metavar="NAME",
    default=MAIN_REVISION,
    show_default=True,
    help="Revision of the Hugging Face datasets.",
)
@choice_option(
    "--format", FORMATS, MESSAGES_FORMAT, "The shape of the rows; auto finds it out from the first row of each source."
)
@click.option("--tokenizer", metavar="DIR", help="Folder of a Hugging Face tokenizer.")
@click.option(
    "--chat-template", metavar="NAME|FILE", help="A template by name or file. Default: the tokenizer folder's own."
)
@click.option(
    "--template-fallback",
    is_flag=True,
    help="For a template name that is not registered take the tokenizer folder's own, as open-instruct does.",
)
@click.option(
    "--date",
    metavar="DATE",
    help="What templates that ask for the date write: YYYY-MM-DD, or with THH:MM:SS. Default: today.",
)
@click.option("--max-seq-length", type=Number(1), metavar="N", help="Keep the first N tokens of a conversation.")
@click.option("--add-bos", is_flag=True, help="Put the BOS token in front of every conversation.")
@click.option("--last-turn", is_flag=True, help="Train on the last assistant turn of a conversation only.")
@click.option("--num-examples", type=Number(1), metavar="N", help="Use the first N samples of the shuffle.")
@click.option(
    "--shuffle-seed",
    type=Number(0, SEED_MAX),
    metavar="N",
    default=SHUFFLE_SEED,
    show_default=True,
    help="Seed of the order.",
)
@click.option("--no-shuffle", is_flag=True, help="Keep the order of the mix.")
@click.option(
    "--mix-seed",
    type=Number(0, 2**32 - 1),
    metavar="N",
    default=MIX_SEED,
    show_default=True,
    help="Seed of the choice of rows.",
)
@click.option("--workers", type=Number(1), metavar="N", help="Processes. Default: one for each processor.")
@choice_option(
    "--on-error", ERRORS, ON_ERROR, "What to do at a row that cannot be read: stop there, or count it and go on."
)
@click.option(
    "--strict",
    is_flag=True,
    help="Stop at the first row that becomes a sample and loses something: a message that the template does not write, "
    "tokens to the cut, a weight that is not heeded.",
)
@click.option(
    "--config",
    metavar="FILE",
    help="A run file, which says all this in TOML; what is given beside it counts. - reads it from standard input.",
)
@click.option("--dry-run", is_flag=True, help="Tell what it would come to, from a sample; write nothing.")
@click.option("--as", "name", metavar="NAME", help="Name of the result in the repository.")
@message_option
@force_option
@json_summary_option
@silent_option
@click.pass_context
def tokenize(
    ctx: click.Context,
    /,
    *,
    mix: tuple[tuple[str, str], ...],
    name: str | None,
    message: str,
    force: bool,
    as_json: bool,
    quiet: bool,
    no_shuffle: bool,
    config: str | None,
    dry_run: bool,
    **options: Any,
) -> None:
    """Turn conversations into a dataset of the repository.

    What was tokenized before, by whomever and in whatever mix, is found and not tokenized again. A run that was
    interrupted goes on when it is started again.
    """
    if name is None and not dry_run:
        raise _missing(ctx, "name")
    if no_shuffle:
        options["shuffle_seed"] = None
    sources: list[tuple[str, str]] = list(mix)
    if config is not None:
        sources, options = _with_config(ctx, config, sources, options)
    for needed, value in (("mix", sources), ("tokenizer", options["tokenizer"])):
        if not value:
            raise _missing(ctx, needed)
    if dry_run or name is None:
        from castore_cli.dry_run import show_estimate

        show_estimate(ctx.obj, sources, options, warn=_warn, as_json=as_json, quiet=quiet)
        return
    _tokenize(ctx.obj, sources, options, name=name, message=message, force=force, as_json=as_json, quiet=quiet)


def _missing(ctx: click.Context, name: str) -> click.MissingParameter:
    return click.MissingParameter(ctx=ctx, param=next(one for one in ctx.command.params if one.name == name))


def _with_config(
    ctx: click.Context, config: str, mix: list[tuple[str, str]], options: dict[str, Any]
) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """The mix and options with what the run file says where the command line says nothing."""
    from castore.ingest.run_file import read_partial_config

    def is_given(name: str) -> bool:
        return ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT

    file_mix, file_options = read_partial_config(config, sys.stdin.buffer)
    if mix:
        file_options.pop("split", None)  # it is of the sources of the file
    given = {name for name in options if is_given(name) or (name == "shuffle_seed" and is_given("no_shuffle"))}
    return mix or file_mix, options | {name: file_options[name] for name in file_options.keys() - given}


def _tokenize(
    state: State,
    mix: list[tuple[str, str]],
    options: dict[str, Any],
    *,
    name: str,
    message: str,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    from castore_cli.progress import ProgressDisplay

    repository = state.open(create=True)
    with ProgressDisplay("tokenizing", "rows", rate_of="tokens", as_json=as_json, quiet=quiet) as display:

        def report(progress: Progress) -> None:
            display.update(progress.rows_done, progress.rows_total, tokens=progress.tokens, reused=progress.rows_reused)

        result = repository.tokenize(
            mix, name=name, origin=origin(message), force=force, report=report, warn=_warn, **options
        )
    if as_json:
        echo_json(_summary(result, name))
    elif not quiet:
        _print_summary(result, name)


def _warn(message: str) -> None:
    click.echo(f"castore: warning: {message}", err=True)


def _summary(result: TokenizeResult, name: str) -> dict[str, object]:
    progress = result.progress
    return {
        "name": name,
        "root": result.root,
        "run": result.run,
        "samples": result.samples,
        "tokens": result.tokens,
        "trainable": result.trainable,
        "dropped": dict(result.dropped),
        "lost": result.lost,
        "units": {"total": progress.units, "reused": progress.units_reused},
        "rows": {"total": progress.rows_total, "reused": progress.rows_reused},
        "stored": {"objects": result.objects_new, "bytes": result.bytes_new},
    }


def _print_summary(result: TokenizeResult, name: str) -> None:
    progress = result.progress
    click.echo(f"{name}  {result.root.hex()}")
    trained = share(result.trainable, result.tokens)
    click.echo(f"  samples  {number(result.samples)}, {number(result.tokens)} tokens, {trained} of them trained on")
    dropped = sum(result.dropped.values())
    reasons = ", ".join(f"{number(count)} {reason}" for reason, count in result.dropped.items())
    click.echo(
        f"  dropped  {plural(dropped, 'row')}" + (f": {reasons} (castore show {name} --dropped)" if dropped else "")
    )
    for position, line in enumerate(lost_lines(result.lost)):
        click.echo(f"  {'' if position else 'lost':<8} {line}")
    click.echo(
        f"  reused   {number(progress.rows_reused)} of {plural(progress.rows_total, 'row')} were tokenized before"
    )
    click.echo(f"  stored   {plural(result.objects_new, 'new object')}, {size(result.bytes_new)}")
