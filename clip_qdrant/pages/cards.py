"""One hit as HTML: what notebooks show of it, and the parts that pages show too.

What comes from a collection is not trusted: all of it is escaped, only http, https and file uris become links, and a
local file is shown as a small JPEG made here, never embedded as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from urllib.parse import urlsplit

from clip_qdrant.calibration.rounding import show_relevance
from clip_qdrant.image_names import member_of
from clip_qdrant.pages.facts import (
    ShownImage,
    choose_metadata,
    list_settings,
    show_date,
    show_folder,
    show_name,
    show_place,
)
from clip_qdrant.pages.template import list_values
from clip_qdrant.pages.thumbnails import PREVIEW_SIDE, make_thumbnail
from clip_qdrant.uris import path_of
from clip_qdrant.url_secrets import mask_secrets

__all__ = ["alt_text", "card_html", "grid_html", "link_html", "list_facts", "list_settings_text", "make_hit_thumbnail"]

_LINKED = ("http", "https", "file")
_SHOWN = ("http", "https")

# A notebook's own theme decides the text colour; greys of half opacity suit light and dark ones.
_CARD = (
    "display:inline-block;vertical-align:top;width:240px;margin:4px;border:1px solid rgba(128,128,128,.35);"
    "border-radius:10px;overflow:hidden;font:13px/1.45 system-ui,sans-serif;color:inherit"
)
_CARD_IMAGE = "display:block;width:100%;height:180px;object-fit:contain;background:rgba(128,128,128,.12);margin:0"
_CARD_BODY = "padding:8px 10px;overflow-wrap:anywhere"
_CARD_FAINT = "opacity:.65;font-size:12px"


def card_html(hit: ShownImage) -> str:
    """A hit as a piece of HTML that stands for itself, for notebooks. An image that cannot be read is left out.

    The only thing a browser loads for it is the image of a hit with an http or https uri.
    """
    may_load = _scheme(hit.uri) in _SHOWN and mask_secrets(hit.uri) == hit.uri
    source = make_hit_thumbnail(hit) or (hit.uri if may_load else None)
    picture = (
        f'<img src="{escape(source)}" alt="{alt_text(hit)}" loading="lazy" referrerpolicy="no-referrer" '
        f'style="{_CARD_IMAGE}">'
        if source
        else ""
    )
    lines = []
    if hit.score is not None:
        lines.append(f"<div><b>{hit.score:.3f}</b></div>")
    if hit.caption:
        lines.append(f"<div>{escape(hit.caption)}</div>")
    for name, value in list_facts(hit):
        lines.append(f'<div><span style="{_CARD_FAINT}">{escape(name)}</span> {escape(value)}</div>')
    if settings := list_settings_text(hit):
        lines.append(f'<details style="{_CARD_FAINT}"><summary>camera</summary>{escape(settings)}</details>')
    folder = escape(show_folder(hit))
    lines.append(f'<div style="{_CARD_FAINT}">{link_html(hit, style="color:inherit")}<br>{folder}</div>')
    return f'<div style="{_CARD}">{picture}<div style="{_CARD_BODY}">{"".join(lines)}</div></div>'


def grid_html(hits: Iterable[ShownImage], *, reason: str | None = None) -> str:
    """Hits side by side, for notebooks; `reason` says why there are none."""
    cards = "".join(map(card_html, hits))
    return (
        f"<div>{cards}</div>"
        if cards
        else f"<div>Nothing was found: {escape(reason or 'no image is like that')}.</div>"
    )


def make_hit_thumbnail(hit: ShownImage) -> str | None:
    """A local image as the data: uri of a small JPEG; None if it is elsewhere, gone or damaged."""
    try:
        path = path_of(hit.uri)
        return None if path is None or member_of(hit.uri) is not None else make_thumbnail(path, side=PREVIEW_SIDE)
    except ValueError:  # a uri that is none
        return None


def list_facts(hit: ShownImage) -> list[tuple[str, str]]:
    """Names and texts of what stands below a caption: relevance, date, place, metadata."""
    likely = "" if hit.relevance is None else show_relevance(hit.relevance)
    dated = [("relevance", likely), ("taken", show_date(hit)), ("place", show_place(hit))]
    return [fact for fact in dated if fact[1]] + list(list_values(choose_metadata(hit)))


def list_settings_text(hit: ShownImage) -> str:
    """How the camera was set, in a line; empty where nothing tells."""
    return ", ".join(f"{name} {value}" for name, value in list_values(list_settings(hit)))


def alt_text(hit: ShownImage) -> str:
    """What stands for an image where it cannot be seen, escaped."""
    return escape(hit.caption or show_name(hit))


def link_html(hit: ShownImage, *, style: str = "") -> str:
    """The name of an image, a link where its uri has a scheme that is safe to follow, and holds no secret."""
    shown = mask_secrets(hit.uri)
    name = escape(show_name(hit))
    if _scheme(hit.uri) not in _LINKED or shown != hit.uri:
        return f'<span title="{escape(shown)}">{name}</span>'
    css = f' style="{style}"' if style else ""
    return f'<a href="{escape(hit.uri)}" title="{escape(hit.uri)}" rel="noreferrer"{css}>{name}</a>'


def _scheme(uri: str) -> str:
    try:
        return urlsplit(uri).scheme
    except ValueError:
        return ""
