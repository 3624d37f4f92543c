"""What paths say about images, and parts of a source."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence

import pytest

from clip_qdrant.errors import ConfigError
from clip_qdrant.images.load import Limits
from clip_qdrant_ingestion.sources.path_pattern import PathPattern, PatternedSource
from clip_qdrant_ingestion.sources.protocol import Description, Page, Problem, SourceObject
from clip_qdrant_ingestion.sources.share import Share


class ListedSource:
    """A source that lists what it is given, as one page."""

    name = "listed"
    reads_at_once = 7

    def __init__(self, objects: Sequence[SourceObject], problems: Sequence[Problem] = ()) -> None:
        self.page = Page(objects, problems)

    def pages(self, folders: Collection[str] | None = None) -> Iterator[Page]:
        yield self.page

    def look(self, item: SourceObject) -> SourceObject:
        return item

    def read(self, item: SourceObject, *, limits: Limits) -> bytes:
        return item.uri.encode()


def named(*names: str) -> ListedSource:
    return ListedSource([SourceObject(f"file:///{name}", name) for name in names])


@pytest.mark.parametrize(
    ("pattern", "name", "fields"),
    [
        ("{category}/{year}/*", "shoes/2024/a.jpg", {"category": "shoes", "year": "2024"}),
        ("{category}/{year}/*", "shoes/a.jpg", None),
        ("{category}/{year}/*", "shoes/2024/left/a.jpg", None),
        ("{category}/*.jpg", "shoes/a.png", None),
        ("{category}/**", "shoes/a.jpg", {"category": "shoes"}),
        ("{category}/**", "shoes/2024/left/a.jpg", {"category": "shoes"}),
        ("{category}/**", "a.jpg", None),
        ("**/{year}/*", "2024/a.jpg", {"year": "2024"}),
        ("**/{year}/*", "x/y/2024/a.jpg", {"year": "2024"}),
        ("{category}/**/{view}.jpg", "shoes/left.jpg", {"category": "shoes", "view": "left"}),
        ("{category}/**/{view}.jpg", "shoes/a/b/left.jpg", {"category": "shoes", "view": "left"}),
        ("{date}_{city}.jpg", "2024-05-01_Bern.jpg", {"date": "2024-05-01", "city": "Bern"}),
        ("{date}_{city}.jpg", "2024_05_Bern.jpg", {"date": "2024", "city": "05_Bern"}),
        ("v*/{name}.*", "v12/a.b.jpg", {"name": "a"}),
        ("/{a}/x+y/*", "1/x+y/a.jpg", {"a": "1"}),
        ("{a}/*", "two\nlines/a.jpg", {"a": "two\nlines"}),
        ("{Ort}/*", "Zu\u0308rich/a.jpg", {"Ort": "Zürich"}),
    ],
)
def test_a_pattern_takes_fields_from_a_path(pattern: str, name: str, fields: dict[str, str] | None) -> None:
    assert PathPattern(pattern).parse(name) == fields


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("", "nothing between two slashes"),
        ("*/*", "names no field"),
        ("{a}//b", "nothing between two slashes"),
        ("{a}/{a}", "there twice"),
        ("{a}{b}/*", "nothing separates {b}"),
        ("*{b}/*", "nothing separates {b}"),
        ("{}/*", "names no field"),
        ('{a"b}/*', "names no field"),
        ("{a/b}", "no partner"),
        ("a}/{b}", "no partner"),
        ("{a}/x**", "whole parts"),
    ],
)
def test_a_pattern_that_cannot_be_says_why(pattern: str, problem: str) -> None:
    with pytest.raises(ConfigError, match="path pattern") as caught:
        PathPattern(pattern)
    assert problem in str(caught.value)


def test_what_a_path_says_lies_below_what_is_said_otherwise() -> None:
    said = Description("mine", {"year": 2023}, {"view": "top"})
    source = ListedSource([SourceObject("u", "shoes/2024/left/theirs.jpg", said=said)])
    (page,) = PatternedSource(source, PathPattern("{category}/{year}/{view}/{caption}.jpg")).pages()
    assert page.objects[0].said == Description("mine", {"year": 2023}, {"category": "shoes", "view": "top"})


def test_the_caption_may_stand_in_the_path() -> None:
    (page,) = PatternedSource(named("a red shoe.jpg"), PathPattern("{caption}.jpg")).pages()
    assert page.objects[0].said == Description("a red shoe")


def test_a_path_that_does_not_fit_stays_without_fields_and_warns_only_if_none_fits(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        (page,) = PatternedSource(named("a.jpg", "b/c.jpg"), PathPattern("{x}/*")).pages()
        assert [item.said.texts for item in page.objects] == [{}, {"x": "b"}]
        assert not caplog.records
        list(PatternedSource(named("a.jpg", "b.jpg"), PathPattern("{x}/*")).pages())
    assert [record.getMessage() for record in caplog.records] == [
        "no path fits the pattern {x}/*; one of them is 'a.jpg'"
    ]


def test_parts_share_a_source_and_none_of_it_twice() -> None:
    source = named(*(f"{number}.jpg" for number in range(500)))
    parts = [Share(source, index, 3) for index in range(3)]
    shares = [{item.uri for page in part.pages() for item in page.objects} for part in parts]
    assert set.union(*shares) == {item.uri for item in source.page.objects}
    assert sum(map(len, shares)) == 500
    assert min(map(len, shares)) > 100
    assert all(part.owns(uri) is (uri in share) for part, share in zip(parts, shares, strict=True) for uri in shares[1])


def test_which_part_an_object_belongs_to_never_changes() -> None:
    part = Share(named(), 2, 8)
    assert [n for n in range(40) if part.owns(f"s3://photos/{n}.jpg")] == [16, 27, 30, 36]


def test_what_hides_objects_is_told_by_every_part_and_the_rest_by_one() -> None:
    problems = [Problem("u1", "unreadable", "…", hides_objects=True), Problem("u2", "bad metadata", "…")]
    told = [
        problem.uri
        for index in range(4)
        for page in Share(ListedSource([], problems), index, 4).pages()
        for problem in page.problems
    ]
    assert sorted(told) == ["u1"] * 4 + ["u2"]


@pytest.mark.parametrize("text", ["8/8", "1", "-1/3", "1/0", "0/0", "a/b", "1/3/5", "", "٣/٨"])
def test_a_part_that_cannot_be_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ConfigError, match="0/8 is the first of eight parts, 7/8 the last"):
        Share.parse(text)


def test_a_part_is_written_index_and_count() -> None:
    assert Share.parse("0/8") == (0, 8)
    assert Share.parse("7/8") == (7, 8)
    with pytest.raises(ConfigError):
        Share(named(), 3, 3)


def test_a_part_of_a_patterned_source_reads_as_the_source_does() -> None:
    source = Share(PatternedSource(named("a/b.jpg"), PathPattern("{x}/*")), 0, 1)
    (page,) = source.pages()
    assert (source.name, source.reads_at_once) == ("listed", 7)
    assert source.read(source.look(page.objects[0]), limits=Limits()) == b"file:///a/b.jpg"
