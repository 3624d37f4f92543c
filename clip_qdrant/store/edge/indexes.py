"""The part of EdgeClient that says what points can be found by: payload indexes, and the names of vectors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import qdrant_edge as engine
from qdrant_client import models

from clip_qdrant.errors import InvalidRequest
from clip_qdrant.store.edge.collections import DONE, EdgeCollections, check_options
from clip_qdrant.store.edge.convert.config_changes import add_vector, remove_vector
from clip_qdrant.store.edge.convert.configs import to_create_vector
from clip_qdrant.store.edge.convert.indexes import is_index, to_index

__all__ = ["EdgeIndexes"]

_INDEX_BYTES = 32  # of each point


class EdgeIndexes(EdgeCollections):
    """Add and remove payload indexes and vector names."""

    def create_payload_index(
        self,
        collection_name: str,
        field_name: str,
        field_schema: Any = None,
        field_type: Any = None,
        wait: bool = True,
        ordering: models.WriteOrdering | None = None,
        timeout: int | None = None,
        **kwargs: Any,
    ) -> models.UpdateResult:
        """Index a payload field; costs about 0.15 s, nothing if it has this index already."""
        check_options(kwargs)
        schema = field_schema if field_schema is not None else field_type
        index = to_index(schema)
        with self._folder.change(collection_name) as (_, shard, _):
            there = shard.info().payload_schema.get(field_name)
            if there is None or not is_index(there, index):
                self._folder.check_room(collection_name, lambda: _INDEX_BYTES * shard.info().points_count)
                shard.update(engine.UpdateOperation.create_field_index(field_name, index))
        return DONE.model_copy()

    def delete_payload_index(
        self,
        collection_name: str,
        field_name: str,
        wait: bool = True,
        ordering: models.WriteOrdering | None = None,
        timeout: int | None = None,
        **kwargs: Any,
    ) -> models.UpdateResult:
        """Drop the index of a payload field, the payload stays."""
        check_options(kwargs)
        with self._folder.change(collection_name) as (_, shard, _):
            shard.update(engine.UpdateOperation.delete_field_index(field_name))
        return DONE.model_copy()

    def create_vector_name(
        self,
        collection_name: str,
        vector_name: str,
        vector_name_config: models.VectorNameConfig,
        wait: bool = True,
        ordering: models.WriteOrdering | None = None,
        timeout: int | None = None,
        **kwargs: Any,
    ) -> models.UpdateResult:
        """Let points have a vector of one more name. Does nothing if they may already, with the same parameters.

        Raises InvalidRequest if there is another vector of that name.
        """
        check_options(kwargs)
        with self._folder.reconfigure(collection_name) as (entry, shard, opened, save):
            config = add_vector(entry, vector_name, vector_name_config)
            if config is not None:
                self._folder.check_room(collection_name)
                if vector_name:  # what is left of one that was deleted when the process died
                    shard.update(engine.UpdateOperation.delete_vector_name(vector_name))
                shard.update(to_create_vector(vector_name, replace(entry, config=config)))
                # The engine does not get over a crash with a name that was deleted and made anew in its log.
                opened.flush()
                save(config)
        return DONE.model_copy()

    def delete_vector_name(
        self,
        collection_name: str,
        vector_name: str,
        wait: bool = True,
        ordering: models.WriteOrdering | None = None,
        timeout: int | None = None,
        **kwargs: Any,
    ) -> models.UpdateResult:
        """Remove a vector name, and the vectors of that name from all points. Does nothing if there is none."""
        check_options(kwargs)
        with self._folder.reconfigure(collection_name) as (entry, shard, opened, save):
            if vector_name not in entry.dense and vector_name not in entry.sparse:
                return DONE.model_copy()
            if vector_name == "" and isinstance(entry.config.vectors, models.VectorParams):
                raise InvalidRequest("the unnamed vector cannot be deleted: it is the only dense one of the collection")
            self._folder.check_room(collection_name)
            save(remove_vector(entry, vector_name))
            opened.forget_vector(vector_name)  # its files go with the next line, which is no damage
            shard.update(engine.UpdateOperation.delete_vector_name(vector_name))
            opened.flush()
        return DONE.model_copy()
