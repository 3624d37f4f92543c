"""WebP: opened here and not by Pillow, which has its own limit of pixels and holds the picture once more."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image, ImageFile
from PIL.WebPImagePlugin import SUPPORTED

from clip_qdrant.errors import TruncatedImage

__all__ = ["SUPPORTED", "open_webp"]

_CHUNKS = {"icc_profile": "ICCP", "exif": "EXIF", "xmp": "XMP "}


def open_webp(data: bytes) -> ImageFile.ImageFile:
    """An image whose pixels are not read yet."""
    return _WebP(io.BytesIO(data))


class _WebP(ImageFile.ImageFile):
    format = "WEBP"
    format_description = "WebP image"

    def _open(self) -> None:
        from PIL import _webp

        assert self.fp is not None
        self._frames = _webp.WebPAnimDecoder(self.fp.read())
        self._size, _, _, _, rawmode = self._frames.get_info()
        self._mode = "RGBA" if rawmode == "RGBA" else "RGBX"
        for name, chunk in _CHUNKS.items():
            if content := self._frames.get_chunk(chunk):
                self.info[name] = content

    def load(self) -> Any:
        if self._im is None:
            frame = self._frames.get_next()
            self._frames = None  # it holds two pictures more
            if frame is None:
                raise TruncatedImage("its first frame cannot be decoded")
            self.im = Image.frombuffer(self.mode, self.size, frame[0], "raw", self.mode, 0, 1).im
        return Image.Image.load(self)
