"""``castore import``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from castore_cli.context import SEED_MAX, State, origin
from castore_cli.formatting import echo_json, number, plural, size, visible
from castore_cli.parameters import Number, force_option, json_summary_option, message_option, quiet_option

if TYPE_CHECKING:
    from castore.ingest.import_folder import ImportResult
    from castore.ingest.write_job import WriteResult
    from castore_cli.progress import ProgressDisplay


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """The parameters of the command line, by the names that click gives them; its help says what they mean."""

    directory: str
    name: str
    shuffle_seed: int | None
    like: str | None
    message: str
    force: bool
    as_json: bool
    quiet: bool


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
@message_option
@force_option
@json_summary_option
@quiet_option
@click.pass_obj
def import_(state: State, /, **parameters: Any) -> None:
    """Make a dataset of DIRECTORY: an output directory of open-instruct or of castore export, or a zarr group.

    An incomplete or inconsistent directory is refused with the reason.
    """
    options = ImportOptions(**parameters)
    if _is_zarr(options.directory):
        if options.shuffle_seed is not None or options.like is not None:
            raise click.UsageError("--shuffle-seed and --like are for output directories, not for zarr groups")
        _import_zarr(state, options)
    else:
        _import_folder(state, options)


def _is_zarr(place: str) -> bool:
    """Whether a place is a zarr group: by its name, or by the file that every group has."""
    markers = ("zarr.json", ".zgroup", ".zmetadata")
    return place.rstrip("/").endswith(".zarr") or any(os.path.isfile(os.path.join(place, m)) for m in markers)  # noqa: PTH113, PTH118


def _import_folder(state: State, options: ImportOptions) -> None:
    from castore.olmo.companions import companions

    repository, name, like = state.open(create=True), options.name, options.like
    with _progress(options) as progress:
        done = repository.import_folder(
            options.directory,
            name,
            origin(options.message),
            force=options.force,
            shuffle_seed=options.shuffle_seed,
            like=like,
            report=progress.update,
        )
    for array in companions(options.directory).arrays:
        click.echo(f"castore: warning: {visible(array)} is left out: it is none of the parts of the layout", err=True)
    known = None if like is None else f"{number(done.known)} of them are in {like}"
    _show(options, done, {"known": done.known}, known)


def _import_zarr(state: State, options: ImportOptions) -> None:
    repository, name = state.open(create=True), options.name
    with _progress(options) as progress:
        found = repository.import_zarr(
            options.directory, name, origin(options.message), force=options.force, report=progress.update
        )
    for array, reason in found.left_out.items():
        click.echo(f"castore: warning: array {array} is left out: {reason}", err=True)
    _show(options, found.written, {"left_out": dict(found.left_out)})


def _show(
    options: ImportOptions, done: ImportResult | WriteResult, more: dict[str, object], known: str | None = None
) -> None:
    """Tell what came of it: as JSON with ``more`` in it, or in lines, one of them ``known``."""
    if options.as_json:
        counts = {"samples": done.samples, "tokens": done.tokens, **more}
        stored = {"objects": done.objects_new, "bytes": done.bytes_new}
        echo_json({"name": options.name, "root": done.root, "run": done.run, **counts, "stored": stored})
        return
    click.echo(f"{options.name}  {done.root.hex()}")
    click.echo(f"  samples  {number(done.samples)}, {number(done.tokens)} tokens")
    if known is not None:
        click.echo(f"  known    {known}")
    click.echo(f"  stored   {plural(done.objects_new, 'new object')}, {size(done.bytes_new)}")


def _progress(options: ImportOptions) -> ProgressDisplay:
    from castore_cli.progress import ProgressDisplay

    return ProgressDisplay("importing", "tokens", as_json=options.as_json, quiet=options.quiet)
