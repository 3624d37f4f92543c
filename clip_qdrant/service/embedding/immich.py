"""Immich's machine learning, for searches: Immich's server embeds its images and texts here.

It knows the number of dimensions by the name of the model, so the model that is served has to be the one of that name.
"""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, Depends, Form, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse

from clip_qdrant.errors import ConfigError
from clip_qdrant.service.embedding.core import embed_inputs
from clip_qdrant.service.embedding.error_shapes import ERROR_RESPONSES, shape_errors, write_under
from clip_qdrant.service.embedding.model_names import check_model
from clip_qdrant.service.embedding.parts import ImagePart, TextPart
from clip_qdrant.service.security.access import Access, needs

__all__ = ["router"]

_TYPES = {"visual": "image", "textual": "text"}


router = APIRouter(tags=["embeddings"], route_class=shape_errors(write_under("detail")), responses=ERROR_RESPONSES)


@router.get("/ping", summary="Tell Immich that the service is there", response_class=PlainTextResponse)
async def ping() -> PlainTextResponse:
    """Answers `pong`."""
    return PlainTextResponse("pong")


@router.post("/predict", summary="Embed a text or an image: Immich")
async def predict(
    entries: Annotated[str, Form(description='{"clip": {"visual" or "textual": {"modelName": "ViT-B-32__openai"}}}')],
    access: Annotated[Access, Depends(needs("read"))],
    image: UploadFile | None = None,
    text: Annotated[str | None, Form()] = None,
) -> JSONResponse:
    """The vector as the text of a JSON array, and the size of an image."""
    kind = _read_kind(entries, access.service.options.model_names)
    if kind == "visual" and image is not None:
        embedded = await embed_inputs([(ImagePart(await image.read()),)], access.service)
    elif kind == "textual" and text is not None:
        embedded = await embed_inputs([(TextPart(text),)], access.service)
    else:
        raise ConfigError(f"the form has no {_TYPES[kind]}, which the entries name")
    sizes = [{"imageHeight": height, "imageWidth": width} for width, height in embedded.sizes]
    return JSONResponse({"clip": json.dumps(embedded.rows[0].tolist()), **(sizes[0] if sizes else {})})


def _read_kind(entries: str, names: tuple[str, ...]) -> str:
    """What is to be embedded, "visual" or "textual". Raises ConfigError, and NotServed for another model."""
    try:
        said = json.loads(entries)
        (task, types), *others = said.items()
        (kind, entry), *more = types.items()
        model = entry["modelName"]
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise ConfigError(
            f"the entries {entries[:200]!r} are not those of Immich: one task, one type, its modelName"
        ) from error
    if task != "clip" or kind not in _TYPES or others or more:
        raise ConfigError(
            f"the task {task!r} of the type {kind!r} is not done here, but clip, visual or textual, one at a time; "
            "faces and texts in images are for Immich's own service"
        )
    check_model(str(model), names)
    return str(kind)
