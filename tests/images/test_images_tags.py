"""What a file says of itself in EXIF, IPTC and XMP becomes metadata fields; nonsense is ignored."""

from __future__ import annotations

import io
import json
import struct
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin, features
from PIL.TiffImagePlugin import IFDRational

from clip_qdrant.fields.schema import Schema
from clip_qdrant.fields.types import FIELD_TYPES
from clip_qdrant.fields.values import is_utf8
from clip_qdrant.images.load import LoadedImage, load_image
from clip_qdrant.images.metadata import iptc
from clip_qdrant.images.metadata.tag_fields import TAG_FIELDS

PICTURE = Image.new("RGB", (8, 8), (10, 200, 30))
HAS_AVIF = "avif" in features.modules and features.check("avif")


def encoded(image_format: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    PICTURE.save(file, image_format, **options)
    return file.getvalue()


def exif(
    main: dict[int, Any] | None = None, photo: dict[int, Any] | None = None, gps: dict[int, Any] | None = None
) -> bytes:
    blocks = Image.Exif()
    blocks[0x0112] = 1  # Pillow writes no EXIF without a tag in its main block
    blocks.update(main or {})
    blocks.get_ifd(0x8769).update(photo or {})
    blocks.get_ifd(0x8825).update(gps or {})
    return blocks.tobytes()


def packet(properties: str = "", attributes: str = "") -> bytes:
    return f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
    <x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
    <rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"
     xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/" {attributes}>
    {properties}</rdf:Description></rdf:RDF></x:xmpmeta>{" " * 500}<?xpacket end="w"?>""".encode()


DUBLIN_CORE = packet(
    "<dc:title><rdf:Alt><rdf:li xml:lang='de'>Hafen</rdf:li><rdf:li xml:lang='x-default'>Harbour</rdf:li></rdf:Alt>"
    "</dc:title><dc:subject><rdf:Bag><rdf:li>boats</rdf:li><rdf:li>sea</rdf:li></rdf:Bag></dc:subject>"
    "<dc:description><rdf:Alt><rdf:li xml:lang='x-default'>Boats &amp; gulls</rdf:li></rdf:Alt></dc:description>"
    "<dc:creator><rdf:Seq><rdf:li>Ann</rdf:li><rdf:li>Bo</rdf:li></rdf:Seq></dc:creator>"
    "<dc:rights><rdf:Alt><rdf:li xml:lang='x-default'>© Ann</rdf:li></rdf:Alt></dc:rights>"
)
DUBLIN_CORE_TAGS = {
    "title": "Harbour",
    "description": "Boats & gulls",
    "keywords": ["boats", "sea"],
    "creator": "Ann, Bo",
    "copyright": "© Ann",
}


def dataset(number: int, value: bytes, *, record: int = 2) -> bytes:
    return struct.pack(">BBBH", 0x1C, record, number, len(value)) + value


def with_iptc(block: bytes, jpeg: bytes | None = None) -> bytes:
    """A JPEG with an IPTC block in the Photoshop segment (APP13)."""
    resource = b"8BIM" + struct.pack(">HHI", 0x0404, 0, len(block)) + block + b"\0" * (len(block) % 2)
    body = b"Photoshop 3.0\0" + resource
    jpeg = jpeg or encoded()
    return jpeg[:2] + b"\xff\xed" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def tags(data: bytes) -> dict[str, Any]:
    return dict(load_image(data).info.tags)


def test_the_camera_its_settings_and_the_altitude_come_from_exif() -> None:
    data = encoded(
        exif=exif(
            {0x010F: "Canon", 0x0110: "Canon EOS R5", 0x0131: "darktable 4.6", 0x013B: "Ann", 0x8298: "2021 Ann"},
            {0x829A: IFDRational(1, 250), 0x829D: 2.8, 0x8827: 400, 0x920A: 85.0, 0xA434: "RF85mm F1.2 L USM"},
            {5: b"\0", 6: 519.25},
        )
    )
    assert tags(data) == {
        "camera": "Canon EOS R5",
        "lens": "RF85mm F1.2 L USM",
        "exposure_time": 0.004,
        "f_number": 2.8,
        "iso": 400,
        "focal_length": 85.0,
        "altitude": 519.25,
        "software": "darktable 4.6",
        "creator": "Ann",
        "copyright": "2021 Ann",
    }


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("Canon", "Canon EOS R5", "Canon EOS R5"),
        ("NIKON CORPORATION", "NIKON D850", "NIKON D850"),
        ("Apple", "iPhone 12", "Apple iPhone 12"),
        ("SONY", "", "SONY"),
        ("", "ILCE-7M3", "ILCE-7M3"),
    ],
)
def test_the_make_is_not_repeated_in_the_camera(make: str, model: str, camera: str) -> None:
    assert tags(encoded(exif=exif({0x010F: make, 0x0110: model}))) == {"camera": camera}


def test_an_altitude_below_the_sea_is_negative() -> None:
    assert tags(encoded(exif=exif(gps={5: b"\1", 6: 430.5}))) == {"altitude": -430.5}


@pytest.mark.parametrize(
    "photo",
    [
        {0x829A: IFDRational(0, 0)},
        {0x829A: IFDRational(1, 0)},
        {0x829A: 0.0},
        {0x829D: 0.0},
        {0x8827: 0},
        {0x8827: 65535},
        {0x920A: IFDRational(0, 1)},
        {0xA434: " \0 "},
    ],
)
def test_settings_that_cannot_be_are_left_out(photo: dict[int, Any]) -> None:
    assert tags(encoded(exif=exif(photo=photo))) == {}


def test_a_sensitivity_over_65534_is_taken_from_its_own_tag() -> None:
    assert tags(encoded(exif=exif(photo={0x8827: 65535, 0x8832: 102400}))) == {"iso": 102400}


def test_words_of_exif_are_read_as_utf_8_or_else_windows_1252_or_utf_16() -> None:
    for text in (
        "Zoë “Œ”".encode(),
        "Zoë “Œ”".encode("cp1252"),
        b"\0Zo\xeb \x93\x8c\x94\0editor",
        b"Zo\xeb \x93\x8c\x94\x81",
    ):
        placeholder = "?" * max(len(text), 8)  # shorter ones stand within the entry, with other bytes around
        block = exif({0x013B: placeholder}).replace(placeholder.encode(), text.ljust(len(placeholder), b"\0"))
        assert tags(encoded(exif=block))["creator"] == "Zoë “Œ”"
    windows = exif({0x9C9B: "Küste\0".encode("utf-16-le"), 0x9C9E: "sea; rocks;sea\0".encode("utf-16-le")})
    assert tags(encoded(exif=windows)) == {"title": "Küste", "keywords": ["sea", "rocks"]}


def test_words_of_the_type_that_exif_3_has_for_utf_8_are_read() -> None:
    block = exif({0x013B: "?" * 9})
    for order in "<>":
        block = block.replace(*(struct.pack(order + "HHL", 0x013B, kind, 10) for kind in (2, 129)))
    block = block.replace(b"?" * 9, "Zoë “”".encode()[:9])
    assert tags(encoded(exif=block))["creator"] == "Zoë “"  # and a part of a character


@pytest.mark.parametrize("text", ["OLYMPUS DIGITAL CAMERA         ", "SONY DSC", "Exif_JPEG_PICTURE", "   ", "\0\0"])
def test_what_a_camera_writes_by_itself_is_no_description(text: str) -> None:
    assert tags(encoded(exif=exif({0x010E: text}))) == {}


def test_words_and_names_come_from_iptc() -> None:
    block = b"".join(
        (
            dataset(90, b"\x1b%G", record=1),
            dataset(5, "Küste".encode()),
            *(dataset(25, word) for word in (b"boats", b"sea", b"boats")),
            dataset(80, b"Ann"),
            dataset(116, "© Ann".encode()),
            dataset(120, b"Boats.\rGulls."),
        )
    )
    expected = {
        "title": "Küste",
        "description": "Boats.\nGulls.",
        "keywords": ["boats", "sea"],
        "creator": "Ann",
        "copyright": "© Ann",
    }
    assert tags(with_iptc(block)) == expected
    block += bytes(-len(block) % 4)
    tiff = encoded("TIFF", tiffinfo={33723: block})
    assert tags(tiff) == expected
    as_bytes, as_numbers = ((33723, 7, len(block)), (33723, 4, len(block) // 4))  # as Photoshop does
    assert tags(tiff.replace(struct.pack("<HHI", *as_bytes), struct.pack("<HHI", *as_numbers))) == expected


def test_iptc_is_utf_8_where_it_can_be_and_else_windows_1252_whatever_it_says() -> None:
    for text in ("Küste – 5 €".encode(), "Küste – 5 €".encode("cp1252")):
        for character_set in (b"", dataset(90, b"\x1b%G", record=1), dataset(90, b"\x1b.A", record=1)):
            assert tags(with_iptc(character_set + dataset(5, text)))["title"] == "Küste – 5 €"


def test_iptc_that_ends_within_a_character_keeps_the_rest() -> None:
    block = dataset(90, b"\x1b%G", record=1) + dataset(25, "Küste".encode()[:2])
    assert tags(with_iptc(block))["keywords"] == ["K"]


@pytest.mark.parametrize(
    "image_format",
    ["JPEG", "PNG", "WEBP", "TIFF", pytest.param("AVIF", marks=pytest.mark.skipif(not HAS_AVIF, reason="no AVIF"))],
)
def test_words_and_names_come_from_xmp_in_every_format_that_carries_it(image_format: str) -> None:
    options: dict[str, Any] = {"xmp": DUBLIN_CORE}
    if image_format == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", DUBLIN_CORE.decode(), zip=True)
        options = {"pnginfo": info}
    if image_format == "TIFF":
        options = {"tiffinfo": {700: DUBLIN_CORE}}
    assert tags(encoded(image_format, **options)) == DUBLIN_CORE_TAGS


def test_a_headline_is_a_title_where_there_is_no_other() -> None:
    headline = packet(attributes="photoshop:Headline='Storm at sea'")
    assert tags(encoded(xmp=headline)) == {"title": "Storm at sea"}


def test_xmp_goes_over_iptc_and_iptc_over_exif_field_by_field() -> None:
    block = exif({0x010E: "from exif", 0x013B: "from exif", 0x8298: "from exif"})
    data = encoded(exif=block, xmp=packet("<dc:creator><rdf:Seq><rdf:li>from xmp</rdf:li></rdf:Seq></dc:creator>"))
    both = with_iptc(dataset(80, b"from iptc") + dataset(120, b"from iptc"), data)
    assert tags(both) == {"creator": "from xmp", "description": "from iptc", "copyright": "from exif"}


def moment(data: bytes) -> datetime | None:
    return load_image(data).taken_at


def test_the_moment_is_that_of_exif_and_else_of_xmp_and_else_of_iptc() -> None:
    zone = timezone(timedelta(hours=2))
    in_xmp = packet(attributes="photoshop:DateCreated='2001-02-03T04:05:06+02:00'")
    in_iptc = dataset(55, b"19990102") + dataset(60, b"030405+0200")
    in_exif = exif(photo={0x9003: "2021:07:04 18:30:00"})
    assert moment(with_iptc(in_iptc, encoded(xmp=in_xmp, exif=in_exif))) == datetime(2021, 7, 4, 18, 30)
    assert moment(with_iptc(in_iptc, encoded(xmp=in_xmp))) == datetime(2001, 2, 3, 4, 5, 6, tzinfo=zone)
    assert moment(with_iptc(in_iptc)) == datetime(1999, 1, 2, 3, 4, 5, tzinfo=zone)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2001-02-03T04:05:06Z", datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC)),
        ("2001-02-03T04:05", datetime(2001, 2, 3, 4, 5)),
        ("1969-07-20", datetime(1969, 7, 20)),
        ("1969", None),
        ("0000-00-00T00:00:00", None),
        ("yesterday", None),
    ],
)
def test_a_date_of_xmp_has_a_zone_only_where_it_names_one(text: str, expected: datetime | None) -> None:
    found = moment(encoded(xmp=packet(f"<exif:DateTimeOriginal>{text}</exif:DateTimeOriginal>")))
    assert found == expected
    assert found is None or expected is None or found.tzinfo == expected.tzinfo


@pytest.mark.parametrize(
    ("date", "time", "expected"),
    [
        (b"19990102", b"", datetime(1999, 1, 2)),
        (b"19990102", b"030405", datetime(1999, 1, 2, 3, 4, 5)),
        (b"19990102", b"rubbish", datetime(1999, 1, 2)),
        (b"00000000", b"000000", None),
        (b"", b"030405", None),
    ],
)
def test_a_date_of_iptc_may_lack_its_time(date: bytes, time: bytes, expected: datetime | None) -> None:
    assert moment(with_iptc(dataset(55, date) + dataset(60, time))) == expected


@pytest.mark.parametrize(
    "bad",
    [
        b"\x1c",
        b"\x1c\2\5",
        b"\x1c\2\5\xff\xff" + b"a" * 20,
        b"\x1c\2\5\x80\4\xff\xff\xff\xff" + b"a",
        b"text" * 50,
        dataset(25, b"") * 100_000,
    ],
)
def test_iptc_that_is_broken_or_hostile_says_little(bad: bytes) -> None:
    said = iptc.read_fields(bad)
    assert not said["title"] or set(said["title"]) == {"a"}
    assert len(said["keywords"]) <= 2000


def test_texts_are_cut_and_freed_of_what_cannot_be_shown() -> None:
    block = (
        dataset(90, b"\x1b%G", record=1) + dataset(5, "a\0b\x1b[31mc\u202ed\x7f".encode()) + dataset(120, b"x" * 9999)
    )
    block += b"".join(dataset(25, b"%d" % number) for number in range(300))
    said = tags(with_iptc(block))
    assert said["title"] == "ab[31mcd"
    assert len(said["description"]) == 2000
    assert said["keywords"] == [str(number) for number in range(100)]


def test_half_a_surrogate_pair_does_not_get_out() -> None:
    said = tags(encoded(exif=exif({0x9C9B: b"a\0\x00\xd8b\0"})))
    assert is_utf8(said["title"])


def check(loaded: LoadedImage) -> None:
    said = loaded.info.tags
    assert set(said) <= set(TAG_FIELDS)
    assert json.loads(json.dumps(said)) == said
    assert isinstance(said.get("keywords", []), list)
    Schema(TAG_FIELDS).extend([said])  # raises for a value that does not fit its field
    for value in said.values():
        for text in value if isinstance(value, list) else [value]:
            assert not isinstance(text, str) or (0 < len(text) <= 2000 and is_utf8(text) and "\0" not in text)


RICH = with_iptc(
    dataset(5, b"title") + dataset(25, b"word") + dataset(55, b"19990102") + dataset(60, b"030405+0200"),
    encoded(
        xmp=DUBLIN_CORE,
        exif=exif(
            {0x010F: "Canon", 0x0110: "EOS", 0x9C9E: "a;b".encode("utf-16-le")},
            {0x829A: 0.5, 0x8827: 100, 0xA434: "lens"},
            {5: b"\0", 6: 10.0},
        ),
    ),
)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_tags_never_refuse_a_picture_and_never_give_what_cannot_be_stored(data: st.DataObject) -> None:
    damaged = bytearray(RICH)
    end = RICH.index(b"\xff\xdb")  # the tables of the picture begin here
    starts = [
        20,
        RICH.index(b"Exif\0\0") + 6,
        RICH.index(b"8BIM") + 4,
        RICH.index(b"<rdf:Desc"),
        RICH.index(b"Harbour"),
    ]
    for _ in range(data.draw(st.integers(1, 12))):
        at = min(data.draw(st.sampled_from(starts)) + data.draw(st.integers(0, 150)), end - 1)
        damaged[at] = data.draw(st.integers(0, 255))
    image = Image.open(io.BytesIO(RICH))
    image.load()
    for name in ("xmp", "exif", "photoshop"):
        raw = image.info[name][0x0404] if name == "photoshop" else image.info[name]
        at = RICH.index(raw)
        part = bytes(damaged[at : at + len(raw)])
        image.info[name] = {0x0404: part} if name == "photoshop" else part
    check(load_image(image))


def test_a_photo_with_everything_gives_values_that_fit_their_fields() -> None:
    check(load_image(RICH))
    assert set(TAG_FIELDS.values()) <= set(FIELD_TYPES)
