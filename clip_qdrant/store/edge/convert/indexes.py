"""Payload indexes."""

from __future__ import annotations

from typing import Any

import qdrant_edge as engine
from qdrant_client import models

from clip_qdrant.errors import StoreError, UnsupportedByEdge

__all__ = ["from_index_info", "is_index", "to_index"]


def to_index(schema: object) -> Any:
    """The type or parameters of a payload index. UnsupportedByEdge for parameters that do not carry over."""
    if isinstance(schema, str):  # models.PayloadSchemaType is a str too
        if schema not in (kinds := [kind.value for kind in models.PayloadSchemaType]):
            raise StoreError(f"{schema!r} is no type of payload index; there are {', '.join(kinds)}")
        return getattr(engine.PayloadSchemaType, models.PayloadSchemaType(schema).value.capitalize())
    if type(schema).__name__ not in dir(models) or not hasattr(engine, type(schema).__name__):
        raise UnsupportedByEdge(f"a payload index given as {type(schema).__name__}")
    options: dict[str, Any] = schema.model_dump(exclude_none=True, exclude={"type"})  # type: ignore[attr-defined]  # checked: a pydantic model of models.*IndexParams
    for name in ("stopwords", "stemmer", "memory", "scoring"):
        if name in options:
            raise UnsupportedByEdge(f"a payload index with {name}")
    if "tokenizer" in options:
        options["tokenizer"] = getattr(engine.TokenizerType, models.TokenizerType(options["tokenizer"]).capitalize())
    return getattr(engine, type(schema).__name__)(**options)


def is_index(there: engine.PayloadIndexInfo, wanted: object) -> bool:
    """Whether a payload index is the one that `wanted`, from `to_index`, asks for."""
    if there.params is None or type(there.params) is not type(wanted):
        return there.params is None and there.data_type == wanted
    # The engine's parameters are equal only to themselves.
    names = [name for name in dir(wanted) if not name.startswith("_")]
    return all(getattr(there.params, name) == getattr(wanted, name) for name in names)


def from_index_info(info: engine.PayloadIndexInfo) -> models.PayloadIndexInfo:
    """What a collection tells of one payload index."""
    kind = models.PayloadSchemaType(str(info.data_type).rpartition(".")[2].lower())
    params = None
    if isinstance(info.params, engine.TextIndexParams):
        params = models.TextIndexParams(
            type=models.TextIndexType.TEXT,
            tokenizer=models.TokenizerType(str(info.params.tokenizer).rpartition(".")[2].lower()),
            lowercase=info.params.lowercase,
            phrase_matching=info.params.phrase_matching,
            min_token_len=info.params.min_token_len,
            max_token_len=info.params.max_token_len,
        )
    return models.PayloadIndexInfo(data_type=kind, params=params, points=info.points)
