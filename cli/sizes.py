"""Sizes on the command line."""

from __future__ import annotations

import click


def _size(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    """The bytes that ``4096``, ``4MiB`` or ``1G`` are."""
    if value is None:
        return None
    from castore.store.byte_sizes import bytes_in

    size = bytes_in(value)
    if size is None:
        raise click.BadParameter(f"{value[:40]!r} is no size: write bytes, or 4MiB, or 1G")
    return size


part_size_option = click.option(
    "--part-size",
    "part_bytes",
    callback=_size,
    metavar="SIZE",
    help="Bytes of ids in a full part, such as 4MiB. Default: 1GiB, as open-instruct writes.",
)
