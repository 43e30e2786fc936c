"""``castore export``."""

from __future__ import annotations

import click

from castore_cli.context import State, local_time, origin
from castore_cli.formatting import echo_json, number, plural
from castore_cli.parameters import choice_option, dataset_argument, json_summary_option, part_size_option, silent_option


@click.command()
@dataset_argument("address")
@click.argument("folder")
@choice_option("--layout", ["olmo-core", "megatron", "mds", "parquet"], "olmo-core", "Kind of files.")
@part_size_option
@click.option("--replace", is_flag=True, help="Replace an earlier export, as a whole.")
@json_summary_option
@silent_option
@click.pass_obj
def export(
    state: State,
    address: str,
    folder: str,
    layout: str,
    part_bytes: int | None,
    replace: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write the dataset at ADDRESS to FOLDER in its recorded order, as files for a trainer.

    The folder is complete or absent; one that holds something is refused unless --replace is given.
    """
    from castore_cli.progress import ProgressDisplay

    repository, data = state.dataset(address)
    time_text = local_time(origin().time_s)
    with ProgressDisplay("exporting", "tokens", as_json=as_json, quiet=quiet) as progress:
        done = repository.export(
            data,
            folder,
            layout=layout,
            replace=replace,
            time_text=time_text,
            part_bytes=part_bytes,
            report=progress.update,
        )
    from castore.format.schema import DATA_ARRAYS

    extra = sorted(data.manifest.arrays.keys() - {array.name for array in DATA_ARRAYS})
    if extra:
        click.echo(f"castore: warning: these files have no place for {', '.join(extra)}: left out", err=True)
    if done.left_out:
        left_out = plural(done.left_out, "sample")
        click.echo(f"castore: warning: {left_out} without tokens: these files cannot hold that, left out", err=True)
    if done.widened:
        why = f"ids of added tokens outside the vocabulary are written: {done.widened}, which open-instruct would take"
        click.echo(f"castore: warning: {why}; the trainer must be told", err=True)
    if as_json:
        echo_json({"folder": done.folder, "samples": done.samples, "tokens": done.tokens, "parts": done.parts})
    elif not quiet:
        parts = plural(done.parts, "part")
        click.echo(f"{done.folder}: {plural(done.samples, 'sample')}, {number(done.tokens)} tokens in {parts}")
