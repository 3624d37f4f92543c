"""recommend(), discover() and Query.refine(): images by examples of what they should be like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes import COLOURS, FakeEmbedder, write_image
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.hits import Hits
from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.query import Query
from clip_qdrant.collection.search.options import SearchOptions
from clip_qdrant.errors import QueryError


@pytest.fixture
def photos(client: QdrantBase, tmp_path: Path) -> ImageCollection:
    collection = ImageCollection("photos", FakeEmbedder(), client)
    collection.add(
        [write_image(tmp_path / f"{colour}.png", colour) for colour in COLOURS],
        metadata=[{"mixed": colour in ("yellow", "cyan", "magenta")} for colour in COLOURS],
    )
    return collection


def colours(hits: Any) -> list[str]:
    return [hit.path.stem for hit in hits]


def test_recommending_by_one_example_is_searching_by_it(photos: ImageCollection, tmp_path: Path) -> None:
    for example in ("red", tmp_path / "red.png", Query.id(tmp_path / "red.png"), Query.text("red")):
        recommended, searched = photos.recommend([example]), photos.search(example)
        assert colours(recommended) == colours(searched)
        assert [hit.score for hit in recommended] == pytest.approx([hit.score for hit in searched], abs=1e-5)


def test_an_average_goes_away_from_what_is_not_wanted(photos: ImageCollection) -> None:
    assert colours(photos.recommend(["red", "blue"]))[0] == "magenta"
    assert colours(photos.recommend(["yellow"], ["green"]))[0] == "red"


def test_an_average_tells_the_share_of_each_example(photos: ImageCollection, tmp_path: Path) -> None:
    green, explained = Query.id(tmp_path / "green.png"), SearchOptions(explain=True)
    for near, far in ((["red"], []), (["red", 2 * Query.text("blue")], []), (["red", "blue"], [green, "red"])):
        named = {repr(Query.text(one)) if isinstance(one, str) else str(one.terms[0]) for one in (*near, *far)}
        for hit in photos.recommend(near, far, options=explained):
            assert set(hit.shares) == named
            assert sum(hit.shares.values()) == pytest.approx(hit.score, abs=1e-5)
    magenta = photos.recommend(["red"], [green], where="mixed = true", options=explained)[0]
    assert magenta.shares["Query.text('red')"] > 0 >= magenta.shares[repr(green)]
    assert all(hit.shares == {} for hit in photos.recommend(["red"], strategy="best", options=explained))


def test_examples_that_cancel_are_refused(photos: ImageCollection) -> None:
    with pytest.raises(QueryError, match="examples cancel"):
        photos.recommend(["red", -Query.text("red")])


@pytest.mark.parametrize(("strategy", "first"), [("best", {"red", "blue"}), ("sum", {"magenta"})])
def test_examples_count_one_by_one_too(photos: ImageCollection, tmp_path: Path, strategy: Any, first: set[str]) -> None:
    found = photos.recommend([tmp_path / "red.png", tmp_path / "blue.png"], strategy=strategy)
    assert set(colours(found[: len(first)])) == first
    away = photos.recommend([], [tmp_path / "red.png"], strategy=strategy)
    assert colours(away)[-1] == "red"
    assert away[0].relevance is None


def test_stored_examples_are_left_out(photos: ImageCollection, tmp_path: Path) -> None:
    red, blue = Query.id(tmp_path / "red.png"), Query.id(tmp_path / "blue.png")
    for strategy in ("average", "best", "sum"):
        found = colours(photos.recommend([red], [blue], strategy=strategy))
        assert len(found) == 6
        assert not {"red", "blue"} & set(found)


def test_recommending_takes_filters_and_options(photos: ImageCollection) -> None:
    found = photos.recommend(["red"], where="mixed = true", options=SearchOptions(limit=2))
    assert set(colours(found)) == {"yellow", "magenta"}


def test_what_cannot_be_recommended_by_is_refused(photos: ImageCollection) -> None:
    with pytest.raises(QueryError, match='strategy="best" does with negative ones alone'):
        photos.recommend([], ["red"])
    with pytest.raises(QueryError, match="strategy must be one of 'average', 'best', 'sum', not 'worst'"):
        photos.recommend(["red"], strategy="worst")  # type: ignore[arg-type]  # that is the point
    with pytest.raises(QueryError, match="None is no example"):
        photos.recommend([None])  # type: ignore[list-item]  # that is the point
    with pytest.raises(QueryError, match="text is for search"):
        photos.recommend(["red"], options=SearchOptions(text="red"))
    with pytest.raises(QueryError, match="no stored image"):
        photos.recommend([Query.id("file:///nowhere.png")])


def test_one_thing_where_several_are_taken_is_refused_and_not_read_letter_by_letter(photos: ImageCollection) -> None:
    one: Any
    for one in ("red", Path("red.png"), Query.text("red")):
        with pytest.raises(QueryError, match="positive takes a list"):
            photos.recommend(one)
        with pytest.raises(QueryError, match="queries takes a list"):
            photos.search_batch(one)
        with pytest.raises(QueryError, match="liked takes a list"):
            Query.text("red").refine(liked=one)
    for one in ([("red",)], ["red"]):
        with pytest.raises(QueryError, match="context takes pairs"):
            photos.discover("red", one)


def test_discovering_keeps_to_the_side_of_the_context(photos: ImageCollection, tmp_path: Path) -> None:
    """Of the images nearer to red than to blue, those most like green come first."""
    found = colours(photos.discover("green", [(tmp_path / "red.png", tmp_path / "blue.png")]))
    assert found[0] == "yellow"
    assert found.index("red") < found.index("cyan")


def test_a_context_alone_finds_what_lies_within(photos: ImageCollection, tmp_path: Path) -> None:
    context = [(tmp_path / "red.png", tmp_path / "blue.png"), (tmp_path / "red.png", tmp_path / "green.png")]
    found = photos.discover(None, context, options=SearchOptions(limit=8))
    assert "red" in colours(found)
    assert not {"blue", "green", "cyan"} & set(colours(found[:2]))
    with pytest.raises(QueryError, match="no context"):
        photos.discover("red", [])


def test_scores_that_are_no_cosines_may_be_cut_at_any_number(photos: ImageCollection) -> None:
    def ask(options: SearchOptions) -> list[Hits]:
        return [
            photos.recommend(["red", "magenta", "yellow"], strategy="sum", options=options),
            photos.discover("red", [("red", "blue"), ("red", "green")], options=options),
        ]

    for found, cut in zip(ask(SearchOptions()), ask(SearchOptions(score_threshold=1.2)), strict=True):
        assert colours(cut) == [hit.path.stem for hit in found if hit.path and (hit.score or 0) >= 1.2]
        assert 0 < len(cut) < len(found)
    for nothing in ask(SearchOptions(score_threshold=100)):
        assert nothing == []
        assert nothing.reason == "none of 8 images has a score of at least 100.0"
    with pytest.raises(QueryError, match="score_threshold must be a cosine similarity, -1 to 1, not 2"):
        photos.recommend(["red"], options=SearchOptions(score_threshold=2))


def test_a_query_is_refined_by_what_was_chosen(photos: ImageCollection) -> None:
    query = Query.text("red")
    first = photos.search(query)
    by_name = {hit.path.stem: hit for hit in first if hit.path}

    refined = photos.search(query.refine(liked=[by_name["magenta"]], disliked=[by_name["yellow"].uri]))

    assert not {"magenta", "yellow"} & set(colours(refined))
    assert colours(refined).index("blue") < colours(refined).index("green")
    assert query.refine() == query
    assert colours(photos.search((2 * query).refine())) == colours(first)


def test_what_is_not_there_yet_gives_nothing(client: QdrantBase) -> None:
    nothing = ImageCollection("nothing", FakeEmbedder(), client)
    assert nothing.recommend(["red"]) == nothing.discover("red", [("red", "blue")]) == []
