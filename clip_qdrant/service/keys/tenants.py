"""TenantClient: a Qdrant client that sees the points of one tenant alone, whatever is asked of it.

It stands below ImageCollection, so that no route and no filter of a caller can reach beyond it: what it does not know
how to narrow, it refuses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from qdrant_client import models
from qdrant_client.client_base import QdrantBase
from qdrant_client.http.models import QueryResponse  # models.QueryResponse is another one, of fastembed

from clip_qdrant.errors import Forbidden
from clip_qdrant.service.keys.key import Tenant

__all__ = ["TenantClient"]

_METADATA = "metadata"


class TenantClient(QdrantBase):
    """The calls that ImageCollection makes; any other raises NotImplementedError, as QdrantBase has it."""

    def __init__(self, client: QdrantBase, tenant: Tenant) -> None:
        super().__init__()
        self._client = client
        self._tenant = tenant
        self._key = f"{_METADATA}.{tenant.field}"
        self._own = models.FieldCondition(key=self._key, match=models.MatchValue(value=tenant.value))

    # What collections say of themselves is the same for all.

    def get_collection(self, collection_name: str, **options: Any) -> models.CollectionInfo:
        return self._client.get_collection(collection_name, **options)

    def create_collection(  # type: ignore[override]
        self, collection_name: str, **options: Any
    ) -> bool:
        return self._client.create_collection(collection_name, **options)

    def update_collection(self, collection_name: str, **options: Any) -> bool:
        return self._client.update_collection(collection_name, **options)

    def create_payload_index(  # type: ignore[override]
        self, collection_name: str, field_name: str, **options: Any
    ) -> models.UpdateResult:
        return self._client.create_payload_index(collection_name, field_name, **options)

    # Reading

    def query_points(  # type: ignore[override]  # by keywords alone, as this package calls it
        self,
        collection_name: str,
        *,
        query_filter: models.Filter | None = None,
        prefetch: models.Prefetch | list[models.Prefetch] | None = None,
        **options: Any,
    ) -> QueryResponse:
        return self._client.query_points(
            collection_name,
            query_filter=self._narrow(query_filter),
            prefetch=self._narrow_prefetch(prefetch),
            **options,
        )

    def query_batch_points(
        self, collection_name: str, requests: Sequence[models.QueryRequest], **options: Any
    ) -> list[QueryResponse]:
        narrowed = [
            one.model_copy(update={"filter": self._narrow(one.filter), "prefetch": self._narrow_prefetch(one.prefetch)})
            for one in requests
        ]
        return self._client.query_batch_points(collection_name, requests=narrowed, **options)

    def query_points_groups(  # type: ignore[override]
        self,
        collection_name: str,
        group_by: str,
        *,
        query_filter: models.Filter | None = None,
        prefetch: models.Prefetch | list[models.Prefetch] | None = None,
        **options: Any,
    ) -> models.GroupsResult:
        return self._client.query_points_groups(
            collection_name,
            group_by,
            query_filter=self._narrow(query_filter),
            prefetch=self._narrow_prefetch(prefetch),
            **options,
        )

    def scroll(  # type: ignore[override]
        self, collection_name: str, *, scroll_filter: models.Filter | None = None, **options: Any
    ) -> tuple[list[models.Record], Any]:
        return self._client.scroll(collection_name, scroll_filter=self._narrow(scroll_filter), **options)

    def count(  # type: ignore[override]
        self, collection_name: str, *, count_filter: models.Filter | None = None, **options: Any
    ) -> models.CountResult:
        return self._client.count(collection_name, count_filter=self._narrow(count_filter), **options)

    def facet(  # type: ignore[override]
        self, collection_name: str, *, key: str, facet_filter: models.Filter | None = None, **options: Any
    ) -> models.FacetResponse:
        return self._client.facet(collection_name, key=key, facet_filter=self._narrow(facet_filter), **options)

    def retrieve(  # type: ignore[override]
        self, collection_name: str, ids: Sequence[Any], **options: Any
    ) -> list[models.Record]:
        if not ids:
            return []
        wanted = models.Filter(must=[models.HasIdCondition(has_id=[*ids])])
        return self._client.scroll(collection_name, scroll_filter=self._narrow(wanted), limit=len(ids), **options)[0]

    # Writing

    def delete(  # type: ignore[override]
        self, collection_name: str, *, points_selector: models.FilterSelector, **options: Any
    ) -> models.UpdateResult:
        if not isinstance(points_selector, models.FilterSelector):
            raise TypeError(f"points to delete are given by a filter here, not by a {type(points_selector).__name__}")
        chosen = models.FilterSelector(filter=self._narrow(points_selector.filter))
        return self._client.delete(collection_name, points_selector=chosen, **options)

    def upsert(self, collection_name: str, points: Any, **options: Any) -> models.UpdateResult:
        self._refuse_foreign(collection_name, [point.id for point in points])
        stamped = [point.model_copy(update={"payload": self._stamp(point.payload)}) for point in points]
        return self._client.upsert(collection_name, points=stamped, **options)

    def batch_update_points(  # type: ignore[override]
        self, collection_name: str, *, update_operations: Sequence[Any], **options: Any
    ) -> list[models.UpdateResult]:
        ids: list[Any] = []
        stamped = []
        for operation in update_operations:
            if isinstance(operation, models.OverwritePayloadOperation):
                change = operation.overwrite_payload
                ids += change.points or []
                change = change.model_copy(update={"payload": self._stamp(change.payload)})
                operation = models.OverwritePayloadOperation(overwrite_payload=change)
            elif isinstance(operation, models.UpdateVectorsOperation):
                ids += [point.id for point in operation.update_vectors.points]
            elif isinstance(operation, models.DeleteVectorsOperation):
                ids += operation.delete_vectors.points or []
            else:
                raise TypeError(f"a {type(operation).__name__} is nothing that a tenant's client can narrow")
            stamped.append(operation)
        self._refuse_foreign(collection_name, ids)
        return self._client.batch_update_points(collection_name, update_operations=stamped, **options)

    def _narrow(self, selection: models.Filter | None) -> models.Filter:
        return models.Filter(must=[self._own] if selection is None else [self._own, selection])

    def _narrow_prefetch(self, prefetch: Any) -> Any:
        if prefetch is None:
            return None
        if isinstance(prefetch, models.Prefetch):
            return prefetch.model_copy(
                update={"filter": self._narrow(prefetch.filter), "prefetch": self._narrow_prefetch(prefetch.prefetch)}
            )
        return [self._narrow_prefetch(one) for one in prefetch]

    def _stamp(self, payload: Any) -> dict[str, Any]:
        field = self._tenant.field
        stamped = {**(payload or {})}
        stamped[_METADATA] = {**(stamped.get(_METADATA) or {}), field: self._tenant.value}
        edits = {name: value for name, value in (stamped.pop("edits", None) or {}).items() if name != field}
        return {**stamped, "edits": edits} if edits else stamped

    def _refuse_foreign(self, collection_name: str, ids: Iterable[Any]) -> None:
        """Raises Forbidden for a point of somebody else's, which the same uri leads to."""
        wanted = list(dict.fromkeys(ids))
        there = self._client.retrieve(collection_name, ids=wanted, with_payload=[self._key], with_vectors=False)
        for record in there:
            if ((record.payload or {}).get(_METADATA) or {}).get(self._tenant.field) != self._tenant.value:
                raise Forbidden(
                    f"the uri of point {record.id} is taken by an image that this key may not see: give it another uri"
                )
