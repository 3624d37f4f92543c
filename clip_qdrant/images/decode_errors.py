"""What goes wrong while Pillow decodes: whatever it raises as an ImageError, and a warning that says nothing new."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator

from PIL import Image

from clip_qdrant.errors import ImageError, ImageTooLarge, TruncatedImage, UnsupportedImage

__all__ = ["raise_image_errors", "silence_bomb_warning"]

# How Pillow words "not in this build" and "no such mode": the rest of what it raises means damage.
_UNSUPPORTED_WORDS = (
    "unsupported",
    "not supported",
    "not available",
    "cannot handle",
    "cannot find loader",
    "unknown pixel mode",
    "unrecognized image mode",
)
_TEXT_BOMB_WORDS = ("Decompressed data too large", "Too much memory used in text chunks")  # of a PNG
_WARNING_FILTERS = threading.Lock()


@contextlib.contextmanager
def raise_image_errors(name: str) -> Iterator[None]:
    """Pillow raises nearly every exception there is on damaged bytes; here it becomes an ImageError."""
    try:
        yield
    except ImageError as error:
        if name not in str(error):
            raise type(error)(f"{name}: {error}") from error
        raise
    except Image.DecompressionBombError as error:
        raise ImageTooLarge(f"{name}: {error}") from error
    except MemoryError as error:
        raise ImageTooLarge(f"{name} does not fit into memory") from error
    except NotImplementedError as error:
        raise UnsupportedImage(f"{name} cannot be decoded here: {error}") from error
    except Exception as error:
        text = str(error) or type(error).__name__
        if any(words in text for words in _TEXT_BOMB_WORDS):
            raise ImageTooLarge(f"{name} has more text in it than is read: {text}") from error
        if any(word in text.lower() for word in _UNSUPPORTED_WORDS):
            raise UnsupportedImage(f"{name} cannot be decoded here: {text}") from error
        raise TruncatedImage(f"{name} ends early or is damaged: {text}") from error


@contextlib.contextmanager
def silence_bomb_warning(pixels: int) -> Iterator[None]:
    """GIF and TIFF measure against Pillow's process-wide limit while they decode, and warn; `limits` decided already.

    Only for the rare image above that limit: the warning filters belong to the whole process.
    """
    if Image.MAX_IMAGE_PIXELS is None or pixels <= Image.MAX_IMAGE_PIXELS:
        yield
        return
    with _WARNING_FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield
