"""The half of EdgeClient that is about collections: their metadata, aliases and payload indexes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any

import qdrant_edge as engine
from pydantic_core import PydanticSerializationError, to_jsonable_python
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from clip_qdrant.errors import StoreError, UnsupportedByEdge
from clip_qdrant.store.edge.convert.configs import check_config, describe_config
from clip_qdrant.store.edge.convert.indexes import from_index_info, is_index, to_index
from clip_qdrant.store.edge.files.folder import EdgeFolder

__all__ = ["DONE", "EdgeCollections", "check_options"]

# Arguments of QdrantClient that change nothing here: every write is complete when the call returns.
_HARMLESS = frozenset({"wait", "ordering", "timeout", "consistency", "parallel", "method", "max_retries"})
_DEFAULTS = {"shard_number": 1, "replication_factor": 1, "write_consistency_factor": 1, "using": "", "prefetch": []}
_INDEX_BYTES = 32  # of each point
DONE = models.UpdateResult(operation_id=0, status=models.UpdateStatus.COMPLETED)


class EdgeCollections(QdrantBase):
    """Create, describe and delete collections in a local folder. EdgeClient adds the points."""

    def __init__(self, path: str | PathLike[str]) -> None:
        super().__init__()
        self._folder = EdgeFolder(Path(path).expanduser())

    def info(self) -> models.VersionInfo:
        """The engine and its version."""
        return models.VersionInfo(title="qdrant-edge-py", version=version("qdrant-edge-py"))

    def create_collection(
        self,
        collection_name: str,
        vectors_config: models.VectorParams | Mapping[str, models.VectorParams] | None = None,
        sparse_vectors_config: Mapping[str, models.SparseVectorParams] | None = None,
        shard_number: int | None = None,
        sharding_method: models.ShardingMethod | None = None,
        replication_factor: int | None = None,
        write_consistency_factor: int | None = None,
        on_disk_payload: bool | None = None,
        hnsw_config: models.HnswConfigDiff | None = None,
        optimizers_config: models.OptimizersConfigDiff | None = None,
        wal_config: models.WalConfigDiff | None = None,
        quantization_config: models.QuantizationConfig | None = None,
        timeout: int | None = None,
        strict_mode_config: models.StrictModeConfig | None = None,
        metadata: dict[str, Any] | None = None,
        payload: models.PayloadStorageParams | None = None,
        id_tracker: models.IdTrackerParams | None = None,
        **kwargs: Any,
    ) -> bool:
        """An empty collection. Raises CollectionExists, or StoreError for a configuration that makes none.

        Limits of strict mode and the settings of the write-ahead log are kept and told by `get_collection`, and change
        nothing here. Those of indexes, quantization and optimizers count from the next `optimize` on.
        """
        cluster = {
            "shard_number": shard_number,
            "sharding_method": sharding_method,
            "replication_factor": replication_factor,
            "write_consistency_factor": write_consistency_factor,
        }
        check_options({**cluster, **kwargs})
        asked = {
            "vectors": vectors_config,
            "sparse_vectors": sparse_vectors_config,
            "on_disk_payload": on_disk_payload,
            "hnsw_config": hnsw_config,
            "optimizers_config": optimizers_config,
            "wal_config": wal_config,
            "quantization_config": quantization_config,
            "strict_mode_config": strict_mode_config,
            "payload": payload,
            "id_tracker": id_tracker,
        }
        config, described = check_config(collection_name, asked), to_json_metadata(metadata)
        self._folder.create(collection_name, config, described)
        return True

    def recreate_collection(
        self,
        collection_name: str,
        vectors_config: models.VectorParams | Mapping[str, models.VectorParams] | None = None,
        sparse_vectors_config: Mapping[str, models.SparseVectorParams] | None = None,
        shard_number: int | None = None,
        sharding_method: models.ShardingMethod | None = None,
        replication_factor: int | None = None,
        write_consistency_factor: int | None = None,
        on_disk_payload: bool | None = None,
        hnsw_config: models.HnswConfigDiff | None = None,
        optimizers_config: models.OptimizersConfigDiff | None = None,
        wal_config: models.WalConfigDiff | None = None,
        quantization_config: models.QuantizationConfig | None = None,
        timeout: int | None = None,
        strict_mode_config: models.StrictModeConfig | None = None,
        metadata: dict[str, Any] | None = None,
        payload: models.PayloadStorageParams | None = None,
        id_tracker: models.IdTrackerParams | None = None,
        **kwargs: Any,
    ) -> bool:
        """Delete the collection if it is there and create it empty. What cannot be created deletes nothing."""
        cluster = {
            "shard_number": shard_number,
            "sharding_method": sharding_method,
            "replication_factor": replication_factor,
            "write_consistency_factor": write_consistency_factor,
        }
        check_options({**cluster, **kwargs})
        asked = {
            "vectors": vectors_config,
            "sparse_vectors": sparse_vectors_config,
            "on_disk_payload": on_disk_payload,
            "hnsw_config": hnsw_config,
            "optimizers_config": optimizers_config,
            "wal_config": wal_config,
            "quantization_config": quantization_config,
            "strict_mode_config": strict_mode_config,
            "payload": payload,
            "id_tracker": id_tracker,
        }
        config, described = check_config(collection_name, asked), to_json_metadata(metadata)
        self._folder.delete(collection_name)
        self._folder.create(collection_name, config, described)
        return True

    def delete_collection(self, collection_name: str, **kwargs: Any) -> bool:
        """Delete a collection and its aliases; False if there is none of that name."""
        check_options(kwargs)
        return self._folder.delete(collection_name)

    def update_collection(self, collection_name: str, metadata: Mapping[str, Any] | None = None, **kwargs: Any) -> bool:
        """Merge `metadata` into the collection's at the top level; a None value removes its key."""
        check_options(kwargs)
        self._folder.catalog().resolve(collection_name)
        if metadata is None:
            return False
        with self._folder.edit() as catalog:
            name = catalog.resolve(collection_name)
            entry = catalog.collections[name]
            merged = {**(entry.metadata or {}), **(to_json_metadata(metadata) or {})}
            kept = {key: value for key, value in merged.items() if value is not None}
            catalog.collections[name] = replace(entry, metadata=kept)
        return True

    def collection_exists(self, collection_name: str, **kwargs: Any) -> bool:
        """Whether the name is that of a collection or an alias."""
        check_options(kwargs)
        catalog = self._folder.catalog()
        return catalog.aliases.get(collection_name, collection_name) in catalog.collections

    def get_collections(self, **kwargs: Any) -> models.CollectionsResponse:
        """The names of all collections; opens none."""
        check_options(kwargs)
        names = self._folder.catalog().collections
        return models.CollectionsResponse(collections=[models.CollectionDescription(name=name) for name in names])

    def get_collection(self, collection_name: str, **kwargs: Any) -> models.CollectionInfo:
        """Size, configuration, payload indexes and metadata of a collection."""
        check_options(kwargs)
        with self._folder.use(collection_name) as (entry, shard):
            info = shard.info()
        return models.CollectionInfo(
            status=models.CollectionStatus.GREEN,
            optimizer_status=models.OptimizersStatusOneOf.OK,
            indexed_vectors_count=info.indexed_vectors_count,
            points_count=info.points_count,
            segments_count=info.segments_count,
            payload_schema={name: from_index_info(index) for name, index in info.payload_schema.items()},
            config=describe_config(entry),
        )

    def update_collection_aliases(
        self, change_aliases_operations: Sequence[models.AliasOperations], **kwargs: Any
    ) -> bool:
        """Apply all operations or, if one fails, none."""
        check_options(kwargs)
        with self._folder.edit() as catalog:
            for operation in change_aliases_operations:
                match operation:
                    case models.CreateAliasOperation(create_alias=new):
                        if new.collection_name not in catalog.collections:  # an alias of an alias is refused too
                            raise catalog.not_found(new.collection_name)
                        _refuse_taken(new.alias_name, catalog.collections)
                        catalog.aliases[new.alias_name] = new.collection_name
                    case models.DeleteAliasOperation(delete_alias=old):
                        catalog.aliases.pop(old.alias_name, None)
                    case models.RenameAliasOperation(rename_alias=names):
                        _refuse_taken(names.new_alias_name, catalog.collections)
                        if names.old_alias_name not in catalog.aliases:
                            raise StoreError(f"there is no alias {names.old_alias_name!r} to rename")
                        catalog.aliases[names.new_alias_name] = catalog.aliases.pop(names.old_alias_name)
                    case _:
                        raise UnsupportedByEdge(f"the alias operation {type(operation).__name__}")
        return True

    def get_aliases(self, **kwargs: Any) -> models.CollectionsAliasesResponse:
        check_options(kwargs)
        pairs = self._folder.catalog().aliases.items()
        return models.CollectionsAliasesResponse(
            aliases=[models.AliasDescription(alias_name=alias, collection_name=name) for alias, name in pairs]
        )

    def get_collection_aliases(self, collection_name: str, **kwargs: Any) -> models.CollectionsAliasesResponse:
        check_options(kwargs)
        everything = self.get_aliases().aliases
        return models.CollectionsAliasesResponse(
            aliases=[one for one in everything if one.collection_name == collection_name]
        )

    # Payload indexes

    def create_payload_index(
        self, collection_name: str, field_name: str, field_schema: Any = None, field_type: Any = None, **kwargs: Any
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
        return DONE

    def delete_payload_index(self, collection_name: str, field_name: str, **kwargs: Any) -> models.UpdateResult:
        """Drop the index of a payload field, the payload stays."""
        check_options(kwargs)
        with self._folder.change(collection_name) as (_, shard, _):
            shard.update(engine.UpdateOperation.delete_field_index(field_name))
        return DONE


def check_options(options: Mapping[str, Any]) -> None:
    """UnsupportedByEdge for an option that asks for something which is not done here."""
    for name, value in options.items():
        if value is not None and name not in _HARMLESS and (name not in _DEFAULTS or value != _DEFAULTS[name]):
            raise UnsupportedByEdge(f"the option {name}={value!r}")


def to_json_metadata(metadata: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Metadata in JSON types. StoreError for what has none."""
    try:
        plain: dict[str, Any] | None = to_jsonable_python(metadata)
        json.dumps(plain, allow_nan=False).encode()
    except (PydanticSerializationError, ValueError) as error:
        raise StoreError(f"the metadata of a collection cannot be stored as JSON ({error})") from error
    return plain


def _refuse_taken(alias: str, collections: Mapping[str, object]) -> None:
    if alias in collections:
        raise StoreError(f"{alias!r} is a collection, and an alias must not have the name of one")
