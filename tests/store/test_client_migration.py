"""Collections move between the embedded store and other clients, whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from edge_server import EdgeServer
from qdrant_client import QdrantClient, models
from qdrant_client.client_base import QdrantBase

from clip_qdrant.errors import StoreError
from clip_qdrant.store.connect import connect
from clip_qdrant.store.edge.client import EdgeClient

VECTORS: dict[str, Any] = {
    "": models.VectorParams(size=2, distance=models.Distance.DOT),
    "parts": models.VectorParams(
        size=2,
        distance=models.Distance.DOT,
        multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
    ),
}
SPARSE = {"text": models.SparseVectorParams(modifier=models.Modifier.IDF)}
INDEXES: dict[str, Any] = {
    "n": models.PayloadSchemaType.INTEGER,
    "caption": models.TextIndexParams(type=models.TextIndexType.TEXT, lowercase=True, phrase_matching=True),
}


def fill(client: QdrantBase) -> None:
    client.create_collection(
        "whole",
        VECTORS,
        SPARSE,
        hnsw_config=models.HnswConfigDiff(m=8),
        metadata={"a": {"b": [1, None]}},
    )
    for field, schema in INDEXES.items():
        client.create_payload_index("whole", field, schema)
    client.upsert(
        "whole",
        [
            models.PointStruct(
                id=i,
                vector={
                    "": [i, 1.0],
                    "parts": [[i, 0.0], [0.0, 1.0]],
                    "text": models.SparseVector(indices=[i], values=[0.5]),
                },
                payload={"n": i, "caption": "a dog"},
            )
            for i in range(150)
        ],
    )
    client.upsert("whole", [models.PointStruct(id=150, vector={"text": models.SparseVector(indices=[], values=[])})])
    client.create_collection("plain", VECTORS[""])
    client.upsert("plain", [models.PointStruct(id=1, vector=[1.0, 2.0])])
    client.create_collection("empty")


def everything(client: QdrantBase) -> dict[str, Any]:
    names = sorted(one.name for one in client.get_collections().collections)
    return {
        name: (
            client.get_collection(name).config.params.vectors,
            client.get_collection(name).config.params.sparse_vectors,
            client.get_collection(name).config.metadata,
            [(one.id, one.vector, one.payload or {}) for one in client.scroll(name, limit=1000, with_vectors=True)[0]],
        )
        for name in names
    }


@pytest.fixture(params=["memory", "rest", "server"])
def other_client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[QdrantBase]:
    """Local mode, a client that speaks REST, and one of a real server where there is one."""
    if request.param == "server":
        client: QdrantBase = request.getfixturevalue("server_client")
        if client.get_collections().collections:
            pytest.skip("the server has collections, and all would be moved")
        yield client
    elif request.param == "rest":
        with EdgeServer(tmp_path / "server") as server:
            client = connect(server.url)
            yield client
            client.close()
    else:
        client = QdrantClient(":memory:")
        yield client
        client.close()


@pytest.mark.parametrize("first", ["embedded", "other"])
def test_collections_move_to_another_client_and_back(
    edge_client: EdgeClient, other_client: QdrantBase, first: str
) -> None:
    one, other = (edge_client, other_client) if first == "embedded" else (other_client, edge_client)
    fill(one)
    before = everything(one)

    one.migrate(other)
    assert everything(other) == before
    one.delete_collection("plain")
    with pytest.raises(ValueError, match="already exist"):
        other.migrate(one)
    other.migrate(one, recreate_on_collision=True, batch_size=70)
    assert everything(one) == before


def test_a_collection_moves_between_embedded_stores_with_its_indexes_and_settings(
    edge_client: EdgeClient, tmp_path: Any
) -> None:
    fill(edge_client)
    with EdgeClient(tmp_path / "other") as other:
        edge_client.migrate(other, ["whole"])

        before, after = edge_client.get_collection("whole"), other.get_collection("whole")
        assert after.payload_schema == before.payload_schema
        assert after.config == before.config
        assert after.config.hnsw_config.m == 8


def test_only_collections_that_are_there_move(edge_client: EdgeClient) -> None:
    with pytest.raises((StoreError, AssertionError), match="pets"):
        edge_client.migrate(QdrantClient(":memory:"), ["pets"])
