"""The part of EdgeClient that is about collections: how they are configured, their metadata."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any

from pydantic_core import PydanticSerializationError, to_jsonable_python
from qdrant_client import QdrantClient, models
from qdrant_client.client_base import QdrantBase
from qdrant_client.migrate.migrate import migrate

from clip_qdrant.errors import InvalidRequest, UnsupportedByEdge
from clip_qdrant.store.edge.convert.config_changes import change_config
from clip_qdrant.store.edge.convert.configs import check_config, describe_config
from clip_qdrant.store.edge.convert.indexes import from_index_info
from clip_qdrant.store.edge.files.folder import EdgeFolder

__all__ = ["DONE", "EdgeCollections", "check_options"]

# Arguments of QdrantClient that change nothing here: every write is complete when the call returns.
_HARMLESS = frozenset({"wait", "ordering", "timeout", "consistency", "parallel", "method", "max_retries"})
_DEFAULTS = {"shard_number": 1, "replication_factor": 1, "write_consistency_factor": 1, "using": "", "prefetch": []}
DONE = models.UpdateResult(operation_id=0, status=models.UpdateStatus.COMPLETED)


class EdgeCollections(QdrantBase):
    """Create, describe and delete collections in a local folder. EdgeClient adds the points."""

    def __init__(self, path: str | PathLike[str]) -> None:
        super().__init__()
        self._folder = EdgeFolder(Path(path).expanduser())

    def migrate(
        self,
        dest_client: QdrantBase,
        collection_names: list[str] | None = None,
        batch_size: int = 100,
        recreate_on_collision: bool = False,
    ) -> None:
        """Copy collections, all of them unless some are named, to another client."""
        migrate(self, dest_client, collection_names, recreate_on_collision, batch_size)

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
        """An empty collection. Raises CollectionExists, or InvalidRequest for a configuration that makes none.

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
        self._folder.recreate(collection_name, config, described)
        return True

    def delete_collection(self, collection_name: str, timeout: int | None = None, **kwargs: Any) -> bool:
        """Delete a collection and its aliases; False if there is none of that name."""
        check_options(kwargs)
        return self._folder.delete(collection_name)

    def update_collection(
        self,
        collection_name: str,
        optimizers_config: models.OptimizersConfigDiff | None = None,
        collection_params: models.CollectionParamsDiff | None = None,
        vectors_config: Mapping[str, models.VectorParamsDiff] | None = None,
        hnsw_config: models.HnswConfigDiff | None = None,
        quantization_config: models.QuantizationConfigDiff | None = None,
        timeout: int | None = None,
        sparse_vectors_config: Mapping[str, models.SparseVectorParams] | None = None,
        strict_mode_config: models.StrictModeConfig | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> bool:
        """Change what is given and leave the rest; False if nothing is.

        `metadata` is merged at the top level, and None removes a key. Settings of indexes, quantization, storage and
        optimizers count from the next `optimize` on.
        """
        check_options(kwargs)
        asked = {
            "optimizers_config": optimizers_config,
            "params": collection_params,
            "vectors": vectors_config,
            "hnsw_config": hnsw_config,
            "quantization_config": quantization_config,
            "sparse_vectors": sparse_vectors_config,
            "strict_mode_config": strict_mode_config,
        }
        changes = {option: value for option, value in asked.items() if value is not None}
        merged = to_json_metadata(metadata)
        self._folder.catalog().resolve(collection_name)
        if not changes and merged is None:
            return False
        with self._folder.edit() as catalog:
            name = catalog.resolve(collection_name)
            entry = catalog.collections[name]
            config = change_config(entry, changes)
            kept = entry.metadata
            if merged is not None:
                kept = {key: one for key, one in {**(entry.metadata or {}), **merged}.items() if one is not None}
            catalog.collections[name] = replace(entry, config=config, metadata=kept)
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


def check_options(options: Mapping[str, Any]) -> None:
    """UnsupportedByEdge for an option that asks for what is not done here, InvalidRequest for one that nothing has."""
    for name, value in options.items():
        if value is not None and name not in _HARMLESS and (name not in _DEFAULTS or value != _DEFAULTS[name]):
            if not _has_option(name):
                raise InvalidRequest(f"there is no option {name!r}, given as {repr(value)[:80]}: is it misspelt?")
            raise UnsupportedByEdge(f"the option {name}={value!r}")


def _has_option(name: str) -> bool:
    """Whether some method of a client has an argument of this name."""
    methods = (method for _, method in inspect.getmembers(QdrantClient, inspect.isfunction))
    return any(name in inspect.signature(method).parameters for method in methods)


def to_json_metadata(metadata: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Metadata in JSON types. InvalidRequest for what has none."""
    try:
        plain: dict[str, Any] | None = to_jsonable_python(metadata)
        json.dumps(plain, allow_nan=False).encode()
    except (PydanticSerializationError, ValueError) as error:
        raise InvalidRequest(f"the metadata of a collection cannot be stored as JSON ({error})") from error
    return plain
