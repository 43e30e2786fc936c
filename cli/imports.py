"""``castore import``."""

from __future__ import annotations

import os

import click

from castore_cli.context import SEED_MAX, State, origin
from castore_cli.numbers import Number
from castore_cli.text import echo_json, number, plural, size


@click.command(name="import")
@click.argument("directory")
@click.option("--as", "name", required=True, metavar="NAME", help="Name of the result.")
@click.option(
    "--shuffle-seed",
    type=Number(0, SEED_MAX),
    metavar="N",
    help="Undo the shuffle of this seed (open-instruct's default is 42): the samples become those of a native run.",
)
@click.option(
    "--like", metavar="ADDRESS", help="Store documents that this dataset holds in its order, sharing its chunks."
)
@click.option("-m", "--message", metavar="TEXT", default="", help="A line for the log.")
@click.option("--force", is_flag=True, help="Move a protected name; wants the reason with --message.")
@click.option("--json", "as_json", is_flag=True, help="Summary as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress; the result is printed.")
@click.pass_obj
def import_(
    state: State,
    directory: str,
    name: str,
    shuffle_seed: int | None,
    like: str | None,
    message: str,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Make a dataset of DIRECTORY: an output directory of open-instruct or of castore export, or a zarr group.

    An incomplete or inconsistent directory is refused with the reason.
    """
    from castore_cli.progress import Meter

    if _is_zarr(directory):
        if shuffle_seed is not None or like is not None:
            raise click.UsageError("--shuffle-seed and --like are for output directories, not for zarr groups")
        _import_zarr(state, directory, name, message, force, as_json, quiet)
        return
    repository = state.open(create=True)
    with Meter("importing", "tokens", as_json=as_json, quiet=quiet) as meter:
        done = repository.import_folder(
            directory, name, origin(message), force=force, shuffle_seed=shuffle_seed, like=like, report=meter.update
        )
    if as_json:
        echo_json(
            {
                "name": name,
                "root": done.root,
                "run": done.run,
                "samples": done.samples,
                "tokens": done.tokens,
                "known": done.known,
                "stored": {"objects": done.objects_new, "bytes": done.bytes_new},
            }
        )
        return
    click.echo(f"{name}  {done.root.hex()}")
    click.echo(f"  samples  {number(done.samples)}, {number(done.tokens)} tokens")
    if like is not None:
        click.echo(f"  known    {number(done.known)} of them are in {like}")
    click.echo(f"  stored   {plural(done.objects_new, 'new object')}, {size(done.bytes_new)}")


def _is_zarr(place: str) -> bool:
    """Whether a place is a zarr group: by its name, or by the file that every group has."""
    markers = ("zarr.json", ".zgroup", ".zmetadata")
    return place.rstrip("/").endswith(".zarr") or any(os.path.isfile(os.path.join(place, m)) for m in markers)  # noqa: PTH113, PTH118


def _import_zarr(state: State, place: str, name: str, message: str, force: bool, as_json: bool, quiet: bool) -> None:
    from castore_cli.progress import Meter

    repository = state.open(create=True)
    with Meter("importing", "tokens", as_json=as_json, quiet=quiet) as meter:
        found = repository.import_zarr(place, name, origin(message), force=force, report=meter.update)
    done = found.written
    for array, reason in found.left_out.items():
        click.echo(f"castore: warning: array {array} is left out: {reason}", err=True)
    if as_json:
        echo_json(
            {
                "name": name,
                "root": done.root,
                "run": done.run,
                "samples": done.samples,
                "tokens": done.tokens,
                "left_out": dict(found.left_out),
                "stored": {"objects": done.objects_new, "bytes": done.bytes_new},
            }
        )
        return
    click.echo(f"{name}  {done.root.hex()}")
    click.echo(f"  samples  {number(done.samples)}, {number(done.tokens)} tokens")
    click.echo(f"  stored   {plural(done.objects_new, 'new object')}, {size(done.bytes_new)}")
