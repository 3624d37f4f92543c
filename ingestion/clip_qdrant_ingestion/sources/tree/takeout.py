"""The JSON files of Google Takeout: which one is beside an image, and what it says of it.

Takeout calls the file of `IMG.jpg` `IMG.jpg.json` or `IMG.jpg.supplemental-metadata.json`, cuts that name to 46
characters before `.json`, counts equal names behind another part of it (`IMG(1).jpg` and `IMG.jpg(1).json`), and writes
one file for a picture and its edited copy. None of this is documented; it is what archives hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from clip_qdrant.errors import MetadataError
from clip_qdrant.fields.dates import is_plausible_photo_date
from clip_qdrant.fields.values import describe_value
from clip_qdrant.images.suffixes import IMAGE_SUFFIXES
from clip_qdrant_ingestion.sources.protocol import Description

__all__ = ["describe_takeout", "find_tail", "is_takeout", "list_stems", "name_original"]

_TAIL = "supplemental-metadata"
_LONGEST = (46, 47, 51)  # characters of a name without .json
_FOUND_TAIL = re.compile(r"\.([a-z-]*)(?:\(\d+\))?")
_COUNTED = re.compile(r"(.+)(\(\d+\))(\.[^.]+)")
# What Google Photos writes behind the name of an edited copy, in the language of its owner.
_EDITED = re.compile(
    r"-(?:edited|bearbeitet|modifié|modifie|editado|editada|modificato|bewerkt|edytowane|redigerad|redigert|redigeret|"
    r"muokattu|upraveno|szerkesztve|editat|düzenlendi|編集済み|已修改|편집됨)(?=(?:\(\d+\))?\.[^.]+$)",
    re.IGNORECASE,
)
_MEDIA = (*IMAGE_SUFFIXES, ".mp4", ".mov", ".m4v", ".avi", ".3gp", ".mkv", ".webm", ".dng", ".heic", ".heif")


def find_tail(stem: str) -> str | None:
    """What stands behind the name of the image in a name without `.json`: a part of `supplemental-metadata`, or "".

    None for a name that Takeout would not give.
    """
    match = _FOUND_TAIL.fullmatch(stem[stem.rfind(".") :]) if "." in stem else None
    if match is not None and match[1] and _TAIL.startswith(match[1]):
        return match[1]
    return "" if stem.endswith(")") or len(stem) in _LONGEST else None


def list_stems(image: str, tails: Iterable[str]) -> Iterator[str]:
    """The names, without `.json`, that the file of an image may have; `tails` are those that were found."""
    counted = _COUNTED.fullmatch(image)
    names = [(image, "")] if counted is None else [(counted[1] + counted[3], counted[2]), (image, "")]
    for name, number in names:
        for tail in tails:
            whole = f"{name}.{tail}" if tail else name
            if number or tail:
                yield whole + number
            for length in _LONGEST:
                if len(whole) > length:
                    yield whole[:length] + number


def name_original(image: str) -> str | None:
    """The name of the picture that an edited copy is of; None for any other name."""
    original = _EDITED.sub("", image, count=1)
    return original if original != image else None


def is_takeout(fields: Mapping[str, Any]) -> bool:
    """Whether an object of JSON is one of Takeout."""
    return any(isinstance(fields.get(name), Mapping) for name in ("photoTakenTime", "geoData", "geoDataExif"))


def describe_takeout(fields: Mapping[str, Any]) -> Description:
    """Date, place, people, title and description of a picture; what else stands there is Google's own book-keeping.

    The date is a moment in UTC, without the zone. A title that is the name of a file is none.
    """
    metadata: dict[str, Any] = {}
    left_out: list[MetadataError] = []
    if (taken := fields.get("photoTakenTime")) is not None:
        moment = _read_moment(taken)
        if moment is not None:
            metadata["taken_at"] = moment.isoformat()
        else:
            told = f"photoTakenTime: {describe_value(taken)} is no moment"
            left_out.append(MetadataError(told, field="taken_at"))
    for name in ("geoData", "geoDataExif"):
        if (place := _read_place(fields.get(name))) is not None:
            metadata.update(place)
            break
    people = fields.get("people")
    names = [one.get("name") for one in people if isinstance(one, Mapping)] if isinstance(people, list) else []
    if kept := [name for name in names if isinstance(name, str) and name.strip()]:
        metadata["people"] = list(dict.fromkeys(kept))
    for name in ("title", "description"):
        text = fields.get(name)
        if isinstance(text, str) and text.strip() and not (name == "title" and text.lower().endswith(_MEDIA)):
            metadata[name] = text.strip()
    return Description(None, metadata, left_out=tuple(left_out))


def _read_moment(taken: Any) -> datetime | None:
    timestamp = taken.get("timestamp") if isinstance(taken, Mapping) else None
    if isinstance(timestamp, bool) or not isinstance(timestamp, (str, int)) or len(str(timestamp)) > 12:
        return None
    try:
        moment = datetime.fromtimestamp(int(timestamp), UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return moment if is_plausible_photo_date(moment) else None


def _read_place(place: Any) -> dict[str, Any] | None:
    """`location`, and `altitude` where it is known; None for the 0, 0 of a picture without a place."""
    if not isinstance(place, Mapping):
        return None
    lat, lon, altitude = (place.get(name) for name in ("latitude", "longitude", "altitude"))
    if not (_is_within(lat, 90) and _is_within(lon, 180)) or (lat == 0 and lon == 0):
        return None
    found: dict[str, Any] = {"location": {"lat": lat, "lon": lon}}
    if altitude and _is_within(altitude, 1e6):
        found["altitude"] = altitude
    return found


def _is_within(value: Any, limit: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -limit <= value <= limit
