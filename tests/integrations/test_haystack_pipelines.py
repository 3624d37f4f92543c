"""Real Haystack pipelines over the bundled model: written, saved as YAML, loaded, run, also by async code."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clip_qdrant.content import sample_gallery
from clip_qdrant.errors import ConfigError, MissingExtra, NotAnImage, QueryError, SourceError

pytest.importorskip("haystack", reason="haystack-ai is not installed")

from haystack import Document, Pipeline
from haystack.components.builders import PromptBuilder
from haystack.components.converters.image import ImageFileToDocument
from haystack.components.generators.chat import MockChatGenerator
from haystack.components.retrievers import MultiQueryTextRetriever, TextEmbeddingRetriever
from haystack.components.writers import DocumentWriter
from haystack.core.serialization import import_class_by_name
from haystack.dataclasses import ByteStream, ImageContent
from haystack.errors import FilterError

from haystack_integrations.components.embedders.clip_qdrant import ClipDocumentImageEmbedder, ClipTextEmbedder
from haystack_integrations.components.retrievers.clip_qdrant import ClipQdrantRetriever
from haystack_integrations.document_stores.clip_qdrant import ClipQdrantDocumentStore

ROWS = [json.loads(line) for line in (sample_gallery() / "metadata.jsonl").read_text("utf-8").splitlines()][::30]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten images of the gallery."""
    folder = tmp_path_factory.mktemp("photos")
    for row in ROWS:
        shutil.copy(sample_gallery() / row["file_name"], folder)
    return folder


@pytest.fixture(scope="module")
def store(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClipQdrantDocumentStore]:
    """The images in an embedded store, written by an indexing pipeline that was loaded from YAML."""
    location = tmp_path_factory.mktemp("store")
    store = ClipQdrantDocumentStore("photos", location=str(location), root_path=str(folder))
    pipeline = Pipeline()
    pipeline.add_component("read", ImageFileToDocument())
    pipeline.add_component("write", DocumentWriter(store))
    pipeline.connect("read.documents", "write.documents")
    loaded = load(pipeline)
    meta = [{"category": row["category"], "tags": row.get("tags", [])} for row in ROWS]
    written = loaded.run({"read": {"sources": [folder / row["file_name"] for row in ROWS], "meta": meta}})
    assert written == {"write": {"documents_written": len(ROWS)}}
    loaded.get_component("write").document_store.close()
    yield store
    store.close()


def load(pipeline: Pipeline) -> Pipeline:
    """What Haystack makes of its YAML, whose classes it may import by their names."""
    for name in re.findall(r"haystack_integrations\.\S+", pipeline.dumps()):
        assert import_class_by_name(name).__name__ == name.rpartition(".")[2]
    return Pipeline.loads(pipeline.dumps())


def make_search(store: ClipQdrantDocumentStore, **options: Any) -> Pipeline:
    pipeline = Pipeline()
    pipeline.add_component("embed", ClipTextEmbedder())
    pipeline.add_component("find", ClipQdrantRetriever(store, top_k=3, **options))
    pipeline.connect("embed.embedding", "find.query_embedding")
    return pipeline


def names(documents: list[Document]) -> list[str]:
    return [document.meta["file_path"] for document in documents]


def test_a_pipeline_finds_what_a_search_of_the_collection_finds(store: ClipQdrantDocumentStore) -> None:
    text = ROWS[4]["caption"]
    pipeline = make_search(store)

    documents = pipeline.run({"embed": {"text": text}})["find"]["documents"]

    hits = store.images.search(text, limit=3)
    assert names(documents) == [Path(hit.uri).name for hit in hits]
    assert [document.score for document in documents] == pytest.approx([hit.score for hit in hits], abs=1e-5)
    assert documents[0].meta["category"] in {row["category"] for row in ROWS}


