"""Wrong options of a search are refused with their value and the way out, and those that contradict each other too."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

import pytest

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.search.options import SearchOptions
from clip_qdrant.errors import QueryError

WRONG = [
    ({"limit": 0}, "limit.*at least 1, not 0"),
    ({"limit": 10**9}, "limit.*at most 100000.*offset"),
    ({"limit": "10"}, "limit.*'10'"),
    ({"offset": 2.0}, r"offset.*2\.0"),
    ({"offset": 10**30}, "offset.*at most"),
    ({"score_threshold": float("nan")}, "score_threshold.*nan"),
    ({"score_threshold": 1e300}, r"score_threshold.*1e\+300"),
    ({"order_by": ""}, "order_by.*field"),
    ({"order_by": 3}, "order_by.*3"),
    ({"candidates": 0}, "candidates"),
    ({"min_relevance": "AUTO"}, "min_relevance.*\"auto\".*'AUTO'"),
    ({"text_fields": ["caption"]}, "give text too"),
    ({"text_weight": 0.9}, "text_weight.*give text too"),
    ({"fusion": "rrf"}, "fusion.*give text too"),
    ({"candidates": 30}, "candidates.*order_by, diversity, collapse and text"),
    ({"candidates": 30, "group_by": "year"}, "candidates.*order_by, diversity, collapse and text"),
    ({"group_size": 5}, "group_size.*give group_by too"),
    ({"diversity": 1.5}, "diversity.*from 0.*to 1.*1.5"),
    ({"diversity": "much"}, "diversity.*'much'"),
    ({"collapse": "pixels"}, "collapse.*'bytes', 'shot', 'similar'.*'pixels'"),
    ({"collapse": ["bytes"]}, "collapse"),
    ({"group_by": True}, "group_by"),
    ({"group_size": 0}, "group_size"),
    ({"exact": "yes"}, "exact.*True or False.*'yes'"),
    ({"ef": -1}, "ef"),
    ({"rescore": 1}, "rescore"),
    ({"oversampling": 0.5}, "oversampling.*1 to 1000.*0.5"),
    ({"payload": "caption"}, "payload.*list of field names.*'caption'"),
    ({"payload": [3]}, "payload"),
    ({"vectors": None}, "vectors"),
    ({"explain": 1}, "explain"),
    ({"diversity": 0.5, "limit": 20_000}, "16384 images at most, and limit is 20000.*smaller limit"),
    ({"diversity": 0.5, "candidates": 20_000}, "16384 images at most.*smaller candidates"),
    ({"exact": True, "ef": 64}, "give one of them"),
    ({"order_by": "year", "diversity": 0.5}, "order_by and diversity"),
    ({"order_by": "year", "group_by": "year"}, "order_by and group_by"),
    ({"diversity": 0.5, "group_by": "year"}, "diversity and group_by"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_a_wrong_option_is_named_with_its_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(QueryError, match=message):
        SearchOptions(**options)


def test_what_a_page_sends_with_its_switch_turned_off_is_taken() -> None:
    SearchOptions(text=False, text_weight=0.9, fusion="rrf", text_fields=["caption"], candidates=30)
    SearchOptions(diversity=0.0, candidates=30)


def test_the_message_about_a_huge_value_is_short() -> None:
    with pytest.raises(QueryError) as caught:
        SearchOptions(collapse="x" * 1_000_000)  # type: ignore[arg-type]  # the mistake under test
    assert len(str(caught.value)) < 300


def test_search_takes_each_option_with_its_default() -> None:
    taken = {
        name: parameter.default
        for name, parameter in inspect.signature(ImageCollection.search).parameters.items()
        if name not in ("self", "query", "where")
    }
    assert taken == {option.name: option.default for option in fields(SearchOptions)}
