"""Images within text, as JSON holds them: base64 (RFC 4648), also as a data URL (RFC 2397)."""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import unquote_to_bytes

from clip_qdrant.errors import EmptyImage, ImageTooLarge, NotAnImage, shorten
from clip_qdrant.images.load import DEFAULT_LIMITS, Limits

__all__ = ["decode_inline_image"]

_SHOWN = 40
_SPACE = re.compile(r"\s+")


def decode_inline_image(text: str, *, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """The bytes of an image file. Both alphabets of base64 are read, with padding or without, white space between.

    Raises NotAnImage for text that is neither, EmptyImage, and ImageTooLarge above the limit of bytes.
    """
    head, comma, data = text.partition(",")
    if text[:5].lower() != "data:":
        data = text
    elif not comma:
        raise NotAnImage(f"{shorten(text, _SHOWN)!r} is no data URL: it has no comma before its data")
    elif not head.lower().rstrip().endswith(";base64"):
        return _check_size(unquote_to_bytes(data), limits)
    if len(data) // 4 * 3 > 2 * limits.max_bytes:  # white space included
        raise ImageTooLarge(f"an image in base64 has {len(data)} characters; the limit is {limits.max_bytes} bytes")
    digits = _SPACE.sub("", data).rstrip("=").translate({ord("-"): "+", ord("_"): "/"})
    try:
        content = base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except (binascii.Error, ValueError) as error:  # ValueError: characters that are not ASCII
        raise NotAnImage(
            f"{shorten(text, _SHOWN)!r} is no image in base64: {error}; send base64, or a data URL of it"
        ) from error
    return _check_size(content, limits)


def _check_size(content: bytes, limits: Limits) -> bytes:
    if not content:
        raise EmptyImage("an image in base64 has no bytes")
    if len(content) > limits.max_bytes:
        raise ImageTooLarge(f"an image in base64 has {len(content)} bytes; the limit is {limits.max_bytes}")
    return content
