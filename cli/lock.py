"""``castore lock``, and reading its file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from castore_cli.context import State
from castore_cli.parameters import dataset_argument, require_option
from castore_cli.verify import require

if TYPE_CHECKING:
    from castore.diff.lock import Lock


@click.command()
@dataset_argument("address")
@require_option
@click.pass_obj
def lock(state: State, address: str, require_signature: str | None) -> None:
    """Print what the dataset at ADDRESS is, to be committed: castore lock NAME > castore.lock.

    'castore diff NAME --expect castore.lock' compares with it later, without the data of now.
    """
    from castore.diff.lock import Lock

    _, data = state.dataset(address)
    if require_signature is not None:
        require(state, [(address, data.root)], require_signature)
    click.echo(Lock.of(data, address).text(), nl=False)


def read_lock(path: str) -> Lock:
    """The lock file at a path.

    Raises:
        InvalidInputError: There is none, or it is none.
    """
    from castore.diff.lock import LOCK_BYTES, Lock
    from castore.errors import InvalidInputError
    from castore.store.files import open_regular

    with open_regular(path, pipes=True) as file:
        raw = file.read(LOCK_BYTES + 1)
    if len(raw) > LOCK_BYTES:
        raise InvalidInputError(f"{path}: no lock file: it has more than {LOCK_BYTES} bytes")
    try:
        return Lock.parse(raw.decode(), path)
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path}: no lock file: {error}") from None
