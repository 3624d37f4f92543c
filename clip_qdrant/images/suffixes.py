"""The suffixes of image files."""

from __future__ import annotations

__all__ = ["IMAGE_SUFFIXES"]

IMAGE_SUFFIXES = frozenset(
    {
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff",
        ".avif", ".heic", ".heif", ".jp2", ".j2k", ".ppm", ".pgm", ".pbm",
    }
)  # fmt: skip
