"""ClipImageRetriever: finds images by what they show, as Documents, in any chain of LangChain."""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables.config import run_in_executor
from pydantic import Field

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.search.options import SearchOptions
from clip_qdrant.integrations.find_images import find_images, limit_to
from clip_qdrant.integrations.langchain.documents import make_image_document

__all__ = ["ClipImageRetriever"]


class ClipImageRetriever(BaseRetriever):
    """The `k` images of a collection that are most like the query, best first.

    The content of a Document is the caption of the image, "" where it has none. Its metadata are those of the image,
    and `taken_at`, `location`, `uri`, `score` and `relevance`, which go before fields of that name. `filter` is what
    `where` of a search is: text, a dict or a models.Filter. `options` are all others; `k` is their limit.
    `invoke(query, k=…, filter=…)` says otherwise for one call. Texts that a ClipVectorStore put beside the images are
    not found. Raises QueryError, FilterError, StoreError.
    """

    images: ImageCollection
    k: int = 4
    filter: Any = None  # a Where: pydantic can make no schema of it, nor of SearchOptions; the search checks both
    options: Any = Field(default_factory=SearchOptions)

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002  # LangChain asks whether there is one
        k: int | None = None,
        filter: Any = None,
    ) -> list[Document]:
        hits = find_images(
            self.images,
            query,
            where=self.filter if filter is None else filter,
            options=limit_to(self.k if k is None else k, self.options),
        )
        return [make_image_document(hit) for hit in hits]

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,
        k: int | None = None,
        filter: Any = None,
    ) -> list[Document]:
        return await run_in_executor(
            None, self._get_relevant_documents, query, run_manager=run_manager.get_sync(), k=k, filter=filter
        )
