"""LangChain and LlamaIndex leave no trace in the home and call nobody, from their import to an answer."""

from __future__ import annotations

import importlib.util

import pytest
from computer import Computer, make_computer

LLAMA_INDEX = """
from PIL import Image
from llama_index.core.indices import MultiModalVectorStoreIndex
from llama_index.core.llms.mock import MockFunctionCallingLLM
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import Document, ImageNode
from qdrant_client import QdrantClient
from clip_qdrant import ClipEmbedder, ImageCollection
from clip_qdrant.integrations.llama_index import ClipMultiModalEmbedding, ImageNodeRetriever, ImageNodeStore

Image.new("RGB", (64, 64), "red").save("red.png")
photos = ImageCollection("photos", ClipEmbedder.load(), QdrantClient(":memory:"))
embedding = ClipMultiModalEmbedding(photos.embedder)
texts = SentenceSplitter(chunk_size=20, chunk_overlap=0).get_nodes_from_documents([Document(text="Red. Blue. " * 20)])
nodes = [ImageNode(image_path="red.png", text="red"), *texts]
MultiModalVectorStoreIndex(
    nodes, embed_model=embedding, image_embed_model=embedding, image_vector_store=ImageNodeStore(photos)
).as_retriever().retrieve("red")
model = MockFunctionCallingLLM(is_chat_model=True)
engine = RetrieverQueryEngine.from_args(ImageNodeRetriever(photos), llm=model, multimodal=True)
assert engine.query("red").source_nodes
"""
LANGCHAIN = """
from clip_qdrant.integrations.langchain import ClipImageRetriever, ClipSearchTool, ClipVectorStore

ClipVectorStore(photos).add_texts(["a text"])
assert ClipImageRetriever(images=photos).batch(["red", "blue"])
assert ClipSearchTool(images=photos).invoke({"query": "red"})
"""


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Computer:
    """A computer on which both were used, LangChain where it is installed."""
    computer = make_computer(tmp_path_factory.mktemp("computer"))
    computer.run("-c", LLAMA_INDEX + (LANGCHAIN if importlib.util.find_spec("langchain_core") else ""))
    return computer


@pytest.mark.slow
def test_no_file_but_ours_appears_in_the_home(used: Computer) -> None:
    assert used.files() == []


@pytest.mark.slow
def test_no_name_is_looked_up_and_no_address_called(used: Computer) -> None:
    if used.library is None:
        pytest.skip("no C compiler, or no Linux: what native code looks up cannot be seen")
    assert used.asked.read_text().splitlines() == []
