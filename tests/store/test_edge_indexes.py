"""Payload indexes of an embedded store: every parameter is kept and told, and does what it says."""

from __future__ import annotations

import pytest
from qdrant_client import models

from clip_qdrant.errors import StoreError

DOT = models.VectorParams(size=2, distance=models.Distance.DOT)
TEXT = {"type": "text", "tokenizer": "word"}  # the engine tells its default
PARAMS = [
    models.KeywordIndexParams(type="keyword", prefix=True, is_tenant=True, memory="pinned"),
    models.IntegerIndexParams(type="integer", lookup=True, range=False),
    models.FloatIndexParams(type="float", on_disk=True, is_principal=True),
    models.DatetimeIndexParams(type="datetime", enable_hnsw=False),
    models.UuidIndexParams(type="uuid", is_tenant=True),
    models.GeoIndexParams(type="geo", on_disk=False),
    models.BoolIndexParams(type="bool", on_disk=True),
    models.TextIndexParams(
        **TEXT,
        stopwords=models.StopwordsSet(languages=["english", "french"], custom=["photo"]),
        stemmer=models.DisabledStemmerParams(type="none"),
        scoring=models.TextScoringParams(type="bm25"),
        ascii_folding=True,
        lowercase=False,
        min_token_len=2,
        max_token_len=9,
    ),
    models.TextIndexParams(
        **TEXT, stopwords="german", stemmer=models.SnowballParams(type="snowball", language="german")
    ),
]


@pytest.fixture
def photos(edge_client):
    edge_client.create_collection("photos", DOT)
    return edge_client


@pytest.mark.parametrize("params", PARAMS, ids=lambda params: params.type.value)
def test_an_index_is_told_as_it_was_asked_for(photos, params):
    photos.create_payload_index("photos", "field", params)
    photos.create_payload_index("photos", "field", params.model_dump(exclude_none=True))  # the same as a dict

    told = photos.get_collection("photos").payload_schema["field"]
    assert told.params == params
    assert told.data_type.value == params.type.value


def found(client, text):
    words = models.FieldCondition(key="caption", match=models.MatchText(text=text))
    return [point.id for point in client.scroll("photos", models.Filter(must=[words]))[0]]


def test_words_are_found_in_their_other_forms_with_a_stemmer_and_without_stop_words(photos):
    stemmer = models.SnowballParams(type="snowball", language="english")
    index = models.TextIndexParams(type="text", stemmer=stemmer, stopwords="english")
    photos.create_payload_index("photos", "caption", index)
    photos.upsert("photos", [models.PointStruct(id=1, vector=[1.0, 0.0], payload={"caption": "Boats running"})])

    assert found(photos, "the boat runs") == [1]
    assert found(photos, "the car runs") == []


@pytest.mark.parametrize("schema", ["nonsense", 5, None, {"type": "nonsense"}])
def test_what_is_no_index_is_refused_with_the_types_there_are(photos, schema):
    with pytest.raises(StoreError, match="is no type of payload index; there are keyword, integer"):
        photos.create_payload_index("photos", "field", schema)
