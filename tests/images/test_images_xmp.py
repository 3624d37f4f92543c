"""XMP, in an image or in a file beside it, says when and where a picture was taken; damage around it costs nothing."""

from __future__ import annotations

import io
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from PIL import Image

from clip_qdrant.fields.types import Location
from clip_qdrant.images.load import load_image
from clip_qdrant.images.metadata.xmp import read_xmp
from clip_qdrant.images.metadata.xmp_properties import read_properties

RDF = """<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:exif="http://ns.adobe.com/exif/1.0/" exif:GPSLatitude="48,8.25N" exif:GPSLongitude="11,34.5E">
<exif:DateTimeOriginal>2021-07-04T18:30:00.25+02:00</exif:DateTimeOriginal>
<dc:title><rdf:Alt><rdf:li xml:lang="de">Hafen</rdf:li><rdf:li xml:lang="x-default">Harbour</rdf:li></rdf:Alt>
</dc:title><dc:subject><rdf:Bag><rdf:li>Küste</rdf:li><rdf:li>€ &amp; £</rdf:li></rdf:Bag></dc:subject>
</rdf:Description></rdf:RDF>"""
PACKET = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">
{RDF}</x:xmpmeta>{" " * 500}<?xpacket end="w"?>"""
FIELDS = {"title": "Harbour", "keywords": ["Küste", "€ & £"]}
TAKEN = datetime(2021, 7, 4, 18, 30, 0, 250_000, tzinfo=timezone(timedelta(hours=2)))
PLACE = Location(lat=48.1375, lon=11.575)


def property_packet(text: str) -> bytes:
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:exif="http://ns.adobe.com/exif/1.0/"'
        ' xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"{text}</rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


def place(latitude: str, longitude: str) -> Location | None:
    return read_xmp(
        property_packet(
            f"<exif:GPSLatitude>{latitude}</exif:GPSLatitude><exif:GPSLongitude>{longitude}</exif:GPSLongitude>"
        )
    ).location


def check_all(data: bytes) -> None:
    said = read_xmp(data)
    assert said.fields == FIELDS
    assert said.taken_at == TAKEN
    assert said.taken_at.utcoffset() == timedelta(hours=2)
    assert said.location == PLACE


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
def test_a_packet_is_read_in_every_encoding_that_xmp_has(encoding: str) -> None:
    check_all(PACKET.encode(encoding))


@pytest.mark.parametrize(
    "packet",
    [
        RDF,
        f"XMP\0http://ns.adobe.com/xap/1.0/\0{PACKET}",
        f"<x:xmpmeta><broken {PACKET}",
        f"<x:xmpmeta xmlns:x='adobe:ns:meta/'>{RDF}",
        f"{RDF}</x:xmpmeta>",
        f"<?xpacket begin='' id=''?>{PACKET}<?xpacket end='w'?>\0\0rubbish",
        PACKET.replace(' xmlns:x="adobe:ns:meta/"', ""),
        PACKET.replace(' xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"', ""),
        PACKET.replace("€ &amp; £", "€ & £"),
        PACKET.replace("Harbour", "Har&#0;b\x02o&#x1f;ur&#xD800;"),
        PACKET.replace("<dc:subject>", "<tiff:Make>Canon</tiff:Make><dc:subject>"),
        PACKET.replace("</rdf:RDF>", ""),
    ],
    ids=range(12),
)
def test_complete_rdf_is_read_whatever_is_around_it_or_odd_in_it(packet: str) -> None:
    check_all(packet.encode())


def test_a_prefix_that_the_broken_wrapper_declares_is_known_in_the_rdf() -> None:
    said = read_xmp(
        b"<x xmlns:r='http://www.w3.org/1999/02/22-rdf-syntax-ns#' xmlns:d='http://purl.org/dc/elements/1.1/'><oops>"
        b"<r:RDF><r:Description><d:title>Harbour</d:title></r:Description></r:RDF></x>"
    )
    assert said.fields == {"title": "Harbour"}


def test_what_comes_before_damage_within_the_rdf_is_kept() -> None:
    said = read_xmp(PACKET.replace("<dc:subject>", "<dc:subject <<").encode())
    assert said.fields == {"title": "Harbour"}
    assert (said.taken_at, said.location) == (TAKEN, PLACE)


def test_bytes_that_are_not_utf_8_are_windows_1252_and_cost_no_other_tag() -> None:
    said = read_xmp(PACKET.encode().replace(b"Harbour", "“Café”".encode("cp1252")))
    assert said.fields == {"title": "“Café”", "keywords": ["Küste", "€ & £"]}


@pytest.mark.parametrize(
    ("latitude", "longitude", "expected"),
    [
        ("48,6.0N", "11,30.0W", (48.1, -11.5)),
        ("18,32,43.5S", "70,19,52.2E", (-18.5454167, 70.3311667)),
        ("48.1N", "11.5W", (48.1, -11.5)),
        ("-48.1", "+11.5", (-48.1, 11.5)),
        ("48,6.0 South", "11,30.0 west", (-48.1, -11.5)),
        ("48 deg 6' 0.00&quot; N", "11° 30' 0&quot; E", (48.1, 11.5)),
        ("0,0.0N", "0,0.0E", None),
        ("48,6.0N", "", None),
        ("91,0.0N", "11,0.0E", None),
        ("48,61.0N", "11,0.0E", None),
        ("48,6.0E", "11,0.0E", None),
        ("48,1375", "11,575", None),
        ("1,2,3,4N", "11,0.0E", None),
        ("-48,6.0N", "11,0.0E", None),
        ("north", "east", None),
        ("nan", "inf", None),
        ("9" * 400, "1" * 60 + " " * 60 + "x", None),
    ],
)
def test_a_place_is_read_as_programs_write_it(
    latitude: str, longitude: str, expected: tuple[float, float] | None
) -> None:
    found = place(latitude, longitude)
    assert (found and (found.lat, found.lon)) == expected


def test_the_altitude_stands_beside_the_place() -> None:
    above = "<exif:GPSAltitude>51925/100</exif:GPSAltitude><exif:GPSAltitudeRef>{}</exif:GPSAltitudeRef>"
    assert read_xmp(property_packet(above.format(0))).fields == {"altitude": 519.25}
    assert read_xmp(property_packet(above.format(1))).fields == {"altitude": -519.25}
    assert read_xmp(property_packet("<exif:GPSAltitude>1/0</exif:GPSAltitude>")).fields == {}


def test_the_place_of_an_image_is_that_of_exif_and_else_of_xmp() -> None:
    def save(**options: Any) -> Location | None:
        file = io.BytesIO()
        Image.new("RGB", (8, 8)).save(file, "JPEG", xmp=PACKET.encode(), **options)
        return load_image(file.getvalue()).location

    exif = Image.Exif()
    exif[0x0112] = 1
    exif.get_ifd(0x8825).update({1: "S", 2: (10.0, 0.0, 0.0), 3: "W", 4: (20.0, 0.0, 0.0)})
    assert save() == PLACE
    assert save(exif=exif.tobytes()) == Location(lat=-10, lon=-20)


BILLION_LAUGHS = """<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]>"""
EXTERNAL = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]>'


@pytest.mark.parametrize(
    "bad",
    [
        (BILLION_LAUGHS + PACKET.replace("Harbour", "&c;")).encode(),
        (EXTERNAL + PACKET.replace("Harbour", "&a;")).encode(),
        (EXTERNAL + PACKET.replace("Harbour", "&a;")).encode("utf-16"),
        b"<a>" * 200_000,
        b"<a>" * 40_000 + b"</a>" * 40_000,
        b"<rdf:RDF " * 100_000,
        b"xmlns:a='b' " * 100_000 + b"<rdf:RDF><a>",
        b"&" * 1_000_000,
        b"<?xml version='1.0' encoding='nonsense'?><a/>",
        b"",
        b"\0" * 100,
        b"text",
    ],
    ids=range(12),
)
def test_xmp_that_is_hostile_or_something_else_says_nothing(bad: bytes) -> None:
    said = read_xmp(bad)
    assert (said.fields, said.taken_at, said.location) == ({}, None, None)


def test_of_xmp_that_is_endless_a_part_is_read() -> None:
    many = "".join(f"<dc:p{number}><rdf:Bag><rdf:li>x</rdf:li></rdf:Bag></dc:p{number}>" for number in range(40_000))
    packet = PACKET.replace("</rdf:Description>", many + "</rdf:Description>").encode()
    check_all(packet)
    assert len(read_properties(packet)) < 50_000
    deep = property_packet("<dc:title>Harbour</dc:title>" + "<a>" * 100_000)
    assert read_xmp(deep).fields == {"title": "Harbour"}
