"""The date and the place of a photo come from its EXIF data; nonsense there is ignored."""

from __future__ import annotations

import io
import struct
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from PIL import Image, PngImagePlugin
from PIL.TiffImagePlugin import IFDRational

from clip_qdrant.fields.types import Location
from clip_qdrant.images.load import LoadedImage, load_image
from clip_qdrant.images.metadata.exif import read_location

MUNICH = {1: "N", 2: (48.0, 8.0, 15.0), 3: "E", 4: (11.0, 34.0, 30.0)}


def photo(
    image_format: str = "JPEG", *, taken: dict[int, Any] | None = None, gps: dict[int, Any] | None = None
) -> LoadedImage:
    exif = Image.Exif()
    exif[0x0112] = 1  # Pillow writes no EXIF without a tag in its main block
    exif.get_ifd(0x8769).update(taken or {})
    exif.get_ifd(0x8825).update(gps or {})
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, image_format, exif=exif.tobytes())
    return load_image(file.getvalue())


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_date_zone_and_place_are_read(image_format: str) -> None:
    loaded = photo(image_format, taken={0x9003: "2021:07:04 18:30:00", 0x9011: "+02:00"}, gps=MUNICH)
    assert loaded.taken_at == datetime(2021, 7, 4, 18, 30, tzinfo=timezone(timedelta(hours=2)))
    assert loaded.location == Location(lat=48.1375, lon=11.575)


def test_a_date_without_a_zone_has_none() -> None:
    assert photo(taken={0x9003: "2021:07:04 18:30:00"}).taken_at == datetime(2021, 7, 4, 18, 30)


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        ("-03:30", timedelta(hours=-3, minutes=-30)),
        ("+0545", timedelta(hours=5, minutes=45)),
        ("+9", timedelta(hours=9)),
        ("Z", timedelta(0)),
        ("+25:00", None),
        ("CET", None),
        ("", None),
    ],
)
def test_zones_are_read_and_nonsense_zones_ignored(offset: str, expected: timedelta | None) -> None:
    taken_at = photo(taken={0x9003: "2021:07:04 18:30:00", 0x9011: offset}).taken_at
    assert taken_at is not None
    assert taken_at.utcoffset() == expected


@pytest.mark.parametrize(
    "text",
    ["0000:00:00 00:00:00", "2021:13:01 00:00:00", "    :  :     :  :  ", "yesterday", "0001:01:01 00:00:00", ""],
)
def test_nonsense_dates_are_ignored(text: str) -> None:
    assert photo(taken={0x9003: text}).taken_at is None


def test_south_and_west_are_negative() -> None:
    assert photo(gps={**MUNICH, 1: "S", 3: "W"}).location == Location(lat=-48.1375, lon=-11.575)


@pytest.mark.parametrize(
    "change",
    [
        {2: (91.0, 0.0, 0.0)},
        {4: (180.0, 0.0, 1.0)},
        {1: "X"},
        {1: ""},
        {2: (IFDRational(0, 0), IFDRational(0, 0), IFDRational(0, 0))},
        {2: (IFDRational(48, 1), IFDRational(1, 0), IFDRational(0, 1))},
        {2: -48.0},
        {2: "48.1", 1: ""},
        {2: "N"},
        {2: ()},
        {2: (1.0, 2.0, 3.0, 4.0)},
        {2: ("a", "b", "c")},
        {2: b"\0\1"},
        {2: (-48.0, 0.0, 0.0)},
        {2: (0.0, 0.0, 0.0), 4: (0.0, 0.0, 0.0)},
    ],
)
def test_nonsense_places_are_ignored(change: dict[int, Any]) -> None:
    assert read_location({**MUNICH, **change}) is None


@pytest.mark.parametrize(
    ("latitude", "longitude"),
    [
        ({1: "N", 2: 48.1}, {3: "W", 4: 11.5}),
        ({1: "North", 2: IFDRational(481, 10)}, {3: "West", 4: IFDRational(115, 10)}),
        ({1: "n", 2: (48.0, 6.0)}, {3: b"W\0", 4: (11.0, 30.0)}),
        ({1: "N", 2: "48.1"}, {3: "W", 4: b"11.5\0"}),
        ({1: "N", 2: "48,6,0"}, {3: "W", 4: "11 30 0"}),
        ({2: "48,6.0N"}, {4: "11,30.0W"}),
        ({2: "+48.1"}, {4: "-11.5"}),
        ({1: "N", 2: (48.1,)}, {3: "W", 4: (-11.5,)}),
    ],
)
def test_a_place_is_read_from_one_number_from_text_and_with_a_written_hemisphere(
    latitude: dict[int, Any], longitude: dict[int, Any]
) -> None:
    assert read_location({**latitude, **longitude}) == Location(lat=48.1, lon=-11.5)


