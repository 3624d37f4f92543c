"""Places: circles, boxes and polygons on the map, with what the engine's index of places passes over.

The index finds points by cells of the map. It puts latitude 90 and longitude 180 into the cells at the other edge, so
that it misses images at the North Pole, and nearly all images of a box that ends there, or that goes round most of the
earth. What is turned round twice is looked up point by point instead: that takes as long as a search of all points, but
misses nothing.
"""

from __future__ import annotations

from typing import Any

import qdrant_edge as engine
from qdrant_client import models

__all__ = ["to_geo_point", "to_place"]

_METRES_A_DEGREE = 111_194.9  # of latitude, on the sphere of the engine (radius 6,371,008.8 m)
_AT_A_POLE = 1e-3  # metres: where a box ends at a pole, the pole is in it, for any longitude
_LONGEST_ROUND = 300.0  # degrees of a box over the antimeridian that the index is good for


def to_geo_point(point: models.GeoPoint) -> engine.GeoPoint:
    return engine.GeoPoint(lon=point.lon, lat=point.lat)


def to_place(one: models.FieldCondition) -> Any:
    """The condition on a place that a field has; None if it has none."""
    if one.geo_radius is not None:
        return _circle(one.key, one.geo_radius)
    if one.geo_bounding_box is not None:
        return _box(one.key, one.geo_bounding_box)
    if one.geo_polygon is not None:
        return _polygon(one.key, one.geo_polygon)
    return None


def _circle(key: str, circle: models.GeoRadius) -> Any:
    condition = engine.FieldCondition(key, geo_radius=engine.GeoRadius(to_geo_point(circle.center), circle.radius))
    reaches_pole = circle.center.lat + circle.radius / _METRES_A_DEGREE >= 90
    return _without_index(condition) if reaches_pole else condition


def _box(key: str, box: models.GeoBoundingBox) -> Any:
    north, south = box.top_left.lat, box.bottom_right.lat
    west, east = box.top_left.lon, box.bottom_right.lon
    condition = engine.FieldCondition(
        key, geo_bounding_box=engine.GeoBoundingBox(to_geo_point(box.top_left), to_geo_point(box.bottom_right))
    )
    is_missed = north >= 90 or east >= 180 or (west > east and east + 360 - west > _LONGEST_ROUND)
    return _with_poles(key, _without_index(condition) if is_missed else condition, north, south)


def _polygon(key: str, polygon: models.GeoPolygon) -> Any:
    condition = engine.FieldCondition(
        key,
        geo_polygon=engine.GeoPolygon(_ring(polygon.exterior), [_ring(hole) for hole in polygon.interiors or []]),
    )
    corners = polygon.exterior.points
    north, south = max(one.lat for one in corners), min(one.lat for one in corners)
    is_missed = north >= 90 or max(one.lon for one in corners) >= 180
    return _with_poles(key, _without_index(condition) if is_missed else condition, north, south)


def _with_poles(key: str, condition: Any, north: float, south: float) -> Any:
    """The condition, and the poles where it ends there: an edge is not in a box, but what lies beyond a pole?"""
    poles = [90.0] * (north >= 90) + [-90.0] * (south <= -90)
    if not poles:
        return condition
    circles = [
        engine.FieldCondition(key, geo_radius=engine.GeoRadius(engine.GeoPoint(lon=0.0, lat=lat), _AT_A_POLE))
        for lat in poles
    ]
    return engine.Filter(should=[condition, *map(_without_index, circles)])


def _without_index(condition: Any) -> Any:
    return engine.Filter(must_not=[engine.Filter(must_not=[condition])])


def _ring(line: models.GeoLineString) -> list[engine.GeoPoint]:
    return [to_geo_point(point) for point in line.points]
