"""MultiModalVectorStoreIndex: over a collection by ImageNodeStore, and over a store of LlamaIndex itself."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeEmbedder, solid_image, write_image
from llama_index.core import StorageContext
from llama_index.core.indices import MultiModalVectorStoreIndex
from llama_index.core.llms.mock import MockFunctionCallingLLM
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import ImageDocument, ImageNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters, VectorStoreQuery
from qdrant_client import QdrantClient

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import ConfigError, NotAnImage, QueryError, SourceError
from clip_qdrant.integrations.llama_index import ClipMultiModalEmbedding, ImageNodeStore

COLOURS = ("red", "yellow", "green", "blue")


@pytest.fixture
def photos() -> Iterator[ImageCollection]:
    client = QdrantClient(":memory:")
    yield ImageCollection("photos", FakeEmbedder(), client)
    client.close()


@pytest.fixture
def nodes(tmp_path: Path) -> list[ImageNode]:
    return [
        ImageNode(
            id_=f"node-{colour}",
            image_path=str(write_image(tmp_path / f"{colour}.png", colour)),
            text=f"all {colour}",
            metadata={"year": 2021 + number},
            relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"document-{number % 2}")},
        )
        for number, colour in enumerate(COLOURS)
    ]


def make_index(photos: ImageCollection, nodes: list[Any], **more: Any) -> MultiModalVectorStoreIndex:
    embedding = ClipMultiModalEmbedding(photos.embedder)
    return MultiModalVectorStoreIndex(nodes=nodes, embed_model=embedding, image_embed_model=embedding, **more)


def ask(photos: ImageCollection, **more: Any) -> list[str]:
    vector = photos.embedder.embed_texts(["red"])[0].tolist()
    query = VectorStoreQuery(**{"query_embedding": vector, "similarity_top_k": 4, **more})
    return list(ImageNodeStore(photos).query(query).ids or [])


def test_an_index_finds_what_is_in_the_collection(photos: ImageCollection, tmp_path: Path) -> None:
    photos.add([write_image(tmp_path / f"{colour}.png", colour) for colour in COLOURS], captions=COLOURS)
    index = make_index(photos, [], image_vector_store=ImageNodeStore(photos))

    found = index.as_retriever(image_similarity_top_k=2).retrieve("red")

    hits = photos.search("red", limit=2)
    assert [(one.node.node_id, one.score) for one in found] == [(hit.uri, pytest.approx(hit.score)) for hit in hits]
    by_image = index.as_retriever(image_similarity_top_k=1).image_to_image_retrieve(str(tmp_path / "green.png"))
    assert [one.node.get_content() for one in by_image] == ["green"]


def test_nodes_that_are_inserted_come_back_with_their_ids_and_the_collection_has_their_images(
    photos: ImageCollection, nodes: list[ImageNode]
) -> None:
    index = make_index(photos, nodes, image_vector_store=ImageNodeStore(photos))

    found = index.as_retriever(image_similarity_top_k=4).text_to_image_retrieve("red")

    assert [one.node.node_id for one in found][:2] == ["node-red", "node-yellow"]
    hit = photos.search("red", limit=1)[0]
    assert (str(hit.path), hit.caption) == (nodes[0].image_path, "all red")
    assert hit.metadata == {"year": 2021, "node_id": "node-red", "ref_doc_id": "document-0"}
    assert hit.payload["image"]["format"] == "PNG"


def test_a_query_engine_over_an_index_answers_from_pictures_and_texts(
    photos: ImageCollection, nodes: list[ImageNode]
) -> None:
    text = TextNode(id_="text", text="red is a colour")
    index = make_index(photos, [*nodes, text], image_vector_store=ImageNodeStore(photos))
    retriever = index.as_retriever(similarity_top_k=5, image_similarity_top_k=1)
    model = MockFunctionCallingLLM(is_chat_model=True)

    answer = RetrieverQueryEngine.from_args(retriever, llm=model, multimodal=True).query("red")

    assert {one.node.node_id for one in answer.source_nodes} == {"text", *(node.node_id for node in nodes)}
    assert "red is a colour" in str(answer)


@pytest.mark.filterwarnings("ignore:.*SimpleMultiModalQueryEngine is deprecated:DeprecationWarning")
def test_the_engine_that_an_index_makes_itself_answers_too(photos: ImageCollection, nodes: list[ImageNode]) -> None:
    index = make_index(photos, nodes, image_vector_store=ImageNodeStore(photos))

    engine = index.as_query_engine(llm=MockFunctionCallingLLM())

    assert [one.node.node_id for one in engine.query("red").source_nodes] == ["node-red", "node-yellow"]


def test_the_embedding_works_with_the_store_of_llama_index(photos: ImageCollection, nodes: list[ImageNode]) -> None:
    index = make_index(photos, nodes)

    found = index.as_retriever(image_similarity_top_k=2).text_to_image_retrieve("red")

    assert [one.node.node_id for one in found] == ["node-red", "node-yellow"]
    assert not photos.exists()


def test_async_work_is_the_same(photos: ImageCollection, nodes: list[ImageNode]) -> None:
    store = ImageNodeStore(photos)

    async def use() -> list[str]:
        assert await store.async_add(nodes) == [node.node_id for node in nodes]
        index = make_index(photos, [], image_vector_store=store)
        found = await index.as_retriever(image_similarity_top_k=1).aretrieve("red")
        await store.adelete("document-0")
        await store.adelete_nodes(["node-yellow"])
        left = [hit.metadata["node_id"] for hit in photos.search()]
        await store.aclear()
        return [*(one.node.node_id for one in found), *left]

    assert asyncio.run(use()) == ["node-red", "node-blue"]
    assert not photos.exists()


def test_images_are_deleted_by_document_by_node_and_by_filter(photos: ImageCollection, nodes: list[ImageNode]) -> None:
    store = ImageNodeStore(photos)
    store.delete("document-0")  # before there is anything
    store.add(nodes)

    store.delete("document-0")
    assert {hit.caption for hit in photos.search()} == {"all yellow", "all blue"}
    recent = MetadataFilters(filters=[MetadataFilter(key="year", value=2023, operator=">")])
    store.delete_nodes(["node-yellow", "node-blue"], recent)
    assert {hit.caption for hit in photos.search()} == {"all yellow"}
    store.delete_nodes([], MetadataFilters(filters=[MetadataFilter(key="year", value=0, operator=">")]))
    assert {hit.caption for hit in photos.search()} == {"all yellow"}
    with pytest.raises(QueryError):
        store.delete_nodes()


def test_what_another_process_has_added_is_deleted_too(photos: ImageCollection, nodes: list[ImageNode]) -> None:
    photos.add([solid_image("magenta")])
    store = ImageNodeStore(photos)
    ImageNodeStore(ImageCollection("photos", FakeEmbedder(), photos.client)).add(nodes)

    store.delete("document-0")

    assert {hit.caption for hit in photos.search()} == {"all yellow", "all blue", None}


def test_documents_become_nodes_and_go_with_their_document(photos: ImageCollection, nodes: list[ImageNode]) -> None:
    documents = [ImageDocument(id_=node.node_id, image_path=node.image_path, text=node.text) for node in nodes]
    embedding = ClipMultiModalEmbedding(photos.embedder)
    index = MultiModalVectorStoreIndex.from_documents(
        documents,
        embed_model=embedding,
        image_embed_model=embedding,
        image_vector_store=ImageNodeStore(photos),
        transformations=[SentenceSplitter()],
    )
    assert {hit.caption for hit in photos.search()} == {node.text for node in nodes}

    index.delete_ref_doc("node-red")

    assert {hit.caption for hit in photos.search()} == {node.text for node in nodes[1:]}


def test_a_query_is_narrowed_by_filters_nodes_and_documents(photos: ImageCollection, nodes: list[ImageNode]) -> None:
    ImageNodeStore(photos).add(nodes)
    photos.add([solid_image("magenta")])
    uri = photos.search("magenta", limit=1)[0].uri

    recent = MetadataFilters(filters=[MetadataFilter(key="year", value=2022, operator=">")])
    assert set(ask(photos, filters=recent)) == {"node-green", "node-blue"}
    assert set(ask(photos, node_ids=["node-green", uri])) == {"node-green", uri}
    assert set(ask(photos, doc_ids=["document-1"])) == {"node-yellow", "node-blue"}
    assert ask(photos, doc_ids=["document-1"], filters=recent) == ["node-blue"]
    assert len(ask(photos, node_ids=[])) == 4


def test_the_modes_of_a_query(photos: ImageCollection, nodes: list[ImageNode]) -> None:
    ImageNodeStore(photos).add(nodes)

    assert ask(photos, mode="text_search", query_embedding=None, query_str="green") == ["node-green"]
    assert ask(photos, mode="hybrid", query_str="blue", alpha=0.0)[0] == "node-blue"
    assert ask(photos, mode="hybrid", query_str="blue", alpha=1.0, hybrid_top_k=2)[0] == "node-red"
    assert ask(photos, mode="mmr", mmr_threshold=1.0, similarity_top_k=2) == ["node-red", "node-yellow"]
    assert ask(photos, mode="mmr", mmr_threshold=0.0, similarity_top_k=2)[1] != "node-yellow"
    for mode, what in (("svm", "there is no mode 'svm'"), ("hybrid", "has no text")):
        with pytest.raises(QueryError, match=what):
            ask(photos, mode=mode)
    with pytest.raises(QueryError, match="has no embedding"):
        ask(photos, query_embedding=None)


def test_an_image_may_be_in_the_node_itself(photos: ImageCollection, tmp_path: Path) -> None:
    data = write_image(tmp_path / "red.png", "red").read_bytes()
    coded = base64.b64encode(data).decode()
    store = ImageNodeStore(photos)

    there = "https://example.org/a.png"
    store.add(
        [ImageNode(id_="1", image=coded), ImageNode(id_="2", image=f"data:image/png;base64,{coded}", image_url=there)]
    )

    assert {hit.uri[:11] for hit in photos.search("red")} == {"urn:sha256:", "https://exa"}
    assert set(ask(photos)) == {"1", "2"}


def test_a_node_that_comes_back_changes_nothing(photos: ImageCollection, nodes: list[ImageNode]) -> None:
    store = ImageNodeStore(photos)
    store.add(nodes)
    photos.add([str(nodes[0].image_path).replace("red", "green")], captions=["green"])  # no node of its own
    photos.delete(where="node_id = 'node-blue'")
    photos.add([str(nodes[3].image_path)], captions=["blue"], metadata=[{"year": 2024}])
    before = {hit.uri: hit.payload for hit in photos.search()}
    vector = photos.embedder.embed_texts(["red"])[0].tolist()
    found = store.query(VectorStoreQuery(query_embedding=vector, similarity_top_k=4)).nodes or []
    assert [node.ref_doc_id for node in found][:2] == ["document-0", "document-1"]

    store.add(found)

    assert {hit.uri: hit.payload for hit in photos.search()} == before
    assert "metadata.uri" not in photos.fields


@pytest.mark.parametrize(
    ("node", "error", "what"),
    [
        (TextNode(text="a text"), ConfigError, "is a TextNode: a collection of images takes ImageNodes"),
        (ImageNode(text="a text"), ConfigError, "has no image"),
        (ImageNode(id_="7", image="?"), NotAnImage, "image of node 7: '\\?' is no image in base64"),
        (ImageNode(image_url="https://example.org/a.png"), SourceError, "nothing is fetched from a URL"),
    ],
)
def test_a_node_without_an_image_at_hand_is_refused(
    photos: ImageCollection, node: Any, error: type[Exception], what: str
) -> None:
    with pytest.raises(error, match=what):
        ImageNodeStore(photos).add([node])
    assert not photos.exists()


def test_a_store_is_not_mixed_up_with_the_one_for_texts(photos: ImageCollection, nodes: list[ImageNode]) -> None:
    store = ImageNodeStore(photos)
    context = StorageContext.from_defaults()
    context.add_vector_store(store, "image")

    index = make_index(photos, nodes, storage_context=context)

    assert index.image_vector_store is store
    assert store.client is photos.client
    assert store.images is photos
