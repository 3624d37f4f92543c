"""Qdrant's REST API as a function, over EdgeClient and so the real engine: what edge_server.py serves."""

from __future__ import annotations

import json
import re
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from edge_strict import RateLimited, StrictModeRefusal, StrictModes
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import to_json
from qdrant_client import models
from qdrant_client.http.models import PointInsertOperations, PointsSelector

from clip_qdrant.errors import (
    CollectionExists,
    CollectionNotFound,
    StoreError,
    StoreLocked,
    UnsupportedByEdge,
    first_line,
)
from clip_qdrant.store.edge.client import EdgeClient

__all__ = ["EdgeApi", "error_body"]

_REMEMBERED = ("optimizers_config", "strict_mode_config")  # what the engine knows nothing of
_KEYWORDS = {"vectors": "vectors_config", "sparse_vectors": "sparse_vectors_config", "params": "collection_params"}
_INDEXING_THRESHOLD = 10_000  # kB; the default of a server
_POINTS: TypeAdapter[PointInsertOperations] = TypeAdapter(PointInsertOperations)
_SELECTOR: TypeAdapter[PointsSelector] = TypeAdapter(PointsSelector)


class EdgeApi:
    """What each route of Qdrant's REST API does, on an EdgeClient."""

    def __init__(self, folder: Path, *, strict: dict[str, Any] | None = None) -> None:
        self.client = EdgeClient(folder)
        self._strict = StrictModes(strict or {})
        self._lock = threading.Lock()
        # The engine has no optimizer to configure, so what is asked of it is only remembered.
        self._optimizers_file = folder / "optimizers.json"
        self._optimizers: dict[str, dict[str, Any]] = {}
        if self._optimizers_file.exists():
            self._optimizers = json.loads(self._optimizers_file.read_text())

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer to a request."""
        began = time.monotonic()
        parts = [unquote(part) for part in urlsplit(path).path.strip("/").split("/")]
        status, said = 200, ""
        try:
            if parts[0] == "collections" and len(parts) > 2 and self.client.collection_exists(parts[1]):
                self._strict.check(method, parts, body, self._indexes(parts))
            result = self._result(method, parts, body)
            if parts == [""]:
                return 200, to_json(result)
        except ValidationError as error:
            status, said = 400, f"Format error in JSON body: {first_line(error)}, {error.errors()[0]['msg']}"
        except StoreError as error:
            status, said = _refusal(error)
        except Exception as error:  # noqa: BLE001 - as with any server one request fails, not all
            status, said = 500, f"Service internal error: {type(error).__name__}: {error}"
        if said:
            return status, error_body(said)
        return status, to_json({"result": result, "status": "ok", "time": time.monotonic() - began})

    def _result(self, method: str, parts: list[str], body: bytes) -> Any:
        match [method, *parts]:
            case ["GET", ""]:
                return models.VersionInfo(title="qdrant - vector search engine", version=version("qdrant-client"))
            case ["GET", "collections"]:
                return self.client.get_collections()
            case ["GET", "aliases"]:
                return self.client.get_aliases()
            case ["POST", "collections", "aliases"]:
                return self.client.update_collection_aliases(_parsed(models.ChangeAliasesOperation, body).actions)
            case ["GET", "collections", name]:
                return self._describe(name)
            case ["PUT", "collections", name]:
                return self._create(name, _parsed(models.CreateCollection, body))
            case ["PATCH", "collections", name]:
                return self._update(name, _parsed(models.UpdateCollection, body))
            case ["DELETE", "collections", name]:
                self._optimize(name, None)
                return self.client.delete_collection(name)
            case ["GET", "collections", name, "exists"]:
                return models.CollectionExistence(exists=self.client.collection_exists(name))
            case ["GET", "collections", name, "aliases"]:
                return self.client.get_collection_aliases(name)
            case ["PUT", "collections", name, "index"]:
                index = _parsed(models.CreateFieldIndex, body)
                return self.client.create_payload_index(name, index.field_name, index.field_schema)
            case ["DELETE", "collections", name, "index", field]:
                return self.client.delete_payload_index(name, field)
            case ["POST", "collections", name, "facet"]:
                return self._facet(name, _parsed(models.FacetRequest, body))
            case [_, "collections", name, "points", *action]:
                if action in ([], ["scroll"], ["count"], ["query"], ["query", "batch"]) and method == "POST":
                    return self._read(name, "/".join(action), body)
                return self._write(name, f"{method} {'/'.join(action)}".strip(), body)
        raise UnsupportedByEdge(f"{method} /{'/'.join(parts)}")

    # Collections

    def _create(self, name: str, asked: models.CreateCollection) -> bool:
        others = {
            key: getattr(asked, key) for key in asked.model_fields_set - {"vectors", "sparse_vectors", *_REMEMBERED}
        }
        self.client.create_collection(name, asked.vectors, asked.sparse_vectors, **others)
        self._optimize(name, asked.optimizers_config)
        self._strict.set(name, asked.strict_mode_config)
        return True

    def _update(self, name: str, asked: models.UpdateCollection) -> bool:
        others = {_KEYWORDS.get(key, key): getattr(asked, key) for key in asked.model_fields_set - {*_REMEMBERED}}
        self.client.update_collection(name, **others)
        self._strict.set(name, asked.strict_mode_config)
        if asked.optimizers_config is not None:
            self._optimize(name, asked.optimizers_config)
        return True

    def _indexes(self, parts: list[str]) -> dict[str, Any]:
        """The payload indexes of a collection, if it has limits that ask for them."""
        return self.client.get_collection(parts[1]).payload_schema if self._strict.of(parts[1]) else {}

    def _describe(self, name: str) -> models.CollectionInfo:
        info = self.client.get_collection(name)
        chosen = {"indexing_threshold": _INDEXING_THRESHOLD, **self._optimizers.get(name, {})}
        info.config.optimizer_config = info.config.optimizer_config.model_copy(update=chosen)
        if limits := self._strict.of(name):
            info.config.strict_mode_config = models.StrictModeConfigOutput(**limits)
        return info

    def _optimize(self, name: str, asked: models.OptimizersConfigDiff | None) -> None:
        """Remembers what is asked, beside what was asked before; None forgets it."""
        with self._lock:
            before = self._optimizers.pop(name, {})
            if asked is not None:
                self._optimizers[name] = {**before, **asked.model_dump(mode="json", exclude_none=True)}
            elif not before:
                return
            temporary = self._optimizers_file.with_suffix(".tmp")
            temporary.write_text(json.dumps(self._optimizers))
            temporary.replace(self._optimizers_file)

    # Points

    def _facet(self, name: str, asked: models.FacetRequest) -> models.FacetResponse:
        limit = 10 if asked.limit is None else asked.limit
        return self.client.facet(name, asked.key, asked.filter, limit, bool(asked.exact), shard_key=asked.shard_key)

    def _read(self, name: str, action: str, body: bytes) -> Any:
        match action:
            case "":
                points = _parsed(models.PointRequest, body)
                payload = True if points.with_payload is None else points.with_payload
                return self.client.retrieve(name, points.ids, payload, points.with_vector, shard_key=points.shard_key)
            case "scroll":
                page = _parsed(models.ScrollRequest, body)
                records, after = self.client.scroll(
                    name,
                    page.filter,
                    limit=10 if page.limit is None else page.limit,
                    order_by=page.order_by,
                    offset=page.offset,
                    with_payload=True if page.with_payload is None else page.with_payload,
                    with_vectors=page.with_vector,
                    shard_key=page.shard_key,
                )
                return models.ScrollResult(points=records, next_page_offset=after)
            case "count":
                count = _parsed(models.CountRequest, body)
                return self.client.count(name, count.filter, count.exact is not False, shard_key=count.shard_key)
            case "query":
                return self.client.query_batch_points(name, [_parsed(models.QueryRequest, body)])[0]
        return self.client.query_batch_points(name, _parsed(models.QueryRequestBatch, body).searches)

    def _write(self, name: str, action: str, body: bytes) -> Any:
        match action:
            case "PUT":
                return self._change(name, models.UpsertOperation(upsert=_POINTS.validate_json(body)))[0]
            case "POST delete":
                return self._change(name, models.DeleteOperation(delete=_SELECTOR.validate_json(body)))[0]
            case "POST payload":
                asked = _parsed(models.SetPayload, body)
                return self._change(name, models.SetPayloadOperation(set_payload=asked))[0]
            case "PUT payload":
                asked = _parsed(models.SetPayload, body)
                return self._change(name, models.OverwritePayloadOperation(overwrite_payload=asked))[0]
            case "POST payload/delete":
                keys = _parsed(models.DeletePayload, body)
                return self._change(name, models.DeletePayloadOperation(delete_payload=keys))[0]
            case "PUT vectors":
                vectors = _parsed(models.UpdateVectors, body)
                return self._change(name, models.UpdateVectorsOperation(update_vectors=vectors))[0]
            case "POST vectors/delete":
                names = _parsed(models.DeleteVectors, body)
                return self._change(name, models.DeleteVectorsOperation(delete_vectors=names))[0]
            case "POST payload/clear":
                return self._change(name, models.ClearPayloadOperation(clear_payload=_SELECTOR.validate_json(body)))[0]
            case "POST batch":
                return self._change(name, *_parsed(models.UpdateOperations, body).operations)
        raise UnsupportedByEdge(f"{action} of points")

    def _change(self, name: str, *operations: Any) -> Any:
        return self.client.batch_update_points(name, operations)


def _parsed(model: Any, body: bytes) -> Any:
    parsed: BaseModel = model.model_validate_json(body)
    return parsed


def _refusal(error: StoreError) -> tuple[int, str]:
    """Status and words of a server for what EdgeClient refused."""
    words = str(error)
    if isinstance(error, RateLimited):
        return 429, f"Rate limiting exceeded: {words}"
    if isinstance(error, StrictModeRefusal):
        return 400, f"Bad request: {words}"
    named = re.search(r"""(['"])(.*?)\1""", words)
    name = named[2] if named else ""
    if isinstance(error, CollectionNotFound):
        return 404, f"Not found: Collection `{name}` doesn't exist!"
    if isinstance(error, CollectionExists):
        return 409, f"Wrong input: Collection `{name}` already exists!"
    if isinstance(error, UnsupportedByEdge):
        return 501, f"Not implemented: {words}"
    if point := re.match(r"there is no point (\S+)", words):
        return 404, f"Not found: No point with id {point[1]} found"
    if isinstance(error, StoreLocked):
        return 500, f"Service internal error: {words}"
    return 400, f"Wrong input: {words}"


def error_body(words: str) -> bytes:
    """The body of a refusal, as Qdrant writes it."""
    return to_json({"status": {"error": words}, "time": 0.0})
