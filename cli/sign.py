"""``castore sign``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from castore_cli.context import State
from castore_cli.parameters import dataset_argument

if TYPE_CHECKING:
    from castore.format.digest import Digest
    from castore.repository import Repository


@click.command()
@dataset_argument("name")
@click.option("--key", metavar="FILE", required=True, help="Ed25519 private key, of OpenSSH or PEM.")
@click.pass_obj
def sign(state: State, name: str, key: str) -> None:
    """Vouch with a key that NAME rightly means what it means now. The signature is stored beside the data."""
    from castore.care.sign import read_private_key
    from castore.care.sign import sign as sign_root
    from castore.store.signatures import SignatureStore, key_id

    repository, plain = state.place(name)
    root = root_of(repository, plain)
    private = read_private_key(key, lambda: str(click.prompt(f"passphrase of {key}", hide_input=True, err=True)))
    signature, new = sign_root(SignatureStore(repository.backend), plain, root, private)
    state_text = "signed" if new else "was signed before"
    click.echo(f"{plain}  {root.hex()}  {state_text} with key {key_id(signature.public_key)}")


def root_of(repository: Repository, name: str) -> Digest:
    """The root that a name means; a signature is for a name, not for any address."""
    from castore.store.refs import check_ref_name

    check_ref_name(name)
    return repository.dataset(name).root
