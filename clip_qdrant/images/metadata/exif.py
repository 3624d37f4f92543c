"""What the EXIF data of a photo says: when and where it was taken, and with what. Nonsense is ignored, never an error.

Source: CIPA DC-008 (Exif 3.0). Dates are `DateTimeOriginal`, `DateTimeDigitized` and `DateTime`, each with its
`OffsetTime…` and `SubSecTime…`; places are the GPS block. The XP… tags are those that Windows writes, in UTF-16.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from clip_qdrant.fields.types import Location
from clip_qdrant.images.metadata import exif_tags as tags
from clip_qdrant.images.metadata.dates import PhotoDates, parse_photo_date
from clip_qdrant.images.metadata.exif_blocks import Exif
from clip_qdrant.images.metadata.places import make_location, parse_degrees, read_degrees
from clip_qdrant.images.metadata.tag_fields import decode_text

__all__ = ["read_dates", "read_fields", "read_location"]

_OVER_65534 = 65535  # what 16 bits of sensitivity say when there is more
# What cameras write by themselves where their owner's words belong.
_NO_DESCRIPTION = re.compile(r".*digital camera|sony dsc|exif[_ ]jpeg.*|dcim|untitled|default", re.IGNORECASE)


def read_dates(exif: Exif) -> PhotoDates:
    """When the photo was taken, digitized and changed, without a zone where the camera gave none."""
    main, photo = exif.main, exif.photo
    values = (
        (photo.get(tags.DATE_TIME_ORIGINAL) or main.get(tags.DATE_TIME_ORIGINAL)),
        photo.get(tags.DATE_TIME_DIGITIZED),
        main.get(tags.DATE_TIME),
    )
    fractions = (tags.SUBSEC_TIME_ORIGINAL, tags.SUBSEC_TIME_DIGITIZED, tags.SUBSEC_TIME)
    offsets = (tags.OFFSET_TIME_ORIGINAL, tags.OFFSET_TIME_DIGITIZED, tags.OFFSET_TIME)
    texts = [_ascii(value) for value in values]
    zones = [_ascii(photo.get(offset)) for offset in offsets]
    return PhotoDates(
        *(
            parse_photo_date(text, fraction=_ascii(photo.get(fraction)), zone=zone or _find_zone(text, texts, zones))
            for text, fraction, zone in zip(texts, fractions, zones, strict=True)
        )
    )


def _find_zone(text: str, texts: Sequence[str], zones: Sequence[str]) -> str:
    """The zone of another date that says the same: some phones write it for one of the three alone."""
    return next((zone for other, zone in zip(texts, zones, strict=True) if zone and other == text), "")


def read_location(gps: Mapping[int, Any]) -> Location | None:
    """The place in the GPS block; None if it is missing, out of range, or the 0, 0 of a receiver without a fix."""
    lat = _degrees(gps.get(tags.LAT), _ascii(gps.get(tags.LAT_REF)), "NS")
    lon = _degrees(gps.get(tags.LON), _ascii(gps.get(tags.LON_REF)), "EW")
    return make_location(lat, lon)


def read_fields(exif: Exif) -> dict[str, Any]:
    """The fields of TAG_FIELDS in EXIF data, as they stand there; numbers that cannot be are None."""
    main, photo, gps = exif.main, exif.photo, exif.gps
    description = _text(main.get(tags.DESCRIPTION))
    return {
        "camera": _camera(_text(main.get(tags.MAKE)), _text(main.get(tags.MODEL))),
        "lens": _text(photo.get(tags.LENS_MODEL)),
        "exposure_time": _number(photo.get(tags.EXPOSURE_TIME), 1e-9, 1e6),
        "f_number": _number(photo.get(tags.F_NUMBER), 0.1, 1000),
        "iso": _sensitivity(photo),
        "focal_length": _number(photo.get(tags.FOCAL_LENGTH), 0.1, 1e5),
        "altitude": _altitude(gps),
        "software": _text(main.get(tags.SOFTWARE)),
        "title": _utf16(main.get(tags.XP_TITLE)),
        "keywords": _utf16(main.get(tags.XP_KEYWORDS)).split(";"),
        "description": "" if _NO_DESCRIPTION.fullmatch(description) else description,
        "creator": _text(main.get(tags.ARTIST)),
        "copyright": _text(main.get(tags.COPYRIGHT)),
    }


def _camera(make: str, model: str) -> str:
    """Make and model, the make not twice: NIKON CORPORATION and NIKON D850 are a NIKON D850."""
    maker = make.split(" ")[0]
    return model if maker and model.lower().startswith(maker.lower()) else f"{make} {model}".strip()


def _sensitivity(photo: Mapping[int, Any]) -> int | None:
    iso = _number(photo.get(tags.SENSITIVITY), 1, 1e7)
    if iso == _OVER_65534:
        iso = _number(photo.get(tags.EXPOSURE_INDEX), 1, 1e7)
    return None if iso is None else round(iso)


def _altitude(gps: Mapping[int, Any]) -> float | None:
    """Metres over the sea, negative below it."""
    metres = _number(gps.get(tags.ALTITUDE), 0, 1e6)
    below = gps.get(tags.ALTITUDE_REF) in (1, 3, b"\1", b"\3")
    return None if metres is None else -metres if below and metres else metres


def _number(value: Any, low: float, high: float) -> float | None:
    """A number of 6 significant digits, if it lies between the bounds."""
    if isinstance(value, tuple):
        value = value[0] if value else None
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return float(f"{number:.6g}") if low <= number <= high else None  # false for NaN


def _degrees(value: Any, ref: str, axis: str) -> float | None:
    """Degrees from up to three numbers, as the standard has them, or from one, or from text as some programs do."""
    if isinstance(value, (str, bytes)):
        text = _ascii(value)
        return parse_degrees(text, axis, ref) if ref or not text[:1].isdigit() or text[-1:].isalpha() else None
    try:
        parts = [float(part) for part in (value if isinstance(value, (tuple, list)) else (value,))]
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return read_degrees(parts, ref, axis) if ref else None


def _ascii(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    return value.strip("\0 ") if isinstance(value, str) else ""


def _text(value: Any) -> str:
    """The words of a tag: ASCII by the standard, UTF-8 or Windows-1252 in practice; they come read as latin-1."""
    if isinstance(value, str):
        try:
            value = value.encode("latin-1")
        except UnicodeEncodeError:
            return str(value)
    if not isinstance(value, bytes):
        return ""
    words: bytes = next((part for part in value.split(b"\0", 2) if part.strip()), b"")  # a copyright may have two parts
    return decode_text(words).strip()


def _utf16(value: Any) -> str:
    if isinstance(value, tuple) and all(isinstance(part, int) and 0 <= part < 256 for part in value):
        value = bytes(value)
    return value.decode("utf-16-le", "ignore").strip("\0 ") if isinstance(value, bytes) else ""
