"""ClipImageRetriever and ClipSearchTool: what a chain and an agent get, and what they are told of mistakes."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from fakes import FakeEmbedder, write_image
from PIL import Image

pytest.importorskip("langchain_core", reason="langchain-core is not installed")

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.messages import ToolMessage
from langchain_core.runnables import RunnableLambda, RunnablePassthrough

from clip_qdrant.calibration.curves import LEVELS, Calibration
from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.search.options import SearchOptions
from clip_qdrant.errors import FilterError, QueryError
from clip_qdrant.integrations.langchain import ClipImageRetriever, ClipSearchTool, ClipVectorStore
from clip_qdrant.store.edge.client import EdgeClient

COLOURS = ("red", "yellow", "green", "blue")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageCollection]:
    folder = tmp_path_factory.mktemp("photos")
    embedder = FakeEmbedder()
    embedder.calibration = Calibration(LEVELS, LEVELS, 0.98)  # type: ignore[attr-defined]  # an embedder may have one
    with EdgeClient(folder / "store") as client:
        photos = ImageCollection("photos", embedder, client)
        photos.add(
            [write_image(folder / f"{colour}.png", colour, (300, 200)) for colour in COLOURS],
            captions=[f"all {colour}" for colour in COLOURS],
            metadata=[
                {"year": 2021 + number, "taken_at": "2024-05-01", "score": "mine"} for number in range(len(COLOURS))
            ],
        )
        ClipVectorStore(photos).add_texts(["red red red", "blue"], ids=["1", "2"])  # nearer than any picture
        yield photos


def call(tool: ClipSearchTool, **arguments: Any) -> ToolMessage:
    message = tool.invoke({"name": tool.name, "args": arguments, "id": "1", "type": "tool_call"})
    assert isinstance(message, ToolMessage)
    return message


def test_a_document_tells_uri_score_and_relevance_and_texts_are_left_out(photos: ImageCollection) -> None:
    documents = ClipImageRetriever(images=photos, k=4).invoke("red")

    hit = photos.search("red", where="image.sha256 exists", limit=1)[0]
    assert len(documents) == 4
    assert documents[0] == Document(
        id=hit.uri,
        page_content="all red",
        metadata={
            "year": 2021,
            "taken_at": "2024-05-01T00:00:00",
            "uri": hit.uri,
            "score": hit.score,
            "relevance": hit.relevance,
        },
    )


def test_k_filter_and_options_hold_for_the_retriever_or_for_one_call(photos: ImageCollection) -> None:
    retriever = ClipImageRetriever(images=photos, k=2, filter="year > 2022", options=SearchOptions(exact=True))

    assert [document.page_content for document in retriever.invoke("blue")] == ["all blue", "all green"]
    assert [document.page_content for document in retriever.invoke("blue", k=1)] == ["all blue"]
    assert [document.page_content for document in retriever.invoke("red", filter={"year": 2022})] == ["all yellow"]
    unlikely = ClipImageRetriever(images=photos, options=SearchOptions(min_relevance=1.0))
    assert unlikely.invoke("red wine") == []


@pytest.mark.asyncio
async def test_the_same_holds_for_async_calls(photos: ImageCollection) -> None:
    retriever = ClipImageRetriever(images=photos)

    assert await retriever.ainvoke("red") == retriever.invoke("red")
    assert await retriever.ainvoke("red", k=1, filter="year = 2022") == retriever.invoke(
        "red", k=1, filter="year = 2022"
    )
    assert await retriever.abatch(["red", "blue"]) == retriever.batch(["red", "blue"])
    with pytest.raises(FilterError):
        await retriever.ainvoke("red", filter="colour = 'red'")


def test_it_stands_in_a_chain_and_tells_callbacks(photos: ImageCollection) -> None:
    told: list[str] = []

    class Handler(BaseCallbackHandler):
        def on_retriever_start(self, serialized: Any, query: str, **rest: Any) -> None:
            told.append(query)

        def on_retriever_end(self, documents: Any, **rest: Any) -> None:
            told.append(documents[0].page_content)

    write = RunnableLambda(lambda given: f"{given['question']}: {given['context'][0].page_content}")
    chain = {"context": ClipImageRetriever(images=photos, k=1), "question": RunnablePassthrough()} | write

    assert chain.invoke("blue", config={"callbacks": [Handler()]}) == "blue: all blue"
    assert told == ["blue", "all blue"]


def test_errors_are_those_of_the_library(photos: ImageCollection) -> None:
    retriever = ClipImageRetriever(images=photos)
    with pytest.raises(FilterError, match="there is no indexed field colour"):
        retriever.invoke("red", filter="colour = 'red'")
    with pytest.raises(QueryError, match="empty"):
        retriever.invoke("")


def test_a_retrieved_document_that_is_put_back_adds_no_field(photos: ImageCollection) -> None:
    fields = set(photos.fields)
    document = ClipImageRetriever(images=photos).invoke("green", k=1)[0]
    document.metadata["year"] = 1999

    ClipVectorStore(photos).add_documents([document])

    stored = photos.get(str(document.id))
    assert stored is not None
    assert set(photos.fields) == fields
    assert stored.metadata["year"] == 1999
    assert stored.payload["edits"]["year"] == 1999
    photos.update_metadata({"year": 2023}, uris=[str(document.id)])


def test_a_tool_answers_in_lines_of_json_with_documents_beside(photos: ImageCollection) -> None:
    message = call(ClipSearchTool(images=photos, k=2), query="yellow", where="year < 2023")

    lines = [json.loads(line) for line in str(message.content).splitlines()]
    assert [line["caption"] for line in lines] == ["all yellow", "all red"]
    assert lines[0]["year"] == 2022
    assert [document.page_content for document in message.artifact] == ["all yellow", "all red"]


def test_a_tool_shows_small_pictures_where_asked_to(photos: ImageCollection) -> None:
    message = call(ClipSearchTool(images=photos, thumbnail_side=64), query="red", limit=1)

    text, picture = message.content_blocks
    assert "all red" in text["text"]  # type: ignore[typeddict-item]
    shown = Image.open(io.BytesIO(base64.b64decode(picture["base64"])))  # type: ignore[typeddict-item]
    assert shown.size == (64, 43)
    assert picture["mime_type"] == "image/jpeg"  # type: ignore[typeddict-item]


def test_an_agent_is_told_of_the_fields_and_of_its_mistakes(photos: ImageCollection) -> None:
    tool = ClipSearchTool(images=photos)
    assert "year (integer)" in tool.description
    assert "taken_at (datetime)" in tool.description
    assert "fingerprint" not in tool.description

    message = call(tool, query="red", where="colour = 'red'")
    assert message.status == "error"
    assert "there is no indexed field colour" in str(message.content)
    message = call(tool, query="red", limit=51)
    assert message.status == "error"
    assert message.content == "limit: Input should be less than or equal to 50"


def test_what_holds_besides_cannot_be_asked_away(photos: ImageCollection) -> None:
    tool = ClipSearchTool(images=photos, filter="year = 2021")

    assert call(tool, query="red", where="year = 2022 or year = 2021").artifact[0].page_content == "all red"
    nothing = call(tool, query="red", where="year = 2022")
    assert nothing.content == "the filter selects no image"
    assert nothing.artifact == []


def test_a_collection_that_is_not_there_is_told_of(edge_client: EdgeClient) -> None:
    missing = ImageCollection("missing", FakeEmbedder(), edge_client)

    assert ClipImageRetriever(images=missing).invoke("red") == []
    assert "there is no collection 'missing' yet" in str(call(ClipSearchTool(images=missing), query="red").content)
