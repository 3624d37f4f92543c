"""The tools that search: what a model reads, what a program reads, and the pictures, by the official client."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
from collections.abc import Sequence
from typing import Any

import pytest
from mcp import Client
from mcp.types import ImageContent, TextContent
from mcp_calls import call_tool, error_of, text_of
from mcp_store import Shelf
from PIL import Image
from qdrant_client import QdrantClient, models

from clip_qdrant import Hit, ImageCollection
from clip_qdrant.integrations.mcp.catalog import CollectionCatalog
from clip_qdrant.integrations.mcp.server import create_server
from clip_qdrant.integrations.payloads import text_uri
from clip_qdrant.pages.thumbnails import make_thumbnail
from clip_qdrant.records import ImageRecord


def captions(result: Any) -> list[str]:
    return [hit["caption"] for hit in result.structured_content["hits"]]


def test_every_tool_is_listed_as_one_that_only_reads_with_a_schema_of_what_it_answers(shelf: Shelf) -> None:
    async def list_tools() -> Any:
        async with Client(shelf.server) as client:
            return (await client.list_tools()).tools

    tools = {tool.name: tool for tool in asyncio.run(list_tools())}

    assert sorted(tools) == [
        *("describe_collection", "describe_image", "facets", "list_collections", "search_images", "similar_images")
    ]
    assert all(tool.annotations.read_only_hint and not tool.annotations.destructive_hint for tool in tools.values())
    assert all(tool.description and tool.output_schema for tool in tools.values())
    described = tools["search_images"].input_schema["properties"]
    assert all("description" in described[name] for name in described)


def test_a_search_answers_with_text_json_and_a_picture_behind_the_text_about_each_image(shelf: Shelf) -> None:
    result = call_tool(shelf.server, "search_images", query="red", limit=3, pictures=2)

    assert [type(block) for block in result.content] == [
        *(TextContent, ImageContent, TextContent, ImageContent, TextContent)
    ]
    first = result.content[0]
    assert isinstance(first, TextContent)
    assert first.text.splitlines()[:3] == [
        "red, in collection photos",
        "1. red.png, score 1.000",
        "all red, seen by Ada",
    ]
    assert "album warm" in first.text
    assert captions(result)[0] == "all red, seen by Ada"
    assert len(captions(result)) == 3


def test_a_picture_is_a_small_jpeg_of_the_image(shelf: Shelf) -> None:
    result = call_tool(shelf.server, "search_images", query="blue", limit=1)

    picture = result.content[1]
    assert isinstance(picture, ImageContent)
    assert picture.mime_type == "image/jpeg"
    image = Image.open(io.BytesIO(base64.b64decode(picture.data)))
    assert image.format == "JPEG"
    assert max(image.size) <= 256
    red, green, blue = image.convert("RGB").getpixel((0, 0))  # type: ignore[misc]
    assert blue > 200 > 50 > max(red, green)


def test_pictures_of_images_that_are_no_files_come_from_who_can_read_them(shelf: Shelf) -> None:
    asked: list[str] = []
    sides: list[int] = []

    def preview(hits: Sequence[Hit], side: int) -> dict[str, str]:
        asked.extend(hit.uri for hit in hits)
        sides.append(side)
        url = make_thumbnail(shelf.folder / "red.png", side=side)
        return {"s3://bucket/red.png": str(url)}

    client = QdrantClient(":memory:")
    images = ImageCollection("photos", shelf.embedder, client)
    names = ["s3://bucket/red.png", "s3://bucket/gone.png", (shelf.folder / "blue.png").as_uri()]
    images.add([shelf.folder / f"{name}.png" for name in ("red", "green", "blue")], uris=names)
    server = create_server(CollectionCatalog(client, shelf.embedder, default="photos"), previews=preview)

    result = call_tool(server, "search_images", query="red")

    assert sorted(asked) == ["s3://bucket/gone.png", "s3://bucket/red.png"]
    assert [block.type for block in result.content].count("image") == 2
    assert "in s3://bucket, id" in text_of(result)
    assert call_tool(server, "describe_image", image="s3://bucket/red.png").content[1].type == "image"
    assert sides == [256, 768]
    client.close()


def test_a_hit_as_json_is_that_of_the_library_without_what_only_filters_need(shelf: Shelf) -> None:
    [hit] = call_tool(shelf.server, "search_images", query="red", limit=1).structured_content["hits"]
    [ours] = ImageCollection("photos", shelf.embedder, shelf.client).search("red", limit=1)

    whole = ours.to_dict()
    assert {key: whole[key] for key in hit} == hit
    assert whole.keys() - hit.keys() == {"words", "calendar", "local_time", "fingerprint", "ingested_at"}


def test_where_and_a_filter_of_qdrant_narrow_a_search_together(shelf: Shelf) -> None:
    cold = call_tool(shelf.server, "search_images", query="red", where="album = 'cold'")
    both = call_tool(
        shelf.server,
        "search_images",
        query="red",
        where="album = 'cold'",
        filter={"must": [{"key": "metadata.year", "range": {"gte": 2022}}]},
    )

    assert sorted(captions(cold)) == ["all blue", "all green"]
    assert captions(both) == ["all blue"]


def test_words_order_and_pages_reach_the_search(shelf: Shelf) -> None:
    assert captions(call_tool(shelf.server, "search_images", words="Ada")) == ["all red, seen by Ada"]
    newest = call_tool(shelf.server, "search_images", order_by="-taken_at", limit=2, pictures=0)
    assert captions(newest) == ["all yellow", "all blue"]
    older = call_tool(shelf.server, "search_images", order_by="-taken_at", limit=2, offset=2)
    assert captions(older) == ["all green", "all red, seen by Ada"]
    assert "3. green.png" in text_of(older)


def test_texts_that_other_integrations_put_beside_the_images_are_no_hits(shelf: Shelf) -> None:
    photos = ImageCollection("photos", shelf.embedder, shelf.client)
    photos.writer.write([ImageRecord(text_uri("1"), caption="red")], shelf.embedder.embed_texts(["red"]))
    try:
        found = call_tool(shelf.server, "search_images", query="red")
        similar = call_tool(shelf.server, "similar_images", image=str(shelf.folder / "red.png"))
    finally:
        photos.delete(uris=[text_uri("1")])

    assert captions(found)[0] == "all red, seen by Ada"
    assert "red" not in captions(found) + captions(similar)


def test_what_is_blank_is_left_out(shelf: Shelf) -> None:
    blank = dict.fromkeys(("query", "collection", "where", "words", "order_by"), " ")

    assert len(captions(call_tool(shelf.server, "search_images", **blank))) == 4


def test_a_search_that_finds_nothing_says_why(shelf: Shelf) -> None:
    result = call_tool(shelf.server, "search_images", query="red", where="year > 3000")

    assert "nothing found" in text_of(result)
    assert result.structured_content["hits"] == []


@pytest.mark.parametrize("name", ["id", "uri", "path"])
def test_similar_images_are_found_by_what_a_hit_is_named_by(shelf: Shelf, name: str) -> None:
    [hit] = call_tool(shelf.server, "search_images", query="red", limit=1).structured_content["hits"]

    found = call_tool(shelf.server, "similar_images", image=hit[name], limit=1)

    assert captions(found) == ["all yellow"]  # itself is left out


def test_similar_images_are_found_for_an_image_that_is_handed_over(shelf: Shelf) -> None:
    data = base64.b64encode((shelf.folder / "green.png").read_bytes()).decode()

    found = call_tool(shelf.server, "similar_images", image=f"data:image/png;base64,{data}", limit=1)

    assert captions(found) == ["all green"]


def test_a_file_that_is_no_stored_image_is_not_read(shelf: Shelf) -> None:
    stranger = shelf.folder / "stranger.png"
    stranger.write_bytes((shelf.folder / "red.png").read_bytes())

    for tool in ("similar_images", "describe_image"):
        assert "no stored image" in error_of(shelf.server, tool, image=str(stranger))


def test_a_name_that_is_very_long_is_not_repeated(shelf: Shelf) -> None:
    assert len(error_of(shelf.server, "describe_image", image="x" * 10_000)) < 500
    assert len(error_of(shelf.server, "describe_image", image="x" * 30_000)) < 500


def test_an_image_that_is_described_comes_with_all_that_is_stored(shelf: Shelf) -> None:
    result = call_tool(shelf.server, "describe_image", image=str(shelf.folder / "red.png"))

    [hit] = result.structured_content["hits"]
    assert hit["fingerprint"] == shelf.embedder.fingerprint
    assert isinstance(result.content[1], ImageContent)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"query": "red", "where": "bogus = 1"}, "there is no indexed field bogus"),
        ({"query": "red", "where": "album = "}, "^"),
        ({"query": "red", "collection": "nope"}, "no collection 'nope'; there are: other, photos"),
        ({"query": "red", "collection": "other"}, "was made by embedder"),
        ({"query": "red", "limit": 500}, "less than or equal to 50"),
        ({"query": "red", "filter": {"must": [{"match": 1}]}}, "filter takes Qdrant's own"),
        ({"query": "red", "min_relevance": "auto"}, "not calibrated: leave min_relevance out"),
    ],
)
def test_what_is_wrong_is_told_by_the_message_of_the_library(
    shelf: Shelf, arguments: dict[str, Any], told: str
) -> None:
    assert told in error_of(shelf.server, "search_images", **arguments)


def test_what_is_no_image_is_refused(shelf: Shelf) -> None:
    for url, told in (
        ("data:image/png;base64", "it has no comma"),
        ("data:image/png;base64,!", "is no image in base64"),
        (f"data:image/png;base64,{base64.b64encode(b'no image at all').decode()}", "image"),
    ):
        assert told in error_of(shelf.server, "similar_images", image=url)


def test_a_crash_tells_the_model_nothing_of_its_inside(shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(CollectionCatalog):
        def names(self) -> list[str]:
            raise RuntimeError("a secret of the inside")

    server = create_server(Broken(shelf.client, shelf.embedder))

    with caplog.at_level(logging.CRITICAL + 1):
        told = error_of(server, "list_collections")
    assert "secret" not in told


def test_secrets_of_urls_and_control_characters_do_not_get_through(shelf: Shelf) -> None:
    payload = {"url": "https://ada:hunter2@photos.example/cat.png?sig=abcdefgh", "caption": "one\ntwo\x1b[2J"}
    shelf.client.create_collection("leaky", models.VectorParams(size=16, distance=models.Distance.COSINE))
    shelf.client.upsert("leaky", [models.PointStruct(id=1, vector=[1.0] * 16, payload=payload)], wait=True)

    result = call_tool(shelf.server, "search_images", query="red", collection="leaky")
    shelf.client.delete_collection("leaky")

    told = text_of(result) + json.dumps(result.structured_content)
    assert "hunter2" not in told
    assert "abcdefgh" not in told
    assert "cat.png" in told
    assert "one two\N{REPLACEMENT CHARACTER}[2J" in text_of(result)


def test_a_server_that_is_made_leaves_the_log_of_the_program_alone(shelf: Shelf) -> None:
    before = list(logging.getLogger().handlers)

    create_server(CollectionCatalog(shelf.client, shelf.embedder))

    assert logging.getLogger().handlers == before
