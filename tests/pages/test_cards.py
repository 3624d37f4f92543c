"""HTML of hits: what is shown, and that nothing hostile gets through."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from fakes import write_image
from PIL import Image

from clip_qdrant.collection.hits import Hit
from clip_qdrant.pages.cards import card_html
from clip_qdrant.pages.hits import Section, page_html
from clip_qdrant.uris import to_uri

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


def hit(uri: str, **parts: Any) -> Hit:
    return Hit(**{"id": "1", "score": 0.25, "uri": uri, "caption": None, "metadata": {}, **parts})


class Tags(HTMLParser):
    """Collects the tags of a document with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, attribute: str) -> list[str]:
        return [str(attrs[attribute]) for _, attrs in self.found if attribute in attrs]


def both(a_hit: Hit) -> list[Tags]:
    return [Tags(card_html(a_hit)), Tags(page_html("a query", [Section([a_hit])]))]


def test_relevance_is_shown_where_it_is_known() -> None:
    for tags in both(hit("https://example.org/a.png", relevance=0.9962)):
        assert "0.996" in tags.text
    for tags in both(hit("https://example.org/a.png")):
        assert "relevance" not in tags.text


def test_a_local_image_is_inside_as_a_small_jpeg(tmp_path: Path) -> None:
    path = write_image(tmp_path / "big.png", "red", (2000, 1500))
    for tags in both(hit(to_uri(path))):
        (source,) = tags.values("src")
        assert source.startswith("data:image/jpeg;base64,")
        with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as thumbnail:
            assert thumbnail.size == (480, 360)
            assert thumbnail.convert("RGB").getpixel((10, 10))[0] > 240  # type: ignore[index]  # an RGB pixel


def test_score_caption_metadata_and_name_are_shown() -> None:
    metadata = {"year": 2024, "exif": {"camera": "X100"}, "tags": ["a", "b"]}
    for tags in both(hit("s3://bucket/folder/ein%20Bild.jpg", caption="a card", metadata=metadata)):
        for text in ("0.250", "a card", "year", "2024", "exif.camera", "X100", "a, b", "ein Bild.jpg"):
            assert text in tags.text


def test_a_hit_without_score_shows_none() -> None:
    for tags in both(hit("s3://bucket/a.jpg", score=None)):
        assert "None" not in tags.text


def test_everything_from_the_collection_is_escaped() -> None:
    hostile = hit(f"s3://bucket/{HOSTILE}", caption=HOSTILE, metadata={HOSTILE: [HOSTILE], "n": {HOSTILE: HOSTILE}})
    page = page_html(HOSTILE, [Section([hostile], HOSTILE, HOSTILE)], summary=HOSTILE)
    for tags in (Tags(card_html(hostile)), Tags(page)):
        assert not {"script"} & {tag for tag, _ in tags.found}
        assert not any(name.startswith("on") for _, attrs in tags.found for name in attrs)
        assert tags.values("src") == []
        assert HOSTILE in tags.text


@pytest.mark.parametrize(
    "uri",
    ["javascript:alert(1)", "JavaScript:alert(1)", " javascript:alert(1)", "data:text/html,<b>", "vbscript:x", "x", ""],
)
def test_only_known_schemes_become_links(uri: str) -> None:
    for tags in both(hit(uri)):
        assert tags.values("href") == []
        assert tags.values("src") == []


def test_an_image_on_the_web_is_loaded_by_the_card_and_linked_by_the_page() -> None:
    card, page = both(hit("https://example.org/a.jpg?x=1&y=2"))
    assert card.values("src") == ["https://example.org/a.jpg?x=1&y=2"]
    assert page.values("src") == []
    assert page.values("href") == ["https://example.org/a.jpg?x=1&y=2"]


@pytest.mark.parametrize("content", [None, b"", b"no image", b"\xff\xd8\xff\xe0 cut off"])
def test_a_missing_or_damaged_file_is_a_card_without_an_image(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.jpg"
    if content is not None:
        path.write_bytes(content)
    for tags in both(hit(to_uri(path), caption="still here")):
        assert tags.values("src") == []
        assert "still here" in tags.text


@pytest.mark.parametrize("uri", ["http://[", "file://[", "file:///a%00b.png", "urn:sha256:ab", ""])
def test_an_odd_uri_is_no_error(uri: str) -> None:
    for tags in both(hit(uri, caption="still here")):
        assert "still here" in tags.text


def test_a_page_loads_nothing_from_elsewhere_and_says_so(tmp_path: Path) -> None:
    hits = [hit(to_uri(write_image(tmp_path / "a.png", "red"))), hit("https://example.org/a.jpg"), hit("s3://b/c.jpg")]
    html = page_html("a query", [Section(hits)])
    tags = Tags(html)
    assert not {"link", "script", "iframe", "object"} & {tag for tag, _ in tags.found}
    assert all(source.startswith("data:") for source in tags.values("src"))
    assert not re.search(r"url\(|@import", html)
    policies = [attrs["content"] for tag, attrs in tags.found if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_a_page_is_a_whole_document_with_the_query_as_its_heading() -> None:
    hits = [hit("s3://b/1.jpg"), hit("s3://b/2.jpg")]
    html = page_html("a cat & a dog", [Section(hits, "both", "a command")], summary="2 images")
    assert html.startswith("<!doctype html>")
    assert html.rstrip().endswith("</html>")
    assert "<title>a cat &amp; a dog</title>" in html
    assert "<h1>a cat &amp; a dog</h1>" in html
    assert all(text in html for text in ("2 images", "<h2>both</h2>", "a command"))


def test_a_page_follows_light_and_dark_and_narrow_screens() -> None:
    html = page_html("a query", [Section([])])
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html


def test_a_page_without_hits_says_so() -> None:
    assert "Nothing was found" in page_html("a query", [Section([])])


def test_a_notebook_shows_a_hit_as_its_card() -> None:
    a_hit = hit("s3://bucket/a.jpg", caption="a card")
    assert a_hit._repr_html_() == card_html(a_hit)


def test_date_place_and_folder_are_shown_and_what_the_camera_says_is_folded_away() -> None:
    payload = {
        "taken_at": "2024-12-31T23:30:10-05:00",
        "location": {"lat": 41.89, "lon": 12.49},
        "image": {"tags": {"iso": 400, "title": "at night"}},
    }
    metadata = {"iso": 400, "title": "at night", "album": "rome"}
    for tags in both(hit("file:///trips/rome/a.jpg", metadata=metadata, payload=payload)):
        before, _, folded = tags.text.partition("camera")
        assert all(text in before for text in ("2024-12-31 23:30", "41.8900, 12.4900", "at night", "rome"))
        assert "iso" not in before
        assert "iso 400" in folded
        assert "/trips/rome" in folded


@pytest.mark.parametrize("payload", [{"taken_at": 3, "location": "x", "image": 1}, {"location": {"lat": "a"}}])
def test_a_payload_of_another_program_is_no_error(payload: dict[str, Any]) -> None:
    for tags in both(hit("s3://b/a.jpg", caption="still here", payload=payload)):
        assert "still here" in tags.text
