"""Hits as HTML: a card for a notebook, and a page of thumbnails that is one file and loads nothing from elsewhere.

What comes from a collection is not trusted: all of it is escaped, only http, https and file uris become links, and a
local file is shown as a small JPEG made here, never embedded as it is.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from clip_qdrant.errors import ImageError, SourceError
from clip_qdrant.records import Hit, path_of

__all__ = ["Section", "card_html", "page_html"]

_THUMBNAIL_SIDE = 480  # pixels: sharp at the 240 CSS pixels of a card on a screen of double density
_JPEG_QUALITY = 82
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

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root {{ --page: #f6f6f4; --card: #fff; --well: #ececea; --line: #e3e3e0;
  --text: #1c1c1e; --faint: #6b6b70; --mark: #2f6fdd; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --page: #141416; --card: #1e1e21; --well: #26262a; --line: #303035;
    --text: #ececee; --faint: #9a9aa2; --mark: #7aa7ff; }}
}}
* {{ box-sizing: border-box; }}
body {{ margin: 0; padding: clamp(16px, 3vw, 40px); background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }}
header, section {{ max-width: 1400px; margin: 0 auto 28px; }}
h1 {{ margin: 0; font-size: clamp(20px, 3vw, 30px); font-weight: 650; overflow-wrap: anywhere; }}
header p {{ margin: 4px 0 0; color: var(--faint); }}
h2 {{ margin: 0 0 4px; font-size: 18px; font-weight: 600; overflow-wrap: anywhere; }}
.note {{ margin: 0 0 10px; color: var(--faint); font: 13px/1.5 ui-monospace, Menlo, Consolas, monospace; }}
.hits {{ display: grid; gap: 16px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 200px), 1fr)); }}
article {{ display: flex; flex-direction: column; background: var(--card); border: 1px solid var(--line);
  border-radius: 14px; overflow: hidden; }}
.picture {{ position: relative; aspect-ratio: 4 / 3; background: var(--well); display: grid; place-items: center;
  color: var(--faint); font-size: 13px; }}
.picture img {{ position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; }}
.score {{ position: absolute; top: 10px; right: 10px; padding: 1px 9px; border-radius: 99px; font-size: 13px;
  font-variant-numeric: tabular-nums; color: #fff; background: rgba(0, 0, 0, .62); }}
.body {{ padding: 12px 14px 14px; display: flex; flex-direction: column; gap: 6px; overflow-wrap: anywhere; }}
.body p {{ margin: 0; }}
.rank {{ color: var(--faint); font-variant-numeric: tabular-nums; }}
.name {{ color: var(--faint); font-size: 13px; }}
a {{ color: var(--mark); text-decoration: none; }}
a:hover, a:focus-visible {{ text-decoration: underline; }}
dl {{ margin: 2px 0 0; display: grid; grid-template-columns: auto 1fr; gap: 1px 10px; font-size: 13px; }}
dt {{ color: var(--faint); }}
dd {{ margin: 0; }}
.none {{ color: var(--faint); }}
</style>
</head>
<body>
<header><h1>{title}</h1><p>{summary}</p></header>
<main>
{sections}
</main>
</body>
</html>
"""


def card_html(hit: Hit) -> str:
    """A hit as a piece of HTML that stands for itself, for notebooks. An image that cannot be read is left out.

    The only thing a browser loads for it is the image of a hit with an http or https uri.
    """
    source = _thumbnail(hit) or (hit.uri if _scheme(hit.uri) in _SHOWN else None)
    picture = (
        f'<img src="{escape(source)}" alt="{escape(_alt(hit))}" loading="lazy" referrerpolicy="no-referrer" '
        f'style="{_CARD_IMAGE}">'
        if source
        else ""
    )
    lines = []
    if hit.score is not None:
        lines.append(f"<div><b>{hit.score:.3f}</b></div>")
    if hit.caption:
        lines.append(f"<div>{escape(hit.caption)}</div>")
    for name, value in _leaves(hit.metadata):
        lines.append(f'<div><span style="{_CARD_FAINT}">{escape(name)}</span> {escape(value)}</div>')
    lines.append(f'<div style="{_CARD_FAINT}">{_linked_name(hit, "color:inherit")}</div>')
    return f'<div style="{_CARD}">{picture}<div style="{_CARD_BODY}">{"".join(lines)}</div></div>'


