"""What an image file says of itself, in EXIF, IPTC and XMP, as metadata fields of fixed types.

Where several say it, XMP wins over IPTC and IPTC over EXIF: editors keep XMP current. The moment and the place are
EXIF's first, which the camera wrote, but for a moment that another has with more precision (`dates.choose_date`).
"""

from __future__ import annotations

from PIL import Image

from clip_qdrant.images.metadata import exif, iptc, xmp
from clip_qdrant.images.metadata.blocks.find import find_blocks
from clip_qdrant.images.metadata.dates import choose_date
from clip_qdrant.images.metadata.exif_blocks import read_exif
from clip_qdrant.images.metadata.tag_fields import FileTags, choose_values
from clip_qdrant.images.metadata.xmp_properties import MAX_XMP_BYTES, Properties, read_properties

__all__ = ["read_tags"]


def read_tags(image: Image.Image, data: bytes = b"") -> FileTags:
    """What the file of an image says of itself. Call it after the pixels are read: a PNG may have tags behind them.

    `data` is the file, in which those blocks are found that Pillow passes over.
    """
    blocks = find_blocks(image, data)
    from_exif = read_exif(image, blocks.exif)
    properties: Properties = {}
    left = MAX_XMP_BYTES
    for packet in blocks.xmp:
        for name, values in read_properties(packet[: max(left, 0)]).items():
            properties.setdefault(name, values)
        left -= len(packet)
    from_iptc = iptc.read_fields(blocks.iptc)
    fields = choose_values(
        xmp.read_fields(properties) if properties else {},
        from_iptc if blocks.iptc else {},
        exif.read_fields(from_exif) if from_exif.main else {},  # the other blocks hang from this one
    )
    taken_at = choose_date([exif.read_dates(from_exif), xmp.read_dates(properties), from_iptc["dates"]])
    location = exif.read_location(from_exif.gps) or xmp.read_location(properties)
    # The pixels of a JPEG 2000 are upright: its decoders do not look into a box of EXIF.
    orientation = None if image.format == "JPEG2000" else from_exif.orientation
    return FileTags(fields, taken_at, location, orientation)
