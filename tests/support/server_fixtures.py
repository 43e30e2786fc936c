"""Fixtures that start object stores once a session, and end them however the session ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import STARTERS, Server, UnavailableError, parts_folder


@pytest.fixture(scope="session")
def server_parts() -> Iterator[Path]:
    yield from parts_folder()


def _started(name: str, tmp_path_factory: pytest.TempPathFactory, parts: Path) -> Iterator[Server]:
    pytest.importorskip("obstore", reason="obstore is not installed")
    try:
        server = STARTERS[name](tmp_path_factory.mktemp(name), parts)
    except UnavailableError as error:
        pytest.skip(f"{name} cannot be had here: {error}")
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def rgw(tmp_path_factory: pytest.TempPathFactory, server_parts: Path) -> Iterator[Server]:
    """A real S3 server: Ceph."""
    yield from _started("rgw", tmp_path_factory, server_parts)


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory, server_parts: Path) -> Iterator[Server]:
    """A mock of S3 that starts quickly."""
    yield from _started("moto", tmp_path_factory, server_parts)


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory, server_parts: Path) -> Iterator[Server]:
    """Azure's blob storage."""
    yield from _started("azurite", tmp_path_factory, server_parts)


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory, server_parts: Path) -> Iterator[Server]:
    """An S3 server that ignores conditions."""
    yield from _started("rclone", tmp_path_factory, server_parts)
