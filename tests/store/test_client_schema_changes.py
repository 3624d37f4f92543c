"""Vectors are added to a collection and taken from it, and its settings change, with the points in place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from forks import run_fork
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from clip_qdrant.errors import CollectionNotFound, InvalidPoint, StoreError, UnsupportedByEdge
from clip_qdrant.store.calls import call
from clip_qdrant.store.edge.client import EdgeClient

DOT = models.VectorParams(size=2, distance=models.Distance.DOT)
DENSE = models.DenseVectorNameConfig(dense=models.DenseVectorConfig(size=3, distance=models.Distance.COSINE))
SPARSE = models.SparseVectorNameConfig(sparse=models.SparseVectorConfig(modifier=models.Modifier.IDF))
WORDS = models.SparseVector(indices=[3], values=[1.0])


@pytest.fixture
def name(client: QdrantBase, collection_name: str) -> str:
    client.create_collection(collection_name, DOT)
    client.upsert(collection_name, [models.PointStruct(id=1, vector=[1.0, 2.0], payload={"n": 1})], wait=True)
    return collection_name


def test_a_vector_is_added_to_points_that_are_there(client: QdrantBase, name: str) -> None:
    for _ in range(2):  # the second time changes nothing
        client.create_vector_name(name, "new", DENSE, wait=True)
        client.create_vector_name(name, "text", SPARSE, wait=True)
    client.update_vectors(name, [models.PointVectors(id=1, vector={"new": [0.0, 0.0, 2.0], "text": WORDS})], wait=True)

    assert client.retrieve(name, [1], with_vectors=True)[0].vector == {
        "": [1.0, 2.0],
        "new": [0.0, 0.0, 1.0],
        "text": WORDS,
    }
    params = client.get_collection(name).config.params
    assert set(params.vectors) == {"", "new"}
    assert params.sparse_vectors["text"].modifier == models.Modifier.IDF


def test_a_vector_is_taken_from_all_points(client: QdrantBase, name: str) -> None:
    client.create_vector_name(name, "new", DENSE, wait=True)
    client.update_vectors(name, [models.PointVectors(id=1, vector={"new": [0.0, 0.0, 2.0]})], wait=True)
    for _ in range(2):
        client.delete_vector_name(name, "new", wait=True)

    assert client.retrieve(name, [1], with_vectors=True)[0].vector == [1.0, 2.0]
    with pytest.raises(StoreError):
        call(lambda: client.update_vectors(name, [models.PointVectors(id=1, vector={"new": [0.0] * 3})]), what="x")
    client.create_vector_name(name, "new", SPARSE, wait=True)
    client.update_vectors(name, [models.PointVectors(id=1, vector={"new": WORDS})], wait=True)
    assert client.retrieve(name, [1], with_vectors=["new"])[0].vector == {"new": WORDS}


@pytest.mark.parametrize(
    "change",
    [
        lambda client, name: client.create_vector_name(name, "a/b", DENSE),
        lambda client, name: client.create_vector_name(
            name, "", models.DenseVectorNameConfig(dense=models.DenseVectorConfig(size=3, distance="Dot"))
        ),
        lambda client, name: client.create_vector_name(name, "", SPARSE),
        lambda client, name: client.create_vector_name(
            name, "x", models.DenseVectorNameConfig(dense=models.DenseVectorConfig(size=0, distance="Dot"))
        ),
        lambda client, name: client.delete_vector_name(name, ""),
        lambda client, name: client.update_collection(name, vectors_config={"none": models.VectorParamsDiff()}),
        lambda client, name: client.update_collection(
            name, sparse_vectors_config={"none": models.SparseVectorParams()}
        ),
    ],
)
def test_a_change_that_does_not_fit_is_refused(client: QdrantBase, name: str, change: Any) -> None:
    with pytest.raises(StoreError):
        call(lambda: change(client, name), what="change")

    assert client.retrieve(name, [1], with_vectors=True)[0].vector == [1.0, 2.0]


def test_vector_names_outlive_the_process(tmp_path: Path) -> None:
    with EdgeClient(tmp_path) as client:
        client.create_collection("c", {"a": DOT})
        client.create_vector_name("c", "text", SPARSE)
        client.delete_vector_name("c", "a")
        client.upsert("c", [models.PointStruct(id=1, vector={"text": WORDS})])

    with EdgeClient(tmp_path) as client:
        assert client.retrieve("c", [1], with_vectors=True)[0].vector == {"text": WORDS}
        assert client.get_collection("c").config.params.vectors == {}
        with pytest.raises(InvalidPoint, match="the collection has 'text'"):
            client.upsert("c", [models.PointStruct(id=2, vector={"a": [1.0, 2.0]})])


KILLED = """
import os, sys
from qdrant_client import models
from clip_qdrant.store.edge.client import EdgeClient
dense = lambda size: models.DenseVectorNameConfig(dense=models.DenseVectorConfig(size=size, distance="Dot"))
client = EdgeClient(sys.argv[1])
client.create_collection("c", models.VectorParams(size=2, distance="Dot"))
client.upsert("c", [models.PointStruct(id=1, vector=[1.0, 2.0])])
for size in (3, 4, 5):
    client.delete_vector_name("c", "new")
    client.create_vector_name("c", "new", dense(size))
    client.update_vectors("c", [models.PointVectors(id=1, vector={"new": [float(size)] * size})])
