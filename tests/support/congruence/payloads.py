"""Payloads of random points: nested, arrays, places, dates, texts, nulls, and fields that are not there."""

from __future__ import annotations

from random import Random
from typing import Any
from uuid import UUID

from qdrant_client import models

__all__ = ["ALBUMS", "INDEXES", "PLACES", "UUIDS", "WORDS", "random_moment", "random_payload", "random_point_id"]

ALBUMS = ["sea", "alps", "city", "rome", "sea side", ""]
WORDS = ["red", "boat", "lake", "Dog", "runs", "überall", "snow", "light-house", "42"]
PLACES = [(52.5, 13.4), (48.1, 11.6), (-33.9, 18.4), (0.0, 0.0), (64.1, -21.9), (35.7, 139.7), (-17.7, 178.1)]
UUIDS = [str(UUID(int=7 + i * 2**64)) for i in range(6)]

# The fields that facets, groups and orders are made of, and the payload index of each.
INDEXES: dict[str, models.PayloadSchemaType] = {
    "album": models.PayloadSchemaType.KEYWORD,
    "tags": models.PayloadSchemaType.KEYWORD,
    "n": models.PayloadSchemaType.INTEGER,
    "x": models.PayloadSchemaType.FLOAT,
    "good": models.PayloadSchemaType.BOOL,
    "when": models.PayloadSchemaType.DATETIME,
    "owner": models.PayloadSchemaType.UUID,
    "exif.iso": models.PayloadSchemaType.INTEGER,
    "place": models.PayloadSchemaType.GEO,
}


def random_point_id(random: Random) -> int | str:
    return random.randint(0, 10_000) if random.random() < 0.7 else str(UUID(int=random.getrandbits(128), version=4))


def random_moment(random: Random) -> str:
    """A date of 2020 to 2024 in one of the forms that Qdrant reads."""
    day = f"{random.randint(2020, 2024)}-{random.randint(1, 12):02}-{random.randint(1, 28):02}"
    clock = f"{random.randint(0, 23):02}:{random.randint(0, 59):02}:{random.randint(0, 59):02}"
    return random.choice([day, f"{day}T{clock}Z", f"{day}T{clock}+02:00", f"{day}T{clock}.25Z", f"{day} {clock}"])


def random_text(random: Random) -> str:
    return " ".join(random.choices(WORDS, k=random.randint(1, 6)))


def random_place(random: Random) -> dict[str, float]:
    lat, lon = random.choice(PLACES)
    return {"lat": round(lat + random.uniform(-1, 1), 4), "lon": round(lon + random.uniform(-1, 1), 4)}


def _several(random: Random, one: Any) -> Any:
    """One value, or sometimes a list of them."""
    return one(random) if random.random() < 0.75 else [one(random) for _ in range(random.randint(0, 3))]


_FIELDS: dict[str, Any] = {
    "album": lambda r: _several(r, lambda r: r.choice(ALBUMS)),
    "tags": lambda r: [r.choice(ALBUMS) for _ in range(r.randint(0, 4))],
    "n": lambda r: _several(r, lambda r: r.randint(-5, 20)),
    "x": lambda r: r.randint(-40, 40) / 8,
    "good": lambda r: r.random() < 0.5,
    "when": lambda r: _several(r, random_moment),
    "owner": lambda r: r.choice(UUIDS),
    "text": random_text,  # never several: a text index joins them
    "place": lambda r: _several(r, random_place),
    "exif": lambda r: {
        "iso": r.choice([100, 200, 400, 800]),
        "lens": {"name": r.choice(ALBUMS), "f": r.choice([1.8, 4.0])},
    },
    "boxes": lambda r: [
        {
            "label": r.choice(ALBUMS),
            "size": r.randint(0, 9),
            "parts": [{"n": r.randint(0, 3)} for _ in range(r.randint(0, 2))],
        }
        for _ in range(r.randint(0, 3))
    ],
    "mixed": lambda r: r.choice([1, 0, "1", True, False, 1.5, [], {}, "red", [1, "red"], {"a": 1}]),
}


def random_payload(random: Random) -> dict[str, Any] | None:
    if random.random() < 0.04:
        return None
    # What formulas compute with is a single value of its type, or not there.
    payload: dict[str, Any] = {"rating": random.randint(-8, 8) / 2} if random.random() < 0.8 else {}
    for name, value in _FIELDS.items():
        luck = random.random()
        if luck < 0.75:
            payload[name] = value(random)
        elif luck < 0.85:
            payload[name] = None
    if random.random() < 0.8:
        payload["home"], payload["taken"] = random_place(random), random_moment(random)
    return payload
