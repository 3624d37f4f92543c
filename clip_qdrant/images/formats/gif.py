"""GIF: the canvas that its first frame needs, measured before Pillow makes it."""

from __future__ import annotations

import struct

from clip_qdrant.errors import TruncatedImage

__all__ = ["read_gif_frame_size"]


def read_gif_frame_size(data: bytes) -> tuple[int, int]:
    """Width and height of the canvas that the first frame of a GIF needs: a frame may be larger than the screen.

    Source: GIF89a specification. Raises TruncatedImage.
    """
    try:
        width, height, flags = struct.unpack_from("<HHB", data, 6)
        at = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
        while data[at] == 0x21:  # extensions, each a chain of sub-blocks
            at += 2
            while data[at]:
                at += 1 + data[at]
            at += 1
        if data[at] == 0x2C:
            left, top, frame_width, frame_height = struct.unpack_from("<HHHH", data, at + 1)
            width, height = max(width, left + frame_width), max(height, top + frame_height)
    except (IndexError, struct.error) as error:
        raise TruncatedImage("the GIF ends before its first frame") from error
    return width, height
