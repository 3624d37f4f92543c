"""Where the whole image lies in one that was reduced while it was decoded: its size, and its edges in fractions.

A side of 1,603 pixels that is made 8 times shorter has 201, the last of which shows three eighths of a pixel: who
takes 201 for the whole shifts what is cut out by as much.
"""

from __future__ import annotations

from PIL import Image

__all__ = ["Box", "Size", "find_whole", "note_whole"]

Box = tuple[float, float, float, float]  # left, top, right, bottom
Size = tuple[int, int]  # width, height
_KEY = "clip_qdrant_whole"


def note_whole(reduced: Image.Image, size: Size, box: Box) -> None:
    """Keeps with a reduced image the size of the whole, and the box in which the whole lies."""
    reduced.info[_KEY] = (reduced.size, size, box)


def find_whole(image: Image.Image) -> tuple[Size, Box]:
    """Size and box of the whole. Of an image that nobody reduced, or somebody cropped or resized since, all of it."""
    noted = image.info.get(_KEY)
    if isinstance(noted, tuple) and noted[0] == image.size:
        return noted[1], noted[2]
    return image.size, (0, 0, image.width, image.height)
