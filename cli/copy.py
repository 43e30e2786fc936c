"""``castore copy``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from castore_cli.context import State, origin
from castore_cli.formatting import echo_json, number, plural, size
from castore_cli.parameters import (
    dataset_argument,
    force_option,
    json_summary_option,
    message_option,
    quiet_option,
    require_option,
)
from castore_cli.verify import require

if TYPE_CHECKING:
    from castore.format.digest import Digest
    from castore.repository import Repository


@click.command()
@dataset_argument("address")
@click.argument("destination", metavar="URL[#NAME]")
@message_option
@force_option
@click.option("--create", is_flag=True, help="Make a repository at URL if there is none.")
@require_option
@json_summary_option
@quiet_option
@click.pass_obj
def copy(
    state: State,
    address: str,
    destination: str,
    message: str,
    force: bool,
    create: bool,
    require_signature: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Copy what ADDRESS means to the repository at URL, where NAME (or its name here) means it then.

    Only what is missing there travels, and the name moves last. An interrupted copy goes on when it is started again.
    """
    from castore_cli.progress import ProgressDisplay

    repository, name_here = state.place(address)
    url, name = split_destination(destination, name_here)

    def check(root: Digest) -> None:
        if require_signature is not None:
            require(state, [(address, root)], require_signature)

    repository.resolve(name_here)  # what is not there makes no repository
    to = _target(state, url, create=create)
    with ProgressDisplay("copying", "objects", as_json=as_json, quiet=quiet) as progress:
        copied = repository.copy(name_here, to, name, origin(message), force=force, check=check, report=progress.update)
    root = to.dataset(name).root
    if as_json:
        echo_json(
            {
                "name": name,
                "root": root,
                "moved": copied.moved,
                "sent": {"objects": copied.sent, "bytes": copied.sent_bytes},
                "skipped": {"objects": copied.present, "held": copied.held},
            }
        )
        return
    click.echo(f"{name}  {root.hex()}")
    click.echo(f"  sent     {plural(copied.sent, 'object')}, {size(copied.sent_bytes)}")
    click.echo(f"  skipped  {number(copied.present)} that were there, {number(copied.held)} that its names hold")
    if not copied.moved:
        click.echo("  the name meant this already")


def _target(state: State, url: str, *, create: bool) -> Repository:
    """The other repository; one that is not there was mistyped, unless the user says that it is to be made."""
    from castore.errors import NotFoundError

    try:
        return state.at(url, create=create)
    except NotFoundError as error:
        raise NotFoundError(f"there is no castore repository at {url}: --create makes one there") from error


def split_destination(destination: str, name_here: str) -> tuple[str, str]:
    """Place and name of ``URL[#NAME]``; without a name there it is the one here."""
    from castore.store.refs import is_ref_name

    url, mark, name = destination.rpartition("#")
    if mark:
        return url, name
    if not is_ref_name(name_here):
        raise click.UsageError(f"{name_here} is no name: say what to call it there, URL#NAME")
    return destination, name_here
