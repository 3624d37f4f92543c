"""ClipEmbeddings: the vectors of a search, for texts and for images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fakes import FakeEmbedder, solid_image, write_image

pytest.importorskip("langchain_core", reason="langchain-core is not installed")

from clip_qdrant.collection.query import embed_query_texts
from clip_qdrant.errors import ConfigError, ImageError, QueryError
from clip_qdrant.integrations.langchain import ClipEmbeddings
from clip_qdrant.model_inputs.prompts import Prompts


def test_an_image_is_a_path_bytes_a_pil_image_or_an_array(tmp_path: Path) -> None:
    embeddings = ClipEmbeddings(FakeEmbedder())
    path = write_image(tmp_path / "red.png", "red")

    vectors = embeddings.embed_images([path, path.read_bytes(), solid_image("red"), np.asarray(solid_image("red"))])

    assert np.allclose(vectors, embeddings.embed_image(path))
    assert np.linalg.norm(vectors[0]) == pytest.approx(1)
    assert np.argmax(np.dot(vectors[0], np.transpose(embeddings.embed_documents(["blue", "red"])))) == 1


def test_a_query_has_the_prompts_of_the_model_and_a_document_has_none() -> None:
    embedder = FakeEmbedder()
    embedder.prompts = Prompts(("a photo of {}",), 5)  # type: ignore[attr-defined]  # an embedder may have some
    embeddings = ClipEmbeddings(embedder)

    assert embeddings.embed_query("red") == embed_query_texts(["red"], embedder)[0].tolist()
    assert embeddings.embed_query("red") != embeddings.embed_documents(["red"])[0]


@pytest.mark.asyncio
async def test_async_code_gets_the_vectors_of_the_embedder() -> None:
    embedder = FakeEmbedder()
    embeddings = ClipEmbeddings(embedder)

    assert np.allclose(await embeddings.aembed_documents(["a red square"]), embedder.embed_texts(["a red square"]))
    vectors = await embeddings.aembed_images([solid_image("red"), solid_image("blue")])
    assert np.allclose(vectors, embedder.embed_images([solid_image("red"), solid_image("blue")]), atol=1e-5)
    assert np.shape(vectors) == (2, embedder.dim)


def test_nothing_embedded_is_nothing() -> None:
    embeddings = ClipEmbeddings(FakeEmbedder())

    assert embeddings.embed_documents([]) == []
    assert embeddings.embed_images([]) == []


def test_what_cannot_be_embedded_is_refused_by_errors_of_ours() -> None:
    with pytest.raises(ConfigError, match="the embedder, a str, lacks"):
        ClipEmbeddings("clip")  # type: ignore[arg-type]
    embeddings = ClipEmbeddings(FakeEmbedder())
    with pytest.raises(ImageError):
        embeddings.embed_image(b"no image")
    with pytest.raises(QueryError, match="empty"):
        embeddings.embed_query(" ")
    with pytest.raises(QueryError, match="images takes a list"):
        embeddings.embed_images("beach.jpg")
    with pytest.raises(QueryError, match="texts takes a list"):
        embeddings.embed_documents("a beach")  # type: ignore[arg-type]
