"""``castore verify``, and what ``--require-signature`` of other commands asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from castore.errors import InvalidInputError, SignatureError
from castore_cli.context import State
from castore_cli.formatting import echo_json, visible
from castore_cli.parameters import dataset_argument, json_option
from castore_cli.sign import root_of

if TYPE_CHECKING:
    from castore.format.digest import Digest


@click.command()
@dataset_argument("name")
@click.option("--trusted", metavar="FILE", required=True, help="Public keys that are trusted, one a line.")
@json_option
@click.pass_obj
def verify(state: State, name: str, trusted: str, as_json: bool) -> None:
    """Tell whether a trusted key vouches for what NAME means now; exit 1 if none does."""
    from castore.care.sign import read_trusted
    from castore.care.sign import verify as verify_root
    from castore.store.signatures import SignatureStore, key_id

    repository, plain = state.place(name)
    keys = read_trusted(trusted)
    root = root_of(repository, plain)
    try:
        found = verify_root(SignatureStore(repository.backend), plain, root, keys)
        problem = None
    except SignatureError as error:
        found, problem = [], str(error)
    if as_json:
        signers = [{"owner": key.owner, "key": key_id(key.public_key)} for key in found]
        echo_json({"name": plain, "root": root, "verified": bool(found), "signers": signers})
    elif problem is None:
        for key in found:
            click.echo(f"{plain}  {root.hex()}  signed by {visible(key.owner)}")
    else:
        click.echo(f"not verified: {problem}")
    if problem is not None:
        raise click.exceptions.Exit(1)


def require(state: State, meant: list[tuple[str, Digest]], trusted: str) -> None:
    """Refuse to go on unless a trusted key vouches for every protected name among some addresses.

    Args:
        state: Of the command.
        meant: Addresses, and the roots that they were found to mean.
        trusted: The file of trusted keys.

    Raises:
        SignatureError: For one there is none.
        InvalidInputError: There is no protected name among them, so that nothing would be checked.
    """
    from castore.care.sign import read_trusted, verify
    from castore.store.protection import is_protected
    from castore.store.refs import is_ref_name
    from castore.store.signatures import SignatureStore

    keys = read_trusted(trusted)
    checked = 0
    for address, root in meant:
        if state.is_folder(address):
            continue
        repository, name = state.place(address)
        if is_ref_name(name) and is_protected(repository.backend, name):
            verify(SignatureStore(repository.backend), name, root, keys)
            checked += 1
    if not checked:
        names = " and ".join(address for address, _ in meant)
        one = "is no protected name" if len(meant) == 1 else "are no protected names"
        raise InvalidInputError(f"--require-signature: {names} {one}, so there is nothing to require")
