"""Images that a web server lists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from web import Reply, WebSite

from clip_qdrant.errors import ConfigError, SourceError
from clip_qdrant.images.load import Limits
from clip_qdrant.web.fetch import Fetcher
from clip_qdrant_ingestion.sources.protocol import Problem, SourceObject
from clip_qdrant_ingestion.sources.web.http_index import HttpIndexSource

APACHE = """<html><head><title>Index of /photos</title></head><body><table>
<tr><th><a href="?C=N;O=D">Name</a></th></tr>
<tr><td><a href="/">Parent Directory</a></td></tr>
<tr><td><a href="a%20b.jpg">a b.jpg</a></td></tr>
<tr><td><a href="pets/">pets/</a></td></tr>
<tr><td><A HREF="readme.txt">readme</A></td></tr>
<tr><td><a href="c&amp;d.PNG">c&amp;d.PNG</a></td></tr></table></body></html>"""


@pytest.fixture
def site() -> Iterator[WebSite]:
    with WebSite().running() as site:
        yield site


def source(url: str, **options: Any) -> HttpIndexSource:
    return HttpIndexSource(url, fetcher=Fetcher(allow_private=True), patience=0, **options)


def listed(made: HttpIndexSource, folders: list[str] | None = None) -> tuple[list[SourceObject], list[Problem]]:
    pages = list(made.pages(folders))
    return [item for page in pages for item in page.objects], [one for page in pages for one in page.problems]


def links(*targets: str) -> bytes:
    return "".join(f'<a href="{target}">x</a>' for target in targets).encode()


def test_an_index_is_listed_folder_by_folder(site: WebSite) -> None:
    site.pages["/photos/"] = APACHE.encode()
    site.pages["/photos/pets/"] = links("../", "cat.jpg", "/photos/pets/dog.jpg", f"{site.url}/photos/pets/emu.jpg")
    objects, problems = listed(source(f"{site.url}/photos"))
    assert [item.name for item in objects] == ["a b.jpg", "c&d.PNG", "pets/cat.jpg", "pets/dog.jpg", "pets/emu.jpg"]
    assert objects[0].uri == f"{site.url}/photos/a%20b.jpg"
    assert not problems


def test_links_that_lead_elsewhere_are_not_followed(site: WebSite) -> None:
    elsewhere = ["http://other.example/photos/a.jpg", "//other.example/photos/a/", "/a.jpg", "../b.jpg", "%2e%2e/c/"]
    odd = ["mailto:a@b.c", "javascript:void(0)", "http://[::1/a.jpg", "a%2Fb.jpg", "#top", "?x=1", "", "d.jpg?x=1"]
    far = ["deep/er/e.jpg", "./", "."]
    site.pages["/photos/"] = links(*elsewhere, *odd, *far, "good.jpg#part")
    objects, problems = listed(source(f"{site.url}/photos/"))
    assert [item.name for item in objects] == ["good.jpg"]
    assert not problems
    assert len(site.requests) == 1


def test_an_image_has_one_uri_however_it_is_linked(site: WebSite) -> None:
    site.pages["/p/"] = links("%C3%A4(1).jpg", "ä(1).jpg", "%c3%a4%281%29.jpg", "./ä(1).jpg")
    objects, _ = listed(source(f"{site.url}/p/"))
    assert [(item.uri, item.name) for item in objects] == [(f"{site.url}/p/%C3%A4(1).jpg", "ä(1).jpg")]


@pytest.mark.slow
def test_folders_without_end_are_cut(site: WebSite) -> None:
    class Endless(dict[str, Any]):
        def get(self, path: str, default: Any = None) -> Any:
            return links("a/", "x.jpg")

    site.pages = Endless()
    objects, problems = listed(source(f"{site.url}/p/"))
    assert len(objects) == 65
    assert "deeper than 64 levels" in problems[0].detail
    assert problems[0].hides_objects


def test_a_folder_that_cannot_be_listed_is_a_problem_and_the_first_page_an_error(site: WebSite) -> None:
    site.pages["/p/"] = links("a/", "b/")
    site.pages["/p/b/"] = links("x.jpg")
    objects, problems = listed(source(f"{site.url}/p/"))
    assert [item.name for item in objects] == ["b/x.jpg"]
    assert [(one.uri, one.reason, one.hides_objects) for one in problems] == [(f"{site.url}/p/a/", "unreadable", True)]
    with pytest.raises(SourceError, match="404"):
        listed(source(f"{site.url}/gone/"))
    site.pages["/busy/"] = Reply(b"", 503)
    with pytest.raises(SourceError) as caught:
        listed(source(f"{site.url}/busy/"))
    assert caught.value.transient


def test_some_folders_can_be_listed_alone(site: WebSite) -> None:
    site.pages["/p/"] = links("a%20b/", "root.jpg")
    site.pages["/p/a%20b/"] = links("x.jpg", "deeper/")
    objects, _ = listed(source(f"{site.url}/p/"), ["a b"])
    assert [item.uri for item in objects] == [f"{site.url}/p/a%20b/x.jpg"]
    objects, _ = listed(source(f"{site.url}/p/"), [""])
    assert [item.name for item in objects] == ["root.jpg"]


def test_include_and_exclude_choose_images_and_folders(site: WebSite) -> None:
    site.pages["/p/"] = links("a/", "old/", ".git/", "x.jpg", "y.png")
    site.pages["/p/a/"] = links("z.jpg")
    objects, problems = listed(source(f"{site.url}/p/", include=["*.jpg"], exclude=["old"]))
    assert [item.name for item in objects] == ["x.jpg", "a/z.jpg"]
    assert not problems


def test_a_page_with_a_name_lists_its_folder(site: WebSite) -> None:
    site.pages["/p/index.html?all=1"] = links("x.jpg")
    made = source(f"{site.url}/p/index.html?all=1")
    objects, _ = listed(made)
    assert [item.uri for item in objects] == [f"{site.url}/p/x.jpg"]
    assert made.name == f"{site.url}/p/"


def test_images_are_looked_at_and_read_with_the_user_of_the_address(site: WebSite) -> None:
    site.pages["/p/"] = links("x.jpg")
    site.pages["/p/x.jpg"] = Reply(b"image", headers={"ETag": '"v1"'})
    made = source(f"{site.url.replace('://', '://ann:s3cret@')}/p/")
    objects, _ = listed(made)
    looked = made.look(objects[0])
    assert (looked.etag, looked.size) == ('"v1"', 5)
    assert made.read(looked, limits=Limits()) == b"image"
    assert all("authorization" in headers for _, _, headers in site.requests)
    assert "s3cret" not in f"{made.name} {made!r} {looked}"


def test_a_long_page_comes_in_pieces(site: WebSite) -> None:
    site.pages["/p/"] = links(*(f"{number}.jpg" for number in range(2500)))
    assert [len(page.objects) for page in source(f"{site.url}/p/").pages()] == [1000, 1000, 500]


@pytest.mark.parametrize("url", ["ftp://host/a/", "photos", "https:///a/"])
def test_only_a_web_address_is_an_index(url: str) -> None:
    with pytest.raises(ConfigError, match="write https://host/folder/"):
        source(url)
