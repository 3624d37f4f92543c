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
from program import program_in
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


class _Killed(BaseException):
    """Stands for the death of the process: nothing is done any more."""


def killed_bulk_load(client: QdrantBase, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bulk load that ends where a killed one does: with the indexing off."""

    def die() -> None:
        raise _Killed

    with monkeypatch.context() as patch, pytest.raises(_Killed):
        patch.setattr(bulk, "_put_back", lambda *_: None)
        ingest(MadeSource(4), ImageCollection("photos", _Asking(die), client), bulk=True)
    assert threshold(client) == 0


@pytest.mark.parametrize("kind", [{"bulk": True}, {}, {"dedupe": "tag"}], ids=["bulk", "plain", "dedupe"])
def test_the_next_run_of_any_kind_puts_back_what_a_killed_one_left(
    client: QdrantBase, monkeypatch: pytest.MonkeyPatch, kind: dict[str, Any]
) -> None:
    ingest(MadeSource(1), ImageCollection("photos", FakeEmbedder(), client))
    set_threshold(client, 777)
    for _ in range(2):  # killed twice it is still known what there was before
        killed_bulk_load(client, monkeypatch)

    ingest(MadeSource(1), ImageCollection("photos", FakeEmbedder(), client), **kind)
    assert threshold(client) == 777
    set_threshold(client, 0)  # by hand, for several workers: only a bulk load ends that
    ingest(MadeSource(2), ImageCollection("photos", FakeEmbedder(), client))
    assert threshold(client) == 0
    ingest(MadeSource(2), ImageCollection("photos", FakeEmbedder(), client), bulk=True)
    assert threshold(client) == 10_000


def test_search_and_info_say_that_a_collection_is_not_indexed(
    server: EdgeServer,
    client: QdrantBase,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ingest(MadeSource(1), ImageCollection("photos", FakeEmbedder(), client))
    with program_in(tmp_path / "work", monkeypatch) as program:
        options = ("--location", server.url)
        assert "not indexed" not in program("search", "red", "--collection", "photos", *options).err
        assert "not indexed" not in program("info", *options).out
        killed_bulk_load(client, monkeypatch)
        found = program("search", "red", "--collection", "photos", *options)
        shown, document = program("info", *options), program("info", "--json", *options).json
        set_threshold(client, 0)
        client.update_collection("photos", metadata={"clip_qdrant_indexing_threshold": None})
        by_hand = program("info", *options).out

    assert "warning: collection 'photos' is not indexed: a bulk load goes on, or was killed" in found.err
    assert "collection 'photos' is not indexed: a bulk load goes on, or was killed, and the next ingest" in shown.out
    assert document["store"]["collections"][0]["notes"]
    assert "its indexing_threshold is 0" in by_hand


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
        assert "the next run puts it back" in caplog.text


def test_an_embedded_store_refuses_it_and_stores_nothing(edge_client: EdgeClient) -> None:
    collection = ImageCollection("photos", FakeEmbedder(), edge_client)
    with pytest.raises(UnsupportedByEdge, match="bulk load"):
        ingest(MadeSource(3), collection, bulk=True)
    assert not collection.exists()


def test_a_store_in_memory_does_without_it(memory_client: Any) -> None:
    assert ingest(MadeSource(3), ImageCollection("photos", FakeEmbedder(), memory_client), bulk=True).added == 3
