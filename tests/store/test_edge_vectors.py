"""EdgeClient keeps vectors of every kind and name, and what a collection was configured with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from clip_qdrant.errors import InvalidPoint, StoreError
from clip_qdrant.store.calls import call
from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant.store.edge.files.folder import EdgeFolder
from clip_qdrant.store.edge.repair import repair_collection

DENSE = {
    "": models.VectorParams(size=2, distance=models.Distance.COSINE),
    "half": models.VectorParams(size=2, distance=models.Distance.DOT, datatype=models.Datatype.FLOAT16),
    "bytes": models.VectorParams(size=2, distance=models.Distance.EUCLID, datatype=models.Datatype.UINT8),
    "parts": models.VectorParams(
        size=2,
        distance=models.Distance.COSINE,
        multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
    ),
}
SPARSE = {"text": models.SparseVectorParams(modifier=models.Modifier.IDF)}
WHOLE: dict[str, Any] = {
    "": [3.0, 4.0],
    "half": [0.5, -2.0],
    "bytes": [7, 250],
    "parts": [[0.0, 2.0], [1.0, 0.0]],
    "text": models.SparseVector(indices=[9, 2], values=[1.5, 0.25]),
}
STORED: dict[str, Any] = {
    "": pytest.approx([0.6, 0.8]),
    "half": [0.5, -2.0],
    "bytes": [7.0, 250.0],
    "parts": [[0.0, 1.0], [1.0, 0.0]],
    "text": models.SparseVector(indices=[2, 9], values=[0.25, 1.5]),
}


def points() -> list[models.PointStruct]:
    return [
        models.PointStruct(id=1, vector=WHOLE, payload={"n": 1}),
        models.PointStruct(id=2, vector={"text": WHOLE["text"]}, payload={"n": 2}),
        models.PointStruct(id=3, vector={}, payload={"n": 3}),
        models.PointStruct(id=4, vector=[0.0, 5.0]),
    ]


def read(client: QdrantBase, name: str = "c") -> list[Any]:
    return [record.vector for record in client.scroll(name, with_vectors=True)[0]]


EXPECTED = [STORED, {"text": STORED["text"]}, {}, [0.0, 1.0]]


def test_vectors_of_every_kind_are_kept_and_survive_a_repair(tmp_path: Path) -> None:
    with EdgeClient(tmp_path) as client:
        client.create_collection("c", DENSE, SPARSE)
        client.upsert("c", points())
        assert read(client) == EXPECTED

    with EdgeClient(tmp_path) as client:
        assert read(client) == EXPECTED
    for segment in (tmp_path / "collections").glob("*/segments/*/mutable_id_tracker.versions"):
        segment.unlink()
    (tmp_path / "collections").glob("*.flushed").__next__().unlink()
    assert repair_collection(tmp_path, "c").kept == 4

    with EdgeClient(tmp_path) as client:
        assert read(client) == EXPECTED
    assert repair_collection(tmp_path, "c").damage is None


def test_a_batch_has_columns_of_vectors_by_name(client: QdrantBase, collection_name: str) -> None:
    client.create_collection(collection_name, {"a": DENSE["half"], "parts": DENSE["parts"]}, SPARSE)
    columns = {"a": [[1.0, 2.0], [3.0, 4.0]], "parts": [WHOLE["parts"]] * 2, "text": [WHOLE["text"]] * 2}
    client.upsert(collection_name, models.Batch(ids=[1, 2], vectors=columns, payloads=[{"n": 1}, {"n": 2}]))

    stored = {"a": [3.0, 4.0], "parts": STORED["parts"], "text": STORED["text"]}
    assert read(client, collection_name) == [{**stored, "a": [1.0, 2.0]}, stored]


def test_dicts_and_arrays_stand_for_models(edge_client: EdgeClient) -> None:
    edge_client.create_collection("c", {"a": {"size": 2, "distance": "Dot"}}, {"s": {"modifier": "idf"}})
    vector = {"a": np.array([1, 2], np.int64), "s": {"indices": np.array([4]), "values": np.array([0.5])}}
    edge_client.upsert("c", [models.PointStruct.model_construct(id=1, vector=vector, payload=None)])
    edge_client.create_collection("d", {"size": 2, "distance": "Dot"})

    assert read(edge_client) == [{"a": [1.0, 2.0], "s": models.SparseVector(indices=[4], values=[0.5])}]
    assert edge_client.get_collection("d").config.params.vectors == models.VectorParams(
        size=2, distance=models.Distance.DOT
    )


def test_a_collection_without_vectors_keeps_payloads(client: QdrantBase, collection_name: str) -> None:
    client.create_collection(collection_name)
    client.upsert(collection_name, [models.PointStruct(id=1, vector={}, payload={"a": 1})])

    assert client.get_collection(collection_name).config.params.vectors == {}
    [record] = client.scroll(collection_name, with_vectors=True)[0]
    assert (record.payload, record.vector) == ({"a": 1}, {})


@pytest.mark.parametrize(
    "bad",
    [
        {"none": [1.0, 2.0]},
        {"half": [1.0]},
        {"half": [1.0, 1e5]},
        {"half": [[1.0, 2.0]]},
        {"half": models.SparseVector(indices=[1], values=[1.0])},
        {"parts": [1.0, 2.0]},
        {"parts": []},
        {"parts": [[1.0, 2.0], [3.0]]},
        {"parts": [[1.0, float("nan")]]},
        {"text": [1.0, 2.0]},
        {"text": {"indices": [1, 1], "values": [1.0, 1.0]}},
        {"text": {"indices": [1, 2], "values": [1.0]}},
        {"text": {"indices": [-1], "values": [1.0]}},
        {"text": {"indices": [2**32], "values": [1.0]}},
        {"text": {"indices": [True], "values": [1.0]}},
        {"text": {"indices": [1], "values": [float("inf")]}},
        {"text": "a dog"},
        {"text": None},
    ],
)
def test_a_named_vector_that_does_not_fit_is_refused_and_nothing_is_written(
    edge_client: EdgeClient, bad: dict[str, Any]
) -> None:
    edge_client.create_collection("c", DENSE, SPARSE)
    good = models.PointStruct(id=1, vector=WHOLE)

    with pytest.raises(InvalidPoint, match="point 5"):
        edge_client.upsert("c", [good, models.PointStruct.model_construct(id=5, vector=bad, payload=None)])
    assert edge_client.count("c").count == 0


def test_columns_of_different_lengths_are_refused(edge_client: EdgeClient) -> None:
    edge_client.create_collection("c", {"a": DENSE["half"]})

    with pytest.raises(InvalidPoint, match="2 ids, 1 vectors 'a'"):
        edge_client.upsert("c", models.Batch.model_construct(ids=[1, 2], vectors={"a": [[1.0, 2.0]]}, payloads=None))


CONFIG: dict[str, Any] = {
    "vectors_config": {
        "a": models.VectorParams(
            size=4,
            distance=models.Distance.MANHATTAN,
            on_disk=True,
            hnsw_config=models.HnswConfigDiff(m=32),
            quantization_config=models.ScalarQuantization(
                scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.9)
            ),
        )
    },
    "sparse_vectors_config": {
        "text": models.SparseVectorParams(
            modifier=models.Modifier.IDF,
            index=models.SparseIndexParams(on_disk=True, datatype=models.Datatype.FLOAT16, full_scan_threshold=7),
        )
    },
    "on_disk_payload": False,
    "hnsw_config": models.HnswConfigDiff(ef_construct=77, payload_m=8),
    "optimizers_config": models.OptimizersConfigDiff(indexing_threshold=123, max_optimization_threads=2),
    "wal_config": models.WalConfigDiff(wal_capacity_mb=16),
    "quantization_config": models.BinaryQuantization(
        binary=models.BinaryQuantizationConfig(always_ram=True, encoding=models.BinaryQuantizationEncoding.TWO_BITS)
    ),
    "strict_mode_config": models.StrictModeConfig(enabled=True, max_query_limit=5),
    "metadata": {"kept": None, "a": {"b": [1]}},
    "payload": models.PayloadStorageParams(memory=models.Memory.CACHED),
    "id_tracker": models.IdTrackerParams(memory=models.Memory.COLD),
}


def test_a_collection_tells_all_that_it_was_configured_with(tmp_path: Path) -> None:
    with EdgeClient(tmp_path) as client:
        client.create_collection("c", **CONFIG)

    with EdgeClient(tmp_path) as client:
        config = client.get_collection("c").config
    assert config.params.vectors == CONFIG["vectors_config"]
    assert config.params.sparse_vectors == CONFIG["sparse_vectors_config"]
    assert (config.params.on_disk_payload, config.params.payload) == (False, CONFIG["payload"])
    assert config.params.id_tracker == CONFIG["id_tracker"]
    assert (config.hnsw_config.m, config.hnsw_config.ef_construct, config.hnsw_config.payload_m) == (16, 77, 8)
    assert config.optimizer_config.indexing_threshold == 123
    assert (config.optimizer_config.max_optimization_threads, config.optimizer_config.deleted_threshold) == (2, 0.2)
    assert (config.wal_config.wal_capacity_mb, config.wal_config.wal_segments_ahead) == (16, 0)
    assert config.quantization_config == CONFIG["quantization_config"]
    assert (config.strict_mode_config.enabled, config.strict_mode_config.max_query_limit) == (True, 5)
    assert config.metadata == CONFIG["metadata"]


@pytest.mark.parametrize(
    "quantization",
    [
        models.ProductQuantization(product=models.ProductQuantizationConfig(compression=models.CompressionRatio.X16)),
        models.TurboQuantization(turbo=models.TurboQuantQuantizationConfig(bits=models.TurboQuantBitSize.BITS1_5)),
        *[
            models.BinaryQuantization(binary=models.BinaryQuantizationConfig(encoding=one, query_encoding=other))
            for one in models.BinaryQuantizationEncoding
            for other in models.BinaryQuantizationQueryEncoding
        ][:3],
    ],
)
def test_every_quantization_makes_a_collection(edge_client: EdgeClient, quantization: Any) -> None:
    edge_client.create_collection("c", DENSE["half"].model_copy(update={"size": 64}), quantization_config=quantization)

    assert edge_client.get_collection("c").config.quantization_config == quantization


def test_what_a_caller_changes_later_in_its_models_changes_no_collection(edge_client: EdgeClient) -> None:
    params = models.VectorParams(size=2, distance=models.Distance.DOT)
    edge_client.create_collection("c", {"a": params})
    params.size = 3
    edge_client.get_collection("c").config.params.vectors["a"].size = 4

    assert edge_client.get_collection("c").config.params.vectors["a"].size == 2
    edge_client.upsert("c", [models.PointStruct(id=1, vector={"a": [1.0, 2.0]})])


@pytest.mark.parametrize("name", ["a/b", ".", "..", "x" * 201, "a\x00"])
def test_names_of_vectors_that_a_server_refuses_are_refused(
    client: QdrantBase, collection_name: str, name: str
) -> None:
    for use in (
        lambda: client.create_collection(collection_name, {name: DENSE["half"]}),
        lambda: client.create_collection(collection_name, {}, {name: SPARSE["text"]}),
    ):
        with pytest.raises(StoreError):
            call(use, what="create")


def test_damage_of_named_vectors_is_told(tmp_path: Path) -> None:
    with EdgeClient(tmp_path) as client:
        client.create_collection("c", DENSE, SPARSE)
        client.upsert("c", points())
    record = EdgeFolder(tmp_path)
    with record.hold_closed("c") as (_, path):
        kept = {name for name in ("half", "parts", "text") if list(path.glob(f"segments/*/vector_storage-{name}"))}
        [file] = path.glob("segments/*/vector_storage-text/store/page_0.dat")
        file.unlink()

    assert kept == {"half", "parts", "text"}
    with (
        EdgeClient(tmp_path) as client,
        pytest.raises(StoreError, match=r"vector_storage-text/store/page_0\.dat is"),
    ):
        client.count("c")
