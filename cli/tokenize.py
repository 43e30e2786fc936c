"""``castore tokenize``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from castore.ingest.defaults import ERRORS, FILE_SPLIT, MAIN_REVISION, MIX_SEED, ON_ERROR, SHUFFLE_SEED
from castore_cli.context import SEED_MAX, State, origin
from castore_cli.formatting import echo_json, lost_lines, number, plural, share, size
from castore_cli.parameters import Number, force_option, json_summary_option, message_option, silent_option

if TYPE_CHECKING:
    from castore.ingest.job import TokenizeResult
    from castore.ingest.run_writer import Progress


@dataclass(frozen=True, slots=True)
class TokenizeOptions:
    """The parameters of the command line, by the names that click gives them; its help says what they mean."""

    mix: tuple[tuple[str, str], ...]
    splits: tuple[str, ...]
    revision: str
    tokenizer: str
    chat_template: str | None
    template_fallback: bool
    date: str | None
    max_seq_length: int | None
    add_bos: bool
    last_turn: bool
    num_examples: int | None
    shuffle_seed: int
    no_shuffle: bool
    mix_seed: int
    workers: int | None
    on_error: str
    strict: bool
    name: str
    message: str
    force: bool
    as_json: bool
    quiet: bool


@click.command()
@click.option(
    "--mix",
    nargs=2,
    multiple=True,
    required=True,
    metavar="PATH AMOUNT",
    help="A file (.jsonl, .jsonl.gz, .json, .parquet) or a Hugging Face dataset, and how much of it: a share with a "
    "point (1.0 all, 3.0 three times, 0.37), or a count of rows (5000). Repeat for more.",
)
@click.option(
    "--split",
    "splits",
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
@click.option("--tokenizer", required=True, metavar="DIR", help="Folder of a Hugging Face tokenizer.")
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
@click.option(
    "--on-error",
    type=click.Choice(ERRORS),
    default=ON_ERROR,
    show_default=True,
    help="What to do at a row that cannot be read: stop there, or count it and go on.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="Stop at the first row that becomes a sample and loses something: a message that the template does not write, "
    "tokens to the cut, a weight that is not heeded.",
)
@click.option("--as", "name", required=True, metavar="NAME", help="Name of the result in the repository.")
@message_option
@force_option
@json_summary_option
@silent_option
@click.pass_obj
def tokenize(state: State, /, **parameters: Any) -> None:
    """Turn conversations into a dataset of the repository.

    What was tokenized before, by whomever and in whatever mix, is found and not tokenized again. A run that was
    interrupted goes on when it is started again.
    """
    from castore_cli.progress import ProgressDisplay

    options = TokenizeOptions(**parameters)
    repository = state.open(create=True)
    with ProgressDisplay(
        "tokenizing", "rows", rate_of="tokens", as_json=options.as_json, quiet=options.quiet
    ) as display:

        def report(progress: Progress) -> None:
            display.update(progress.rows_done, progress.rows_total, tokens=progress.tokens, reused=progress.rows_reused)

        result = repository.tokenize(
            options.mix,
            tokenizer=options.tokenizer,
            name=options.name,
            chat_template=options.chat_template,
            template_fallback=options.template_fallback,
            date=options.date,
            max_seq_length=options.max_seq_length,
            add_bos=options.add_bos,
            last_turn=options.last_turn,
            num_examples=options.num_examples,
            shuffle_seed=None if options.no_shuffle else options.shuffle_seed,
            mix_seed=options.mix_seed,
            split=options.splits,
            revision=options.revision,
            workers=options.workers,
            on_error=options.on_error,
            strict=options.strict,
            origin=origin(options.message),
            force=options.force,
            report=report,
            warn=_warn,
        )
    if options.as_json:
        echo_json(_summary(result, options.name))
    elif not options.quiet:
        _print_summary(result, options.name)


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
