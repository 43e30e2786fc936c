"""The backend suite over object stores: real servers, of which each test gets a fresh folder of one bucket."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from castore.store.backend import Backend
from castore.store.live_conformance import LivePlace
from castore.store.urls import open_backend
from tests.conformance.suite import BackendTests
from tests.support.gcs_stub import GcsStub
from tests.support.servers import BUCKET, Server, s3_client

pytestmark = pytest.mark.server


def _reach(server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)
    return server.url()


class S3Place:
    """A folder of a bucket; its other door is boto3."""

    def __init__(self, server: Server, url: str) -> None:
        self.url = url
        self.prefix = url.partition(f"{BUCKET}/")[2]
        self.client: Any = s3_client(server)

    def open(self) -> Backend:
        return open_backend(self.url)

    def raw_get(self, key: str) -> bytes | None:
        try:
            body = self.client.get_object(Bucket=BUCKET, Key=f"{self.prefix}/{key}")["Body"]
        except self.client.exceptions.NoSuchKey:
            return None
        data: bytes = body.read()
        return data

    def raw_put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=f"{self.prefix}/{key}", Body=data)


class TestRgw(BackendTests):
    @pytest.fixture
    def place(self, rgw: Server, monkeypatch: pytest.MonkeyPatch) -> S3Place:
        return S3Place(rgw, _reach(rgw, monkeypatch))


class TestMoto(BackendTests):
    @pytest.fixture
    def place(self, moto: Server, monkeypatch: pytest.MonkeyPatch) -> S3Place:
        return S3Place(moto, _reach(moto, monkeypatch))


class TestAzurite(BackendTests):
    @pytest.fixture
    def place(self, azurite: Server, monkeypatch: pytest.MonkeyPatch) -> LivePlace:
        url = _reach(azurite, monkeypatch)
        return LivePlace(lambda: open_backend(url))


class TestGcsStub(BackendTests):
    """Google Cloud Storage, a stub of the project: see there what that proves."""

    @pytest.fixture
    def place(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[LivePlace]:
        stub = GcsStub()
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", stub.endpoint)
        yield LivePlace(lambda: open_backend("gs://bucket/folder"))
        stub.close()
