"""ImageNodeRetriever and ClipMultiModalEmbedding: nodes of images, queries of texts and images, engines end to end."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from fakes import FakeEmbedder, solid_image, write_image
from llama_index.core.base.llms.types import ChatMessage, ImageBlock
from llama_index.core.llms.mock import MockFunctionCallingLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import ImageNode, NodeWithScore, QueryBundle
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.query import Query
from clip_qdrant.collection.search.options import SearchOptions
from clip_qdrant.errors import ConfigError, FilterError, FingerprintMismatch, ImageError, QueryError, SourceError
from clip_qdrant.integrations.llama_index import ClipMultiModalEmbedding, ImageNodeRetriever
from clip_qdrant.integrations.llama_index.nodes import make_node
from clip_qdrant.records import ImageRecord
from clip_qdrant.store.edge.client import EdgeClient

COLOURS = ("red", "yellow", "green", "blue")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageCollection]:
    folder = tmp_path_factory.mktemp("photos")
    with EdgeClient(folder / "store") as client:
        photos = ImageCollection("photos", FakeEmbedder(), client)
        photos.add(
            [write_image(folder / f"{colour}.png", colour) for colour in COLOURS],
            captions=[f"all {colour}" for colour in COLOURS],
            metadata=[
                {"year": 2021 + number, "tags": ["a", "b"][: 1 + number % 2], "taken_at": "2024-05-01"}
                for number in range(len(COLOURS))
            ],
        )
        yield photos


def texts(nodes: list[NodeWithScore]) -> list[str]:
    return [node.node.get_content() for node in nodes]


def image_of(photos: ImageCollection, colour: str) -> str:
    return str(photos.search(colour, limit=1)[0].path)


def test_an_image_is_a_node_of_its_caption_its_file_and_its_metadata(photos: ImageCollection) -> None:
    found = ImageNodeRetriever(photos, k=2).retrieve("red")

    hit = photos.search("red", limit=1)[0]
    assert [type(one.node) for one in found] == [ImageNode, ImageNode]
    node = found[0].node
    assert isinstance(node, ImageNode)
    assert (node.node_id, node.text, node.image_path) == (hit.uri, "all red", str(hit.path))
    assert (node.image_mimetype, node.image_url) == ("image/png", None)
    told = {"uri": hit.uri, "caption": "all red"}
    assert node.metadata == {"year": 2021, "tags": ["a"], "taken_at": hit.payload["taken_at"], **told}
    assert found[0].score == hit.score
    assert node.resolve_image() == str(hit.path)


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        ("https://example.org/a.png?size=1", "https://example.org/a.png?size=1"),
        ("s3://bucket/a.png", None),
        ("https://example.org/a.tar#a.png", None),
        ("file:///a.tar#a.png", None),
    ],
)
def test_an_image_of_the_web_has_its_url_and_one_of_another_place_none(
    memory_client: Any, uri: str, url: str | None
) -> None:
    photos = ImageCollection("photos", FakeEmbedder(), memory_client)
    photos.add([solid_image("red")], uris=[uri])

    node = make_node(photos.search("red")[0]).node

    assert isinstance(node, ImageNode)
    assert (node.image_url, node.image_path, node.text) == (url, None, "")


def test_texts_and_an_image_may_be_asked_for_together_or_alone(photos: ImageCollection) -> None:
    retriever, green = ImageNodeRetriever(photos, k=1), image_of(photos, "green")

    assert texts(retriever.retrieve(QueryBundle("red", image_path=green))) == ["all yellow"]
    assert texts(retriever.retrieve(QueryBundle("", image_path=green))) == ["all green"]
    assert texts(retriever.text_to_image_retrieve(QueryBundle("red", image_path=green))) == ["all red"]
    assert texts(retriever.image_to_image_retrieve(QueryBundle("red", image_path=green))) == ["all green"]
    assert texts(retriever.image_to_image_retrieve(green)) == ["all green"]
    several = QueryBundle("?", custom_embedding_strs=["red", "green"])
    assert texts(retriever.retrieve(several)) == ["all yellow"]


def test_an_embedding_counts_only_where_there_is_nothing_else(photos: ImageCollection) -> None:
    retriever = ImageNodeRetriever(photos, k=1)
    blue = photos.embedder.embed_texts(["blue"])[0].tolist()

    assert texts(retriever.retrieve(QueryBundle("red", embedding=blue))) == ["all red"]
    assert texts(retriever.retrieve(QueryBundle("", embedding=blue))) == ["all blue"]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ([("year", 2022, "==")], {"yellow"}),
        ([("year", 2022, "!=")], {"red", "green", "blue"}),
        ([("year", 2022, ">"), ("year", 2024, "<")], {"green"}),
        ([("year", 2022, ">="), ("year", 2023, "<=")], {"yellow", "green"}),
        ([("year", [2021, 2024], "in")], {"red", "blue"}),
        ([("year", [2021, 2024], "nin")], {"yellow", "green"}),
        ([("tags", ["b", "c"], "any")], {"yellow", "blue"}),
        ([("tags", ["a", "b"], "all")], {"yellow", "blue"}),
        ([("tags", "b", "contains")], {"yellow", "blue"}),
        ([("caption", "GREEN", "text_match_insensitive")], {"green"}),
        ([("duplicate_of", None, "is_empty")], set(COLOURS)),
        ([], set(COLOURS)),
    ],
)
def test_metadata_filters_mean_what_they_mean_elsewhere(
    photos: ImageCollection, filters: list[tuple[str, Any, Any]], found: set[str]
) -> None:
    asked = MetadataFilters(
        filters=[MetadataFilter(key=key, value=value, operator=sign) for key, value, sign in filters]
    )

    nodes = ImageNodeRetriever(photos, filters=asked).retrieve("red")

    assert set(texts(nodes)) == {f"all {colour}" for colour in found}


def test_a_match_in_any_case_is_refused_where_case_counts(photos: ImageCollection) -> None:
    asked = MetadataFilters(filters=[MetadataFilter(key="tags", value="A", operator="text_match_insensitive")])  # type: ignore[arg-type]

    with pytest.raises(FilterError, match=r"tags is a keyword field.*use text_match"):
        ImageNodeRetriever(photos, filters=asked)


def test_filters_join_and_nest_and_a_where_is_one_too(photos: ImageCollection) -> None:
    either = MetadataFilters(
        filters=[MetadataFilter(key="year", value=2021), MetadataFilter(key="year", value=2022)], condition="or"
    )
    neither = MetadataFilters(filters=[either.filters[0], either.filters[1]], condition="not")
    both = MetadataFilters(filters=[either, MetadataFilter(key="tags", value="b", operator="contains")])

    for filters, found in (
        (either, {"all red", "all yellow"}),
        (neither, {"all green", "all blue"}),
        (both, {"all yellow"}),
        ("year = 2022", {"all yellow"}),
        ({"year": 2022}, {"all yellow"}),
    ):
        assert set(texts(ImageNodeRetriever(photos, filters=filters).retrieve("red"))) == found  # type: ignore[arg-type]


def test_options_of_a_search_hold(photos: ImageCollection) -> None:
    retriever = ImageNodeRetriever(photos, k=4, options=SearchOptions(score_threshold=0.99))

    assert texts(retriever.retrieve("red")) == ["all red"]


def test_async_calls_give_the_same_and_leave_the_loop_free(photos: ImageCollection) -> None:
    retriever, green = ImageNodeRetriever(photos, k=2), image_of(photos, "green")

    async def use() -> list[list[NodeWithScore]]:
        return [
            *await asyncio.gather(retriever.aretrieve("red"), retriever.aretrieve(QueryBundle("", image_path=green))),
            await retriever.atext_to_image_retrieve("red"),
            await retriever.aimage_to_image_retrieve(green),
        ]

    by_text, by_image = retriever.retrieve("red"), retriever.image_to_image_retrieve(green)
    assert asyncio.run(use()) == [by_text, by_image, by_text, by_image]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_engine_shows_captions_and_pictures_to_a_model(photos: ImageCollection, asynchronous: bool) -> None:
    shown: list[str] = []

    def answer_of(messages: Sequence[ChatMessage], **rest: Any) -> ChatMessage:
        for block in [block for message in messages for block in message.blocks]:
            shown.append(str(block.url) if isinstance(block, ImageBlock) else block.text)  # type: ignore[union-attr]
        return ChatMessage("it is red", role="assistant")

    model = MockFunctionCallingLLM(is_chat_model=True, response_generator=answer_of)
    engine = RetrieverQueryEngine.from_args(ImageNodeRetriever(photos, k=2), llm=model, multimodal=True)

    answer = asyncio.run(engine.aquery("red")) if asynchronous else engine.query("red")

    assert str(answer) == "it is red"
    nodes = [cast("ImageNode", one.node) for one in answer.source_nodes]
    assert [node.text for node in nodes] == ["all red", "all yellow"]
    for node in nodes:
        data = base64.b64encode(Path(str(node.image_path)).read_bytes()).decode()
        assert f"data:image/png;base64,{data}" in shown
        assert f"caption: {node.text}" in "\n".join(shown)


def test_an_engine_of_texts_reads_the_captions(photos: ImageCollection) -> None:
    model = MockFunctionCallingLLM()
    engine = RetrieverQueryEngine.from_args(ImageNodeRetriever(photos, k=1), llm=model)

    answer = engine.query("red")

    assert "all red" in str(answer)
    assert "year: 2021" in str(answer)


def test_texts_that_lie_beside_the_images_are_left_out(memory_client: Any) -> None:
    photos = ImageCollection("photos", FakeEmbedder(), memory_client)
    photos.add([solid_image("red")])
    photos.writer.write([ImageRecord("urn:text:1", caption="red")], photos.embedder.embed_texts(["red"]))

    assert [type(one.node).__name__ for one in ImageNodeRetriever(photos).retrieve("red")] == ["ImageNode"]
    assert ImageNodeRetriever(photos).retrieve("red")[0].node.metadata["uri"].startswith("urn:sha256:")


def test_trouble_is_told_by_errors_of_ours(photos: ImageCollection, edge_client: EdgeClient, tmp_path: Path) -> None:
    with pytest.raises(FilterError, match="there is no indexed field colour"):
        ImageNodeRetriever(photos, filters={"colour": "red"}).retrieve("red")
    with pytest.raises(QueryError, match="the query is empty"):
        ImageNodeRetriever(photos).retrieve("")
    with pytest.raises(SourceError):
        ImageNodeRetriever(photos).image_to_image_retrieve(str(tmp_path / "gone.png"))
    with pytest.raises(FingerprintMismatch):
        ImageNodeRetriever(ImageCollection("photos", FakeEmbedder(name="other"), photos.client))
    assert ImageNodeRetriever(ImageCollection("missing", FakeEmbedder(), edge_client)).retrieve("red") == []


def test_it_is_a_retriever_of_llama_index() -> None:
    assert issubclass(ImageNodeRetriever, BaseRetriever)


def test_embeddings_are_those_of_the_embedder(tmp_path: Path) -> None:
    embedder = FakeEmbedder()
    embedding = ClipMultiModalEmbedding(embedder)
    path = write_image(tmp_path / "red.png", "red", (64, 64))
    image = embedder.embed_images([path])[0]

    two = ["a cat", "a dog"]
    assert np.allclose(embedding.get_text_embedding("a cat"), embedder.embed_texts(["a cat"])[0], atol=1e-5)
    assert np.allclose(embedding.get_text_embedding_batch(two), embedder.embed_texts(two), atol=1e-5)
    asked = Query.text("a cat").evaluate(embedder, lambda names: {})
    assert np.allclose(embedding.get_query_embedding("a cat"), asked, atol=1e-5)
    assert np.allclose(embedding.get_image_embedding(str(path)), image, atol=1e-5)
    read = BytesIO(path.read_bytes())
    read.seek(10)  # as one that was looked at
    assert np.allclose(embedding.get_image_embedding_batch([read, str(path)]), [image, image], atol=1e-5)
    assert embedding.to_payload()["class_name"] == "ClipMultiModalEmbedding"


def test_embeddings_for_async_code_are_the_same(tmp_path: Path) -> None:
    embedding = ClipMultiModalEmbedding(FakeEmbedder())
    path = str(write_image(tmp_path / "red.png", "red"))

    async def use() -> list[Any]:
        return [
            await embedding.aget_query_embedding("red"),
            await embedding.aget_text_embedding("red"),
            await embedding.aget_text_embedding_batch(["red", "blue"]),
            await embedding.aget_image_embedding(path),
            await embedding.aget_image_embedding_batch([path, path]),
        ]

    assert asyncio.run(use()) == [
        embedding.get_query_embedding("red"),
        embedding.get_text_embedding("red"),
        embedding.get_text_embedding_batch(["red", "blue"]),
        embedding.get_image_embedding(path),
        embedding.get_image_embedding_batch([path, path]),
    ]


def test_what_cannot_be_embedded_is_refused_by_errors_of_ours() -> None:
    with pytest.raises(ConfigError, match="lacks"):
        ClipMultiModalEmbedding("clip")  # type: ignore[arg-type]
    with pytest.raises(ImageError):
        ClipMultiModalEmbedding(FakeEmbedder()).get_image_embedding(BytesIO(b"no image"))
