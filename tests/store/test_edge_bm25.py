"""Texts become sparse vectors in the embedded store as on a server, without any service: models.Document of BM25."""

from __future__ import annotations

from typing import Any

import pytest
from qdrant_client import models

from clip_qdrant.errors import InvalidPoint, UnsupportedByEdge
from clip_qdrant.store.edge.client import EdgeClient

TEXTS = ["A red boat on the sea", "The dogs are running", "a boat, a boat and a red car"]


def text(words: str, **options: Any) -> models.Document:
    return models.Document(text=words, model="Qdrant/bm25", options=options or None)


@pytest.fixture
def client(edge_client: EdgeClient) -> EdgeClient:
    words = models.SparseVectorParams(modifier=models.Modifier.IDF)
    edge_client.create_collection("c", {}, {"words": words, "plain": words})
    return edge_client


def test_texts_are_found_by_their_stemmed_words(client: EdgeClient) -> None:
    points = [models.PointStruct(id=i, vector={"words": text(one)}) for i, one in enumerate(TEXTS)]
    client.upsert("c", points)

    def find(words: str) -> list[Any]:
        return [one.id for one in client.query_points("c", text(words), using="words").points]

    assert find("a dog ran away") == [1]
    assert find("boats") == [2, 0]
    assert find("the") == []
    client.update_vectors("c", [models.PointVectors(id=1, vector={"words": text("a boat")})])
    assert find("dog") == []


def test_options_of_the_model_count(client: EdgeClient) -> None:
    raw = {"language": "german", "stopwords": {"custom": ["boot"]}, "lowercase": False}
    client.upsert("c", [models.PointStruct(id=1, vector={"plain": text("Boot und boot", **raw)})])

    vector = client.retrieve("c", [1], with_vectors=True)[0].vector["plain"]
    assert len(vector.indices) == 2


@pytest.mark.parametrize("options", [{"nothing": 1}, {"language": "klingon"}, {"b": 7.0}])
def test_wrong_options_name_the_point(client: EdgeClient, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidPoint, match="point 3: the options of qdrant/bm25 are wrong"):
        client.upsert("c", [models.PointStruct(id=3, vector={"words": text("a", **options)})])


def test_another_model_is_refused(client: EdgeClient) -> None:
    other = models.Document(text="a", model="jina")
    with pytest.raises(UnsupportedByEdge, match=r"inference of vectors .*'jina'"):
        client.upsert("c", [models.PointStruct(id=3, vector={"words": other})])
