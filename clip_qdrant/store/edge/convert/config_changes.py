"""Changes of how a collection is configured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter, ValidationError
from qdrant_client import models

from clip_qdrant.errors import InvalidRequest, UnsupportedByEdge, first_line
from clip_qdrant.store.edge.convert.configs import (
    check_size,
    check_vector_name,
    merge,
    to_edge_config,
    validate_config,
)
from clip_qdrant.store.edge.entry import CollectionEntry

__all__ = ["add_vector", "change_config", "remove_vector"]

_VECTOR_NAMES: TypeAdapter[Any] = TypeAdapter(models.VectorNameConfig)


def change_config(entry: CollectionEntry, asked: Mapping[str, Any]) -> models.CreateCollection:
    """The configuration with what `asked`, fields of models.UpdateCollection, says otherwise.

    Raises InvalidRequest for what makes none, and for vectors that are not there.
    """
    diff = validate_config(models.UpdateCollection, asked)
    dense, sparse = dict(entry.dense), dict(entry.sparse)
    for name, change in (diff.vectors or {}).items():
        if name not in dense:
            raise InvalidRequest(f"there is no dense vector {name!r} in the collection to change")
        changed = merge(dense[name], change)
        if change.hnsw_config is not None:
            changed.hnsw_config = merge(dense[name].hnsw_config or models.HnswConfigDiff(), change.hnsw_config)
        if isinstance(change.quantization_config, models.Disabled):
            changed.quantization_config = None
        dense[name] = changed
    for name, params in (diff.sparse_vectors or {}).items():
        if name not in sparse:
            raise InvalidRequest(f"there is no sparse vector {name!r} in the collection to change")
        if params.modifier is not None and params.modifier != (sparse[name].modifier or models.Modifier.NONE):
            raise UnsupportedByEdge("another modifier for a sparse vector that is there")
        index = merge(sparse[name].index or models.SparseIndexParams(), params.index)
        sparse[name] = sparse[name].model_copy(update={"index": index})
    config = _with_vectors(entry.config, dense, sparse)
    for field in ("hnsw_config", "optimizers_config", "strict_mode_config"):
        if (change := getattr(diff, field)) is not None:
            setattr(config, field, merge(getattr(config, field) or type(change)(), change))
    if diff.quantization_config is not None:
        chosen = diff.quantization_config
        config.quantization_config = None if isinstance(chosen, models.Disabled) else chosen
    if diff.params is not None:
        for field in ("on_disk_payload", "payload", "id_tracker"):
            if (change := getattr(diff.params, field)) is not None:
                setattr(config, field, change)
        for field, least in {"replication_factor": 1, "write_consistency_factor": 1}.items():
            if getattr(diff.params, field) not in (None, least):
                raise UnsupportedByEdge(f"the option {field}={getattr(diff.params, field)!r}")
    to_edge_config(replace(entry, config=config))
    return config


def add_vector(entry: CollectionEntry, name: str, asked: Any) -> models.CreateCollection | None:
    """The configuration with one more vector; None if it has this one already.

    Raises InvalidRequest if it has another of that name, and for what makes no vector.
    """
    try:
        new = _VECTOR_NAMES.validate_python(asked)
    except ValidationError as error:
        raise InvalidRequest(f"this is no configuration of a vector ({first_line(error)})") from error
    check_vector_name(name)
    dense, sparse = dict(entry.dense), dict(entry.sparse)
    if isinstance(new, models.DenseVectorNameConfig):
        check_size(new.dense.size)
        options = new.dense.model_dump(exclude_none=True)
        params = models.VectorParams.model_validate(options)
        if name in dense and _space(dense[name]) == _space(params):
            return None
        dense[name] = params
    else:
        if name == "":
            raise InvalidRequest("a sparse vector needs a name")
        index = models.SparseIndexParams(datatype=models.Datatype(new.sparse.datatype)) if new.sparse.datatype else None
        weights = models.SparseVectorParams(modifier=new.sparse.modifier, index=index)
        if name in sparse and sparse[name].modifier == weights.modifier:
            return None
        sparse[name] = weights
    if name in entry.dense or name in entry.sparse:
        raise InvalidRequest(f"there is a vector {name!r} already, with other parameters; delete it first")
    return _with_vectors(entry.config, dense, sparse)


def remove_vector(entry: CollectionEntry, name: str) -> models.CreateCollection:
    """The configuration without the vector of that name."""
    dense = {one: params for one, params in entry.dense.items() if one != name}
    sparse = {one: params for one, params in entry.sparse.items() if one != name}
    return _with_vectors(entry.config, dense, sparse)


def _space(params: models.VectorParams) -> tuple[Any, ...]:
    return params.size, params.distance, params.multivector_config, params.datatype or models.Datatype.FLOAT32


def _with_vectors(
    config: models.CreateCollection,
    dense: dict[str, models.VectorParams],
    sparse: dict[str, models.SparseVectorParams],
) -> models.CreateCollection:
    """The configuration with these vectors. One that has the unnamed vector alone says so as it did before."""
    alone = isinstance(config.vectors, models.VectorParams) and set(dense) == {""}
    vectors = dense[""] if alone else dense
    return config.model_copy(deep=True, update={"vectors": vectors, "sparse_vectors": sparse or None})
