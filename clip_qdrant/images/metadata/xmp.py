"""What the XMP packet of a file says: title, keywords, description, creator, copyright, and when it was taken.

Source: ISO 16684-1 (XMP), the namespaces Dublin Core, photoshop and exif. XML that declares a document type is not
read at all, so there are no entities to expand and nothing to fetch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clip_qdrant.fields.dates import is_plausible_photo_date, parse_datetime

if TYPE_CHECKING:
    from datetime import datetime
    from xml.etree.ElementTree import Element

__all__ = ["read_fields"]

_MAX_BYTES = 1 << 20  # editors write some 10 KB, those with a long history 500 KB
_MAX_ELEMENTS = 50_000  # 20 ms of parsing
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_PHOTOSHOP = "{http://ns.adobe.com/photoshop/1.0/}"
_EXIF = "{http://ns.adobe.com/exif/1.0/}"
_LANG = "{http://www.w3.org/XML/1998/namespace}lang"


def read_fields(packet: Any) -> dict[str, Any]:
    """The fields of `metadata.merge` in a packet, as they stand there, and `taken_at`; none of one that is broken."""
    if isinstance(packet, str):
        packet = packet.encode("utf-8", "ignore")
    if not isinstance(packet, bytes) or len(packet) > _MAX_BYTES or packet.count(b"<") > 2 * _MAX_ELEMENTS:
        return {}
    try:
        said = _properties(packet.strip(b"\0 \t\r\n"))
    except Exception:  # noqa: BLE001  an XML parser has many ways to refuse, and each means: no tags
        return {}
    return {
        "title": _first(said, _DC + "title") or _first(said, _PHOTOSHOP + "Headline"),
        "keywords": said.get(_DC + "subject"),
        "description": _first(said, _DC + "description"),
        "creator": said.get(_DC + "creator"),
        "copyright": _first(said, _DC + "rights"),
        "taken_at": _moment(_first(said, _EXIF + "DateTimeOriginal"))
        or _moment(_first(said, _PHOTOSHOP + "DateCreated")),
    }


def _properties(packet: bytes) -> dict[str, list[str]]:
    """The values of each property: RDF writes a simple one as an attribute or an element, others as a container."""
    from defusedxml.ElementTree import fromstring

    root = fromstring(packet, forbid_dtd=True)
    found: dict[str, list[str]] = {}
    for rdf in (root, *root):
        if rdf.tag != _RDF + "RDF":
            continue
        for description in rdf:
            for name, value in description.attrib.items():
                found.setdefault(name, [value])
            for element in description:
                found.setdefault(element.tag, _values(element))
    return found


def _values(element: Element) -> list[str]:
    for container in element:
        items = [item for item in container if item.tag == _RDF + "li"]
        if container.tag == _RDF + "Alt":  # the same text in several languages
            items = sorted(items, key=lambda item: item.get(_LANG) != "x-default")[:1]
        return [item.text or "" for item in items]
    return [element.text or ""]


def _first(said: dict[str, list[str]], name: str) -> str:
    return next(iter(said.get(name, ())), "")


def _moment(text: str) -> datetime | None:
    """A whole date, with or without time and zone. A year alone is XMP too; it would make up a day."""
    moment = parse_datetime(text.strip())
    if moment is None or not is_plausible_photo_date(moment):
        return None
    has_zone = len(text) > 10 and (text.strip()[-1:] in "Zz" or "+" in text or "-" in text[10:])
    return moment if has_zone else moment.replace(tzinfo=None)
