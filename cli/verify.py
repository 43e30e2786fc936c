"""``castore verify``, and what ``--require-signature`` of other commands asks for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from castore.errors import InvalidInputError, SignatureError
from castore_cli.context import State
from castore_cli.formatting import echo_json, visible
from castore_cli.parameters import Number, dataset_argument, json_option

if TYPE_CHECKING:
    from castore.care.vouch import SignedStore
    from castore.format.digest import Digest
    from castore.repository import Repository


@click.command()
@dataset_argument("address")
@click.option("--trusted", metavar="FILE", required=True, help="Public keys that are trusted, one a line.")
@click.option("--min-position", type=Number(0), metavar="N", help="Want a signature of position N or a later one.")
@json_option
@click.pass_obj
def verify(state: State, address: str, trusted: str, min_position: int | None, as_json: bool) -> None:
    """Tell whether a trusted key vouches for what ADDRESS means now; exit 1 if none does."""
    from castore.care.sign import read_trusted
    from castore.care.vouch import vouch
    from castore.store.signatures import key_id

    repository, plain = state.place(address)
    keys = read_trusted(trusted)
    root = repository.dataset(plain).root
    try:
        found = vouch(signed_store(repository), plain, root, keys)
        problem = None
    except SignatureError as error:
        found, problem = [], str(error)
    if found and min_position is not None and found[0].position < min_position:
        problem = f"{plain} was signed at position {found[0].position}, and {min_position} or a later one is wanted"
        found = []
    if as_json:
        signers = [
            {"owner": one.key.owner, "key": key_id(one.key.public_key), "name": one.name, "position": one.position}
            for one in found
        ]
        echo_json({"name": plain, "root": root, "verified": bool(found), "signers": signers})
    elif problem is None:
        for one in found:
            as_name = "" if one.name == plain else f" as {one.name}"
            click.echo(f"{plain}  {root.hex()}  signed by {visible(one.key.owner)}{as_name}, position {one.position}")
    else:
        click.echo(f"not verified: {problem}")
    if problem is not None:
        raise click.exceptions.Exit(1)


def require(state: State, meant: Iterable[tuple[str, Digest]], trusted: str, unsigned: Iterable[str] = ()) -> None:
    """Refuse to go on unless a trusted key vouches for every address, whatever the store says of it.

    Args:
        state: Of the command.
        meant: Addresses, and the roots that they were found to mean. A directory is in no repository, and needs none.
        trusted: The file of trusted keys.
        unsigned: Those of the addresses that need no signature, as the user says.

    Raises:
        SignatureError: For one there is none.
        ConflictError: A name was moved since it was looked at.
        InvalidInputError: Nothing would be checked.
    """
    from castore.care.sign import read_trusted
    from castore.care.vouch import vouch

    keys, asked = read_trusted(trusted), list(meant)
    wanted = [
        (address, root) for address, root in asked if address not in set(unsigned) and not state.is_folder(address)
    ]
    for address, root in wanted:
        repository, name = state.place(address)
        vouch(signed_store(repository), name, root, keys)
    if not wanted:
        names = " and ".join(address for address, _ in asked)
        raise InvalidInputError(f"--require-signature: of {names} nothing is left that needs a signature")


def signed_store(repository: Repository) -> SignedStore:
    """What of a repository is looked at to tell who vouches."""
    from castore.care.vouch import SignedStore
    from castore.store.signatures import SignatureStore

    def root_of(target: Digest) -> Digest:
        return repository.dataset(target).root

    return SignedStore(repository.refs, SignatureStore(repository.backend), repository.url, root_of)
