"""How a collection is configured: what is asked for, what the engine is told of it, and what get_collection says."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import qdrant_edge as engine
from pydantic import BaseModel, ValidationError
from qdrant_client import models

from clip_qdrant.errors import InvalidRequest, UnsupportedByEdge
from clip_qdrant.store.edge.entry import CollectionEntry

__all__ = [
    "check_config",
    "check_size",
    "check_vector_name",
    "create_shard",
    "describe_config",
    "merge",
    "to_create_vector",
    "to_edge_config",
    "validate_config",
]

_NAME_CHARACTERS_REFUSED = frozenset('<>:"/\\|?*\x00\x1f')  # those a server refuses
_MAX_SIZE = 65536
_HNSW = models.HnswConfig(m=16, ef_construct=100, full_scan_threshold=10000)  # the engine's own
_OPTIMIZERS = models.OptimizersConfig(
    deleted_threshold=0.2, vacuum_min_vector_number=1000, default_segment_number=0, flush_interval_sec=5
)
_WAL = models.WalConfig(wal_capacity_mb=32, wal_segments_ahead=0)
# Of the optimizers' settings, those that the engine has. It has `prevent_unoptimized` too, which would hide points
# until somebody optimizes.
_OPTIMIZERS_TOLD = (
    "deleted_threshold",
    "vacuum_min_vector_number",
    "default_segment_number",
    "max_segment_size",
    "indexing_threshold",
)
_UNTIL_MADE = "clip-qdrant: until the first vector"

_M = TypeVar("_M", bound=BaseModel)


def check_config(name: str, asked: Mapping[str, Any]) -> models.CreateCollection:
    """The configuration of a new collection, from models or dicts of them. Raises InvalidRequest."""
    if _NAME_CHARACTERS_REFUSED & set(name) or name in ("", ".", ".."):
        raise InvalidRequest(f'{name!r} is no collection name; it must not be empty or contain <>:"/\\|?*')
    if len(name) > 255:
        raise InvalidRequest(f"collection name {name[:20]!r}... has more than 255 characters")
    config = validate_config(models.CreateCollection, {option: one for option, one in asked.items() if one is not None})
    entry = CollectionEntry("", config)
    for vector_name, params in entry.dense.items():
        check_vector_name(vector_name)
        check_size(params.size)
    for vector_name in entry.sparse:
        check_vector_name(vector_name)
        if vector_name == "" or vector_name in entry.dense:
            raise InvalidRequest(f"a sparse vector cannot have the name {vector_name!r}: it stands for a dense one")
    to_edge_config(entry)
    return config


def validate_config(kind: type[_M], asked: Mapping[str, Any]) -> _M:
    """A model of its own, which shares nothing with what the caller has. Raises InvalidRequest."""
    try:
        return kind.model_validate(asked).model_copy(deep=True)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise InvalidRequest(f"the configuration is wrong in {where}: {error.errors()[0]['msg']}") from error


def check_vector_name(name: str) -> None:
    """InvalidRequest for what a server does not take as the name of a vector."""
    if _NAME_CHARACTERS_REFUSED & set(name) or name in (".", "..") or len(name.encode()) > 200:
        raise InvalidRequest(
            f'{name!r} is no name of a vector; it must not contain <>:"/\\|?* or have more than 200 bytes'
        )


def check_size(size: int) -> None:
    """InvalidRequest for what is no number of dimensions."""
    if not 1 <= size <= _MAX_SIZE:
        raise InvalidRequest(f"vector size {size} is not from 1 to {_MAX_SIZE}")


def create_shard(path: Path, entry: CollectionEntry) -> engine.EdgeShard:
    """A new shard of this configuration."""
    config = to_edge_config(entry)
    if config is not None:
        return engine.EdgeShard.create(str(path), config)
    # The engine makes no shard without vectors, and lets the last one go.
    only = engine.EdgeVectorParams(1, engine.Distance.Dot)
    shard = engine.EdgeShard.create(str(path), engine.EdgeConfig({_UNTIL_MADE: only}))
    shard.update(engine.UpdateOperation.delete_vector_name(_UNTIL_MADE))
    return shard


def to_edge_config(entry: CollectionEntry) -> engine.EdgeConfig | None:
    """The configuration of a shard as the engine takes it; None for a collection without vectors."""
    config = entry.config
    dense = {
        name: engine.EdgeVectorParams(
            **_space_options(params),
            on_disk=params.on_disk,
            memory=_memory(params.memory),
            quantization_config=_quantization(params.quantization_config),
            hnsw_config=_hnsw(config.hnsw_config, params.hnsw_config) if params.hnsw_config else None,
        )
        for name, params in entry.dense.items()
    }
    sparse = {name: engine.EdgeSparseVectorParams(**_sparse(params)) for name, params in entry.sparse.items()}
    if not dense and not sparse:
        return None
    optimizers = config.optimizers_config or models.OptimizersConfigDiff()
    told = {name: value for name in _OPTIMIZERS_TOLD if (value := getattr(optimizers, name)) is not None}
    return engine.EdgeConfig(
        vectors=dense or None,
        sparse_vectors=sparse or None,
        on_disk_payload=config.on_disk_payload,
        payload_memory=_memory(config.payload.memory) if config.payload else None,
        id_tracker_memory=_memory(config.id_tracker.memory) if config.id_tracker else None,
        hnsw_config=_hnsw(config.hnsw_config) if config.hnsw_config else None,
        quantization_config=_quantization(config.quantization_config),
        optimizers=engine.EdgeOptimizersConfig(**told) if told else None,
    )


def to_create_vector(name: str, entry: CollectionEntry) -> engine.UpdateOperation:
    """The operation that adds a vector of the configuration."""
    if name in entry.dense:
        return engine.UpdateOperation.create_dense_vector(name, **_space_options(entry.dense[name]))
    options = _sparse(entry.sparse[name])
    return engine.UpdateOperation.create_sparse_vector(name, options["modifier"], options["datatype"])


def _space_options(params: models.VectorParams) -> dict[str, Any]:
    """What defines the space of a dense vector or multivector, by the engine's names."""
    return {
        "size": params.size,
        "distance": _member(engine.Distance, params.distance),
        "datatype": _datatype(params.datatype),
        "multivector_config": engine.MultiVectorConfig(engine.MultiVectorComparator.MaxSim)
        if params.multivector_config
        else None,
    }


