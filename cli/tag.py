"""``castore tag``."""

from __future__ import annotations

import click

from castore_cli.context import State, origin
from castore_cli.parameters import dataset_argument, force_option, message_option


@click.command()
@dataset_argument("address")
@dataset_argument("name")
@message_option
@force_option
@click.pass_obj
def tag(state: State, address: str, name: str, message: str, force: bool) -> None:
    """Let NAME mean what ADDRESS means."""
    repository = state.open()
    repository.tag(address, name, origin(message), force=force)
    click.echo(f"{name}  {repository.dataset(name).root.hex()}")
