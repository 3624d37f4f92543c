"""A collection that another program made, read as it is: any payload, any names.

Its vectors have the length of this model's, and nothing tells whether it is this model that made them. What such a
program calls the place of an image and its text is guessed by the names that are usual.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from qdrant_client import models

from clip_qdrant.collection.hits import Hit, Hits
from clip_qdrant.collection.query import embed_query_texts
from clip_qdrant.collection.strict_mode import StrictMode
from clip_qdrant.errors import FilterError, QueryError, StoreError, shorten
from clip_qdrant.integrations.mcp.lookup import Lookup, Period, read_filter
from clip_qdrant.store.calls import call
from clip_qdrant.uris import to_uri

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

    from clip_qdrant.embedder_protocol import Embedder

__all__ = ["AdoptedCollection", "choose_vector"]

_T = TypeVar("_T")
_PLACES = (
    *("uri", "url", "image_url", "image_uri", "image", "img_url", "image_path", "path", "file_path", "filepath"),
    *("filename", "file_name", "file", "s3_uri", "source", "src", "href", "link"),
)
_TEXTS = ("caption", "page_content", "text", "description", "title", "alt", "name", "content", "document")
_BELOW = ("metadata", "payload")  # where frameworks put the fields of their users
_UUID = re.compile(r"[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}", re.IGNORECASE)
_COUNTED = (
    models.PayloadSchemaType.KEYWORD,
    models.PayloadSchemaType.INTEGER,
    models.PayloadSchemaType.BOOL,
    models.PayloadSchemaType.UUID,
)
_SAMPLE = 1000  # points that are looked at where no index tells
# Characters of one value: in a line of text, in the JSON of a hit, and in that of one image. Some store whole images.
_LONGEST_SHOWN, _LONGEST, _LONGEST_WHOLE = 100, 500, 5000
_MOST_ITEMS = 50  # of a list of a hit, which may be a vector


class AdoptedCollection:
    """A collection of another program, by its name and the name of its vector ("" for the one without a name)."""

    def __init__(self, name: str, client: QdrantBase, embedder: Embedder, info: models.CollectionInfo) -> None:
        self.name = name
        self._client = client
        self._embedder = embedder
        self._vector = choose_vector(name, info, embedder.dim)
        self._indexed = {key: field.data_type for key, field in (info.payload_schema or {}).items()}
        self._strict = StrictMode.read(info.config)
        which = f"vector {self._vector!r}" if self._vector else "its vector"
        self.notes = [
            f"collection {name!r} was not made by clip_qdrant: {which} has the {embedder.dim} dimensions of this "
            "model, and nothing tells whether this model made it. If it did not, the order of the hits means nothing"
        ]
        distance = _list_vectors(info)[self._vector].distance
        if distance in (models.Distance.EUCLID, models.Distance.MANHATTAN):
            self.notes.append(f"its scores are distances ({distance.value}): the least is the best")

    def search(self, query: str | None, lookup: Lookup) -> Hits:
        self._refuse(lookup)
        if query is not None:
            return self._rank(embed_query_texts([query], self._embedder)[0], lookup)
        selection = _read_selection(lookup)
        records = self._ask(
            lambda: self._client.query_points(
                self.name,
                query_filter=selection,
                limit=lookup.limit,
                offset=lookup.offset,
                with_payload=True,
            )
        ).points
        return Hits(_make_hit(record, None) for record in records)

    def find_similar(self, image: str | bytes, lookup: Lookup) -> Hits:
        self._refuse(lookup)
        if isinstance(image, bytes):
            return self._rank(self._embedder.embed_images([image])[0], lookup)
        point = self._find_id(image)
        wanted = [self._vector] if self._vector else True
        found = self._ask(
            lambda: self._client.retrieve(self.name, ids=[point], with_payload=False, with_vectors=wanted)
        )
        vector = _read_vector(found[0].vector, self._vector) if found else None
        if vector is None:
            raise QueryError(f"no image {image!r} in collection {self.name!r}; give the point id of one of its hits")
        return self._rank(vector, lookup, without=point)

    def get(self, image: str) -> Hit | None:
        point = self._find_id(image)
        found = self._ask(lambda: self._client.retrieve(self.name, ids=[point], with_payload=True))
        return _make_hit(found[0], None) if found else None

    def list_hits(self, hits: Sequence[Hit], *, whole: bool) -> list[dict[str, Any]]:
        longest = _LONGEST_WHOLE if whole else _LONGEST
        return [
            {
                "id": hit.id,
                "score": hit.score,
                "path": None if hit.path is None else str(hit.path),
                "payload": _cut(hit.payload, longest),
            }
            for hit in hits
        ]

    def describe(self, values: int) -> dict[str, Any]:
        count = self._ask(lambda: self._client.count(self.name, exact=self._strict.exact)).count
        records, fields = self._read_sample(None), dict[str, dict[str, Any]]()
        counters: dict[str, Counter[Any]] = {}
        for record in records:
            for key, value in _list_leaves(record.payload or {}):
                field = fields.setdefault(key, {"type": _name_type(value), "indexed": key in self._indexed})
                field["in_sample"] = field.get("in_sample", 0) + 1
                counters.setdefault(key, Counter()).update(_list_countable(value))
        for key, kind in self._indexed.items():
            field = fields.setdefault(key, {"indexed": True})
            field["type"] = kind.value
        for key, counter in counters.items():
            if len(counter) <= max(1, fields[key]["in_sample"] // 2):  # else hardly any value is there twice
                fields[key]["values"] = _list_counts(counter, values)
        vectors = {"vector": self._vector} if self._vector else {}
        return {"images": count, "exact": self._strict.exact, **vectors, "fields": fields, "sample": len(records)}

    def count_values(self, field: str, lookup: Lookup, period: Period | None) -> dict[str, Any]:
        self._refuse(lookup)
        if period is not None:
            raise QueryError(f"dates are counted by period only in collections of clip_qdrant; {self.name!r} is none")
        selection = _read_selection(lookup)
        if self._indexed.get(field) in _COUNTED:
            answer = self._ask(
                lambda: self._client.facet(
                    self.name, key=field, facet_filter=selection, limit=lookup.limit, exact=self._strict.exact
                )
            )
            return {"values": [{"value": hit.value, "count": hit.count} for hit in answer.hits]}
        records = self._read_sample(selection)
        counter: Counter[Any] = Counter()
        for record in records:
            for key, value in _list_leaves(record.payload or {}):
                if key == field:
                    counter.update(_list_countable(value))
        if not counter:
            raise FilterError(
                f"none of {len(records)} points of collection {self.name!r} has a value at {field!r}; "
                "describe_collection lists its fields"
            )
        return {"values": _list_counts(counter, lookup.limit), "more_values": max(0, len(counter) - lookup.limit)} | (
            {"sample": len(records)} if len(records) == _SAMPLE else {}
        )

    def _rank(self, vector: np.ndarray, lookup: Lookup, *, without: int | str | None = None) -> Hits:
        selection = _read_selection(lookup)
        if without is not None:
            others = models.Filter(must_not=[models.HasIdCondition(has_id=[without])])
            selection = others if selection is None else models.Filter(must=[selection, others])
        points = self._ask(
            lambda: self._client.query_points(
                self.name,
                query=vector.tolist(),
                using=self._vector or None,
                query_filter=selection,
                limit=lookup.limit,
                offset=lookup.offset,
                with_payload=True,
            )
        ).points
        return Hits(_make_hit(point, point.score) for point in points)

    def _read_sample(self, selection: models.Filter | None) -> list[models.Record]:
        size = min(_SAMPLE, self._strict.page or _SAMPLE)
        return self._ask(
            lambda: self._client.scroll(self.name, scroll_filter=selection, limit=size, with_payload=True)[0]
        )

    def _ask(self, operation: Callable[[], _T]) -> _T:
        return call(operation, what=f"reading collection {self.name!r}")

    def _find_id(self, image: str) -> int | str:
        if image.isdecimal():
            return int(image)
        if _UUID.fullmatch(image):
            return image
        raise QueryError(f"{image!r} is no point id; images of collection {self.name!r} are named by the id of a hit")

    def _refuse(self, lookup: Lookup) -> None:
        """What takes fields, words or a calibration that only this package writes."""
        for name, given in (
            ("where", lookup.where),
            ("words", lookup.words),
            ("min_relevance", lookup.min_relevance),
            ("order_by", lookup.order_by),
        ):
            if given is not None:
                instead = "; filter takes Qdrant's own JSON" if name == "where" else ""
                raise QueryError(
                    f"{name} works in collections of clip_qdrant, and {self.name!r} is of another program{instead}"
                )


def choose_vector(name: str, info: models.CollectionInfo, dim: int) -> str:
    """The name of the dense vector of `dim` numbers, "" for the one without a name. StoreError if there is none."""
    vectors = _list_vectors(info)
    fitting = [key for key, one in vectors.items() if one.size == dim and one.multivector_config is None]
    if not fitting:
        there = ", ".join(f"{key or 'unnamed'} of {one.size}" for key, one in vectors.items()) or "none"
        raise StoreError(
            f"collection {name!r} was not made by clip_qdrant, and has no vector of the {dim} dimensions of this model "
            f"(it has: {there}); start the server with the model that made it (--model)"
        )
    return next((key for key in fitting if key in ("", "image", "images", "clip")), fitting[0])


def _list_vectors(info: models.CollectionInfo) -> dict[str, models.VectorParams]:
    given = info.config.params.vectors
    return {"": given} if isinstance(given, models.VectorParams) else dict(given or {})


def _read_selection(lookup: Lookup) -> models.Filter | None:
    return None if lookup.filter is None else read_filter(lookup.filter)


def _read_vector(stored: Any, name: str) -> np.ndarray | None:
    if isinstance(stored, Mapping):
        stored = stored.get(name)
    return None if stored is None else np.asarray(stored, np.float32)


def _make_hit(point: models.ScoredPoint | models.Record, score: float | None) -> Hit:
    payload: Mapping[str, Any] = point.payload or {}
    below = [payload[key] for key in _BELOW if isinstance(payload.get(key), Mapping)]
    found = [_find_text(each, _PLACES) for each in (payload, *below)]
    texts = [_find_text(each, _TEXTS) for each in (payload, *below)]
    place, caption = next(filter(None, found), ""), next(filter(None, texts), None)
    rest = {key: value for key, value in payload.items() if value not in (place, caption)}
    return Hit(
        id=str(point.id),
        score=score,
        uri=to_uri(place) if Path(place).is_absolute() else place,
        caption=None if caption is None else shorten(caption, _LONGEST),
        metadata=_cut(rest, _LONGEST_SHOWN),
        payload=payload,
    )


def _find_text(payload: Mapping[str, Any], names: Sequence[str]) -> str | None:
    return next((payload[name] for name in names if isinstance(payload.get(name), str) and payload[name]), None)


def _cut(value: Any, longest: int) -> Any:
    """A value of a payload without what is too long to be read."""
    if isinstance(value, str):
        return shorten(value, longest)
    if isinstance(value, Mapping):
        return {str(key): _cut(one, longest) for key, one in value.items()}
    if isinstance(value, list | tuple):
        more = [f"and {len(value) - _MOST_ITEMS} more"] if len(value) > _MOST_ITEMS else []
        return [_cut(one, longest) for one in value[:_MOST_ITEMS]] + more
    return value


def _list_leaves(payload: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Keys as a filter of Qdrant names them, and their values."""
    for key, value in payload.items():
        if isinstance(value, Mapping) and value:
            yield from _list_leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _list_countable(value: Any) -> Iterator[str | int | bool]:
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, str | int):
            yield shorten(one, _LONGEST_SHOWN) if isinstance(one, str) else one


def _list_counts(counter: Counter[Any], limit: int) -> list[dict[str, Any]]:
    return [{"value": value, "count": count} for value, count in counter.most_common(limit)]


def _name_type(value: Any) -> str:
    if isinstance(value, list):
        return f"list of {_name_type(value[0])}" if value else "list"
    names = {bool: "bool", int: "integer", float: "float", str: "text", type(None): "null"}
    return names.get(type(value), type(value).__name__)