def test_a_pipeline_is_the_same_after_a_round_trip_through_yaml(store: ClipQdrantDocumentStore) -> None:
    filters = {"field": "meta.category", "operator": "!=", "value": "food"}
    pipeline = make_search(store, filters=filters, where="image.width > 10", search_options={"score_threshold": 0.01})

    loaded = load(pipeline)

    assert loaded.dumps() == pipeline.dumps()
    assert "haystack_integrations.components.retrievers.clip_qdrant.retriever.ClipQdrantRetriever" in pipeline.dumps()
    request = {"embed": {"text": "an animal"}}
    found = loaded.run(request)["find"]["documents"]
    assert names(found) == names(pipeline.run(request)["find"]["documents"])
    loaded.get_component("find").document_store.close()


def test_all_components_of_a_process_share_one_model(store: ClipQdrantDocumentStore) -> None:
    embedders = [ClipTextEmbedder(), ClipTextEmbedder(), ClipDocumentImageEmbedder()]
    for each in embedders:
        each.warm_up()

    assert {id(each._embedder) for each in embedders} == {id(store.images.embedder)}


def test_async_code_gets_the_same(store: ClipQdrantDocumentStore) -> None:
    pipeline = make_search(store)
    request = {"embed": {"text": "a bird"}}

    found = asyncio.run(pipeline.run_async(request))

    assert names(found["find"]["documents"]) == names(pipeline.run(request)["find"]["documents"])


def test_images_are_found_by_an_image(store: ClipQdrantDocumentStore, folder: Path) -> None:
    path = folder / ROWS[2]["file_name"]
    retriever = ClipQdrantRetriever(store, top_k=1)
    content = ImageContent(base64.b64encode(path.read_bytes()).decode(), mime_type="image/webp")
    for image in (str(path), ByteStream.from_file_path(path), content):
        (document,) = retriever.run(query_image=image)["documents"]
        assert names([document]) == [ROWS[2]["file_name"]]
        assert document.score == pytest.approx(1, abs=1e-4)


def test_content_that_is_no_base64_is_no_image(store: ClipQdrantDocumentStore) -> None:
    content = ImageContent("?", mime_type="image/webp", validation=False)

    with pytest.raises(NotAnImage, match="no image in base64"):
        ClipQdrantRetriever(store).run(query_image=content)


def test_a_text_and_an_image_are_added_up(store: ClipQdrantDocumentStore, folder: Path) -> None:
    retriever = ClipQdrantRetriever(store, search_options={"vectors": True})

    found = retriever.run(query="a bird", query_image=str(folder / ROWS[2]["file_name"]), top_k=2)["documents"]

    assert len(found) == 2
    assert all(len(document.embedding or []) == store.images.embedder.dim for document in found)
    assert found[0].score is not None
    assert found[0].score < 0.99


def test_where_holds_whatever_filters_a_run_brings(store: ClipQdrantDocumentStore) -> None:
    category = ROWS[0]["category"]
    own = {"field": "meta.category", "operator": "==", "value": category}
    other = {"field": "meta.category", "operator": "!=", "value": category}
    always = ClipQdrantRetriever(store, where=f"category = '{category}'")
    replaced = ClipQdrantRetriever(store, filters=own)
    merged = ClipQdrantRetriever(store, filters=own, filter_policy="merge")

    assert always.run(query="a bird", filters=other)["documents"] == []
    assert {each.meta["category"] for each in always.run(query="a bird")["documents"]} == {category}
    assert category not in {each.meta["category"] for each in replaced.run("a bird", filters=other)["documents"]}
    wide = {"field": "meta.tags", "operator": "!=", "value": "nothing"}
    assert {each.meta["category"] for each in merged.run("a bird", filters=wide)["documents"]} == {category}


def test_texts_are_found_only_where_they_are_asked_for(store: ClipQdrantDocumentStore) -> None:
    store.write_documents([Document(id="text", content="a bird")])
    try:
        images = ClipQdrantRetriever(store, top_k=3).run("a bird")["documents"]
        both = ClipQdrantRetriever(store, top_k=3, texts=True).run("a bird")["documents"]
    finally:
        store.delete_documents(["text"])

    assert [each.id for each in both] == ["text", *(each.id for each in images[:2])]
    assert len(images) == 3
    assert "text" not in {each.id for each in images}


