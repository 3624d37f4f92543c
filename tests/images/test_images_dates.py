"""The moment of a photo is read as cameras and editors write it, and is the most precise one that its file has."""

from __future__ import annotations

import io
import struct
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from PIL import Image

from clip_qdrant.images.load import load_image
from clip_qdrant.images.metadata.dates import PhotoDate, PhotoDates, choose_date, parse_photo_date

CEST = timezone(timedelta(hours=2))
TAKEN, DIGITIZED, CHANGED = 0x9003, 0x9004, 0x0132
OFFSETS = {TAKEN: 0x9011, DIGITIZED: 0x9012, CHANGED: 0x9010}
FRACTIONS = {TAKEN: 0x9291, DIGITIZED: 0x9292, CHANGED: 0x9290}


def moment(
    photo: dict[int, Any] | None = None,
    main: dict[int, Any] | None = None,
    *,
    xmp: str = "",
    iptc: tuple[bytes, bytes] | None = None,
) -> datetime | None:
    exif = Image.Exif()
    exif[0x0112] = 1  # Pillow writes no EXIF without a tag in its main block
    exif.update(main or {})
    exif.get_ifd(0x8769).update(photo or {})
    packet = (
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:exif="http://ns.adobe.com/exif/1.0/"'
        ' xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
        f' xmlns:tiff="http://ns.adobe.com/tiff/1.0/"><rdf:Description {xmp}/></rdf:RDF>'
    )
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", exif=exif.tobytes(), xmp=packet.encode())
    jpeg = file.getvalue()
    if iptc:
        block = b"".join(struct.pack(">BBBH", 0x1C, 2, 55 + 5 * n, len(text)) + text for n, text in enumerate(iptc))
        body = b"Photoshop 3.0\0" + b"8BIM" + struct.pack(">HHI", 0x0404, 0, len(block)) + block
        jpeg = jpeg[:2] + b"\xff\xed" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]
    return load_image(jpeg).taken_at


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2021:07:04 18:30:05", datetime(2021, 7, 4, 18, 30, 5)),
        ("2021-07-04 18:30:05", datetime(2021, 7, 4, 18, 30, 5)),
        ("2021/07/04 18:30:05", datetime(2021, 7, 4, 18, 30, 5)),
        ("2021.07.04 18:30:05", datetime(2021, 7, 4, 18, 30, 5)),
        ("2021:07:04T18:30:05", datetime(2021, 7, 4, 18, 30, 5)),
        ("2021-07-04T18:30:05.250000", datetime(2021, 7, 4, 18, 30, 5, 250_000)),
        ("2021-07-04T18:30:05.123456789", datetime(2021, 7, 4, 18, 30, 5, 123_456)),
        ("2021:07:04 18:30", datetime(2021, 7, 4, 18, 30)),
        ("2021:07:04 18:30:  ", datetime(2021, 7, 4, 18, 30)),
        ("20210704 183005", datetime(2021, 7, 4, 18, 30, 5)),
        ("20210704183005", datetime(2021, 7, 4, 18, 30, 5)),
        ("2021:07:04 18:30:05\0\0", datetime(2021, 7, 4, 18, 30, 5)),
        ("2021:07:04 18:30:05+02:00", datetime(2021, 7, 4, 18, 30, 5, tzinfo=CEST)),
        ("2021:07:04 18:30:05 +0200", datetime(2021, 7, 4, 18, 30, 5, tzinfo=CEST)),
        ("2021-07-04T18:30+02", datetime(2021, 7, 4, 18, 30, tzinfo=CEST)),
        ("2021-07-04T18:30:05Z", datetime(2021, 7, 4, 18, 30, 5, tzinfo=UTC)),
        ("2021-07-04T18:30:05 UTC", datetime(2021, 7, 4, 18, 30, 5, tzinfo=UTC)),
        ("2021:07:04 18:30:05+25:00", datetime(2021, 7, 4, 18, 30, 5)),
    ],
)
def test_a_moment_is_read_as_cameras_and_editors_write_it(text: str, expected: datetime) -> None:
    assert parse_photo_date(text) == PhotoDate(expected, timed=True)
    found = moment({TAKEN: text})
    assert found == expected
    assert found is not None and found.utcoffset() == expected.utcoffset()


@pytest.mark.parametrize(
    "text",
    [
        "2021:07:04",
        "2021-07-04",
        "20210704",
        "2021:07:04   :  :  ",
        "2021:07:04 25:61:00",
        "2021:07:04 06:30:00 PM",
        "2021-07-04 noon",
    ],
)
def test_a_day_without_a_sensible_time_is_a_bare_day(text: str) -> None:
    assert parse_photo_date(text) == PhotoDate(datetime(2021, 7, 4), timed=False)


