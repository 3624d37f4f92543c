"""Bytes, paths, PIL images and arrays to upright RGB: the one decode path of training, ingestion and queries.

`load_image` applies the EXIF orientation and the colour profile, lays transparent images on white, scales deep
grey to 8 bit, reads the first frame of an animation, and decodes a big photo near the size that is needed.
What cannot be used is refused with an ImageError that says why. Pillow releases the GIL while it decodes,
so threads decode in parallel.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Union

import numpy as np
from PIL import Image

from clip_qdrant.errors import (
    EmptyImage,
    ImageTooLarge,
    SourceError,
    UnsupportedImage,
)
from clip_qdrant.fields.types import Location
from clip_qdrant.images.decode_errors import RaiseImageErrors, silence_bomb_warning
from clip_qdrant.images.formats.gif import read_gif_frame_size
from clip_qdrant.images.formats.open import count_decoding_bytes, open_decoder
from clip_qdrant.images.formats.tiff import TiffPicture
from clip_qdrant.images.metadata.merge import read_tags
from clip_qdrant.images.perceptual_hash import perceptual_hash
from clip_qdrant.images.pixels import flatten, to_srgb
from clip_qdrant.images.reduction import note_whole
from clip_qdrant.images.sniff import sniff
from clip_qdrant.records import ImageInfo
from clip_qdrant.uris import path_of

__all__ = [
    "DEFAULT_LIMITS",
    "Admit",
    "ImageInput",
    "Limits",
    "LoadedImage",
    "is_one_image",
    "load_image",
    "read_bytes",
]

Admit = Callable[[int], "contextlib.AbstractContextManager[object]"]
ImageInput = Union[str, "os.PathLike[str]", bytes, Image.Image, "np.ndarray[Any, Any]"]

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest image that is decoded. Of an animation only the first frame is read."""

    max_bytes: int = 256 * 1024 * 1024
    max_pixels: int = 200_000_000
    max_decoding_bytes: int = 2_750_000_000  # of memory that its pixels take while they are decoded


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """An image ready for `Embedder.preprocess`. `rgb` is upright and may be reduced; `info` has the original size."""

    rgb: Image.Image
    info: ImageInfo
    taken_at: datetime | None
    location: Location | None


def load_image(
    source: ImageInput,
    *,
    target: int | None = None,
    limits: Limits = DEFAULT_LIMITS,
    name: str | None = None,
    admit: Admit | None = None,
) -> LoadedImage:
    """Decodes one image.

    `source` is a path, a `file:` uri, the bytes of a file, a PIL image, or a uint8 array (height, width) or
    (height, width, 1 | 3 | 4). `target` is the short side, in pixels, that is needed at least: with it a bigger
    image may come back reduced, its short side never below `target`. `name` stands for the image in messages.
    `info.sha256` is over the bytes of the file; for PIL images and arrays over size, mode and pixels.
    `admit` is called with the bytes of memory that the pixels of a file take while they are decoded, an upper bound,
    and what it returns is held until they are reduced: so several threads can share a budget. It is not asked for PIL
    images and arrays, whose pixels are there already.

    Raises ImageError (EmptyImage, NotAnImage, UnsupportedImage, TruncatedImage, ImageTooLarge), and SourceError
    for a path that cannot be read. Damage is refused where the decoder can tell: a JPEG has no checksum, so one with
    other bytes in its middle may be a wrong picture, and a progressive one without its last passes a blurred picture.
    """
    if target is not None and target < 1:
        raise ValueError(f"target is the short side in pixels, at least 1, not {target}")
    if isinstance(source, np.ndarray):
        return _load_pixels(_make_image(source, name or "the array"), target, limits, name or "the array")
    if isinstance(source, Image.Image):
        return _load_pixels(source, target, limits, name or "the image")
    if isinstance(source, (bytes, bytearray, memoryview)):
        data, name = bytes(source), name or "the image"
        if len(data) > limits.max_bytes:
            raise ImageTooLarge(f"{name} has {len(data)} bytes; the limit is {limits.max_bytes}")
    elif isinstance(source, (str, os.PathLike)):
        name = name or os.fspath(source)
        data = read_bytes(source, limits=limits)
    else:
        raise UnsupportedImage(f"an image is a path, bytes, a PIL image or a uint8 array, not {type(source).__name__}")
    image_format = sniff(data, name)
    with contextlib.ExitStack() as stack:
        with RaiseImageErrors(name):
            if image_format == "GIF":
                stack.enter_context(silence_bomb_warning(_check_pixels(read_gif_frame_size(data), limits, name)))
            image = open_decoder(image_format, data, name)
            size = image.size
            pixels = _check_pixels(size, limits, name)
            if isinstance(image, TiffPicture):
                _check_pixels(image.block_size, limits, f"a tile of {name}")
                stack.enter_context(silence_bomb_warning(pixels))
            edges: tuple[float, float] = size  # of the whole image in what is decoded
            if image_format == "JPEG" and target is not None:
                drafted = image.draft(image.mode, (target, target))  # scales in the DCT, by 1/2, 1/4 or 1/8
                edges = drafted[1][2:] if drafted else size
            # Of four bytes a pixel: without palette, in sRGB, upright.
            copies = 0 if _choose_reduction(image, target) > 1 else 2
            needed = count_decoding_bytes(image, image_format, data, size)
            if needed > limits.max_decoding_bytes:
                raise ImageTooLarge(
                    f"{name}, {image_format} of {size[0]} x {size[1]} pixels, takes {needed} bytes of memory to be "
                    f"decoded; the limit is {limits.max_decoding_bytes}: make it smaller, or convert it to JPEG"
                )
            needed += copies * 4 * image.width * image.height
        sha256 = hashlib.sha256(data).hexdigest()
        if admit is not None:
            stack.enter_context(admit(needed))
        with RaiseImageErrors(name):
            loaded = _finish(image, image_format, len(data), sha256, target, data, whole=(size, edges))
        del image  # its memory is given back before its admission
        return loaded


