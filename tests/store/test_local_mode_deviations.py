"""Where local mode does otherwise than EdgeClient and a server: each row of the table in docs/embedded.md, tried."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "embedded.md").read_text(encoding="utf-8")
REFUSED = "refused"
Call = Callable[[QdrantBase, str], Any]


def _make(client: QdrantBase, name: str, **params: Any) -> None:
    given = {"size": 2, "distance": models.Distance.DOT, **params}
    client.create_collection(name, vectors_config=models.VectorParams(**given))


def _add(client: QdrantBase, name: str, *payloads: dict[str, Any]) -> None:
    points = [models.PointStruct(id=i, vector=[1.0, float(i)], payload=one) for i, one in enumerate(payloads)]
    client.upsert(name, points, wait=True)


def _found(client: QdrantBase, name: str, key: str, match: Any) -> list[Any]:
    chosen = models.Filter(must=[models.FieldCondition(key=key, match=match)])
    return [point.id for point in client.scroll(name, chosen)[0]]


def stores_as(datatype: models.Datatype, distance: models.Distance, vector: list[float]) -> Call:
    def call(client: QdrantBase, name: str) -> Any:
        _make(client, name, datatype=datatype, distance=distance)
        client.upsert(name, [models.PointStruct(id=1, vector=vector)], wait=True)
        return [round(value, 3) for value in client.retrieve(name, [1], with_vectors=True)[0].vector]

    return call


def words_of_two_texts(client: QdrantBase, name: str) -> Any:
    _make(client, name)
    client.create_payload_index(name, "caption", models.TextIndexParams(type="text"), wait=True)
    _add(client, name, {"caption": ["red boat", "blue car"]})
    return _found(client, name, "caption", models.MatchText(text="red car"))


def phrase_without_positions(client: QdrantBase, name: str) -> Any:
    _make(client, name)
    client.create_payload_index(name, "caption", models.TextIndexParams(type="text"), wait=True)
    _add(client, name, {"caption": "a red boat"})
    return _found(client, name, "caption", models.MatchPhrase(phrase="red boat"))


def stemmed_word(client: QdrantBase, name: str) -> Any:
    _make(client, name)
    stemmer = models.SnowballParams(type="snowball", language="english")
    client.create_payload_index(name, "caption", models.TextIndexParams(type="text", stemmer=stemmer), wait=True)
    _add(client, name, {"caption": "boats run"})
    return _found(client, name, "caption", models.MatchText(text="boat running"))


def facet_without_index(client: QdrantBase, name: str) -> Any:
    _make(client, name)
    _add(client, name, {"album": "a"})
    return len(client.facet(name, "album").hits)


def order_without_index(client: QdrantBase, name: str) -> Any:
    _make(client, name)
    _add(client, name, {"year": 2020})
    return len(client.scroll(name, order_by="year")[0])


def id_that_is_none(client: QdrantBase, name: str) -> Any:
    _make(client, name)
    return len(client.retrieve(name, ["photo.jpg"]))


def id_below_zero(client: QdrantBase, name: str) -> Any:
    _make(client, name)
    client.upsert(name, [models.PointStruct(id=-1, vector=[1.0, 0.0])], wait=True)
    return client.count(name).count


def filter_as_a_dict(client: QdrantBase, name: str) -> Any:
    _make(client, name)
    _add(client, name, {"album": "a"})
    wanted: Any = {"must": [{"key": "album", "match": {"value": "a"}}]}
    return len(client.scroll(name, scroll_filter=wanted)[0])


def feedback_on_sparse_vectors(client: QdrantBase, name: str) -> Any:
    client.create_collection(name, vectors_config={}, sparse_vectors_config={"words": models.SparseVectorParams()})
    sparse = models.SparseVector(indices=[1], values=[1.0])
    client.upsert(name, [models.PointStruct(id=i, vector={"words": sparse}) for i in range(4)], wait=True)
    asked = models.RelevanceFeedbackInput(
        target=sparse,
        feedback=[models.FeedbackItem(example=0, score=0.9), models.FeedbackItem(example=1, score=0.1)],
        strategy=models.NaiveFeedbackStrategy(naive=models.NaiveFeedbackStrategyParams(a=1.0, b=0.5, c=0.5)),
    )
    return len(client.query_points(name, models.RelevanceFeedbackQuery(relevance_feedback=asked), using="words").points)


def query_of_one_number(client: QdrantBase, name: str) -> Any:
    _make(client, name, distance=models.Distance.EUCLID)
    _add(client, name, {})
    return len(client.query_points(name, [0.5]).points)


def except_another_type(client: QdrantBase, name: str) -> Any:
    _make(client, name)
    client.create_payload_index(name, "album", models.PayloadSchemaType.KEYWORD, wait=True)
    _add(client, name, {"album": 5})
    return _found(client, name, "album", models.MatchExcept(**{"except": ["a"]}))


def matrix_of_no_vector(client: QdrantBase, name: str) -> Any:
    _make(client, name)
    _add(client, name, {}, {})
    return len(client.search_matrix_pairs(name, using="nowhere").pairs)


def null_after_clearing(client: QdrantBase, name: str) -> Any:
    _make(client, name)
    _add(client, name, {"year": 2020})
    client.clear_payload(name, [0], wait=True)
    client.set_payload(name, {"album": None, "year": 2021}, [0], wait=True)
    return client.retrieve(name, [0])[0].payload


def sample_after_some(client: QdrantBase, name: str) -> Any:
    _make(client, name)
    _add(client, name, {}, {}, {})
    return len(client.query_points(name, models.SampleQuery(sample=models.Sample.RANDOM), limit=3, offset=2).points)


def idf_after_deleting(client: QdrantBase, name: str) -> Any:
    words = models.SparseVectorParams(modifier=models.Modifier.IDF)
    client.create_collection(name, vectors_config={}, sparse_vectors_config={"words": words})
    terms = [[1, 2], [1], [2], [2], [2]]
    points = [
        models.PointStruct(id=i, vector={"words": models.SparseVector(indices=some, values=[1.0] * len(some))})
        for i, some in enumerate(terms)
    ]
    client.upsert(name, points, wait=True)
    client.delete(name, [1], wait=True)
    found = client.query_points(name, models.SparseVector(indices=[1], values=[1.0]), using="words").points
    return round(found[0].score, 4)


# What is asked, what EdgeClient and a server answer, what local mode answers.
DEVIATIONS: dict[str, tuple[Call, Any, Any]] = {
    "`datatype` of a vector": (
        stores_as(models.Datatype.UINT8, models.Distance.DOT, [3.7, 2.2]),
        [3.0, 2.0],
        [3.7, 2.2],
    ),
    "cosine of `uint8` vectors": (
        stores_as(models.Datatype.UINT8, models.Distance.COSINE, [3.0, 4.0]),
        [3.0, 4.0],
        [0.6, 0.8],
    ),
    "`MatchText` on a list of texts that has a text index": (words_of_two_texts, [0], []),
    "`MatchPhrase` on a text index without `phrase_matching`": (phrase_without_positions, [], [0]),
    "stemmers and stop words of a text index": (stemmed_word, [0], []),
    "`facet` without a payload index": (facet_without_index, REFUSED, 1),
    "`order_by` without a payload index": (order_without_index, REFUSED, 1),
    "an id that is neither a number nor a UUID, when read": (id_that_is_none, REFUSED, 0),
    "a negative id": (id_below_zero, REFUSED, 1),
    "filters and other models written as dicts": (filter_as_a_dict, 1, REFUSED),
    "relevance feedback on sparse vectors": (feedback_on_sparse_vectors, 2, REFUSED),
    "the distance matrix of a vector that is not there": (matrix_of_no_vector, REFUSED, 0),
    "a query of a single number, by Euclidean distance": (query_of_one_number, REFUSED, 1),
    "`MatchExcept` on values that the payload index is not for": (except_another_type, [], [0]),
    "`set_payload` of a null after `clear_payload`": (
        null_after_clearing,
        {"album": None, "year": 2021},
        {"year": 2021},
    ),
    "the offset of a sample": (sample_after_some, 1, 3),
    "IDF after points were deleted": (idf_after_deleting, 0.8755, 1.204),
}


def _answer(call: Call, client: QdrantBase, name: str) -> Any:
    try:
        return call(client, name)
    except Exception:  # noqa: BLE001 - each client has its own errors
        return REFUSED


@pytest.mark.parametrize("what", DEVIATIONS)
def test_local_mode_does_otherwise_as_the_page_says(edge_client, memory_client, collection_name, what):
    call, ours, theirs = DEVIATIONS[what]

    assert _answer(call, edge_client, collection_name) == ours
    assert _answer(call, memory_client, collection_name) == theirs


@pytest.mark.parametrize("what", DEVIATIONS)
def test_a_server_does_as_the_embedded_store(server_client, collection_name, what):
    call, ours, _ = DEVIATIONS[what]

    assert _answer(call, server_client, collection_name) == ours


def test_the_page_has_each_deviation_and_no_other():
    section = TEXT.partition("## Where local mode does otherwise")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", section, re.MULTILINE)[1:]

    assert [row[0] for row in rows] == list(DEVIATIONS)