@pytest.mark.parametrize(
    "text",
    [
        "", "2021", "2021-07", "2021:13:01 00:00:00", "2021:00:00 00:00:00", "0000:00:00 00:00:00",
        "    :  :     :  :  ", "0001:01:01 00:00:00", "2021:07-04", "04.07.2021", "202107041", "yesterday",
        "٢٠٢١:٠٧:٠٤ ١٨:٣٠:٠٥",
    ],
)  # fmt: skip
def test_what_names_no_day_is_no_date(text: str) -> None:
    assert parse_photo_date(text) is None


@pytest.mark.parametrize("tag", [TAKEN, DIGITIZED, CHANGED])
@pytest.mark.parametrize(("fraction", "micros"), [("25", 250_000), ("007", 7_000), ("123456789", 123_456), ("x", 0)])
def test_each_date_of_exif_has_a_zone_and_a_fraction_of_its_own(tag: int, fraction: str, micros: int) -> None:
    block = {OFFSETS[tag]: "+02:00", FRACTIONS[tag]: fraction}
    date = {tag: "2021:07:04 18:30:05"}
    found = moment(block, date) if tag == CHANGED else moment({**block, **date})
    assert found == datetime(2021, 7, 4, 18, 30, 5, micros, tzinfo=CEST)


def test_a_zone_is_taken_from_another_date_only_if_that_says_the_same() -> None:
    same, later = "2021:07:04 18:30:05", "2024:01:01 12:00:00"
    assert moment({TAKEN: same, OFFSETS[CHANGED]: "+02:00"}, {CHANGED: same}) == datetime(
        2021, 7, 4, 18, 30, 5, tzinfo=CEST
    )
    assert moment({TAKEN: same, OFFSETS[CHANGED]: "+02:00"}, {CHANGED: later}) == datetime(2021, 7, 4, 18, 30, 5)


def test_taken_goes_over_digitized_and_that_over_changed() -> None:
    taken, digitized, changed = "2001:01:01 01:01:01", "2002:02:02 02:02:02", "2003:03:03 03:03:03"
    assert moment({TAKEN: taken, DIGITIZED: digitized}, {CHANGED: changed}) == datetime(2001, 1, 1, 1, 1, 1)
    assert moment({DIGITIZED: digitized}, {CHANGED: changed}) == datetime(2002, 2, 2, 2, 2, 2)
    assert moment({}, {CHANGED: changed}) == datetime(2003, 3, 3, 3, 3, 3)
    assert moment({TAKEN: "rubbish", DIGITIZED: digitized}) == datetime(2002, 2, 2, 2, 2, 2)
    assert moment({DIGITIZED: digitized}, xmp='photoshop:DateCreated="2001-01-01T01:01"') == datetime(2001, 1, 1, 1, 1)
    assert moment({}, {TAKEN: taken}) == datetime(2001, 1, 1, 1, 1, 1)


@pytest.mark.parametrize(
    ("name", "year"),
    [("exif:DateTimeOriginal", 2021), ("photoshop:DateCreated", 2021), ("exif:DateTimeDigitized", 2021),
     ("xmp:CreateDate", 2021), ("tiff:DateTime", 2021), ("xmp:ModifyDate", None), ("xmp:MetadataDate", None)],
)  # fmt: skip
def test_the_dates_of_xmp_that_are_those_of_a_photo(name: str, year: int | None) -> None:
    found = moment(xmp=f'{name}="2021-07-04T18:30:05+02:00"')
    assert (found and found.year) == year


def test_a_time_of_day_wins_over_a_bare_day_whichever_block_has_it() -> None:
    assert moment({TAKEN: "2021:07:04"}, xmp='exif:DateTimeOriginal="2021-07-04T18:30"') == datetime(2021, 7, 4, 18, 30)
    assert moment(xmp='exif:DateTimeOriginal="2021-07-04" photoshop:DateCreated="2021-07-04T18:30"') == datetime(
        2021, 7, 4, 18, 30
    )
    assert moment(xmp='exif:DateTimeOriginal="2021-07-04"', iptc=(b"20210704", b"183005+0200")) == datetime(
        2021, 7, 4, 18, 30, 5, tzinfo=CEST
    )
    assert moment({TAKEN: "2021:07:04", DIGITIZED: "2021:07:04 18:30:05"}) == datetime(2021, 7, 4, 18, 30, 5)


def test_a_scan_says_nothing_of_the_hour_of_an_old_photo() -> None:
    scanned = {DIGITIZED: "2010:03:01 12:00:00"}
    assert moment(scanned, {CHANGED: "2011:03:01 12:00:00"}, iptc=(b"19690720", b"")) == datetime(1969, 7, 20)


def test_of_no_dates_there_is_no_moment() -> None:
    assert choose_date([]) is None
    assert choose_date([PhotoDates(), PhotoDates()]) is None
