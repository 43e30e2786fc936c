"""``castore templates``."""

from __future__ import annotations

import click

from castore_cli.context import State


@click.command()
@click.argument("name", required=False)
@click.pass_obj
def templates(state: State, name: str | None) -> None:
    """List the chat templates that have a name, or print the text of one."""
    from castore.errors import InvalidInputError, did_you_mean
    from castore.ingest.templates import REGISTERED, registered_text

    if name is None:
        click.echo("\n".join(sorted(REGISTERED)))
    elif name in REGISTERED:
        click.echo(registered_text(name), nl=False)
    else:
        raise InvalidInputError(f"no chat template is called {name!r}{did_you_mean(name, REGISTERED)}")