def is_one_image(images: object) -> bool:
    """Whether this is one image, of any kind that `load_image` takes, where a sequence of images is expected.

    An array is one if it is grey or has its channels last.
    """
    if isinstance(images, np.ndarray):
        return images.ndim < 3 or (images.ndim == 3 and images.shape[2] in (1, 3, 4))
    return isinstance(images, (str, bytes, os.PathLike, Image.Image))


def read_bytes(source: str | os.PathLike[str], *, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """The bytes of a file named by a path or a `file:` uri. Raises SourceError and ImageTooLarge."""
    path = Path(source)
    if isinstance(source, str) and source.startswith("file:"):
        path = path_of(source) or path
    try:
        with open(path, "rb", opener=_open_nonblocking) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise SourceError(f"cannot read {path}: it is not a regular file")
            if status.st_size > limits.max_bytes:
                raise ImageTooLarge(f"{path} has {status.st_size} bytes; the limit is {limits.max_bytes}")
            data: bytes = file.read(status.st_size + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise SourceError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > status.st_size:
        raise SourceError(f"cannot read {path}: it grew while it was read; try again when its writer is done")
    return data


def _open_nonblocking(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a named pipe must not hang the reader


def _load_pixels(image: Image.Image, target: int | None, limits: Limits, name: str) -> LoadedImage:
    if 0 in image.size:
        raise EmptyImage(f"{name} has no pixels: its size is {image.width} x {image.height}")
    _check_pixels(image.size, limits, name)
    with RaiseImageErrors(name):
        image.load()  # before the hash: the size of a TIFF may turn
        pixels = image.convert("RGBA") if image.mode in ("P", "PA") else image
        content = pixels.tobytes()
        if len(content) > limits.max_bytes:
            raise ImageTooLarge(f"{name} has {len(content)} bytes of pixels; the limit is {limits.max_bytes}")
        digest = hashlib.sha256(f"{image.width} {image.height} {pixels.mode} ".encode())
        digest.update(content)
        return _finish(image, image.format or "RAW", len(content), digest.hexdigest(), target)


def _make_image(array: np.ndarray[Any, Any], name: str) -> Image.Image:
    if array.dtype != np.uint8:
        raise UnsupportedImage(f"{name} must be uint8 with values 0-255, not {array.dtype}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[2] in (3, 4)):
        raise UnsupportedImage(f"{name} must have shape (height, width[, 1 | 3 | 4]), not {array.shape}")
    if array.size == 0:
        raise EmptyImage(f"{name} has no pixels: its shape is {array.shape}")
    return Image.fromarray(np.ascontiguousarray(array))


def _check_pixels(size: tuple[int, int], limits: Limits, name: str) -> int:
    width, height = size
    if width * height > limits.max_pixels:
        raise ImageTooLarge(f"{name} has {width} x {height} pixels; the limit is {limits.max_pixels}")
    return width * height


def _choose_reduction(image: Image.Image, target: int | None) -> int:
    """By how much an image may be reduced by a box: twice the target is left for preprocess, whose filter is better."""
    return 1 if target is None else max(1, min(image.size) // (2 * target))


def _finish(
    image: Image.Image,
    image_format: str,
    size_bytes: int,
    sha256: str,
    target: int | None,
    data: bytes = b"",
    *,
    whole: tuple[tuple[int, int], tuple[float, float]] | None = None,
) -> LoadedImage:
    """The common part: `image` is open and within the limits, its pixels perhaps not read yet.

    `data` is the file, where there is one, and `whole` the size of the image in it and in what is decoded, which is
    less where the decoder scales it.
    """
    decoded = image.size
    image.load()
    if whole is None or image.size != decoded:  # a TIFF is upright once it is loaded
        whole = (image.size, image.size)
    (width, height), (right, bottom) = whole
    said = read_tags(image, data)  # after load: a TIFF says that it is upright then
    profile = image.info.get("icc_profile")
    factor = _choose_reduction(image, target)
    rgb = flatten(image, factor)
    right, bottom = right / factor, bottom / factor
    if isinstance(profile, bytes) and profile:
        rgb = to_srgb(rgb, profile)
    if rgb.mode != "RGB":
        rgb = rgb.convert("RGB")
    if said.orientation in _TRANSPOSE:
        rgb = rgb.transpose(_TRANSPOSE[said.orientation])
        if said.orientation >= 5:
            width, height, right, bottom = height, width, bottom, right
    if rgb.size != (width, height):
        # What was the upper left corner, where a whole number of pixels was reduced, is another one of a turned image.
        left = rgb.width - right if said.orientation in (2, 3, 6, 7) else 0.0
        top = rgb.height - bottom if said.orientation in (3, 4, 7, 8) else 0.0
        note_whole(rgb, (width, height), (left, top, left + right, top + bottom))
    info = ImageInfo(
        width=width,
        height=height,
        format=image_format,
        bytes=size_bytes,
        sha256=sha256,
        phash=perceptual_hash(rgb),
        tags=said.fields,
    )
    return LoadedImage(rgb=rgb, info=info, taken_at=said.taken_at, location=said.location)
