"""A collection that is empty, gone or another, a store that is away, many threads: what frameworks make of them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import httpx
import pytest
from fakes import COLOURS, FakeEmbedder, RecordingClient, solid_image
from qdrant_client.client_base import QdrantBase
from qdrant_client.http.exceptions import ResponseHandlingException

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import FingerprintMismatch, StoreUnavailable
from clip_qdrant.store.edge.client import EdgeClient

Retrieve = Callable[[str], Sequence[Any]]


def by_langchain(photos: ImageCollection) -> Retrieve:
    from clip_qdrant.integrations.langchain import ClipImageRetriever

    return ClipImageRetriever(images=photos, k=1).invoke


def by_llama_index(photos: ImageCollection) -> Retrieve:
    from clip_qdrant.integrations.llama_index import ImageNodeRetriever

    return ImageNodeRetriever(photos, k=1).retrieve


no_langchain = importlib.util.find_spec("langchain_core") is None
everywhere = pytest.mark.parametrize(
    "make",
    [
        pytest.param(by_langchain, marks=pytest.mark.skipif(no_langchain, reason="langchain-core is not installed")),
        by_llama_index,
    ],
)


@everywhere
def test_an_empty_collection_and_one_that_is_gone_find_nothing(
    memory_client: QdrantBase, make: Callable[[ImageCollection], Retrieve]
) -> None:
    photos = ImageCollection("photos", FakeEmbedder(), memory_client)
    photos.add([solid_image("red")])
    retrieve = make(photos)

    photos.delete(uris=[photos.search("red")[0].uri])
    assert list(retrieve("red")) == []
    memory_client.delete_collection("photos")  # by somebody else
    assert list(retrieve("red")) == []
    photos.add([solid_image("red")])
    assert len(retrieve("red")) == 1


@everywhere
def test_a_store_that_is_away_is_an_error_of_ours(
    memory_client: QdrantBase, make: Callable[[ImageCollection], Retrieve]
) -> None:
    client: Any = RecordingClient(memory_client)
    photos = ImageCollection("photos", FakeEmbedder(), client, patience=0)
    photos.add([solid_image("red")])

    def refuse() -> None:
        raise ResponseHandlingException(httpx.ConnectError("refused"))

    client.before["query_batch_points"] = refuse
    with pytest.raises(StoreUnavailable):
        make(photos)("red")


@everywhere
def test_many_threads_search_while_another_adds(
    edge_client: EdgeClient, make: Callable[[ImageCollection], Retrieve]
) -> None:
    photos = ImageCollection("photos", FakeEmbedder(), edge_client)
    photos.add([solid_image(colour) for colour in COLOURS], captions=list(COLOURS))
    retrieve = make(photos)

    with ThreadPoolExecutor(8) as pool:
        adding = pool.submit(photos.add, [solid_image((9, 9, number)) for number in range(20)], batch_size=5)
        found = list(pool.map(retrieve, [*COLOURS] * 5))
        adding.result()

    assert all(len(one) == 1 for one in found)
    assert len(photos) == len(COLOURS) + 20


def write_by_langchain(photos: ImageCollection) -> None:
    pytest.importorskip("langchain_core", reason="langchain-core is not installed")
    from clip_qdrant.integrations.langchain import ClipVectorStore

    ClipVectorStore(photos).add_texts(["red"])


def write_by_haystack(photos: ImageCollection) -> None:
    pytest.importorskip("haystack", reason="haystack-ai is not installed")
    from haystack import Document
    from haystack.dataclasses import ByteStream
    from haystack.document_stores.types import DuplicatePolicy

    from haystack_integrations.document_stores.clip_qdrant import ClipQdrantDocumentStore

    png = BytesIO()
    solid_image("red").save(png, "PNG")
    (vector,) = photos.embedder.embed_texts(["red"])
    document = Document(blob=ByteStream(png.getvalue(), mime_type="image/png"), embedding=vector.tolist())
    ClipQdrantDocumentStore.wrap(photos).write_documents([document], DuplicatePolicy.OVERWRITE)


@pytest.mark.parametrize("write", [write_by_langchain, write_by_haystack])
def test_nothing_is_written_to_a_collection_that_another_embedder_made_anew(
    memory_client: QdrantBase, write: Callable[[ImageCollection], None]
) -> None:
    photos = ImageCollection("photos", FakeEmbedder(), memory_client)
    for _ in range(2):  # by the second time all is known of it that a write needs
        write(photos)
    memory_client.delete_collection("photos")
    others = ImageCollection("photos", FakeEmbedder(name="other"), memory_client)
    write(others)

    with pytest.raises(FingerprintMismatch):
        write(photos)

    assert len(others) == 1
