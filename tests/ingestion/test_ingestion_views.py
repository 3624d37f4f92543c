"""Views of a source: what they pass on, and objects that may not be read."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from clip_qdrant.errors import SourceError
from clip_qdrant.images.load import DEFAULT_LIMITS
from clip_qdrant_ingestion.sources.confined import ConfinedSource
from clip_qdrant_ingestion.sources.path_pattern import PathPattern, PatternedSource
from clip_qdrant_ingestion.sources.places import has_many_places, is_gone
from clip_qdrant_ingestion.sources.protocol import Source, SourceObject
from clip_qdrant_ingestion.sources.share import Share
from tests.support.fakes import MadeSource


class Hosts(MadeSource):
    many_places = True

    def is_gone(self, uri: str) -> bool | None:
        return uri.endswith("001.png")


@pytest.mark.parametrize(
    "view",
    [
        lambda source: Share(source, 0, 1),
        lambda source: PatternedSource(source, PathPattern("{number}.png")),
        lambda source: ConfinedSource(source, lambda uri: True),
    ],
)
def test_a_view_passes_on_what_it_does_not_change(view: Callable[[Source], Source]) -> None:
    below = Hosts(2, readers=3)

    source = view(below)

    assert (source.name, source.reads_at_once) == ("made", 3)
    assert has_many_places(source)
    assert [is_gone(below.uri(name), source) for name in ("000.png", "001.png")] == [False, True]
    [page] = source.pages()
    assert [item.name for item in page.objects] == ["000.png", "001.png"]
    assert source.look(page.objects[0]) is page.objects[0]
    assert source.read(page.objects[0], limits=DEFAULT_LIMITS).startswith(b"\x89PNG")


def test_what_may_not_be_read_is_a_problem_and_is_not_read_either_when_that_comes_later() -> None:
    below = MadeSource(3)
    allowed = {below.uri("000.png"), below.uri("001.png")}
    source = ConfinedSource(below, allowed.__contains__)

    [page] = source.pages()

    assert [item.name for item in page.objects] == ["000.png", "001.png"]
    assert [(problem.uri, problem.reason) for problem in page.problems] == [(below.uri("002.png"), "not allowed")]
    allowed.remove(below.uri("001.png"))
    with pytest.raises(SourceError, match=r"001\.png lies outside of what may be read here"):
        source.read(page.objects[1], limits=DEFAULT_LIMITS)
    assert not below.reads


def test_a_password_in_the_address_of_what_may_not_be_read_is_not_shown() -> None:
    source = ConfinedSource(MadeSource(0), lambda uri: False)

    with pytest.raises(SourceError, match="bucket/a") as told:
        source.read(SourceObject("s3://me:word@bucket/a.png", "a.png"), limits=DEFAULT_LIMITS)

    assert "word" not in str(told.value)