@pytest.mark.parametrize("image_format", ["JPEG", "TIFF"])
def test_one_rational_and_doubles_in_a_file_are_a_place(image_format: str) -> None:
    one = {1: "N", 2: IFDRational(481, 10), 3: "E", 4: IFDRational(115, 10)}
    assert photo(image_format, gps=one).location == Location(lat=48.1, lon=11.5)


def test_doubles_are_a_place() -> None:
    south, east = struct.pack("<2s2x", b"S"), struct.pack("<2s2x", b"E")
    at = 8 + 2 + 12 + 4
    entries = ((1, 2, 2, south), (2, 12, 1, at + 54), (3, 2, 2, east), (4, 12, 1, at + 62))
    directory = b"".join(
        struct.pack("<HHI", *entry[:3]) + (entry[3] if isinstance(entry[3], bytes) else struct.pack("<I", entry[3]))
        for entry in entries
    )
    gps = struct.pack("<H", 4) + directory + bytes(4) + struct.pack("<dd", 48.1, 11.5)
    data = block((0x8825, 4, 1, struct.pack("<I", at))) + gps
    assert load_image(wide(exif=data)).location == Location(lat=-48.1, lon=11.5)


@pytest.mark.parametrize("missing", [1, 2, 3, 4])
def test_half_a_place_is_none(missing: int) -> None:
    assert read_location({tag: value for tag, value in MUNICH.items() if tag != missing}) is None


def test_zero_denominators_in_a_file_are_ignored() -> None:
    assert photo(gps={**MUNICH, 2: (IFDRational(0, 0),) * 3}).location is None


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"junk"]
)
def test_broken_exif_does_not_stop_an_image(exif: bytes) -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", exif=exif)
    loaded = load_image(file.getvalue())
    assert (loaded.taken_at, loaded.location) == (None, None)
    assert loaded.rgb.size == (8, 8)


def block(*entries: tuple[int, int, int, bytes]) -> bytes:
    """EXIF data of one directory: tags, types, counts, and four bytes of value or offset."""
    packed = b"".join(struct.pack("<HHI4s", *entry) for entry in entries)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + packed + bytes(4)


TURNED_TWICE = (0x0112, 3, 2, struct.pack("<HH", 6, 1))  # the orientation has one value by the standard
BEYOND_THE_END = (0x013B, 2, 2000, struct.pack("<I", 60_000))
CAMERA = (0x0110, 2, 4, b"EOS\0")


def wide(image_format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 4)).save(file, image_format, **options)
    return file.getvalue()


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_odd_tags_neither_warn_nor_take_the_others_with_them(image_format: str) -> None:
    loaded = load_image(wide(image_format, exif=block(BEYOND_THE_END, CAMERA, TURNED_TWICE)))  # warnings are errors
    assert loaded.info.tags == {"camera": "EOS"}
    assert loaded.rgb.size == (4, 8)


def test_an_odd_tag_that_pillow_holds_already_is_left_out_without_the_others() -> None:
    image = Image.open(io.BytesIO(wide(exif=block(CAMERA, TURNED_TWICE))))
    image.getexif()
    loaded = load_image(image)
    assert loaded.info.tags == {"camera": "EOS"}
    assert loaded.rgb.size == (8, 4)


def test_an_orientation_that_a_caller_changed_goes_over_that_of_the_file() -> None:
    image = Image.open(io.BytesIO(wide(exif=block((0x0112, 3, 1, b"\6\0\0\0")))))
    assert load_image(image.copy()).rgb.size == (4, 8)
    image.getexif()[0x0112] = 1
    assert load_image(image).rgb.size == (8, 4)


def test_exif_in_a_text_of_a_png_is_read_as_imagemagick_writes_it() -> None:
    info = PngImagePlugin.PngInfo()
    data = block(CAMERA)
    info.add_text("Raw profile type exif", f"\nexif\n{len(data):8}\n{data.hex()}\n", zip=True)
    assert load_image(wide(pnginfo=info)).info.tags == {"camera": "EOS"}


@pytest.mark.parametrize("options", [{}, {"exif": block(CAMERA)}, {"exif": b"II*"}, {"exif": b"junk for exif"}])
def test_the_orientation_may_stand_in_xmp(options: dict[str, Any]) -> None:
    packet = b"<rdf:Description xmlns:tiff='http://ns.adobe.com/tiff/1.0/' tiff:Orientation=\"6\"/>"
    assert load_image(wide("WEBP", xmp=packet, **options)).rgb.size == (4, 8)
