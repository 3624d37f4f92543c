"""EXIF, IPTC and XMP are found wherever a format keeps them; what is cut off or hostile costs nothing else."""

from __future__ import annotations

import io
import struct
from typing import Any

import pytest
from PIL import Image, PngImagePlugin, features

from clip_qdrant.fields.types import Location
from clip_qdrant.images.load import LoadedImage, load_image
from clip_qdrant.images.metadata.blocks import gif, jpeg, jpeg2000, webp
from clip_qdrant.images.metadata.blocks.photoshop import find_iptc
from clip_qdrant.images.metadata.blocks.png import find_profiles

PICTURE = Image.new("RGB", (16, 8), (10, 200, 30))
HAS_JPEG2000 = features.check("jpg_2000")
XMP_ADDRESS = b"http://ns.adobe.com/xap/1.0/\0"
EXTENSION_ADDRESS = b"http://ns.adobe.com/xmp/extension/\0"
DIGEST = b"0123456789ABCDEF0123456789ABCDEF"


def packet(properties: str = "", attributes: str = "") -> bytes:
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"'
        ' xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:xmpNote="http://ns.adobe.com/xmp/note/"'
        f" {attributes}>{properties}</rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


XMP = packet(
    "<dc:subject><rdf:Bag><rdf:li>harbour</rdf:li></rdf:Bag></dc:subject>",
    'exif:GPSLatitude="48,6.0N" exif:GPSLongitude="11,30.0E"',
)
PLACE = Location(lat=48.1, lon=11.5)
IPTC = b"\x1c\2\x19" + struct.pack(">H", 7) + b"harbour"
RESOURCES = b"8BIM\x04\x25\0\0\0\0\0\0" + b"8BIM\x04\x04\3abc" + struct.pack(">L", len(IPTC)) + IPTC
EXIF = b"II*\0" + struct.pack("<LHHHL4sL", 8, 1, 0x0110, 2, 4, b"EOS\0", 0)
TURNED = b"II*\0" + struct.pack("<LHHHLLL", 8, 1, 0x0112, 3, 1, 6, 0)


