"""``castore rm``."""

from __future__ import annotations

import click

from castore_cli.context import State, origin
from castore_cli.parameters import dataset_argument, force_option, message_option


@click.command()
@dataset_argument("name")
@message_option
@force_option
@click.pass_obj
def rm(state: State, name: str, message: str, force: bool) -> None:
    """Remove NAME. Its log and the data stay: name@{1} is what it meant, and tag brings it back."""
    state.open().remove(name, origin(message), force=force)
    click.echo(f"{name} removed; 'castore tag {name}@{{1}} {name}' brings it back")
