"""The properties in a packet of XMP: the RDF in it, read as far as it goes, whatever is around it.

Source: ISO 16684-1 (XMP), RDF/XML. Bytes that declare a document type are not read at all, so there are no entities to
expand and nothing to fetch; bytes, elements, depth and text are bounded.
"""

from __future__ import annotations

import itertools
import re

__all__ = ["MAX_XMP_BYTES", "Properties", "read_properties"]

# Names in Clark's notation to values: a container has several, a text in several languages its default alone.
Properties = dict[str, list[str]]

_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
MAX_XMP_BYTES = 1 << 20  # at worst 0.6 s and 40 MB; editors write 10 KB, those with a long history 500 KB
_MAX_ELEMENTS = 50_000  # 50 ms of parsing
_MAX_DEPTH = 100
_MAX_VALUES = 2_000  # of a property
_MAX_TEXT = 10_000  # characters of a value
_MAX_DECLARATIONS = 100
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_FIRST_RDF = re.compile(r"<(?:[A-Za-z_][\w.-]*:)?RDF[\s>]")
_DECLARATION = re.compile(r"""xmlns:([A-Za-z_][\w.-]*)\s*=\s*(["'])([^"'<>&]+)\2""")
_DOCUMENT_TYPE = re.compile(r"<!\s*(?:DOCTYPE|ENTITY)", re.IGNORECASE)
_NOT_XML = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")
_BAD_REFERENCE = re.compile(r"&(?!(?:amp|lt|gt|quot|apos);)(#(?:[0-9]{1,7}|x[0-9A-Fa-f]{1,6});)?")
# Bytes as `surrogateescape` writes them, to what they are in Windows-1252.
_ESCAPED_BYTES = {0xDC00 + byte: bytes([byte]).decode("cp1252", "ignore") for byte in range(0x80, 0x100)}
# What packets that lost their wrapper have no declaration of.
_PREFIXES = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "x": "adobe:ns:meta/",
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
}


def read_properties(packet: bytes) -> Properties:
    """The properties in a packet, UTF-8, UTF-16 or UTF-32; of one that is damaged those before the damage."""
    text = _decode(packet[:MAX_XMP_BYTES])
    if _DOCUMENT_TYPE.search(text):
        return {}
    found, whole = _parse(text.strip("\0\ufeff \t\r\n"))
    if whole:
        return found
    rescued, _ = _parse(_cut_out_rdf(text))
    return {**found, **rescued}


def _decode(packet: bytes) -> str:
    """The text of a packet, by its byte order mark, or by where the zeros are in its first `RDF`."""
    for mark, encoding in ((b"\xff\xfe\0\0", "utf-32-le"), (b"\0\0\xfe\xff", "utf-32-be")):
        if packet.startswith(mark):
            return packet.decode(encoding, "ignore")
    for mark, encoding in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if packet.startswith(mark):
            return packet.decode(encoding, "ignore")
    if wide := re.search(rb"R\0\0\0D\0\0\0F", packet):
        return packet.decode("utf-32-be" if wide.start() % 4 == 3 else "utf-32-le", "ignore")
    if wide := re.search(rb"R\0D\0F", packet):
        return packet.decode("utf-16-be" if wide.start() % 2 else "utf-16-le", "ignore")
    # A few bytes that are not UTF-8 are Windows-1252: one such tag must not cost the others.
    text = packet.decode("utf-8", "surrogateescape")
    return text.translate(_ESCAPED_BYTES)


def _cut_out_rdf(text: str) -> str:
    """The RDF of a packet that is not well-formed, in a wrapper that declares what is declared before it."""
    start = _FIRST_RDF.search(text)
    if start is None:
        return ""
    name = start[0][1:].rstrip("> \t\r\n")
    end = text.rfind(f"</{name}>")
    inner = text[start.start() : end + len(name) + 3] if end > start.start() else text[start.start() :]
    inner = _BAD_REFERENCE.sub(_mend_reference, _NOT_XML.sub("", inner))
    before = itertools.islice(_DECLARATION.finditer(text, 0, start.start()), _MAX_DECLARATIONS)
    prefixes = {**_PREFIXES, **{said[1]: said[3] for said in before}}
    declared = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in prefixes.items() if prefix not in ("xml", "xmlns"))
    return f"<packet {declared}>{inner}</packet>"


def _mend_reference(match: re.Match[str]) -> str:
    """A reference to a character, if XML has it; an ampersand that is one."""
    digits = match[1]
    if not digits:
        return "&amp;"
    code = int(digits[2:-1], 16) if digits[1] == "x" else int(digits[1:-1])
    return "" if code > 0x10FFFF or (code < 32 and code not in (9, 10, 13)) or _NOT_XML.match(chr(code)) else match[0]


def _parse(text: str) -> tuple[Properties, bool]:
    """The properties, and whether the text was read to its end."""
    from defusedxml.ElementTree import XMLParser

    collector = _Collector()
    try:
        parser = XMLParser(target=collector, forbid_dtd=True)
        parser.feed(text)
        parser.close()
    except Exception:  # noqa: BLE001  an XML parser has many ways to refuse, and each means: no more of this
        return collector.found, False
    return collector.found, True


class _TooMuch(Exception):
    pass


class _Collector:
    """Takes what a parser reads: under the RDF are descriptions, in them properties, containers and items.

    RDF writes a simple property as an attribute of a description or as an element, others as a container of items.
    """

    def __init__(self) -> None:
        self.found: Properties = {}
        self._depth = self._elements = 0
        self._rdf_depth: int | None = None
        self._values: list[str] = []
        self._in_container = False
        self._keeps_default = self._has_default = False
        self._text: list[str] | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._elements += 1
        if self._depth > _MAX_DEPTH or self._elements > _MAX_ELEMENTS:
            raise _TooMuch
        if self._rdf_depth is None:
            if tag == _RDF + "RDF":
                self._rdf_depth = self._depth
            return
        level = self._depth - self._rdf_depth
        if level == 1:  # a description
            for name, value in attributes.items():
                self.found.setdefault(name, [value[:_MAX_TEXT]])
        elif level == 2:  # a property
            self._values, self._text = [], []
            self._in_container = False
        elif level == 3:  # a container: the text around it is no value
            self._text = None
            self._in_container = True
            self._keeps_default, self._has_default = tag == _RDF + "Alt", False
        elif level == 4 and tag == _RDF + "li":
            self._text = []
            if self._keeps_default and attributes.get(_LANGUAGE) == "x-default" and not self._has_default:
                self._has_default = True
                self._values = []

    def data(self, text: str) -> None:
        if self._text is not None and len(self._text) < _MAX_TEXT:  # at least a character each
            self._text.append(text[:_MAX_TEXT])

    def end(self, tag: str) -> None:
        level = 0 if self._rdf_depth is None else self._depth - self._rdf_depth
        self._depth -= 1
        if level == 4 and self._text is not None:
            if not (self._keeps_default and self._values) and len(self._values) < _MAX_VALUES:
                self._values.append("".join(self._text)[:_MAX_TEXT])
            self._text = None
        elif level == 2:
            values = self._values if self._in_container else ["".join(self._text or ())[:_MAX_TEXT]]
            self.found.setdefault(tag, values)
            self._text = None
        elif level == 0 and self._rdf_depth is not None:
            self._rdf_depth = None

    def close(self) -> None:
        """Asked for by the parser."""