def test_haystacks_own_retrievers_take_it_as_theirs(store: ClipQdrantDocumentStore) -> None:
    retriever = ClipQdrantRetriever(store, top_k=2)

    by_vector = TextEmbeddingRetriever(retriever=retriever, text_embedder=ClipTextEmbedder()).run("a bird")
    by_texts = MultiQueryTextRetriever(retriever=retriever).run(queries=["a bird", "a bird"])

    assert names(by_vector["documents"]) == names(by_texts["documents"]) == names(retriever.run("a bird")["documents"])


def test_captions_of_what_is_found_get_into_a_prompt(store: ClipQdrantDocumentStore) -> None:
    pipeline = Pipeline()
    pipeline.add_component("find", ClipQdrantRetriever(store, top_k=2))
    template = "{% for image in documents %}{{ image.meta.file_path }} {% endfor %}: {{ question }}"
    pipeline.add_component("ask", PromptBuilder(template, required_variables="*"))
    pipeline.add_component("answer", MockChatGenerator())
    pipeline.connect("find.documents", "ask.documents")
    pipeline.connect("ask.prompt", "answer.messages")
    question = "a bird"

    answered = pipeline.run({"find": {"query": question}, "ask": {"question": question}})

    found = ClipQdrantRetriever(store, top_k=2).run(question)["documents"]
    assert answered["answer"]["replies"][0].text == f"{' '.join(names(found))} : {question}"


def test_documents_get_the_vectors_of_their_images(store: ClipQdrantDocumentStore, folder: Path) -> None:
    embedder = ClipDocumentImageEmbedder(root_path=str(folder))
    path = folder / ROWS[0]["file_name"]
    documents = [
        Document(id="path", meta={"file_path": path.name}),
        Document(id="bytes", blob=ByteStream.from_file_path(path, mime_type="image/webp")),
    ]

    embedded = embedder.run(documents)["documents"]

    assert [document.id for document in embedded] == ["path", "bytes"]
    assert embedded[0].embedding == pytest.approx(embedded[1].embedding, abs=1e-5)
    assert embedded[0].meta["embedding_source"] == {"type": "image", "file_path_meta_field": "file_path"}
    assert documents[0].embedding is None
    (found,) = ClipQdrantRetriever(store, top_k=1).run(query_embedding=embedded[0].embedding)["documents"]
    assert names([found]) == [path.name]
    assert asyncio.run(embedder.run_async(documents=documents))["documents"][0].id == "path"


def test_documents_without_an_image_and_paths_that_lead_away_are_refused(folder: Path) -> None:
    embedder = ClipDocumentImageEmbedder(root_path=str(folder))
    with pytest.raises(ConfigError, match=r"document text has no image: .* meta\['file_path'\]"):
        embedder.run([Document(id="text", content="words")])
    with pytest.raises(SourceError, match="leads out of root_path"):
        embedder.run([Document(meta={"file_path": "../secret.png"})])


def test_what_cannot_be_asked_is_refused(store: ClipQdrantDocumentStore) -> None:
    with pytest.raises(ConfigError, match="there are offset, score_threshold"):
        ClipQdrantRetriever(store, search_options={"treshold": 0.3})
    with pytest.raises(ConfigError, match="the number of documents is top_k"):
        ClipQdrantRetriever(store, search_options={"limit": 3})
    with pytest.raises(QueryError, match="limit must be a whole number"):
        ClipQdrantRetriever(store, top_k=0)
    retriever = ClipQdrantRetriever(store)
    with pytest.raises(QueryError, match="give query, query_embedding or query_image"):
        retriever.run()
    with pytest.raises(SourceError, match="leads out of root_path"):
        retriever.run(query_image="/etc/passwd")
    with pytest.raises(FilterError, match="no indexed field"):
        retriever.run("a bird", filters={"field": "meta.nothing", "operator": "==", "value": 1})


def test_without_the_extra_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    first = sys.modules[
        ClipQdrantDocumentStore.__module__.rpartition(".")[0]
    ]  # which all others import before Haystack

    with pytest.raises(MissingExtra, match=r"pip install 'clip-qdrant\[haystack\]'"):
        exec(compile(Path(str(first.__file__)).read_text("utf-8"), str(first.__file__), "exec"), {})
