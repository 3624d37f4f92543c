"""One collection as store.json keeps it: where its shard lies, how it is configured, its metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from qdrant_client import models

__all__ = ["CollectionEntry"]


@dataclass(frozen=True)
class CollectionEntry:
    """A collection: the folder of its shard, what was asked for when it was made or changed since, its metadata.

    `config` holds all but the metadata, so that a null in these stays what it is.
    """

    folder: str
    config: models.CreateCollection
    metadata: dict[str, Any] | None = None

    @cached_property
    def dense(self) -> Mapping[str, models.VectorParams]:
        """The parameters of dense vectors and multivectors by name; that of the unnamed vector is ""."""
        vectors = self.config.vectors
        return {"": vectors} if isinstance(vectors, models.VectorParams) else vectors or {}

    @cached_property
    def sparse(self) -> Mapping[str, models.SparseVectorParams]:
        """The parameters of sparse vectors by name."""
        return self.config.sparse_vectors or {}

    def to_json(self) -> dict[str, Any]:
        """The entry in JSON types; `from_json` reads it."""
        config = self.config.model_dump(mode="json", exclude_none=True)
        return {"folder": self.folder, "config": config, "metadata": self.metadata}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CollectionEntry:
        """What `to_json` gave. Raises ValueError, KeyError or TypeError for anything else."""
        return cls(data["folder"], models.CreateCollection.model_validate(data["config"]), data["metadata"])
