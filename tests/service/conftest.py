from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from fakes import FakeEmbedder
from running_service import run_app

from clip_qdrant.embedder_protocol import Embedder
from clip_qdrant.service.app import create_app
from clip_qdrant.service.options import ServiceOptions
from clip_qdrant.service.state import Service
from clip_qdrant.store.connect import connect


@pytest.fixture(scope="module")
def options() -> ServiceOptions:
    """Those of the service of a module; a module that needs others has a fixture of its own."""
    return ServiceOptions()


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    """The one of the service of a module."""
    return FakeEmbedder()


@pytest.fixture(scope="module")
def service(options: ServiceOptions, embedder: Embedder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service on an embedded store, with the fake embedder: one for a module."""
    client = connect(str(tmp_path_factory.mktemp("store")))
    yield Service(client, embedder, options)
    client.close()


@pytest.fixture(scope="module")
def url(service: Service) -> Iterator[str]:
    """Where it answers."""
    with run_app(create_app(service)) as url:
        yield url


@pytest.fixture(scope="module")
def http(url: str) -> Iterator[httpx.Client]:
    """A client of it."""
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client
