"""Areas as a where dict gives them, for `within`: {"km": 5, "of": (lat, lon)}, {"box": …}, {"polygon": […]}."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from clip_qdrant.errors import FilterError
from clip_qdrant.fields.values import describe_value, is_place, unbox

__all__ = ["read_area"]

_SIDES = ("south", "west", "north", "east")


def read_area(operand: Any, refusal: Callable[[str, int], FilterError]) -> tuple[str, list[Any]]:
    """The area, one of `filters.geo.AREAS`, and its numbers. A place may be a Location or its dict too."""
    form = set(operand) if isinstance(operand, Mapping) else set()
    if form in ({"km", "of"}, {"m", "of"}):
        unit = "km" if "km" in form else "m"
        radius, centre = unbox(operand[unit], None, None), _place(operand["of"])
        if centre is not None:
            is_number = isinstance(radius, (int, float)) and not isinstance(radius, bool)
            return "within", [radius * 1000 if unit == "km" and is_number else radius, *centre]
    elif form == {"box"}:
        sides = _box(unbox(operand["box"], None, None))
        if sides is not None:
            return "within box", sides
    elif form == {"polygon"}:
        corners = unbox(operand["polygon"], None, None)
        places = [_place(corner) for corner in corners] if isinstance(corners, list) else []
        if places and None not in places:
            return "within polygon", [number for place in places if place for number in place]
    raise refusal(
        'takes {"km": 5, "of": (lat, lon)} or "m" in place of "km", {"box": (south, west, north, east)}, or '
        f'{{"polygon": [(lat, lon), …]}}, not {describe_value(operand)}',
        0,
    )


def _place(value: Any) -> list[Any] | None:
    value = unbox(value, None, None)
    if isinstance(value, Mapping) and is_place(value):
        value = [value["lat"], value["lon"]]
    if isinstance(value, list) and len(value) == 2:
        return [unbox(number, None, None) for number in value]
    return None


def _box(value: Any) -> list[Any] | None:
    if isinstance(value, Mapping):
        if set(value) == set(_SIDES):
            value = [value[side] for side in _SIDES]
        elif set(value) == {"top_left", "bottom_right"}:
            high, low = _place(value["top_left"]), _place(value["bottom_right"])
            value = [low[0], high[1], high[0], low[1]] if high and low else None
    if isinstance(value, list) and len(value) == 4:
        return [unbox(number, None, None) for number in value]
    return None
