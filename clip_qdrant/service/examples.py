"""Examples of requests, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from fastapi.openapi.models import Example

__all__ = [
    "CLASSIFY",
    "COHERE",
    "COUNT",
    "DISCOVER",
    "FACETS",
    "HISTOGRAM",
    "INFERENCE",
    "INGEST",
    "LABEL_IMAGES",
    "OPENAI",
    "RECOMMEND",
    "SEARCH",
    "SEARCH_BATCH",
    "VOYAGE",
]

_MODEL = "clip-qdrant"
_PIXEL = (  # a PNG of one pixel
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)


def _list(**examples: Any) -> dict[str, Example]:
    return {name: {"summary": name.replace("_", " "), "value": value} for name, value in examples.items()}


SEARCH = _list(
    a_text={"query": "a dog on the beach", "limit": 5},
    a_text_and_a_filter={"query": "a dog", "where": "year >= 2022 and album in ('pets', 'sea')"},
    like_a_stored_image={"query": {"id": "file:///photos/cat.jpg"}, "diversity": 0.3},
    an_image_of_the_web={"query": {"url": "https://example.org/beach.jpg"}},
    composed={
        "query": [{"text": "a dress"}, {"text": "red", "weight": 0.5}, {"text": "a pattern", "weight": -0.3}],
        "explain": True,
    },
    words_too={"query": "golden gate", "text": True, "text_fields": {"caption": 1, "album": 0.5}},
    the_newest={"order_by": "-taken_at", "where": {"taken_at": {">=": "2024"}}},
    by_album={"query": "a dog", "group_by": "album", "group_size": 2},
)
SEARCH_BATCH = _list(two_texts={"queries": ["a dog", {"text": "a cat"}], "limit": 3})
RECOMMEND = _list(
    like_this_and_not_like_that={
        "positive": [{"id": "file:///photos/cat.jpg"}, "a cat asleep"],
        "negative": ["a drawing"],
        "strategy": "best",
    }
)
DISCOVER = _list(
    rather_day_than_night={"target": "a city", "context": [{"near": "day", "far": "night"}], "limit": 5},
)
COUNT = _list(with_a_filter={"where": "year >= 2022"})
FACETS = _list(
    two_fields={"fields": {"album": [], "year": []}, "limit": 10},
    with_chosen_values={"fields": {"album": ["pets"], "taken_at.month": []}, "where": "caption exists"},
)
HISTOGRAM = _list(
    by_month={"field": "taken_at", "by": "month"},
    of_numbers={"field": "image.width", "bins": 5},
)
CLASSIFY = _list(
    cats_and_dogs={"labels": {"cat": ["a photo of a cat", "a kitten"], "dog": "a photo of a dog"}, "images": 10},
    kept_in_a_field={"labels": {"day": "a photo by day", "night": "a photo at night"}, "write": "metadata.light"},
)
LABEL_IMAGES = _list(
    an_image={"labels": {"cat": "a photo of a cat", "dog": "a photo of a dog"}, "images": [{"image": _PIXEL}]},
)
INGEST = _list(
    a_folder={"source": "/srv/photos"},
    a_bucket={"source": "s3://bucket/photos", "include": ["*.jpg"], "delete": True, "max_delete": 0.05},
)
ADD = _list(
    an_image={"points": [{"image": _PIXEL, "uri": "urn:shop:17", "caption": "a red shoe", "metadata": {"year": 2024}}]},
    of_the_web={"points": [{"uri": "https://example.com/cat.jpg"}], "collection": "photos"},
)
CHANGE = _list(
    by_id={"changes": {"rating": 5, "album": None}, "ids": ["urn:shop:17"]},
    by_a_filter={"changes": {"season": "winter"}, "where": "taken_at.month in (12, 1, 2)"},
)
DELETE = _list(
    by_id={"ids": ["urn:shop:17", "6f1d5b0e-52b6-5e0c-9a3e-0d4f3f1c7a51"]},
    by_a_filter={"where": "album = 'drafts'"},
)
OPENAI = _list(
    texts={"model": _MODEL, "input": ["a dog", "a cat"]},
    images_of_infinity={"model": _MODEL, "input": [_PIXEL], "modality": "image"},
    messages_of_vllm={
        "model": _MODEL,
        "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": _PIXEL}}]}],
    },
    objects_of_jina={"model": _MODEL, "input": [{"text": "a dog"}, {"image": _PIXEL}]},
)
COHERE = _list(
    texts={"model": _MODEL, "input_type": "search_query", "texts": ["a dog"], "embedding_types": ["float"]},
    images={"model": _MODEL, "input_type": "image", "images": [_PIXEL], "embedding_types": ["float"]},
)
VOYAGE = _list(
    a_text_and_an_image={
        "model": _MODEL,
        "inputs": [{"content": [{"type": "text", "text": "a dog"}, {"type": "image_base64", "image_base64": _PIXEL}]}],
    },
)
INFERENCE = _list(
    a_text_and_an_image={
        "inputs": [
            {"data": "a dog", "data_type": "text", "model": _MODEL},
            {"data": _PIXEL, "data_type": "image", "model": _MODEL},
        ],
        "inference": "search",
    },
)
