"""A bulk load has the server build no index while it lasts, and leaves it as it was, however it ends."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edge_server import EdgeServer
from fakes import FakeEmbedder, MadeSource
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import ModelError, UnsupportedByEdge
from clip_qdrant.store.connect import connect
from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant_ingestion import ingest
from clip_qdrant_ingestion.run import bulk


class _Asking(FakeEmbedder):
    """Calls something at each batch."""

    def __init__(self, ask: Callable[[], object]) -> None:
        super().__init__()
        self._ask = ask

    def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
        self._ask()
        return super().embed_pixels(pixels)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeServer]:
    with EdgeServer(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def client(server: EdgeServer) -> Iterator[QdrantBase]:
    client = connect(server.url)
    yield client
    client.delete_collection("photos")
    client.close()


def threshold(client: QdrantBase) -> int | None:
    return client.get_collection("photos").config.optimizer_config.indexing_threshold


def set_threshold(client: QdrantBase, value: int) -> None:
    client.update_collection("photos", optimizers_config=models.OptimizersConfigDiff(indexing_threshold=value))


def test_nothing_is_indexed_while_the_run_lasts_and_all_is_as_before_it_afterwards(client: QdrantBase) -> None:
    seen: list[int | None] = []
    collection = ImageCollection("photos", _Asking(lambda: seen.append(threshold(client))), client)
    ingest(MadeSource(12), collection, batch_size=4, bulk=True)  # it makes the collection
    assert len(seen) >= 3
    assert set(seen) == {0}
    assert threshold(client) == 10_000
    set_threshold(client, 777)
    ingest(MadeSource(16), collection)
    assert seen[-1] == 777
    ingest(MadeSource(20), collection, bulk=True)
    assert (seen[-1], threshold(client)) == (0, 777)


def test_a_run_that_fails_leaves_the_indexing_as_it_was(client: QdrantBase) -> None:
    def fail() -> None:
        assert threshold(client) == 0
        raise ModelError("the model is gone")

    ingest(MadeSource(1), ImageCollection("photos", FakeEmbedder(), client))
    set_threshold(client, 777)
    with pytest.raises(ModelError, match="the model is gone"):
        ingest(MadeSource(12), ImageCollection("photos", _Asking(fail), client), bulk=True)
    assert threshold(client) == 777


def test_a_run_after_one_that_was_killed_sets_the_indexing_right(client: QdrantBase) -> None:
    collection = ImageCollection("photos", FakeEmbedder(), client)
    ingest(MadeSource(1), collection)
    set_threshold(client, 0)
    ingest(MadeSource(2), collection, bulk=True)
    assert threshold(client) == 10_000


def test_an_error_is_not_hidden_by_a_server_that_is_gone_by_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bulk, "_PATIENCE", 0.1)
    with EdgeServer(tmp_path / "server") as server:

        def fail() -> None:
            server.kill()
            raise ModelError("the model is gone")

        collection = ImageCollection("photos", _Asking(fail), connect(server.url))
        with caplog.at_level(logging.WARNING), pytest.raises(ModelError, match="the model is gone"):
            ingest(MadeSource(1), collection, bulk=True)
        assert "setting the indexing threshold of 'photos' to" in caplog.text
        assert "the next bulk load sets it right" in caplog.text


def test_an_embedded_store_refuses_it_and_stores_nothing(edge_client: EdgeClient) -> None:
    collection = ImageCollection("photos", FakeEmbedder(), edge_client)
    with pytest.raises(UnsupportedByEdge, match="bulk load"):
        ingest(MadeSource(3), collection, bulk=True)
    assert not collection.exists()


def test_a_store_in_memory_does_without_it(memory_client: Any) -> None:
    assert ingest(MadeSource(3), ImageCollection("photos", FakeEmbedder(), memory_client), bulk=True).added == 3