def save(image_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    PICTURE.save(file, image_format, **options)
    return file.getvalue()


def add_segments(*segments: tuple[int, bytes]) -> bytes:
    data = save("JPEG")
    return data[:2] + b"".join(struct.pack(">BBH", 0xFF, m, len(body) + 2) + body for m, body in segments) + data[2:]


def keywords_and_place(loaded: LoadedImage) -> tuple[Any, Location | None]:
    return loaded.info.tags.get("keywords"), loaded.location


def add_to_gif(block: bytes) -> bytes:
    data = save("GIF")
    return data[:-1] + block + data[-1:]


RAMP = b"\1" + bytes(range(255, -1, -1)) + b"\0"


def add_riff_chunks(*chunks: tuple[bytes, bytes]) -> bytes:
    data = save("WEBP") + b"".join(k + struct.pack("<L", len(c)) + c + b"\0" * (len(c) % 2) for k, c in chunks)
    return data[:4] + struct.pack("<L", len(data) - 8) + data[8:]


def add_boxes(*boxes: bytes) -> bytes:
    data = save("JPEG2000")
    at = data.index(b"jp2c") - 4  # the picture, up to the end of the file
    return data[:at] + b"".join(struct.pack(">L4s", 8 + len(box), b"uuid") + box for box in boxes) + data[at:]


def with_texts(**texts: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        info.add_text(name.replace("_", " "), text, zip=True)
    return save("PNG", pnginfo=info)


def profile(kind: str, data: bytes) -> str:
    digits = data.hex()
    return f"\n{kind}\n{len(data):8d}\n" + "\n".join(digits[at : at + 72] for at in range(0, len(digits), 72)) + "\n"


def itxt(packet: bytes) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", packet.decode(), zip=True)
    return save("PNG", pnginfo=info)


def text_of_latin_1(packet: bytes) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("XML:com.adobe.xmp", packet.decode())
    return save("PNG", pnginfo=info)


XMP_CASES = {
    "JPEG": lambda: save("JPEG", xmp=XMP),
    "JPEG by Flickr": lambda: add_segments((0xE1, b"XMP\0" + XMP_ADDRESS + XMP)),
    "JPEG with two packets": lambda: add_segments((0xE1, XMP_ADDRESS + XMP), (0xE1, XMP_ADDRESS + packet())),
    "JPEG, cut anywhere": lambda: add_segments(
        *((0xE1, XMP_ADDRESS + part) for part in (XMP[:77], XMP[77:200], XMP[200:]))
    ),
    "JPEG, cut before an element": lambda: add_segments(
        *((0xE1, XMP_ADDRESS + part) for part in (XMP[: XMP.index(b"<rdf:Bag")], XMP[XMP.index(b"<rdf:Bag") :]))
    ),
    "JPEG in UTF-16": lambda: add_segments((0xE1, XMP_ADDRESS + XMP.decode().encode("utf-16-be"))),
    "PNG": lambda: itxt(XMP),
    "PNG in Latin-1": lambda: text_of_latin_1(XMP),
    "PNG by ImageMagick": lambda: with_texts(Raw_profile_type_xmp=profile("xmp", XMP)),
    "PNG by an older one": lambda: with_texts(Raw_profile_type_APP1=profile("generic", XMP_ADDRESS + XMP)),
    "WebP": lambda: save("WEBP", xmp=XMP),
    "WebP whose header is silent": lambda: add_riff_chunks((b"XMP ", XMP)),
    "WebP by a plugin": lambda: add_riff_chunks((b"XMP\0", XMP)),
    "TIFF": lambda: save("TIFF", tiffinfo={700: XMP}),
    "GIF": lambda: add_to_gif(b"\x21\xff\x0bXMP DataXMP" + XMP + RAMP),
    "GIF in a chain": lambda: add_to_gif(
        b"\x21\xff\x0bXMP DataXMP"
        + b"".join(bytes([len(part)]) + part for part in (XMP[at : at + 255] for at in range(0, len(XMP), 255)))
        + b"\0"
    ),
    "JPEG 2000": lambda: add_boxes(jpeg2000._XMP + XMP),
}


@pytest.mark.parametrize("case", XMP_CASES)
def test_xmp_is_found_in_every_format(case: str) -> None:
    if case == "JPEG 2000" and not HAS_JPEG2000:
        pytest.skip("this Pillow has no JPEG 2000")
    assert keywords_and_place(load_image(XMP_CASES[case]())) == (["harbour"], PLACE)


def extended(content: bytes, start: int, total: int, digest: bytes = DIGEST) -> tuple[int, bytes]:
    return 0xE1, EXTENSION_ADDRESS + digest + struct.pack(">LL", total, start) + content


def test_extended_xmp_is_put_together_whatever_the_order_of_its_parts() -> None:
    names = (0xE1, XMP_ADDRESS + packet(attributes=f'xmpNote:HasExtendedXMP="{DIGEST.decode()}"'))
    parts = [extended(XMP[at : at + 100], at, len(XMP)) for at in range(0, len(XMP), 100)]
    assert keywords_and_place(load_image(add_segments(names, *parts))) == (["harbour"], PLACE)
    assert keywords_and_place(load_image(add_segments(*parts[::-1], names))) == (["harbour"], PLACE)
    foreign = [extended(XMP, 0, len(XMP), b"F" * 32)]
    assert keywords_and_place(load_image(add_segments(names, *foreign))) == (None, None)


def test_of_extended_xmp_that_lacks_a_part_the_beginning_is_read() -> None:
    names = ("APP1", XMP_ADDRESS + packet(attributes=f'xmpNote:HasExtendedXMP="{DIGEST.decode()}"'))
    parts = [("APP1", extended(XMP[at : at + 100], at, len(XMP))[1]) for at in range(0, len(XMP), 100)]
    assert jpeg.find_xmp([names, *parts])[1] == XMP
    assert jpeg.find_xmp([names, *parts[:2], *parts[3:]])[1] == XMP[:200]
    assert jpeg.find_xmp([names, ("APP1", EXTENSION_ADDRESS + b"short")])[1] == b""


IPTC_CASES = {
    "JPEG": lambda: add_segments((0xED, b"Photoshop 3.0\0" + RESOURCES)),
    "JPEG over two segments": lambda: add_segments(
        (0xED, b"Photoshop 3.0\0" + RESOURCES[:-4]), (0xED, b"Photoshop 3.0\0" + RESOURCES[-4:])
    ),
    "TIFF": lambda: save("TIFF", tiffinfo={33723: IPTC}),
    "TIFF by Photoshop": lambda: save("TIFF", tiffinfo={34377: RESOURCES}),
    "PNG, resources": lambda: with_texts(Raw_profile_type_iptc=profile("iptc", RESOURCES)),
    "PNG, resources by another name": lambda: with_texts(Raw_profile_type_8bim=profile("8bim", RESOURCES)),
    "PNG, bare": lambda: with_texts(Raw_profile_type_iptc=profile("iptc", IPTC)),
    "JPEG 2000": lambda: add_boxes(jpeg2000._IPTC + IPTC),
}


@pytest.mark.parametrize("case", IPTC_CASES)
def test_iptc_is_found_in_every_format(case: str) -> None:
    if case == "JPEG 2000" and not HAS_JPEG2000:
        pytest.skip("this Pillow has no JPEG 2000")
    assert load_image(IPTC_CASES[case]()).info.tags == {"keywords": ["harbour"]}


EXIF_CASES = {
    "PNG by ImageMagick": lambda: with_texts(Raw_profile_type_exif=profile("exif", b"Exif\0\0" + EXIF)),
    "PNG by an older one": lambda: with_texts(Raw_profile_type_APP1=profile("generic", b"Exif\0\0" + EXIF)),
    "WebP whose header is silent": lambda: add_riff_chunks((b"EXIF", EXIF)),
    "JPEG 2000": lambda: add_boxes(jpeg2000._EXIF + EXIF),
}


@pytest.mark.parametrize("case", EXIF_CASES)
def test_exif_is_found_where_pillow_passes_it_over(case: str) -> None:
    if case == "JPEG 2000" and not HAS_JPEG2000:
        pytest.skip("this Pillow has no JPEG 2000")
    assert load_image(EXIF_CASES[case]()).info.tags == {"camera": "EOS"}


@pytest.mark.skipif(not HAS_JPEG2000, reason="this Pillow has no JPEG 2000")
def test_a_box_of_exif_does_not_turn_a_jpeg_2000() -> None:
    assert load_image(add_boxes(jpeg2000._EXIF + TURNED)).rgb.size == (16, 8)


@pytest.mark.parametrize(
    "text",
    ["", "\n", "iptc", "\niptc\n", "\niptc\n 4\nzz", "\niptc\n 99999999999\nff", "\niptc\n 4\nfff", "\xff\niptc\n4\n€"],
)
def test_a_text_that_is_no_profile_is_passed_over(text: str) -> None:
    texts = {f"Raw profile type {kind}": text for kind in ("exif", "APP1", "iptc", "8bim", "xmp")}
    assert not any(find_profiles(texts)[2]) or find_profiles(texts)[2] == [b"\xff"]
    assert not find_profiles(texts)[1]
    assert find_profiles(dict.fromkeys(texts, 7)) == (None, b"", [b""])


@pytest.mark.parametrize(
    "bad", [b"", b"8BIM", RESOURCES[:13], RESOURCES[:20], RESOURCES[:30], b"8BIM\4\4\xff" + b"x" * 20, b"8BIM" * 99]
)
def test_resources_that_end_early_give_what_there_is(bad: bytes) -> None:
    assert IPTC.startswith(find_iptc(bad))


def test_blocks_whose_sizes_lie_end_the_search() -> None:
    assert webp.find_chunks(b"RIFF\0\0\0\0WEBP" + b"XMP \xff\xff\xff\xffabc") == (None, [b"abc"])
    assert webp.find_chunks(b"RIFF\0\0\0\0WEBP" + b"VP8 \xff\xff\xff\xffabc") == (None, [])
    for size in (b"\0\0\0\4", b"\0\0\0\1\0\0", b"\0\0\0\0uuid", b"\xff\xff\xff\xff"):
        assert jpeg2000.find_boxes(jpeg2000.SIGNATURE + size + b"uuid") == (None, b"", [])
    assert gif.find_xmp(b"GIF89a\x21\xff\x0bXMP DataXMP") == [b""]
    assert gif.find_xmp(b"GIF89a\x21\xff\x0bXMP DataXMP\xffab") == [b"ab"]