os._exit(9)
"""


def test_vector_names_outlive_a_process_that_is_killed(tmp_path: Path) -> None:
    assert run_fork(KILLED, tmp_path)[0] == 9

    for _ in range(2):
        with EdgeClient(tmp_path) as client:
            assert client.retrieve("c", [1], with_vectors=True)[0].vector == {"": [1.0, 2.0], "new": [5.0] * 5}


def test_what_is_left_of_a_name_that_was_not_written_down_is_no_hindrance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EdgeClient(tmp_path) as client:
        client.create_collection("c", DOT)
        monkeypatch.setattr("clip_qdrant.store.edge.files.catalog.CatalogFile.write", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            client.create_vector_name("c", "new", DENSE)
        monkeypatch.undo()

    with EdgeClient(tmp_path) as client:
        client.create_vector_name("c", "new", SPARSE)
        client.upsert("c", [models.PointStruct(id=1, vector={"new": WORDS})])
        assert client.retrieve("c", [1], with_vectors=True)[0].vector == {"new": WORDS}


def test_settings_change_as_far_as_they_are_given(edge_client: EdgeClient) -> None:
    binary = models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True))
    edge_client.create_collection(
        "c",
        {"a": DOT.model_copy(update={"hnsw_config": models.HnswConfigDiff(m=4)})},
        {"text": models.SparseVectorParams(modifier=models.Modifier.IDF)},
        hnsw_config=models.HnswConfigDiff(m=8, ef_construct=50),
        quantization_config=binary,
        metadata={"kept": 1},
    )
    edge_client.upsert("c", [models.PointStruct(id=1, vector={"a": [1.0, 2.0]})])
    changed = edge_client.update_collection(
        "c",
        models.OptimizersConfigDiff(indexing_threshold=5),
        models.CollectionParamsDiff(on_disk_payload=False),
        {"a": models.VectorParamsDiff(hnsw_config=models.HnswConfigDiff(ef_construct=9), on_disk=True)},
        models.HnswConfigDiff(ef_construct=60),
        models.Disabled.DISABLED,
        sparse_vectors_config={"text": models.SparseVectorParams(index=models.SparseIndexParams(on_disk=True))},
        strict_mode_config=models.StrictModeConfig(enabled=False),
        metadata={"new": 2},
    )

    config = edge_client.get_collection("c").config
    assert changed is True
    assert (config.hnsw_config.m, config.hnsw_config.ef_construct) == (8, 60)
    assert (config.optimizer_config.indexing_threshold, config.params.on_disk_payload) == (5, False)
    assert config.params.vectors["a"].hnsw_config == models.HnswConfigDiff(m=4, ef_construct=9)
    assert config.params.vectors["a"].on_disk is True
    assert config.quantization_config is None
    assert config.params.sparse_vectors["text"].modifier == models.Modifier.IDF
    assert config.params.sparse_vectors["text"].index.on_disk is True
    assert config.strict_mode_config.enabled is False
    assert config.metadata == {"kept": 1, "new": 2}
    assert edge_client.update_collection("c") is False
    assert edge_client.count("c").count == 1


@pytest.mark.parametrize(
    "options",
    [
        {"collection_params": models.CollectionParamsDiff(replication_factor=2)},
        {"sparse_vectors_config": {"text": models.SparseVectorParams(modifier=models.Modifier.IDF)}},
    ],
)
def test_a_setting_that_cannot_change_is_refused(edge_client: EdgeClient, options: dict[str, Any]) -> None:
    edge_client.create_collection("c", DOT, {"text": models.SparseVectorParams()})

    with pytest.raises(UnsupportedByEdge):
        edge_client.update_collection("c", **options)


def test_settings_of_a_missing_collection_do_not_change(edge_client: EdgeClient) -> None:
    with pytest.raises(CollectionNotFound):
        edge_client.create_vector_name("c", "new", DENSE)
    with pytest.raises(CollectionNotFound):
        edge_client.delete_vector_name("c", "new")
