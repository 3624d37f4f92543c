"""The one HTML document of this package: its head, its style, its sections. Demo, search results and reports fill it.

A page is one file that loads nothing from elsewhere, and its own content security policy says so. It is light or dark
as the reader's system is. What comes from outside is not trusted: it is escaped here, or by whoever makes the HTML of
a section.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any

__all__ = ["fill_template", "list_values", "section_html"]

_STYLE = """
:root { --page: #f6f6f4; --card: #fff; --well: #ececea; --line: #e3e3e0;
  --text: #1c1c1e; --faint: #6b6b70; --link: #2f6fdd; --right: #2f9e5f; }
@media (prefers-color-scheme: dark) {
  :root { --page: #141416; --card: #1e1e21; --well: #26262a; --line: #303035;
    --text: #ececee; --faint: #9a9aa2; --link: #7aa7ff; --right: #4fcf8a; }
}
* { box-sizing: border-box; }
body { margin: 0; padding: clamp(16px, 3vw, 40px); background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: anywhere; }
header, section, footer { max-width: 1400px; margin: 0 auto 28px; }
h1 { margin: 0; font-size: clamp(20px, 3vw, 30px); font-weight: 650; }
h2 { margin: 0 0 4px; font-size: 18px; font-weight: 600; }
h3 { margin: 22px 0 8px; font-size: 15px; font-weight: 600; }
p { margin: 0 0 10px; }
header p, .note { color: var(--faint); }
.command { color: var(--faint); font: 13px/1.5 ui-monospace, Menlo, Consolas, monospace; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 14px; }
a { color: var(--link); text-decoration: none; }
a:hover, a:focus-visible { text-decoration: underline; }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header><h1>{title}</h1><p>{summary}</p></header>
<main>
{sections}
</main>{footer}
</body>
</html>
"""


def fill_template(title: str, sections: Iterable[str], *, summary: str = "", footer: str = "", style: str = "") -> str:
    """A whole document. `sections` are HTML, `style` is CSS of their own; the rest is escaped here."""
    return _PAGE.format(
        title=escape(title),
        summary=escape(summary),
        style=_STYLE + style,
        sections="\n".join(filter(None, sections)),
        footer=f'\n<footer class="note">{escape(footer)}</footer>' if footer else "",
    )


def section_html(heading: str, body: str, *, note: str = "", command: str = "") -> str:
    """A section of a page: `body` is HTML, the rest is escaped here. `command` is what the reader can type."""
    above = f"<h2>{escape(heading)}</h2>" if heading else ""
    above += f'<p class="note">{escape(note)}</p>' if note else ""
    above += f'<p class="command">{escape(command)}</p>' if command else ""
    return f"<section>{above}\n{body}\n</section>"


def list_values(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Metadata or settings as name and text, nested names dotted."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from list_values(value, f"{prefix}{key}.")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            yield f"{prefix}{key}", text
