"""One call for each method of QdrantBase, kind of query, condition and option: what docs/embedded.md has a row for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from qdrant_client import QdrantClient, models
from qdrant_client.client_base import QdrantBase

from clip_qdrant.errors import UnsupportedByEdge

__all__ = ["CLUSTER", "CONDITIONS", "INDEXES", "METHODS", "OPTIONS", "QUERIES", "can", "make_photos"]

Call = Callable[[QdrantBase, str], Any]
COSINE = models.VectorParams(size=4, distance=models.Distance.COSINE)
SPARSE = models.SparseVector(indices=[1, 3], values=[1.0, 0.5])
VECTOR = [0.1, 0.2, 0.3, 0.4]


def make_photos(client: QdrantBase, name: str) -> None:
    """A collection with every kind of vector, five points and a payload index on each field that wants one."""
    several = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    client.create_collection(
        name,
        vectors_config={
            "image": COSINE,
            "patches": models.VectorParams(size=4, distance=models.Distance.DOT, multivector_config=several),
        },
        sparse_vectors_config={"words": models.SparseVectorParams(modifier=models.Modifier.IDF)},
    )
    for key, kind in {"album": "keyword", "year": "integer", "taken": "datetime", "place": "geo"}.items():
        client.create_payload_index(name, key, models.PayloadSchemaType(kind))
    client.create_payload_index(name, "text", models.TextIndexParams(type="text", scoring=True))
    points = [
        models.PointStruct(
            id=number,
            vector={"image": [1.0, number, 0.5, 0.1], "patches": [VECTOR, [number, 0, 1.0, 0]], "words": SPARSE},
            payload={
                "album": "ab"[number % 2],
                "year": 2020 + number,
                "taken": f"202{number}-01-01T00:00:00Z",
                "place": {"lat": 50.0 + number, "lon": 10.0},
                "text": "a red boat",
                "boxes": [{"label": "boat", "size": number}],
            },
        )
        for number in range(1, 6)
    ]
    client.upsert(name, points)


def can(call: Call, client: QdrantBase, name: str) -> str:
    """Whether a client does what is asked: yes, no or ignored. It must say itself that it does not."""
    try:
        return "ignored" if call(client, name) is False else "yes"
    except (UnsupportedByEdge, NotImplementedError):
        return "no"


def _query(query: Any, **options: Any) -> Call:
    return lambda client, name: client.query_points(name, query=query, **options)


def _image(query: Any) -> Call:
    return _query(query, using="image")


def _prefetched(query: Any) -> Call:
    return _query(
        query, prefetch=[models.Prefetch(query=VECTOR, using="image"), models.Prefetch(query=SPARSE, using="words")]
    )


def _recommend(strategy: str) -> Call:
    asked = models.RecommendInput(positive=[1], negative=[2], strategy=models.RecommendStrategy(strategy))
    return _image(models.RecommendQuery(recommend=asked))


_PAIR = models.ContextPair(positive=1, negative=2)
_FEEDBACK = models.RelevanceFeedbackInput(
    target=VECTOR,
    feedback=[models.FeedbackItem(example=1, score=0.9), models.FeedbackItem(example=2, score=0.1)],
    strategy=models.NaiveFeedbackStrategy(naive=models.NaiveFeedbackStrategyParams(a=1.0, b=0.5, c=0.5)),
)

# By the classes of models.Query, and what else a query may be.
QUERIES: dict[str, Call] = {
    "dense vector": _image(VECTOR),
    "sparse vector (with IDF)": _query(SPARSE, using="words"),
    "multivector": _query([VECTOR, VECTOR], using="patches"),
    "numpy array": _image(np.array(VECTOR)),
    "id of a point": _image(1),
    "id of a point of another collection (lookup_from)": lambda client, name: client.query_points(
        name, query=1, using="image", lookup_from=models.LookupLocation(collection=name, vector="image")
    ),
    "NearestQuery": _image(models.NearestQuery(nearest=VECTOR)),
    "NearestQuery with Mmr": _image(models.NearestQuery(nearest=VECTOR, mmr=models.Mmr(diversity=0.5))),
    "RecommendQuery, average_vector": _recommend("average_vector"),
    "RecommendQuery, best_score": _recommend("best_score"),
    "RecommendQuery, sum_scores": _recommend("sum_scores"),
    "DiscoverQuery": _image(models.DiscoverQuery(discover=models.DiscoverInput(target=VECTOR, context=_PAIR))),
    "ContextQuery": _image(models.ContextQuery(context=_PAIR)),
    "RelevanceFeedbackQuery": _image(models.RelevanceFeedbackQuery(relevance_feedback=_FEEDBACK)),
    "OrderByQuery": _query(models.OrderByQuery(order_by="year")),
    "SampleQuery": _query(models.SampleQuery(sample=models.Sample.RANDOM)),
    "FusionQuery, rrf": _prefetched(models.FusionQuery(fusion=models.Fusion.RRF)),
    "FusionQuery, dbsf": _prefetched(models.FusionQuery(fusion=models.Fusion.DBSF)),
    "RrfQuery, k and weights": _prefetched(models.RrfQuery(rrf=models.Rrf(k=60, weights=[2.0, 1.0]))),
    "FormulaQuery": _prefetched(models.FormulaQuery(formula=models.SumExpression(sum=["$score", 1.0]))),
    "TextQuery (BM25)": _query(models.TextQuery(text="red boat"), using="text"),
    "prefetch of prefetches": _query(
        VECTOR,
        using="image",
        prefetch=models.Prefetch(prefetch=models.Prefetch(query=SPARSE, using="words"), query=1, using="image"),
    ),
}


def _filter(*conditions: Any) -> Call:
    return lambda client, name: client.scroll(name, models.Filter(must=list(conditions)))


def _field(key: str, **condition: Any) -> Call:
    return _filter(models.FieldCondition(key=key, **condition))


_POINT = models.GeoPoint(lat=51.0, lon=10.0)
_RING = models.GeoLineString(
    points=[models.GeoPoint(lat=lat, lon=lon) for lat, lon in ((50, 9), (50, 11), (53, 11), (53, 9), (50, 9))]
)

CONDITIONS: dict[str, Call] = {
    "MatchValue, MatchAny, MatchExcept": _filter(
        models.FieldCondition(key="album", match=models.MatchAny(any=["a"])),
        models.FieldCondition(key="album", match=models.MatchValue(value="a")),
        models.FieldCondition(key="album", match=models.MatchExcept(**{"except": ["b"]})),
    ),
    "MatchText, MatchTextAny, MatchPhrase": _filter(
        models.FieldCondition(key="text", match=models.MatchText(text="boat")),
        models.FieldCondition(key="text", match=models.MatchTextAny(text_any="boat")),
        models.FieldCondition(key="text", match=models.MatchPhrase(phrase="red boat")),
    ),
    "MatchPrefix, MatchSubstring": _filter(
        models.FieldCondition(key="album", match=models.MatchPrefix(prefix="a")),
        models.FieldCondition(key="album", match=models.MatchSubstring(substring="a")),
    ),
    "Range, DatetimeRange": _filter(
        models.FieldCondition(key="year", range=models.Range(gte=2021)),
        models.FieldCondition(key="taken", range=models.DatetimeRange(gte="2021-01-01T00:00:00Z")),
    ),
    "GeoBoundingBox, GeoRadius, GeoPolygon": _filter(
        models.FieldCondition(key="place", geo_radius=models.GeoRadius(center=_POINT, radius=1000.0)),
        models.FieldCondition(key="place", geo_polygon=models.GeoPolygon(exterior=_RING)),
    ),
    "ValuesCount, IsEmpty, IsNull": _filter(
        models.FieldCondition(key="boxes", values_count=models.ValuesCount(gte=1)),
        models.IsEmptyCondition(is_empty=models.PayloadField(key="nowhere")),
        models.IsNullCondition(is_null=models.PayloadField(key="album")),
    ),
    "HasId, HasVector": _filter(models.HasIdCondition(has_id=[1]), models.HasVectorCondition(has_vector="image")),
    "Slice": _filter(models.SliceCondition(slice=models.Slice(total=2, index=0))),
    "Nested": _filter(
        models.NestedCondition(
            nested=models.Nested(
                key="boxes",
                filter=models.Filter(must=[models.FieldCondition(key="size", range=models.Range(gte=2))]),
            )
        )
    ),
    "MinShould": lambda client, name: client.scroll(
        name, models.Filter(min_should=models.MinShould(conditions=[models.HasIdCondition(has_id=[1])], min_count=1))
    ),
}


def _index(schema: Any) -> Call:
    def make(client: QdrantBase, name: str) -> bool:
        client.create_payload_index(name, "made", schema)
        return "made" in client.get_collection(name).payload_schema

    return make


def _ranked_text(client: QdrantBase, name: str) -> bool:
    client.create_payload_index(name, "text", models.TextIndexParams(type="text", scoring=True))
    return bool(client.query_points(name, query=models.TextQuery(text="boat"), using="text").points)


# These give whether what was asked for is there afterwards: some stores take it, and do nothing.
INDEXES: dict[str, Call] = {
    **{
        kind: _index(models.PayloadSchemaType(kind))
        for kind in ("keyword", "integer", "float", "bool", "datetime", "uuid", "geo")
    },
    "keyword with prefix": _index(models.KeywordIndexParams(type="keyword", prefix=True)),
    "text with phrases": _index(models.TextIndexParams(type="text", phrase_matching=True)),
    "text with scoring (BM25)": _ranked_text,
    "text with a stemmer": _index(
        models.TextIndexParams(type="text", stemmer=models.SnowballParams(type="snowball", language="english"))
    ),
    "text with stop words": _index(models.TextIndexParams(type="text", stopwords=models.Language.ENGLISH)),
}


def _collection(there: Callable[[models.CollectionConfig], Any], **options: Any) -> Call:
    def make(client: QdrantBase, name: str) -> bool:
        client.create_collection(f"{name}_made", **{"vectors_config": COSINE, **options})
        return bool(there(client.get_collection(f"{name}_made").config))

    return make


def _vector(there: Callable[[models.QueryResponse], Any], stored: list[float], **params: Any) -> Call:
    """Whether a vector comes back as one of that type does."""

    def make(client: QdrantBase, name: str) -> bool:
        client.create_collection(f"{name}_made", models.VectorParams(size=4, distance=models.Distance.DOT, **params))
        client.upsert(f"{name}_made", [models.PointStruct(id=1, vector=stored)])
        return bool(there(client.retrieve(f"{name}_made", [1], with_vectors=True)[0].vector))

    return make


def _params(**options: Any) -> Call:
    return _query(VECTOR, using="image", search_params=models.SearchParams(**options))


def _part_idf(client: QdrantBase, name: str) -> bool:
    """The term is in each of the five points, and in the one of this part: that changes its weight."""
    part = models.IdfCorpusParams(corpus=models.Filter(must=[models.HasIdCondition(has_id=[1])]))
    scores = [
        client.query_points(name, query=SPARSE, using="words", search_params=params).points[0].score
        for params in (None, models.SearchParams(idf=part))
    ]
    return scores[0] != scores[1]


def _upsert_some(client: QdrantBase, name: str) -> bool:
    points = [models.PointStruct(id=number, vector={"image": VECTOR}) for number in (1, 2, 77)]
    only = models.Filter(must=[models.HasIdCondition(has_id=[1])])
    client.upsert(name, points, update_filter=only, update_mode=models.UpdateMode.UPDATE_ONLY)
    return [bool(one.payload) for one in client.retrieve(name, [1, 2, 77])] == [False, True]


def _shard_key(client: QdrantBase, name: str) -> bool:
    return client.count(name, shard_key_selector="eu").count == 0


_INT8 = models.ScalarQuantization(scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8))

OPTIONS: dict[str, Call] = {
    "search: exact, hnsw_ef, indexed_only": _params(exact=False, hnsw_ef=64, indexed_only=False),
    "search: quantization (rescore, oversampling)": _params(
        quantization=models.QuantizationSearchParams(rescore=True, oversampling=2.0)
    ),
    "search: acorn": _params(acorn=models.AcornSearchParams(enable=True)),
    "search: idf of a part of the collection": _part_idf,
    "vectors: float16": _vector(
        lambda vector: vector[0] != 0.1 and abs(vector[0] - 0.1) > 1e-5, VECTOR, datatype="float16"
    ),
    "vectors: uint8": _vector(lambda vector: vector == [3.0, 2.0, 1.0, 0.0], [3.7, 2.2, 1.1, 0.4], datatype="uint8"),
    "vectors: turbo4, turbo8, turbo16": _vector(lambda vector: abs(vector[0] - 0.1) > 1e-7, VECTOR, datatype="turbo4"),
    "vectors: on_disk": _collection(
        lambda config: config.params.vectors.on_disk,
        vectors_config=models.VectorParams(size=4, distance=models.Distance.DOT, on_disk=True),
    ),
    "collection: hnsw_config": _collection(
        lambda config: config.hnsw_config.m == 32, hnsw_config=models.HnswConfigDiff(m=32)
    ),
    "collection: quantization_config": _collection(
        lambda config: config.quantization_config, quantization_config=_INT8
    ),
    "collection: on_disk_payload": _collection(
        lambda config: config.params.on_disk_payload is False, on_disk_payload=False
    ),
    "collection: metadata": _collection(lambda config: config.metadata == {"a": 1}, metadata={"a": 1}),
    "collection: shard_number above 1": _collection(lambda config: config.params.shard_number == 2, shard_number=2),
    "upsert: update_filter, update_mode": _upsert_some,
    "shard_key_selector": _shard_key,
}


@contextmanager
def _another(client: QdrantBase) -> Iterator[QdrantBase]:
    other = QdrantClient(":memory:")
    try:
        yield other
    finally:
        other.close()


def _migrate(client: QdrantBase, name: str) -> None:
    with _another(client) as other:
        client.migrate(other, [name])


_ALIAS = models.CreateAlias
_SELECTED = models.Filter(must=[models.HasIdCondition(has_id=[1])])
_POINTS = [models.PointStruct(id=9, vector={"image": VECTOR}, payload={"year": 2030})]

METHODS: dict[str, Call] = {
    "search_matrix_offsets": lambda client, name: client.search_matrix_offsets(name, using="image"),
    "search_matrix_pairs": lambda client, name: client.search_matrix_pairs(name, using="image"),
    "query_batch_points": lambda client, name: client.query_batch_points(
        name, [models.QueryRequest(query=VECTOR, using="image")]
    ),
    "query_points": _image(VECTOR),
    "query_points_groups": lambda client, name: client.query_points_groups(name, "album", VECTOR, "image"),
    "scroll": lambda client, name: client.scroll(name, order_by="year"),
    "count": lambda client, name: client.count(name),
    "facet": lambda client, name: client.facet(name, "album"),
    "upsert": lambda client, name: client.upsert(name, _POINTS),
    "update_vectors": lambda client, name: client.update_vectors(
        name, [models.PointVectors(id=1, vector={"image": VECTOR})]
    ),
    "delete_vectors": lambda client, name: client.delete_vectors(name, ["image"], [1]),
    "retrieve": lambda client, name: client.retrieve(name, [1], with_vectors=["image"]),
    "delete": lambda client, name: client.delete(name, [1]),
    "set_payload": lambda client, name: client.set_payload(name, {"a": 1}, [1], key="deep"),
    "overwrite_payload": lambda client, name: client.overwrite_payload(name, {"a": 1}, [1]),
    "delete_payload": lambda client, name: client.delete_payload(name, ["album"], _SELECTED),
    "clear_payload": lambda client, name: client.clear_payload(name, [1]),
    "batch_update_points": lambda client, name: client.batch_update_points(
        name, [models.UpsertOperation(upsert=models.PointsList(points=_POINTS))]
    ),
    "update_collection_aliases": lambda client, name: client.update_collection_aliases(
        [models.CreateAliasOperation(create_alias=_ALIAS(collection_name=name, alias_name=f"{name}_alias"))]
    ),
    "get_collection_aliases": lambda client, name: client.get_collection_aliases(name),
    "get_aliases": lambda client, name: client.get_aliases(),
    "get_collections": lambda client, name: client.get_collections(),
    "get_collection": lambda client, name: client.get_collection(name),
    "collection_exists": lambda client, name: client.collection_exists(name),
    "update_collection": lambda client, name: client.update_collection(name, metadata={"a": 1}),
    "delete_collection": lambda client, name: client.delete_collection(name),
    "create_collection": _collection(lambda config: config.params.vectors.size == 4),
    "recreate_collection": lambda client, name: client.recreate_collection(f"{name}_made", vectors_config=COSINE),
    "upload_points": lambda client, name: client.upload_points(name, _POINTS, wait=True),
    "upload_collection": lambda client, name: client.upload_collection(name, {"image": np.array([VECTOR])}, ids=[9]),
    "create_payload_index": _index(models.PayloadSchemaType.KEYWORD),
    "delete_payload_index": lambda client, name: client.delete_payload_index(name, "album"),
    "create_vector_name": lambda client, name: client.create_vector_name(
        name, "made", models.SparseVectorNameConfig(sparse=models.SparseVectorConfig())
    ),
    "delete_vector_name": lambda client, name: client.delete_vector_name(name, "words"),
    "migrate": _migrate,
    # A list that is always empty is none: a snapshot is made first.
    "list_snapshots": lambda client, name: [client.create_snapshot(name), client.list_snapshots(name)],
    "create_snapshot": lambda client, name: client.create_snapshot(name),
    "delete_snapshot": lambda client, name: client.delete_snapshot(name, "nowhere"),
    "list_full_snapshots": lambda client, name: [client.create_full_snapshot(), client.list_full_snapshots()],
    "create_full_snapshot": lambda client, name: client.create_full_snapshot(),
    "delete_full_snapshot": lambda client, name: client.delete_full_snapshot("nowhere"),
    "recover_snapshot": lambda client, name: client.recover_snapshot(name, "file:///nowhere"),
    "list_shard_snapshots": lambda client, name: [
        client.create_shard_snapshot(name, 0),
        client.list_shard_snapshots(name, 0),
    ],
    "create_shard_snapshot": lambda client, name: client.create_shard_snapshot(name, 0),
    "delete_shard_snapshot": lambda client, name: client.delete_shard_snapshot(name, 0, "nowhere"),
    "recover_shard_snapshot": lambda client, name: client.recover_shard_snapshot(name, 0, "file:///nowhere"),
    "create_shard_key": lambda client, name: client.create_shard_key(name, "eu"),
    "delete_shard_key": lambda client, name: client.delete_shard_key(name, "eu"),
    "list_shard_keys": lambda client, name: client.list_shard_keys(name),
    "cluster_collection_update": lambda client, name: client.cluster_collection_update(
        name, models.DropReplicaOperation(drop_replica=models.Replica(shard_id=0, peer_id=1))
    ),
    "collection_cluster_info": lambda client, name: client.collection_cluster_info(name),
    "cluster_status": lambda client, name: client.cluster_status(),
    "cluster_telemetry": lambda client, name: client.cluster_telemetry(),
    "recover_current_peer": lambda client, name: client.recover_current_peer(),
    "remove_peer": lambda client, name: client.remove_peer(1),
    "get_optimizations": lambda client, name: client.get_optimizations(name),
    "info": lambda client, name: client.info(),
    "close": lambda client, name: client.close(),
}
# What a server does with these depends on how it runs: alone or in a cluster, with what rights and files.
CLUSTER = {name for name in METHODS if "snapshot" in name or "shard_key" in name or "peer" in name or "cluster" in name}
