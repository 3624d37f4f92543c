"""Texts as sparse vectors by BM25, the one model that the engine brings along: models.Document(model="qdrant/bm25")."""

from __future__ import annotations

from collections.abc import Mapping

import qdrant_edge as engine
from pydantic import ValidationError
from qdrant_client import models

from clip_qdrant.errors import InvalidPoint, UnsupportedByEdge, first_line
from clip_qdrant.store.edge.convert.indexes import to_options

__all__ = ["embed_text"]

_NAME = "qdrant/bm25"


def embed_text(name: str, document: models.Document, *, is_query: bool) -> engine.SparseVector:
    """The terms of a text with their weights: those of a document, or 1 each for a query, as a server makes them.

    Raises UnsupportedByEdge for another model, InvalidPoint naming the point for options that the model has not.
    """
    if document.model.lower() != _NAME:
        raise UnsupportedByEdge(f"the inference of vectors (the model {document.model!r}; {_NAME!r} it has)")
    try:
        given = document.options or {}
        config = models.Bm25Config.model_validate(given) if isinstance(given, Mapping) else given
        options = {field: value for field, value in to_options(config).items() if field in config.model_fields_set}
        model = engine.Bm25(engine.Bm25Config(**options))
    except (ValidationError, ValueError, TypeError) as error:
        raise InvalidPoint(f"{name}: the options of {_NAME} are wrong ({first_line(error)})") from error
    return model.embed_query(document.text) if is_query else model.embed_document(document.text)
