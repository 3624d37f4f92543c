"""What XMP says of an image: title, keywords, description, creator, copyright, when and where it was taken.

Source: ISO 16684-1 and -2 (XMP), the namespaces Dublin Core, photoshop, xmp, exif and tiff. XMP stands in a file, as
one packet or several, or beside it, in a file of its own.
"""

from __future__ import annotations

from typing import Any

from clip_qdrant.fields.types import Location
from clip_qdrant.images.metadata.dates import PhotoDate, PhotoDates, choose_date, parse_photo_date
from clip_qdrant.images.metadata.places import make_location, parse_degrees
from clip_qdrant.images.metadata.tag_fields import FileTags, choose_values
from clip_qdrant.images.metadata.xmp_properties import Properties, read_properties

__all__ = ["read_dates", "read_fields", "read_location", "read_orientation", "read_xmp"]

_DC = "{http://purl.org/dc/elements/1.1/}"
_PHOTOSHOP = "{http://ns.adobe.com/photoshop/1.0/}"
_XMP = "{http://ns.adobe.com/xap/1.0/}"
_EXIF = "{http://ns.adobe.com/exif/1.0/}"
_TIFF = "{http://ns.adobe.com/tiff/1.0/}"


def read_xmp(data: bytes) -> FileTags:
    """What a file of XMP says of the image beside it: fields of TAG_FIELDS, moment, place and orientation.

    Nothing is said by one that is broken; no bytes raise an error. A megabyte is read, the rest is not.
    """
    said = read_properties(data)
    return FileTags(
        fields=choose_values(read_fields(said)),
        taken_at=choose_date([read_dates(said)]),
        location=read_location(said),
        orientation=read_orientation(said),
    )


def read_fields(said: Properties) -> dict[str, Any]:
    """The fields of TAG_FIELDS in the properties of a packet, as they stand there."""
    return {
        "title": _first(said, _DC + "title") or _first(said, _PHOTOSHOP + "Headline"),
        "keywords": said.get(_DC + "subject"),
        "description": _first(said, _DC + "description"),
        "creator": said.get(_DC + "creator"),
        "copyright": _first(said, _DC + "rights"),
        "altitude": _altitude(said),
    }


def read_dates(said: Properties) -> PhotoDates:
    """When the image was taken, digitized and changed. A year alone is XMP too; it would make up a day."""
    return PhotoDates(
        taken=_better(said, _EXIF + "DateTimeOriginal", _PHOTOSHOP + "DateCreated"),
        digitized=_better(said, _EXIF + "DateTimeDigitized", _XMP + "CreateDate"),
        changed=_better(said, _TIFF + "DateTime"),
    )


def read_location(said: Properties) -> Location | None:
    """The place where the image was taken; None if it is missing, or nonsense."""
    lat = parse_degrees(_first(said, _EXIF + "GPSLatitude"), "NS", _first(said, _EXIF + "GPSLatitudeRef"))
    lon = parse_degrees(_first(said, _EXIF + "GPSLongitude"), "EW", _first(said, _EXIF + "GPSLongitudeRef"))
    return make_location(lat, lon)


def read_orientation(said: Properties) -> int | None:
    """The orientation, 1 to 8."""
    text = _first(said, _TIFF + "Orientation").strip()
    return int(text) if text in tuple("12345678") else None


def _altitude(said: Properties) -> float | None:
    """Metres over the sea, negative below it; written as a rational, `51925/100`."""
    above, _, below = _first(said, _EXIF + "GPSAltitude").strip().partition("/")
    try:
        metres = float(above) / float(below or 1)
    except (ValueError, ZeroDivisionError):
        return None
    if not 0 <= metres <= 1e6:  # false for NaN
        return None
    return float(f"{-metres if _first(said, _EXIF + 'GPSAltitudeRef').strip() == '1' else metres:.6g}") or 0.0


def _better(said: Properties, *names: str) -> PhotoDate | None:
    """The first of some dates that has a time of day, or else the first."""
    dates = [date for name in names if (date := parse_photo_date(_first(said, name))) is not None]
    return next((date for date in dates if date.timed), dates[0] if dates else None)


def _first(said: Properties, name: str) -> str:
    return next(iter(said.get(name, ())), "")