@dataclass(frozen=True, slots=True)
class Section:
    """The hits of one search on a page; `note` is shown as code, such as the command that gives them."""

    hits: Sequence[Hit]
    heading: str = ""
    note: str = ""


def page_html(title: str, sections: Iterable[Section], *, summary: str = "") -> str:
    """The results of searches as a whole HTML document, light or dark as the reader's system is.

    Thumbnails of local files are inside it; of other images there is a link. Nothing is loaded from elsewhere, and
    the document's own content security policy says so.
    """
    return _PAGE.format(
        title=escape(title), summary=escape(summary), sections="\n".join(_section(section) for section in sections)
    )


def _section(section: Section) -> str:
    heading = f"<h2>{escape(section.heading)}</h2>" if section.heading else ""
    note = f'<p class="note">{escape(section.note)}</p>' if section.note else ""
    cards = "\n".join(_article(rank, hit) for rank, hit in enumerate(section.hits, 1))
    hits = f'<div class="hits">\n{cards}\n</div>' if cards else '<p class="none">Nothing was found.</p>'
    return f"<section>{heading}{note}\n{hits}\n</section>"


def _article(rank: int, hit: Hit) -> str:
    thumbnail = _thumbnail(hit)
    picture = f'<img src="{thumbnail}" alt="{escape(_alt(hit))}">' if thumbnail else "<span>no preview</span>"
    score = f'<span class="score">{hit.score:.3f}</span>' if hit.score is not None else ""
    caption = f"<p>{escape(hit.caption)}</p>" if hit.caption else ""
    entries = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in _leaves(hit.metadata))
    metadata = f"<dl>{entries}</dl>" if entries else ""
    name = f'<p class="name"><span class="rank">{rank}</span> {_linked_name(hit)}</p>'
    return (
        f'<article><div class="picture">{picture}{score}</div>'
        f'<div class="body">{caption}{metadata}{name}</div></article>'
    )


def _thumbnail(hit: Hit) -> str | None:
    """A local image as the data: uri of a small JPEG; None if it is elsewhere, gone or damaged."""
    from clip_qdrant.images.load import load_image

    try:
        path = path_of(hit.uri)
        if path is None:
            return None
        rgb = load_image(path, target=_THUMBNAIL_SIDE // 2).rgb.copy()
    except (ImageError, SourceError, ValueError):  # ValueError: a uri that is none
        return None
    rgb.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    jpeg = io.BytesIO()
    rgb.save(jpeg, "JPEG", quality=_JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.getvalue()).decode("ascii")


def _scheme(uri: str) -> str:
    try:
        return urlsplit(uri).scheme
    except ValueError:
        return ""


def _name(uri: str) -> str:
    """What to call an image in a line: the last part of its path, or the whole uri where there is none."""
    try:
        return PurePosixPath(unquote(urlsplit(uri).path)).name or uri
    except ValueError:
        return uri


def _alt(hit: Hit) -> str:
    return hit.caption or _name(hit.uri)


def _linked_name(hit: Hit, style: str = "") -> str:
    name = escape(_name(hit.uri))
    if _scheme(hit.uri) not in _LINKED:
        return f'<span title="{escape(hit.uri)}">{name}</span>'
    css = f' style="{style}"' if style else ""
    return f'<a href="{escape(hit.uri)}" title="{escape(hit.uri)}" rel="noreferrer"{css}>{name}</a>'


def _leaves(metadata: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Metadata as name and text, nested names dotted."""
    for key, value in metadata.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            yield f"{prefix}{key}", text
