"""Pictures of hits: small JPEGs made here, of images that are files, or that a reader of other places can reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from mcp.types import ImageContent

from clip_qdrant.errors import ImageError
from clip_qdrant.images.inline import decode_inline_image
from clip_qdrant.pages.thumbnails import make_thumbnail

if TYPE_CHECKING:
    from clip_qdrant.collection.hits import Hit

__all__ = ["LARGE_SIDE", "SMALL_SIDE", "Previews", "make_pictures"]

# Gives, as data: uris of JPEG of at most so many pixels a side, the pictures by uri of those hits that are no files of
# this computer and can be read.
Previews = Callable[[Sequence["Hit"], int], Mapping[str, str]]

SMALL_SIDE = 256  # pixels; a model that looks at ten of them reads about a thousand tokens
LARGE_SIDE = 768
_START = "data:"


def make_pictures(hits: Sequence[Hit], *, side: int, previews: Previews | None) -> list[ImageContent | None]:
    """A JPEG of at most `side` x `side` pixels of each hit; None for one that is elsewhere, gone or damaged."""
    elsewhere = [hit for hit in hits if hit.path is None and not hit.uri.startswith(_START)]
    found = previews(elsewhere, side) if previews is not None and elsewhere else {}
    return [_make_picture(hit, side, found.get(hit.uri)) for hit in hits]


def _make_picture(hit: Hit, side: int, preview: str | None) -> ImageContent | None:
    url = preview
    if hit.path is not None:
        url = make_thumbnail(hit.path, side=side)
    elif hit.uri.startswith(_START):
        try:
            url = make_thumbnail(decode_inline_image(hit.uri), side=side)
        except ImageError:  # of another program
            url = None
    return None if url is None else ImageContent(data=url.partition(",")[2], mime_type="image/jpeg")
