"""The value that is white in grey pixels of 16 bits, where it is not 65535."""

from __future__ import annotations

from PIL import Image

__all__ = ["get_white", "set_white"]

_KEY = "clip_qdrant white"  # of Image.info, which copies and crops of an image keep


def set_white(image: Image.Image, value: int) -> None:
    image.info[_KEY] = value


def get_white(image: Image.Image) -> int:
    value = image.info.get(_KEY)
    return value if isinstance(value, int) else 65535
