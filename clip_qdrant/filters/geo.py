"""`within` on a geo field: a circle, a box or a polygon, in degrees of latitude and longitude."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TypeAlias

from qdrant_client import models

from clip_qdrant.fields.types import RESERVED_FIELDS
from clip_qdrant.filters.language import Scalar
from clip_qdrant.filters.operands import check_number, unfit

__all__ = ["AREAS", "build_within"]

AREAS = ("within", "within box", "within polygon")
_MOST_CORNERS = 1000
_EARTH_RADIUS = 6_371_000.0  # metres
_POLE_RADIUS = 1.0  # metres; all longitudes meet at a pole

_Point: TypeAlias = "tuple[float, float]"  # latitude, longitude


def build_within(key: str, area: str, values: Sequence[Scalar]) -> models.Condition:
    """The condition that a place lies within an area, which is one of AREAS.

    `values` are metres, latitude and longitude of a circle; south, west, north and east of a box; latitude and
    longitude of each corner of a polygon.
    """
    numbers = [check_number(i, "within", "geo", value) for i, value in enumerate(values)]
    if area == "within":
        return _circle(key, *numbers)
    return _box(key, *numbers) if area == "within box" else _polygon(key, numbers)


def _circle(key: str, metres: float, lat: float, lon: float) -> models.Condition:
    if metres <= 0:
        raise unfit(0, "the distance must be greater than 0")
    _check_place(1, lat, lon)
    circle = _field(key, geo_radius=models.GeoRadius(center=models.GeoPoint(lat=lat, lon=lon), radius=metres))
    if math.radians(90 - lat) * _EARTH_RADIUS >= metres:
        return circle
    # Qdrant's geo index does not find what is at the pole itself. So that is looked up in the payloads, which costs
    # about 3 µs an image, and only a circle that holds the pole has to.
    keys = [f"{key}.lat", *([f"{key}[].lat"] if key not in RESERVED_FIELDS else [])]
    return models.Filter(should=[circle, *(_field(each, range=models.Range(gte=90)) for each in keys)])


def _check_place(index: int, lat: float, lon: float) -> None:
    for i, (part, number, limit) in enumerate((("latitude", lat, 90), ("longitude", lon, 180)), start=index):
        if abs(number) > limit:
            raise unfit(i, f"the {part} {number} is not from -{limit} to {limit} degrees; write (lat, lon)")


def _box(key: str, south: float, west: float, north: float, east: float) -> models.Condition:
    """The places from south to north and from west to east, edges included; west may be greater than east."""
    _check_place(0, south, west)
    _check_place(2, north, east)
    if south >= north:
        raise unfit(0, f"the south {south} is not below the north {north}; a box is (south, west, north, east)")
    if west == east:
        raise unfit(1, f"west and east are both {west}: no width; a box is (south, west, north, east)")
    # Qdrant leaves the edges out, so the corners move outwards by the least there is. At 180 they come out on the
    # other side: it takes a box whose west is greater than its east for one across that meridian.
    # Its geo index misses nearly all of a box that ends at 90 degrees, so this one ends just below, and the poles are
    # asked for by themselves.
    top, bottom = math.nextafter(north, 90 if north < 90 else 0), max(-90.0, math.nextafter(south, -90))
    # It misses images of a box round most of the earth, too.
    width = (east - west) % 360 or 360.0
    middle = (west + width / 2 + 180) % 360 - 180
    spans = [(west, east)] if width <= 180 else [(west, middle), (middle, east)]
    parts = [_rectangle(key, top, bottom, _go_west(start), _go_east(end)) for start, end in spans]
    for pole in (90.0, -90.0):
        if pole in (north, south):
            parts.append(_circle(key, _POLE_RADIUS, pole, 0.0))
    return parts[0] if len(parts) == 1 else models.Filter(should=parts)


def _go_west(lon: float) -> float:
    return math.nextafter(180.0, 0) if lon == -180 else math.nextafter(lon, -180)


def _go_east(lon: float) -> float:
    return math.nextafter(-180.0, 0) if lon == 180 else math.nextafter(lon, 180)


def _rectangle(key: str, top: float, bottom: float, west: float, east: float) -> models.Condition:
    return _field(
        key,
        geo_bounding_box=models.GeoBoundingBox(
            top_left=models.GeoPoint(lat=top, lon=west), bottom_right=models.GeoPoint(lat=bottom, lon=east)
        ),
    )


def _polygon(key: str, numbers: Sequence[float]) -> models.Condition:
    """The places within a polygon, whose edges go the short way; it may cross the meridian of 180 degrees."""
    corners = list(zip(numbers[::2], numbers[1::2], strict=True))
    for i, (lat, lon) in enumerate(corners):
        _check_place(2 * i, lat, lon)
    if corners[0] == corners[-1]:
        corners = corners[:-1]
    if len(set(corners)) < 3:
        raise unfit(0, "a polygon has at least 3 corners that differ, each (lat, lon)")
    if len(corners) > _MOST_CORNERS:
        raise unfit(0, f"this polygon has {len(corners)} corners, and {_MOST_CORNERS} is the most; simplify it")
    unrolled = _unroll(corners)
    parts, seam = [], list[float]()
    for turn in (-360.0, 0.0, 360.0):
        moved = [(lat, lon + turn) for lat, lon in unrolled]
        if part := _cut(_cut(moved, -180.0, 1), 180.0, -1):
            parts.append(_ring(key, part))
            seam += [lat for lat, lon in part if lon == 180]
    if len(parts) > 1:  # what lies on the meridian between two parts is inside neither
        west, east = _go_west(-180.0), _go_east(180.0)
        lats = sorted(seam)
        parts += [_rectangle(key, top, bottom, west, east) for bottom, top in zip(lats[::2], lats[1::2], strict=False)]
    return parts[0] if len(parts) == 1 else models.Filter(should=parts)


def _unroll(corners: Sequence[_Point]) -> list[_Point]:
    """The corners with longitudes that go on beyond 180, so that no edge is longer than half a turn."""
    unrolled = [corners[0]]
    for lat, lon in (*corners[1:], corners[0]):
        before = unrolled[-1][1]
        unrolled.append((lat, lon + 360 * round((before - lon) / 360)))
    if unrolled.pop()[1] != corners[0][1]:
        raise unfit(0, "this polygon goes round a pole; ask for what is north or south of a latitude by a box")
    return unrolled


def _cut(corners: list[_Point], lon: float, side: int) -> list[_Point]:
    """The part of a polygon east (side 1) or west (-1) of a meridian; [] if there is none.

    I. Sutherland, G. Hodgman: Reentrant polygon clipping (CACM 17, 1974).
    """
    kept: list[_Point] = []
    for (lat1, lon1), (lat2, lon2) in pairwise([corners[-1], *corners]) if corners else ():
        if ((lon1 - lon) * side >= 0) != ((lon2 - lon) * side >= 0):
            kept.append((lat1 + (lat2 - lat1) * (lon - lon1) / (lon2 - lon1), lon))
        if (lon2 - lon) * side >= 0:
            kept.append((lat2, lon2))
    # A polygon that only touches the meridian has no area there.
    return kept if any(there != lon for _, there in kept) else []


def _ring(key: str, corners: Sequence[_Point]) -> models.Condition:
    points = [models.GeoPoint(lat=lat, lon=lon) for lat, lon in (*corners, corners[0])]
    return _field(key, geo_polygon=models.GeoPolygon(exterior=models.GeoLineString(points=points)))


def _field(key: str, **condition: Any) -> models.FieldCondition:
    return models.FieldCondition(key=key, **condition)
