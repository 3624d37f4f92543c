"""TIFF files by hand: pages of any tags, in either order of bytes, also as BigTIFF."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import numpy as np

__all__ = ["Page", "make_tiff", "pack_bits"]

SHORT, LONG = 3, 4
Tags = Mapping[int, int | Sequence[int]]
Page = tuple[Tags, Sequence[bytes]]  # tags, and the data of its strips, or of its tiles if there is a tag 322


def make_tiff(*pages: Page, order: str = "<", big: bool = False, sub_pages: Sequence[Page] = ()) -> bytes:
    """The pages in a chain, and `sub_pages` that hang from the first."""
    wide = "Q" if big else "L"
    data = b"II" if order == "<" else b"MM"
    data += struct.pack(order + ("HHHQ" if big else "HL"), *((43, 8, 0, 0) if big else (42, 0)))
    last_link = len(data) - (8 if big else 4)

    def add(page: Page, more: Tags) -> tuple[int, int]:
        """Where the directory is, and where in it the next one is named."""
        nonlocal data
        tags, blocks = page
        offsets = []
        for block in blocks:
            offsets.append(len(data))
            data += block + b"\0" * (len(block) % 2)
        tiled = 322 in tags
        places = {324 if tiled else 273: offsets, 325 if tiled else 279: [len(block) for block in blocks]}
        entries, behind = b"", b""
        every = {**places, **tags, **more}
        at = len(data)
        start = at + (8 + 20 * len(every) + 8 if big else 2 + 12 * len(every) + 4)
        for tag, values in sorted(every.items()):
            numbers = [values] if isinstance(values, int) else list(values)
            kind = LONG if tag in (256, 257, 273, 278, 279, 324, 325, 330) else SHORT
            raw = struct.pack(f"{order}{len(numbers)}{'L' if kind == LONG else 'H'}", *numbers)
            entries += struct.pack(order + ("HHQ" if big else "HHL"), tag, kind, len(numbers))
            if len(raw) <= (8 if big else 4):
                entries += raw.ljust(8 if big else 4, b"\0")
            else:
                entries += struct.pack(order + wide, start + len(behind))
                behind += raw + b"\0" * (len(raw) % 2)
        data += struct.pack(order + ("Q" if big else "H"), len(every)) + entries
        link = len(data)
        data += struct.pack(order + wide, 0) + behind
        return at, link

    hanging = [add(page, {})[0] for page in sub_pages]
    for number, page in enumerate(pages):
        at, link = add(page, {330: hanging} if hanging and number == 0 else {})
        size = struct.calcsize(order + wide)
        data = data[:last_link] + struct.pack(order + wide, at) + data[last_link + size :]
        last_link = link
    return data


def pack_bits(samples: np.ndarray, bits: int) -> bytes:
    """Rows of samples, (rows, n), each row filled up to whole bytes, the upper bits first."""
    digits = (samples[..., None] >> np.arange(bits - 1, -1, -1)) & 1  # (rows, n, bits)
    return np.packbits(digits.reshape(len(samples), -1).astype(np.uint8), axis=1).tobytes()
