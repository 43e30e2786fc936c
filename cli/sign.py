"""``castore sign``."""

from __future__ import annotations

import click

from castore_cli.context import State
from castore_cli.parameters import dataset_argument


@click.command()
@dataset_argument("name")
@click.option("--key", metavar="FILE", required=True, help="Ed25519 private key, of OpenSSH or PEM.")
@click.pass_obj
def sign(state: State, name: str, key: str) -> None:
    """Vouch with a key that NAME rightly means what it means now. The signature is stored beside the data."""
    from castore.care.sign import read_private_key
    from castore.care.sign import sign as sign_root
    from castore.errors import ConflictError
    from castore.store.refs import check_ref_name
    from castore.store.signatures import SignatureStore, key_id

    repository, plain = state.place(name)
    check_ref_name(plain)  # a signature is for a name, not for any address
    root = repository.dataset(plain).root
    private = read_private_key(key, lambda: str(click.prompt(f"passphrase of {key}", hide_input=True, err=True)))
    sequence = repository.refs.current_sequence(plain)
    if repository.dataset(plain).root != root:
        raise ConflictError(f"{plain} moved meanwhile: look again and repeat")
    signature, new = sign_root(SignatureStore(repository.backend), plain, sequence, root, private)
    state_text = "signed" if new else "was signed before"
    click.echo(f"{plain}  {root.hex()}  {state_text} with key {key_id(signature.public_key)}")
