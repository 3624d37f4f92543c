"""Collections of other programs: any payload, any names of vectors, numbers for ids, and what nobody can check."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from fakes import solid_image
from mcp.types import ImageContent
from mcp_calls import call_tool, error_of, text_of
from mcp_store import Shelf
from qdrant_client import QdrantClient, models

from clip_qdrant.integrations.mcp.catalog import CollectionCatalog
from clip_qdrant.integrations.mcp.server import create_server

ACME = {"must": [{"key": "product.brand", "match": {"value": "Acme"}}]}


def ids(result: Any) -> list[str]:
    return [hit["id"] for hit in result.structured_content["hits"]]


def test_a_collection_of_another_program_is_searched_with_a_note_of_what_is_not_known(shelf: Shelf) -> None:
    result = call_tool(shelf.server, "search_images", query="blue", collection="shoes", limit=2)

    assert ids(result)[0] == "3"
    [note] = result.structured_content["notes"]
    assert "nothing tells whether this model made it" in note
    assert note in text_of(result)


def test_its_payload_is_shown_whatever_it_holds_and_never_mixed_with_ours(shelf: Shelf) -> None:
    result = call_tool(shelf.server, "search_images", query="blue", collection="shoes", limit=1)

    [hit] = result.structured_content["hits"]
    assert (hit["id"], hit["payload"]["id"]) == ("3", "their own id")
    assert hit["payload"]["product"] == {"brand": "Acme", "sizes": [40, 41]}
    assert len(hit["payload"]["blob"]) < 600
    assert "a blue shoe" in text_of(result)
    assert "1. blue.png" in text_of(result)
    assert any(isinstance(block, ImageContent) for block in result.content)


def test_a_filter_of_qdrant_narrows_it_and_our_own_language_is_refused(shelf: Shelf) -> None:
    found = call_tool(shelf.server, "search_images", query="yellow", collection="shoes", filter=ACME)

    assert sorted(ids(found)) == ["1", "2", "3"]
    for name, value in {"where": "a = 1", "words": "a", "order_by": "title", "min_relevance": "auto"}.items():
        told = error_of(shelf.server, "search_images", collection="shoes", query="red", **{name: value})
        assert f"{name} works in collections of clip_qdrant" in told


def test_similar_images_are_found_by_its_ids_and_by_an_image(shelf: Shelf) -> None:
    assert ids(call_tool(shelf.server, "similar_images", image="1", collection="shoes", limit=1)) == ["4"]
    given = f"data:image/png;base64,{base64.b64encode((shelf.folder / 'green.png').read_bytes()).decode()}"
    assert ids(call_tool(shelf.server, "similar_images", image=given, collection="shoes", limit=1)) == ["2"]
    assert "no image '99'" in error_of(shelf.server, "similar_images", image="99", collection="shoes")
    assert "is no point id" in error_of(shelf.server, "similar_images", image="red.png", collection="shoes")


def test_all_of_it_is_listed_page_by_page_without_a_query(shelf: Shelf) -> None:
    first = call_tool(shelf.server, "search_images", collection="shoes", limit=3)
    second = call_tool(shelf.server, "search_images", collection="shoes", limit=3, offset=3)

    assert sorted(ids(first) + ids(second)) == ["1", "2", "3", "4"]


def test_it_is_described_by_what_its_points_have(shelf: Shelf) -> None:
    result = call_tool(shelf.server, "describe_collection", collection="shoes")

    described = result.structured_content
    assert (described["images"], described["vector"]) == (4, "image")
    brand = described["fields"]["product.brand"]
    assert (brand["type"], brand["indexed"]) == ("keyword", True)
    assert brand["values"] == [{"value": "Acme", "count": 3}, {"value": "Other", "count": 1}]
    assert described["fields"]["product.sizes"]["type"] == "list of integer"
    assert "values" not in described["fields"]["title"]  # each is another one


def test_its_values_are_counted_by_an_index_and_without_one(shelf: Shelf) -> None:
    names = ["product.brand", "product.sizes"]
    counted = call_tool(shelf.server, "facets", fields=names, collection="shoes", filter=ACME)

    fields = counted.structured_content["fields"]
    assert fields["product.brand"]["values"] == [{"value": "Acme", "count": 3}]
    assert fields["product.sizes"]["values"] == [{"value": 40, "count": 3}, {"value": 41, "count": 3}]
    assert "describe_collection lists" in error_of(shelf.server, "facets", fields=["nope"], collection="shoes")
    assert "by period" in error_of(shelf.server, "facets", fields=["title"], collection="shoes", by="year")


def test_where_scores_are_distances_it_says_so(shelf: Shelf) -> None:
    client = QdrantClient(":memory:")
    client.create_collection("far", models.VectorParams(size=16, distance=models.Distance.EUCLID))
    vectors = shelf.embedder.embed_texts(["red", "blue"])
    client.upsert("far", [models.PointStruct(id=at, vector=row.tolist()) for at, row in enumerate(vectors)])
    server = create_server(CollectionCatalog(client, shelf.embedder, default="far"))

    result = call_tool(server, "search_images", query="blue")

    assert ids(result) == ["1", "0"]
    assert "distances (Euclid): the least is the best" in text_of(result)
    client.close()


PAYLOADS: list[dict[str, Any]] = [
    {},
    {"url": "https://shop.example/red.jpg", "text": "a red thing"},
    {"page_content": "of LangChain", "metadata": {"source": "s3://bucket/cat.jpg", "tags": ["a", "b"]}},
    {"path": "relative/cat.jpg", "location": "Berlin", "metadata": "a text", "image": {"tags": 3}, "taken_at": 7},
    {"image": "data:image/png;base64,AAAA", "score": "theirs", "path": None, "vector": [0.1] * 500},
]


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: ", ".join(payload) or "none")
def test_any_payload_is_told_of(shelf: Shelf, payload: dict[str, Any]) -> None:
    client = QdrantClient(":memory:")
    client.create_collection("any", models.VectorParams(size=16, distance=models.Distance.DOT))
    point = "5c56c793-69f3-4fbf-87e6-c4bf54c28c26"
    client.upsert("any", [models.PointStruct(id=point, vector=[0.25] * 16, payload=payload)])
    server = create_server(CollectionCatalog(client, shelf.embedder, default="any"))

    for tool, arguments in (
        ("search_images", {"query": "red"}),
        ("describe_image", {"image": point}),
        ("describe_collection", {}),
    ):
        result = call_tool(server, tool, **arguments)
        assert not result.is_error, text_of(result)
        assert tool == "describe_collection" or result.structured_content["hits"][0]["id"] == point
    client.close()


def test_an_image_inside_a_payload_is_shown_and_one_on_the_web_is_not_fetched(shelf: Shelf) -> None:
    file = shelf.folder / "inside.png"
    solid_image("cyan").save(file)
    inside = f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"
    client = QdrantClient(":memory:")
    client.create_collection("any", models.VectorParams(size=16, distance=models.Distance.COSINE))
    urls = [inside, "http://127.0.0.1:9/cat.png"]
    points = [models.PointStruct(id=at, vector=[1.0] * 16, payload={"url": url}) for at, url in enumerate(urls)]
    client.upsert("any", points)
    server = create_server(CollectionCatalog(client, shelf.embedder, default="any"))

    pictures = {
        at: [block for block in call_tool(server, "describe_image", image=str(at)).content if block.type == "image"]
        for at in range(2)
    }

    assert (len(pictures[0]), len(pictures[1])) == (1, 0)
    client.close()
