"""A date without a zone means the clock on the wall where the picture was taken, one with a zone the moment."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from fakes import FakeEmbedder
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import FilterError
from clip_qdrant.fields.schema import Schema
from clip_qdrant.filters.build import build_filter
from clip_qdrant.records import ImageRecord

NEW_YORK, BERLIN = timezone(timedelta(hours=-5)), timezone(timedelta(hours=1))
TAKEN = {
    "new-york": datetime(2024, 12, 31, 23, 30, tzinfo=NEW_YORK),  # 04:30 of the next year in UTC
    "berlin": datetime(2025, 1, 1, 0, 30, tzinfo=BERLIN),  # 23:30 of the year before in UTC
    "somewhere": datetime(2024, 12, 31, 23, 30),
    "undated": None,
}
EXPECTED: list[tuple[Any, set[str]]] = [
    ("{} = '2024-12-31'", {"new-york", "somewhere"}),
    ("{} = '2024'", {"new-york", "somewhere"}),
    ("{} = '2025-01'", {"berlin"}),
    ("{} = '2024-12-31T23:30'", {"new-york", "somewhere"}),
    ("{} != '2024-12-31'", {"berlin", "undated"}),
    ("not {} = '2024'", {"berlin", "undated"}),
    ("{} in ('2024-12-31', '2025-01-01')", {"new-york", "somewhere", "berlin"}),
    ("{} not in ('2024', '2023')", {"berlin", "undated"}),
    ("{} >= '2025'", {"berlin"}),
    ("{} > '2024-12-31'", {"berlin"}),
    ("{} < '2025'", {"new-york", "somewhere"}),
    ("{} <= '2024'", {"new-york", "somewhere"}),
    ("{} between '2024-12-30' and '2024-12-31'", {"new-york", "somewhere"}),
    ("{} >= '2023'", {"new-york", "somewhere", "berlin"}),
    ("{} = '2025-01-01T04:30:00Z'", {"new-york"}),
    ("{} = '2024-12-31T23:30:00Z'", {"berlin", "somewhere"}),
    ("{} < '2025-01-01T00:00:00Z'", {"berlin", "somewhere"}),
    ("{} between '2024-12-31T23:00:00-05:00' and '2025-01-01T00:00:00-05:00'", {"new-york"}),
    ("{} in ('2025', '2025-01-01T04:30:00Z')", {"berlin", "new-york"}),
    ("{} is null", {"undated"}),
    ("{} exists", {"new-york", "somewhere", "berlin"}),
    ({"{}": date(2024, 12, 31)}, {"new-york", "somewhere"}),
    ({"{}": datetime(2024, 12, 31, 23, 30)}, {"new-york", "somewhere"}),
    ({"{}": {">=": datetime(2025, 1, 1, 4, 30, tzinfo=UTC)}}, {"new-york"}),
]


def test_a_calendar_period_is_that_of_the_clock_on_the_wall(client: QdrantBase) -> None:
    photos = ImageCollection("photos", FakeEmbedder(), client)
    records = [
        ImageRecord(f"urn:x:{name}", taken_at=at, metadata={"sent": at, "album": {"shots": [at] if at else []}})
        for name, at in TAKEN.items()
    ]
    photos.writer.write(records, np.eye(16, dtype=np.float32)[: len(records)])

    def find(where: Any, field: str) -> set[str]:
        filled = where.format(field) if isinstance(where, str) else {field: where["{}"]}
        return {payload["uri"].removeprefix("urn:x:") for payload in photos.writer.scan(filled)}

    for where, expected in EXPECTED:
        for field in ("taken_at", "sent", "album.shots"):
            assert find(where, field) == expected, (where, field)


def test_a_time_without_a_zone_stays_without_one(client: QdrantBase) -> None:
    photos = ImageCollection("photos", FakeEmbedder(), client)
    at = datetime(2021, 7, 4, 18, 30)
    photos.writer.write([ImageRecord("urn:x:a", taken_at=at, metadata={"sent": at})], np.eye(16, dtype=np.float32)[:1])
    hit = photos.get("urn:x:a")
    assert hit is not None
    assert (hit.taken_at, hit.payload["taken_at"], hit.metadata["sent"]) == (at, *["2021-07-04T18:30:00"] * 2)


def test_a_models_filter_may_ask_for_both() -> None:
    fields = Schema({"sent": "datetime"}).payload_fields()
    for key in ("taken_at", "local_time.taken_at", "metadata.sent", "local_time.metadata.sent", "ingested_at"):
        condition = models.FieldCondition(key=key, range=models.DatetimeRange(gte=datetime(2024, 1, 1)))
        assert build_filter(models.Filter(must=[condition]), fields) is not None
    with pytest.raises(FilterError, match="no indexed field"):
        build_filter(models.Filter(must=[models.IsEmptyCondition(is_empty={"key": "local_time.caption"})]), fields)


def test_between_takes_ends_of_one_kind() -> None:
    with pytest.raises(FilterError, match="give both a zone") as raised:
        build_filter("taken_at between '2024' and '2024-05-01T10:00:00Z'", Schema().payload_fields())
    assert raised.value.column == 29


def test_the_time_of_ingestion_is_in_utc() -> None:
    fields = Schema().payload_fields()
    assert build_filter("ingested_at = '2024-05-01T10:00:00'", fields) == build_filter(
        "ingested_at = '2024-05-01T10:00:00Z'", fields
    )
