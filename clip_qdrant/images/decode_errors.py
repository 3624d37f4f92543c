"""What goes wrong while Pillow decodes: whatever it raises as an ImageError, and a warning that says nothing new."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from clip_qdrant.errors import ImageError, ImageTooLarge, TruncatedImage, UnsupportedImage

__all__ = ["RaiseImageErrors", "silence_bomb_warning"]

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


@dataclass(frozen=True, slots=True)
class RaiseImageErrors:
    """Pillow raises nearly every exception there is on damaged bytes; here it becomes an ImageError.

    Not a generator: from Python 3.12 on an error that goes into one lives, with the bytes of the image, until the
    garbage collection finds it.
    """

    name: str

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, ImageError):
            if self.name not in str(error):
                raise type(error)(f"{self.name}: {error}") from error
        elif isinstance(error, Exception):
            raise _to_image_error(error, self.name) from error


def _to_image_error(error: Exception, name: str) -> ImageError:
    if isinstance(error, Image.DecompressionBombError):
        return ImageTooLarge(f"{name}: {error}")
    if isinstance(error, MemoryError):
        return ImageTooLarge(f"{name} does not fit into memory")
    if isinstance(error, NotImplementedError):
        return UnsupportedImage(f"{name} cannot be decoded here: {error}")
    text = str(error) or type(error).__name__
    if any(words in text for words in _TEXT_BOMB_WORDS):
        return ImageTooLarge(f"{name} has more text in it than is read: {text}")
    if any(word in text.lower() for word in _UNSUPPORTED_WORDS):
        return UnsupportedImage(f"{name} cannot be decoded here: {text}")
    return TruncatedImage(f"{name} ends early or is damaged: {text}")


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
