"""The tools that tell what there is: collections, their fields and the values of these."""

from __future__ import annotations

import pytest
from fakes import RecordingClient
from mcp_calls import call_tool, error_of, text_of
from mcp_store import Shelf
from qdrant_client import QdrantClient

from clip_qdrant import ImageCollection
from clip_qdrant.errors import StoreError
from clip_qdrant.integrations.mcp.catalog import CollectionCatalog
from clip_qdrant.integrations.mcp.server import create_server


def test_collections_are_listed_with_what_keeps_them_from_being_searched(shelf: Shelf) -> None:
    listed = {one["name"]: one for one in call_tool(shelf.server, "list_collections").structured_content["collections"]}

    assert listed["photos"] == {"name": "photos", "images": 4, "made_by": "clip_qdrant", "default": True}
    assert "another" not in listed["photos"]["made_by"]
    assert listed["shoes"] == {"name": "shoes", "images": 4, "made_by": "another program", "default": False}
    assert "--model" in listed["other"]["unusable"]
    assert "unnamed of 768" in listed["texts"]["unusable"]


def test_an_empty_store_has_no_collections_and_says_so(shelf: Shelf) -> None:
    client = QdrantClient(":memory:")
    server = create_server(CollectionCatalog(client, shelf.embedder))

    assert "no collections in this store yet" in text_of(call_tool(server, "list_collections"))
    assert "nor any other, in this store" in error_of(server, "search_images", query="red")
    client.close()


def test_the_only_collection_is_meant_where_the_usual_one_is_not_there(shelf: Shelf) -> None:
    server = create_server(CollectionCatalog(shelf.client, shelf.embedder, default="images", only=["shoes"]))

    assert call_tool(server, "describe_collection").structured_content["collection"] == "shoes"


def test_other_collections_than_those_allowed_are_neither_named_nor_read(shelf: Shelf) -> None:
    server = create_server(CollectionCatalog(shelf.client, shelf.embedder, only=["photos", "not yet there"]))

    told = error_of(server, "search_images", query="red", collection="shoes")

    assert told.endswith("there is no collection 'shoes'; there are: photos")
    assert text_of(call_tool(server, "list_collections")).startswith("photos: 4 images")


@pytest.mark.parametrize("name", ["photos/points/delete?x=", "../photos", "photos#"])
def test_a_name_that_would_be_another_path_of_a_server_is_no_collection(shelf: Shelf, name: str) -> None:
    assert "there is no collection" in error_of(shelf.server, "search_images", query="red", collection=name)


def test_a_key_that_may_not_list_collections_opens_the_usual_one(shelf: Shelf) -> None:
    class OfOneCollection(RecordingClient):
        def get_collections(self) -> None:
            raise StoreError("Forbidden")

    server = create_server(CollectionCatalog(OfOneCollection(shelf.client), shelf.embedder, default="photos"))  # type: ignore[arg-type]

    assert len(call_tool(server, "search_images", query="red").structured_content["hits"]) == 4
    assert "Forbidden" in error_of(server, "list_collections")
    assert error_of(server, "facets", fields=["album"], collection="nope").endswith("no collection 'nope'")


def test_a_collection_is_described_by_fields_as_where_takes_them_with_values_and_counts(shelf: Shelf) -> None:
    result = call_tool(shelf.server, "describe_collection")

    fields = result.structured_content["fields"]
    assert fields["album"] == {
        "type": "keyword",
        "values": [{"value": "cold", "count": 2}, {"value": "warm", "count": 2}],
        "more_values": 0,
        "more_images": 0,
    }
    assert [one["range"] for one in fields["taken_at"]["ranges"]] == ["2020", "2021", "2022", "2023"]
    assert fields["caption"] == {"type": "text"}
    assert "album (keyword): cold (2), warm (2)" in text_of(result)
    for name, field in fields.items():
        if field["type"] == "keyword" and field.get("values"):
            value = field["values"][0]
            found = call_tool(shelf.server, "search_images", where=f"{name} = '{value['value']}'", pictures=0)
            assert len(found.structured_content["hits"]) == value["count"]


def test_fields_with_more_values_than_are_shown_say_how_many(shelf: Shelf) -> None:
    told = text_of(call_tool(shelf.server, "describe_collection", values=1))

    assert "album (keyword): cold (2), and 1 more" in told


def test_facets_count_values_periods_and_ranges_among_the_images_that_are_wanted(shelf: Shelf) -> None:
    names = ["album", "taken_at", "weight", "taken_at.month", "`odd name`"]
    counted = call_tool(shelf.server, "facets", fields=names, where="year < 2022").structured_content["fields"]

    assert counted["album"]["values"] == [{"value": "cold", "count": 1}, {"value": "warm", "count": 1}]
    assert [one["range"] for one in counted["taken_at"]["ranges"]] == ["2020", "2021"]
    assert sum(one["count"] for one in counted["weight"]["ranges"]) == 2
    assert counted["taken_at.month"]["values"] == [{"value": 5, "count": 2}]
    assert {one["value"] for one in counted["`odd name`"]["values"]} == {"red", "green"}
    months = call_tool(shelf.server, "facets", fields=["taken_at"], by="month").structured_content["fields"]
    assert months["taken_at"]["ranges"][0] == {"range": "2020-05", "count": 1}


def test_a_field_that_is_not_there_or_cannot_be_counted_is_refused(shelf: Shelf) -> None:
    assert "no indexed field bogus" in error_of(shelf.server, "facets", fields=["bogus"])
    assert "is of type text" in error_of(shelf.server, "facets", fields=["caption"])
    told = error_of(shelf.server, "facets", fields=["album"], by="month")
    assert "by is for dates, and 'album' is of type keyword: count it without by" in told


def test_a_collection_that_is_made_and_changed_meanwhile_is_seen(shelf: Shelf) -> None:
    made = ImageCollection("later", shelf.embedder, shelf.client)
    assert "no collection 'later'" in error_of(shelf.server, "search_images", query="red", collection="later")

    made.add([shelf.folder / "red.png"], metadata=[{"shelf": "a"}])
    assert "shelf (keyword): a (1)" in text_of(call_tool(shelf.server, "describe_collection", collection="later"))
    made.add([shelf.folder / "blue.png"], metadata=[{"shelf": "a", "row": 3}])
    found = call_tool(shelf.server, "search_images", collection="later", where="row = 3")

    assert len(found.structured_content["hits"]) == 1
    made.drop()
    assert "no collection 'later'" in error_of(shelf.server, "describe_collection", collection="later")
