"""ClipSearchTool: lets an agent look for images, by what they show and by their fields."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any, Literal

from langchain_core.callbacks import AsyncCallbackManagerForToolRun, CallbackManagerForToolRun
from langchain_core.documents import Document
from langchain_core.runnables.config import run_in_executor
from langchain_core.tools import BaseTool, ToolException
from pydantic import BaseModel, Field, ValidationError

from clip_qdrant.collection.hits import Hit
from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.search.options import SearchOptions
from clip_qdrant.errors import FilterError, QueryError
from clip_qdrant.fields.types import METADATA_PREFIX
from clip_qdrant.integrations.find_images import find_images, join_filters, limit_to
from clip_qdrant.integrations.langchain.documents import make_image_document
from clip_qdrant.pages.thumbnails import make_thumbnail

__all__ = ["ClipSearchTool"]

_MOST = 50  # images of one answer, whatever an agent asks for
_MOST_FIELDS = 50  # of a description, which every question of a model carries
_COMMON_FIELDS = ("caption", "taken_at", "location", "image.width", "image.height")  # those that people ask by


def _explain_arguments(error: ValidationError) -> str:
    """What an agent is told of arguments that are none."""
    return "; ".join(f"{'.'.join(map(str, part['loc']))}: {part['msg']}" for part in error.errors())


class ImageQuestion(BaseModel):
    """What an agent asks for."""

    query: str = Field(description="What the images should show, in a few words, such as 'a cat asleep on a sofa'.")
    where: str | None = Field(
        default=None,
        description="A condition on fields that the images must meet, such as \"year >= 2022 and album = 'pets'\".",
    )
    limit: int | None = Field(default=None, ge=1, le=_MOST, description="The number of images wanted.")


class ClipSearchTool(BaseTool):
    """A tool that finds images; its answer names uri, caption, score and fields of each, its artifact are Documents.

    The agent may ask for a condition and a number (`k` without one); `filter` holds besides, whatever it asks for. With
    `thumbnail_side` the answer has small pictures of local files too, at most so many pixels wide and high, for models
    that see. What an agent gets wrong, such as a field that is not there, it is told, and it can ask again.
    """

    name: str = "search_images"
    description: str = ""
    args_schema: type[BaseModel] = ImageQuestion
    response_format: Literal["content", "content_and_artifact"] = "content_and_artifact"
    handle_tool_error: Any = True
    handle_validation_error: Any = _explain_arguments
    images: ImageCollection
    k: int = 4
    filter: Any = None  # a Where: pydantic can make no schema of it, nor of SearchOptions; the search checks both
    options: Any = Field(default_factory=SearchOptions)
    thumbnail_side: int | None = Field(default=None, ge=1)

    def model_post_init(self, context: Any, /) -> None:
        super().model_post_init(context)
        if not self.description:
            self.description = _describe(self.images)

    def _run(
        self,
        query: str,
        where: str | None = None,
        limit: int | None = None,
        run_manager: CallbackManagerForToolRun | None = None,  # noqa: ARG002  # LangChain asks whether there is one
    ) -> tuple[str | list[str | dict[str, Any]], list[Document]]:
        try:
            hits = find_images(
                self.images,
                query,
                where=join_filters(self.filter, where),
                options=limit_to(self.k if limit is None else limit, self.options),
            )
        except (FilterError, QueryError) as error:
            raise ToolException(str(error)) from error
        return self._tell(hits) if hits else str(hits.reason), [make_image_document(hit) for hit in hits]

    async def _arun(
        self,
        query: str,
        where: str | None = None,
        limit: int | None = None,
        run_manager: AsyncCallbackManagerForToolRun | None = None,  # noqa: ARG002  # as above
    ) -> tuple[str | list[str | dict[str, Any]], list[Document]]:
        return await run_in_executor(None, self._run, query, where, limit)

    def _tell(self, hits: list[Hit]) -> str | list[str | dict[str, Any]]:
        if self.thumbnail_side is None:
            return "\n".join(map(_tell_hit, hits))
        blocks: list[str | dict[str, Any]] = []
        for hit in hits:
            blocks.append({"type": "text", "text": _tell_hit(hit)})
            picture = None if hit.path is None else make_thumbnail(hit.path, side=self.thumbnail_side)
            if picture is not None:
                blocks.append({"type": "image", "base64": picture.partition(",")[2], "mime_type": "image/jpeg"})
        return blocks


def _describe(images: ImageCollection) -> str:
    own = {name: kind for name, kind in images.fields.items() if name.startswith(METADATA_PREFIX)}
    told = {**dict(islice(own.items(), _MOST_FIELDS)), **{name: images.fields[name] for name in _COMMON_FIELDS}}
    fields = ", ".join(f"{name.removeprefix(METADATA_PREFIX)} ({kind})" for name, kind in told.items())
    return f"Finds images in the collection {images.name!r} by what they show. Fields for conditions: {fields}."


def _tell_hit(hit: Hit) -> str:
    """One line of JSON, with as many digits of the scores as say something."""
    document = make_image_document(hit)
    rounded = {name: round(document.metadata[name], 3) for name in ("score", "relevance") if name in document.metadata}
    return json.dumps({"caption": document.page_content, **document.metadata, **rounded}, ensure_ascii=False)