def _sparse(params: models.SparseVectorParams) -> dict[str, Any]:
    index = params.index or models.SparseIndexParams()
    return {
        "full_scan_threshold": index.full_scan_threshold,
        "on_disk": index.on_disk,
        "memory": _memory(index.memory),
        "datatype": _datatype(index.datatype),
        "modifier": engine.Modifier.Idf if params.modifier == models.Modifier.IDF else None,
    }


def _hnsw(*diffs: models.HnswConfigDiff | None) -> engine.HnswIndexConfig:
    options = merge(_HNSW, *diffs).model_dump(exclude_none=True)
    return engine.HnswIndexConfig(**{**options, "memory": _memory(options.get("memory"))})


def _quantization(config: models.QuantizationConfig | None) -> Any:
    match config:
        case None:
            return None
        case models.ScalarQuantization(scalar=asked):
            kind: Any = engine.ScalarQuantizationConfig
            options: dict[str, Any] = {"type": engine.ScalarType.Int8, "quantile": asked.quantile}
        case models.ProductQuantization(product=asked):
            kind, options = engine.ProductQuantizationConfig, {}
            options["compression"] = _member(engine.CompressionRatio, asked.compression)
        case models.BinaryQuantization(binary=asked):
            kind, options = engine.BinaryQuantizationConfig, {}
            options["encoding"] = _member(engine.BinaryQuantizationEncoding, asked.encoding)
            options["query_encoding"] = _member(engine.BinaryQuantizationQueryEncoding, asked.query_encoding)
        case models.TurboQuantization(turbo=asked):
            kind, options = engine.TurboQuantQuantizationConfig, {}
            options["bits"] = _member(engine.TurboQuantBitSize, asked.bits)
        case _:
            raise UnsupportedByEdge(f"the quantization {type(config).__name__}")
    return kind(**options, always_ram=asked.always_ram, memory=_memory(asked.memory))


def _memory(choice: models.Memory | None) -> Any:
    return _member(engine.Memory, choice)


def _datatype(choice: Enum | None) -> Any:
    return _member(engine.VectorStorageDatatype, choice)


def _member(kind: Any, choice: Enum | None) -> Any:
    """The engine's member of the same name: "two_bits" is TwoBits there, "bits1_5" is Bits1_5."""
    if choice is None:
        return None
    wanted = str(choice.value).replace("_", "").lower()
    for name in dir(kind):
        if not name.startswith("_") and name.replace("_", "").lower() == wanted:
            return getattr(kind, name)
    raise UnsupportedByEdge(f"{kind.__name__} {choice.value!r}")


def describe_config(entry: CollectionEntry) -> models.CollectionConfig:
    """What get_collection says of a configuration: what was asked for, and the engine's defaults."""
    config = entry.config.model_copy(deep=True)
    strict, optimizers = config.strict_mode_config, config.optimizers_config
    if optimizers and not isinstance(optimizers.max_optimization_threads, int):
        optimizers.max_optimization_threads = None  # "auto", which the description has no word for
    return models.CollectionConfig(
        params=models.CollectionParams(
            vectors=config.vectors if config.vectors is not None else {},
            sparse_vectors=config.sparse_vectors,
            on_disk_payload=True if config.on_disk_payload is None else config.on_disk_payload,
            payload=config.payload,
            id_tracker=config.id_tracker,
        ),
        hnsw_config=merge(_HNSW, config.hnsw_config),
        optimizer_config=merge(_OPTIMIZERS, optimizers),
        wal_config=merge(_WAL, config.wal_config),
        quantization_config=config.quantization_config,
        strict_mode_config=models.StrictModeConfigOutput(**strict.model_dump()) if strict else None,
        metadata=dict(entry.metadata) if entry.metadata is not None else None,
    )


def merge(base: _M, *diffs: BaseModel | None) -> _M:
    """A model with the fields that are set in each diff in turn."""
    changes: dict[str, Any] = {}
    for diff in diffs:
        if diff is not None:
            changes.update({name: getattr(diff, name) for name in diff.model_fields_set})
    kept = {name: value for name, value in changes.items() if value is not None}
    return base.model_copy(update=kept)
