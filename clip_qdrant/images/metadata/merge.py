"""What an image file says of itself, in EXIF, IPTC and XMP, as metadata fields of fixed types.

Where several say it, XMP wins over IPTC and IPTC over EXIF: editors keep XMP current. The moment and the place are
EXIF's first, which the camera wrote.
"""

from __future__ import annotations

from PIL import Image

from clip_qdrant.images.metadata import exif, iptc, xmp
from clip_qdrant.images.metadata.dates import PhotoDate, PhotoDates, choose_date
from clip_qdrant.images.metadata.exif_blocks import read_exif
from clip_qdrant.images.metadata.tag_fields import FileTags, choose_values
from clip_qdrant.images.metadata.xmp_properties import read_properties

__all__ = ["read_tags"]


def read_tags(image: Image.Image) -> FileTags:
    """What the file of an image says of itself. Call it after the pixels are read: a PNG may have tags behind them."""
    data = read_exif(image)
    packet = image.info.get("xmp")
    block = iptc.find_block(image)
    properties = read_properties(packet) if isinstance(packet, bytes) else {}
    from_iptc = iptc.read_fields(block) if block else {}
    fields = choose_values(
        xmp.read_fields(properties) if properties else {},
        from_iptc,
        exif.read_fields(data) if data.main else {},  # the other blocks hang from this one
    )
    taken = exif.read_taken_at(data.photo)
    dates = [PhotoDates(PhotoDate(taken, timed=True) if taken else None), xmp.read_dates(properties)]
    taken_at = choose_date(dates) or from_iptc.get("taken_at")
    location = exif.read_location(data.gps) or xmp.read_location(properties)
    return FileTags(fields, taken_at, location, data.orientation)
