"""Words, parts of keywords, calendar parts and areas select the same in a collection on every client."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest
from fakes import FakeEmbedder
from qdrant_client.client_base import QdrantBase
from small_server import SmallServer, refusal

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import StoreError
from clip_qdrant.fields.types import Location
from clip_qdrant.records import ImageRecord
from clip_qdrant.store.connect import connect

PROSE = "long " * 60
RECORDS = [
    ImageRecord(
        "file:///photos/2021/cat.jpg",
        caption="黒い子猫",
        taken_at=datetime(2021, 12, 24, 18, 30),
        location=Location(90.0, 10.0),
        metadata={"camera": "Canon EOS", "notes": [PROSE, "a cat", "the dog"]},
    ),
    ImageRecord(
        "file:///photos/2022/dog.jpg",
        caption="Ein Café",
        taken_at=datetime(2022, 1, 2, 23, 0),
        location=Location(-18.0, 180.0),
        metadata={"camera": "canon", "notes": "a cat and the dog"},
    ),
    ImageRecord("file:///photos/2022/sea.jpg", caption="---", metadata={"camera": ["Nikon", "Canon"]}),
]
EXPECTED: list[tuple[str, str]] = [
    ("caption ~ '猫'", "0"),
    ("caption ~ '子猫'", "0"),
    ("caption ~ '猫黒'", ""),
    ("caption ~ 'cafe'", "1"),
    ("caption ~ 'EIN CAFÉ'", "1"),
    ("caption exists", "012"),
    ("notes ~ 'cat'", "01"),
    ("notes ~ 'dog cat'", "1"),
    ("notes ~ 'long'", "0"),
    ("not notes ~ 'cat dog'", "02"),
    ("notes is null", "2"),
    ("camera ^= 'Canon'", "02"),
    ("camera ~ 'on'", "012"),
    ("camera ~ 'n E'", "0"),
    ("uri ~ '/2022/'", "12"),
    ("uri ^= 'file:///photos/2021/'", "0"),
    ("taken_at.month = 'december'", "0"),
    ("taken_at.month between 12 and 1", "01"),
    ("taken_at.weekday = 'sun' and taken_at.hour > 22", "1"),
    ("taken_at.yearday between '12-24' and '12-26'", "0"),
    ("taken_at.day < 3", "1"),
    ("taken_at.month is null", "2"),
    ("location within 1 km of (90, 0)", "0"),
    ("location within box (80, -20, 90, 20)", "0"),
    ("location within box (-20, 170, -10, -170)", "1"),
    ("location within box (-90, -180, 89, 180)", "1"),
    ("location within polygon ((-20, 170), (-10, 170), (-10, -170), (-20, -170))", "1"),
]


def test_every_operator_selects_the_same_everywhere(client: QdrantBase, collection_name: str) -> None:
    photos = ImageCollection(collection_name, FakeEmbedder(), client, fields={"notes": "text"})
    photos.writer.write(RECORDS, np.eye(16, dtype=np.float32)[: len(RECORDS)])
    uris = [record.uri for record in RECORDS]
    found = {
        where: "".join(sorted(str(uris.index(payload["uri"])) for payload in photos.writer.scan(where)))
        for where, _ in EXPECTED
    }
    photos.drop()
    assert found == dict(EXPECTED)


def test_a_server_that_is_too_old_for_a_condition_says_so() -> None:
    error = "Format error in JSON body: data did not match any variant of untagged enum Condition"
    with SmallServer(lambda _: refusal(400, error)).running() as server:
        client = connect(server.url)
        with pytest.raises(StoreError, match=r"update it, or leave .*\^= needs Qdrant 1\.19"):
            ImageCollection("photos", FakeEmbedder(), client)
