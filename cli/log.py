"""``castore log``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from castore.errors import CastoreError
from castore_cli.context import State, local_time
from castore_cli.formatting import echo_json, visible
from castore_cli.parameters import dataset_argument, json_option

if TYPE_CHECKING:
    from castore.format.digest import Digest
    from castore.repository import Repository


@click.command()
@dataset_argument("name")
@json_option
@click.pass_obj
def log(state: State, name: str, as_json: bool) -> None:
    """Show what NAME has meant, newest first: the root, when, who and why."""
    repository = state.open()
    entries = repository.log(name)
    if as_json:
        fields = ("sequence", "target", "time_s", "author", "message")
        echo_json(
            [{**{f: getattr(entry, f) for f in fields}, "root": _root(repository, entry.target)} for entry in entries]
        )
        return
    for back, entry in enumerate(entries):
        root = _root(repository, entry.target)
        shown = "removed" if entry.target is None else "unreadable" if root is None else root.hex()[:12]
        who, why = visible(entry.author), visible(entry.message.partition("\n")[0])
        click.echo(f"{name}@{{{back}}}  {shown:<12}  {local_time(entry.time_s)}  {who}  {why}")


def _root(repository: Repository, target: Digest | None) -> Digest | None:
    """The root that a ref's entry leads to, None if it was removed or cannot be read."""
    try:
        return None if target is None else repository.dataset(target.hex()).root
    except CastoreError:  # one damaged run must not hide the others
        return None
