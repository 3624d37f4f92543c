"""The results of searches as a page of thumbnails."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from clip_qdrant.pages.cards import alt_text, link_html, list_facts, list_settings_text, make_hit_thumbnail
from clip_qdrant.pages.facts import ShownImage, show_folder
from clip_qdrant.pages.template import fill_template, section_html
from clip_qdrant.pages.thumbnails import picture_html

__all__ = ["Section", "page_html"]

_STYLE = """
.hits { display: grid; gap: 16px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 200px), 1fr)); }
article { display: flex; flex-direction: column; overflow: hidden; }
.picture { position: relative; aspect-ratio: 4 / 3; background: var(--well); display: grid; place-items: center;
  color: var(--faint); font-size: 13px; }
.picture img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; }
.score { position: absolute; top: 10px; right: 10px; padding: 1px 9px; border-radius: 99px; font-size: 13px;
  font-variant-numeric: tabular-nums; color: #fff; background: rgba(0, 0, 0, .62); }
.body { padding: 12px 14px 14px; display: flex; flex-direction: column; gap: 6px; }
.body p { margin: 0; }
.rank { color: var(--faint); font-variant-numeric: tabular-nums; }
.name { color: var(--faint); font-size: 13px; }
dl { margin: 2px 0 0; display: grid; grid-template-columns: auto 1fr; gap: 1px 10px; font-size: 13px; }
dt { color: var(--faint); }
dd { margin: 0; }
details { color: var(--faint); font-size: 13px; }
"""


@dataclass(frozen=True, slots=True)
class Section:
    """The hits of one search on a page; `note` is shown as code, such as the command that gives them."""

    hits: Sequence[ShownImage]
    heading: str = ""
    note: str = ""


def page_html(
    title: str,
    sections: Iterable[Section],
    *,
    summary: str = "",
    footer: str = "",
    previews: Mapping[str, str] | None = None,
) -> str:
    """The results of searches as a whole HTML document.

    Thumbnails of local files are inside it, and those that `previews` has by uri, as data: uris; of other images there
    is a link. Nothing is loaded from elsewhere.
    """
    shown = (_section(section, previews or {}) for section in sections)
    return fill_template(title, shown, summary=summary, footer=footer, style=_STYLE)


def _section(section: Section, previews: Mapping[str, str]) -> str:
    cards = "\n".join(_article(rank, hit, previews) for rank, hit in enumerate(section.hits, 1))
    body = f'<div class="hits">\n{cards}\n</div>' if cards else '<p class="note">Nothing was found.</p>'
    return section_html(section.heading, body, command=section.note)


def _article(rank: int, hit: ShownImage, previews: Mapping[str, str]) -> str:
    picture = picture_html(previews.get(hit.uri) or make_hit_thumbnail(hit), alt_text(hit))
    score = f'<span class="score">{hit.score:.3f}</span>' if hit.score is not None else ""
    caption = f"<p>{escape(hit.caption)}</p>" if hit.caption else ""
    entries = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in list_facts(hit))
    metadata = f"<dl>{entries}</dl>" if entries else ""
    if settings := list_settings_text(hit):
        metadata += f"<details><summary>camera</summary>{escape(settings)}</details>"
    folder = escape(show_folder(hit))
    name = f'<p class="name"><span class="rank">{rank}</span> {link_html(hit)}<br>{folder}</p>'
    return (
        f'<article class="card"><div class="picture">{picture}{score}</div>'
        f'<div class="body">{caption}{metadata}{name}</div></article>'
    )
