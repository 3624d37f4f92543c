"""The async twins of the methods of a collection."""

from __future__ import annotations

import asyncio
import inspect
import threading

from fakes import FakeEmbedder, solid_image
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.images import ImageCollection

TWINS = ("add", "search", "search_batch", "get", "count", "facet", "delete")


def test_each_does_what_its_twin_does(client: QdrantBase, collection_name: str) -> None:
    photos = ImageCollection(collection_name, FakeEmbedder(), client)

    async def use() -> None:
        await photos.aadd([solid_image("red"), solid_image("blue")], metadata=[{"year": 2024}, {"year": 2023}])
        assert await photos.acount() == 2
        found, both = await asyncio.gather(photos.asearch("red", limit=1), photos.asearch_batch(["red", "blue"]))
        assert found == photos.search("red", limit=1)
        assert both == photos.search_batch(["red", "blue"])
        assert await photos.aget(found[0].uri) == photos.get(found[0].uri)
        assert await photos.afacet("year") == photos.facet("year")
        assert await photos.adelete(where="year = 2024") == 1

    asyncio.run(use())


def test_the_event_loop_is_free_meanwhile(client: QdrantBase, collection_name: str) -> None:
    waiting, going_on = threading.Event(), threading.Event()

    class WaitingEmbedder(FakeEmbedder):
        def embed_texts(self, texts):  # type: ignore[no-untyped-def]  # as the one it stands for
            waiting.set()
            assert going_on.wait(10)
            return super().embed_texts(texts)

    photos = ImageCollection(collection_name, WaitingEmbedder(), client)
    photos.add([solid_image("red")])

    async def use() -> int:
        task = asyncio.create_task(photos.asearch("red"))
        while not waiting.is_set():
            await asyncio.sleep(0.001)
        going_on.set()
        return len(await task)

    assert asyncio.run(use()) == 1


def test_each_has_the_arguments_of_its_twin() -> None:
    for name in TWINS:
        twin = getattr(ImageCollection, f"a{name}")
        assert inspect.iscoroutinefunction(twin)
        assert inspect.signature(twin) == inspect.signature(getattr(ImageCollection, name))
