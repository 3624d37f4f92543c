"""A filter selects what a plain reading of its expression selects, on every engine; the reading here is independent."""

from __future__ import annotations

import math
import os
import unicodedata
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qdrant_client import QdrantClient, models

from clip_qdrant.errors import FilterError
from clip_qdrant.fields.derived import add_derived
from clip_qdrant.fields.schema import Schema, index_params
from clip_qdrant.filters.build import build_filter
from clip_qdrant.store.edge.client import EdgeClient

SCHEMA = Schema(
    {
        "album": "keyword",
        "odd name": "keyword",
        "year": "integer",
        "exif.stars": "float",
        "liked": "bool",
        "shot": "datetime",
        "notes": "text",
        "odd text": "text",
        "place": "geo",
    }
)
EXAMPLES = int(os.environ.get("CLIP_QDRANT_TEST_EXAMPLES", "40"))  # a longer run: 10000
FIELDS = SCHEMA.payload_fields()
WORDS = ["cat", "dog", "it's", 'a "quote"', "größe", "", "Cat 100%_*\\", "猫の目"]
INTEGERS = [-3, 0, 1, 2, 2022, 2**62]
FLOATS = [-1.5, 0.0, 0.1, 2.0, 3.25]
MOMENTS = [
    "2023-12-31T23:59:59.500000+00:00",
    "2024-01-01",
    "2024-05-01T10:00:00Z",
    "2024-05-31T23:30:00-02:00",
    "2023-12-31T23:30:00-05:00",
    "2024-05-01T10:00:30",
    "2024-02-29T00:00:00",
    "2022-12-24T18:30:00+09:00",
]
PLACES = {
    "berlin": (52.52, 13.405),
    "potsdam": (52.39, 13.06),
    "sydney": (-33.87, 151.21),
    "suva": (-18.14, 178.44),
    "apia": (-13.83, -171.77),
    "north pole": (90.0, 20.0),
    "south pole": (-90.0, 0.0),
}
PROSE = [
    *(
        "A cat, asleep.",
        "the DOG and a bird",
        "größe_zwei",
        "---",
        "Cafe\u0301 am Meer",
        "黒い子猫が寝ている",
        "子供と犬",
    ),
    *("고양이가 잔다", "แมวนอนหลับ", "बिल्ली सो रही है", "ﬁve cats½", "x" * 100 + " end", "Straße"),
]


def some(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A field is there, absent, or an array."""
    return st.one_of(values, st.none(), st.lists(values, max_size=3))


PAYLOADS = st.fixed_dictionaries(
    {
        "album": some(st.sampled_from(WORDS)),
        "odd name": some(st.sampled_from(WORDS)),
        "year": some(st.sampled_from(INTEGERS)),
        "exif": st.fixed_dictionaries({"stars": some(st.sampled_from(FLOATS))}),
        "liked": some(st.booleans()),
        "shot": some(st.sampled_from(MOMENTS)),
        "notes": some(st.sampled_from(PROSE)),
        "odd text": some(st.sampled_from(PROSE)),
        "place": some(st.sampled_from([{"lat": lat, "lon": lon} for lat, lon in PLACES.values()])),
    }
)

Predicate = Callable[[dict[str, Any]], bool]
# An expression: its text, its dict form, and what it means
Expression = tuple[str, dict[str, Any], Predicate]

COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
NAMES = {"odd name": "`odd name`", "odd text": "`odd text`"}


def elements(metadata: dict[str, Any], name: str) -> list[Any]:
    value: Any = metadata
    for key in name.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value)


def moment(text: str) -> datetime:
    at = clock(text)
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def clock(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def kilometres(a: tuple[float, float], b: tuple[float, float]) -> float:
    (lat1, lon1), (lat2, lon2) = ([math.radians(x) for x in p] for p in (a, b))
    h = math.sin((lat2 - lat1) / 2) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    return 2 * 6371 * math.asin(math.sqrt(h))


PERIODS = {
    "2023": ("2023-01-01", "2024-01-01"),
    "2024-05": ("2024-05-01", "2024-06-01"),
    "2024-05-01": ("2024-05-01", "2024-05-02"),
    "2024-05-01T10:00": ("2024-05-01T10:00:00", "2024-05-01T10:01:00"),
    "2024": ("2024-01-01", "2025-01-01"),
    "2024-05-01T12:00:00+02:00": ("2024-05-01T10:00:00Z", "2024-05-01T10:00:01Z"),
    "2023-12-31T23:59:59.5Z": ("2023-12-31T23:59:59.500000+00:00", "2023-12-31T23:59:59.500001+00:00"),
}
IN_PERIOD: dict[str, Callable[[datetime, datetime, datetime], bool]] = {
    "=": lambda at, start, end: start <= at < end,
    "<": lambda at, start, end: at < start,
    "<=": lambda at, start, end: at < end,
    ">": lambda at, start, end: at >= end,
    ">=": lambda at, start, end: at >= start,
}


def of_field(name: str, operator: str, value: Any, holds: Callable[[Any], bool], spelled: str = "") -> Expression:
    text = f"{NAMES.get(name, name)} {spelled or f'{operator} {literal(value)}'}"
    return text, {name: {operator: value}}, lambda metadata: any(holds(x) for x in elements(metadata, name))


@st.composite
def comparisons(draw: st.DrawFn) -> Expression:
    name, values = draw(
        st.sampled_from(
            [
                ("album", WORDS),
                ("odd name", WORDS),
                ("year", INTEGERS),
                ("exif.stars", FLOATS),
                ("liked", [True, False]),
            ]
        )
    )
    ordered = name in ("year", "exif.stars")
    kind = draw(
        st.sampled_from(["compare", "!=", *([] if name == "liked" else ["in", "not in"]), *["between"] * ordered])
    )
    if kind == "compare":
        operator = draw(st.sampled_from(sorted(COMPARE) if ordered else ["="]))
        choices = [v for v in values if operator == "=" or abs(v) < 2**53]
        if name == "year" and operator != "=":
            choices = [*choices, 1.5, -0.5]
        value = draw(st.sampled_from(choices))
        return of_field(name, operator, value, lambda x: COMPARE[operator](x, value))
    if kind == "!=":
        value = draw(st.sampled_from(values))
        text, form, holds = of_field(name, "!=", value, lambda x: x == value)
        return text, form, lambda metadata: not holds(metadata)
    if kind == "between":
        low, high = sorted(draw(st.lists(st.sampled_from([v for v in values if v < 2**53]), min_size=2, max_size=2)))
        return of_field(name, "between", [low, high], lambda x: low <= x <= high, f"between {low!r} and {high!r}")
    wanted = draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))
    text, form, holds = of_field(
        name, kind, wanted, lambda x: x in wanted, f"{kind.upper()} ({', '.join(map(literal, wanted))})"
    )
    return text, form, holds if kind == "in" else lambda metadata: not holds(metadata)


@st.composite
def dates(draw: st.DrawFn) -> Expression:
    value = draw(st.sampled_from(sorted(PERIODS)))
    start, end = (clock(text) for text in PERIODS[value])
    operator = draw(st.sampled_from(sorted(IN_PERIOD)))
    if start.tzinfo is None:
        return of_field(
            "shot", operator, value, lambda x: IN_PERIOD[operator](clock(x).replace(tzinfo=None), start, end)
        )
    return of_field("shot", operator, value, lambda x: IN_PERIOD[operator](moment(x), start, end))


@st.composite
def presences(draw: st.DrawFn) -> Expression:
    name = draw(st.sampled_from(["album", "odd name", "year", "exif.stars", "liked", "shot", "notes", "place"]))
    spelled = NAMES.get(name, name)
    if draw(st.booleans()):
        return f"{spelled} is null", {name: None}, lambda metadata: not elements(metadata, name)
    text = draw(st.sampled_from([f"{spelled} exists", f"exists({spelled})", f"{spelled} IS NOT NULL"]))
    return text, {name: {"exists": True}}, lambda metadata: bool(elements(metadata, name))


UNSPACED = ("HIRAGANA", "KATAKANA", "CJK", "HANGUL", "THAI")


def words_of(text: str) -> set[str]:
    """Runs of letters and digits; of scripts without spaces each character and each pair."""
    folded = unicodedata.normalize("NFKD", text).casefold()
    folded = unicodedata.normalize("NFC", "".join(c for c in folded if not 0x300 <= ord(c) < 0x370))
    words: set[str] = set()
    word, before = "", ""
    for c in folded + " ":
        unspaced = unicodedata.name(c, "").startswith(UNSPACED)
        if unspaced:
            words |= {c, before + c}
        if not unspaced and (c.isalnum() or unicodedata.name(c, "").startswith("DEVANAGARI")):
            word += c
        elif word:
            words.add(word[:64])
            word = ""
        before = c if unspaced else ""
    return words


@st.composite
def searches(draw: st.DrawFn) -> Expression:
    name = draw(st.sampled_from(["notes", "odd text"]))
    query = draw(
        st.sampled_from(
            [
                *(
                    "cat",
                    "CAT dog",
                    "dog bird",
                    "größe",
                    "GROSSE",
                    "zwei",
                    "do",
                    "cafe MEER",
                    "Café",
                    "five",
                    "strasse",
                ),
                *(
                    "猫",
                    "子猫",
                    "子",
                    "犬 子",
                    "猫犬",
                    "寝ている",
                    "고양이",
                    "แมว",
                    "बिल्ली",
                    "रह",
                    "x" * 64,
                    "cat-asleep",
                    "1⁄2",
                ),
            ]
        )
    )
    wanted = words_of(query)
    return of_field(name, "~", query, lambda x: wanted <= words_of(x))


@st.composite
def pieces(draw: st.DrawFn) -> Expression:
    name = draw(st.sampled_from(["album", "odd name"]))
    piece = draw(st.sampled_from(["c", "cat", "Cat", "gr", "ö", "t's", " ", "100%", "_*\\", "猫", "の目", "at"]))
    if draw(st.booleans()):
        return of_field(name, "^=", piece, lambda x: x.startswith(piece))
    return of_field(name, "~", piece, lambda x: piece in x)


PARTS: dict[str, Callable[[datetime], int]] = {
    "month": lambda at: at.month,
    "day": lambda at: at.day,
    "weekday": lambda at: at.isoweekday(),
    "hour": lambda at: at.hour,
    "yearday": lambda at: at.month * 100 + at.day,
}
PART_VALUES: dict[str, list[tuple[Any, int]]] = {
    "month": [(5, 5), ("dec", 12), ("May", 5), (2, 2), (1, 1), (12, 12)],
    "day": [(1, 1), (31, 31), (24, 24), (29, 29)],
    "weekday": [("sun", 7), (1, 1), ("Saturday", 6), (3, 3), (7, 7)],
    "hour": [(0, 0), (10, 10), (18, 18), (23, 23)],
    "yearday": [("12-24", 1224), ("02-29", 229), ("05-01", 501), ("12-31", 1231), ("01-01", 101)],
}


@st.composite
def calendar_parts(draw: st.DrawFn) -> Expression:
    part = draw(st.sampled_from(sorted(PARTS)))
    operator = draw(st.sampled_from(["=", "!=", "<=", ">=", "<", ">", "in", "not in", "between"]))
    several = operator in ("in", "not in", "between")
    size = 2 if operator == "between" else draw(st.integers(1, 3)) if several else 1
    values = [draw(st.sampled_from(PART_VALUES[part])) for _ in range(size)]
    if (values[0][1] in (0, 1, 101) and operator == "<") or (values[0][1] in (12, 31, 7, 23, 1231) and operator == ">"):
        operator = "="
    numbers = [number for _, number in values]
    name = f"taken_at.{part}"

    def holds(payload: dict[str, Any]) -> bool:
        if payload.get("taken_at") is None:
            return False
        at = PARTS[part](clock(payload["taken_at"]))
        if operator == "between":
            low, high = numbers
            return low <= at <= high if low <= high else at >= low or at <= high
        if several:
            return at in numbers
        return COMPARE["=" if operator == "!=" else operator](at, numbers[0])

    given = [value for value, _ in values] if several else values[0][0]
    spelled = [literal(value) for value, _ in values]
    if operator == "between":
        text = f"{name} between {spelled[0]} and {spelled[1]}"
    else:
        text = f"{name} {operator} " + (f"({', '.join(spelled)})" if several else spelled[0])
    negative = operator in ("!=", "not in")
    return text, {name: {operator: given}}, lambda payload: holds(payload) != negative


BOXES = [
    (52.0, 13.0, 53.0, 13.405),
    (-33.87, 151.0, 60.0, 152.0),
    (-20.0, 170.0, -10.0, -170.0),
    (0.0, -180.0, 90.0, 180.0),
]
POLYGONS = [
    [(52.0, 13.0), (53.0, 13.0), (53.0, 14.0), (52.0, 14.0)],
    [(52.3, 13.0), (52.45, 13.0), (52.45, 13.2), (52.6, 13.2), (52.6, 13.6), (52.3, 13.6)],
    [(-20.0, 170.0), (-10.0, 170.0), (-10.0, -170.0), (-20.0, -170.0)],
    [(0.0, -179.0), (-40.0, 150.0), (-40.0, -179.0)],
]


def in_box(lat: float, lon: float, box: tuple[float, float, float, float]) -> bool:
    south, west, north, east = box
    return south <= lat <= north and (west <= lon <= east if west <= east else lon >= west or lon <= east)


def in_polygon(lat: float, lon: float, corners: list[tuple[float, float]]) -> bool:
    """The crossings of a ray, all longitudes from 0 to 360 where the polygon crosses 180."""
    crosses = any(abs(a[1] - b[1]) > 180 for a, b in zip(corners, [*corners[1:], corners[0]], strict=True))
    if crosses:
        corners, lon = [(a, b % 360) for a, b in corners], lon % 360
    inside = False
    for (lat1, lon1), (lat2, lon2) in zip(corners, [*corners[1:], corners[0]], strict=True):
        if (lat1 > lat) != (lat2 > lat) and lon < lon1 + (lat - lat1) / (lat2 - lat1) * (lon2 - lon1):
            inside = not inside
    return inside


@st.composite
def areas(draw: st.DrawFn) -> Expression:
    if draw(st.booleans()):
        box = draw(st.sampled_from(BOXES))
        return of_field(
            "place", "within", {"box": list(box)}, lambda x: in_box(x["lat"], x["lon"], box), f"within box {box!r}"
        )
    corners = draw(st.sampled_from(POLYGONS))
    return of_field(
        "place",
        "within",
        {"polygon": corners},
        lambda x: in_polygon(x["lat"], x["lon"], corners),
        f"within polygon ({', '.join(map(repr, corners))})",
    )


@st.composite
def circles(draw: st.DrawFn) -> Expression:
    centre = draw(st.sampled_from(sorted(PLACES.values())))
    radius = draw(st.sampled_from([5, 50, 20_000]))
    unit, factor = draw(st.sampled_from([("km", 1), ("m", 1000)]))
    return of_field(
        "place",
        "within",
        {unit: radius * factor, "of": list(centre)},
        lambda x: kilometres((x["lat"], x["lon"]), centre) < radius,
        f"within {radius * factor} {unit} of ({centre[0]}, {centre[1]})",
    )


def combined(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    def negated(part: Expression) -> Expression:
        text, form, holds = part
        return f"not ({text})", {"not": form}, lambda metadata: not holds(metadata)

    def joined(word: str, parts: list[Expression]) -> Expression:
        combine = all if word == "and" else any
        text = f" {word} ".join(f"({part[0]})" for part in parts)
        return text, {word: [part[1] for part in parts]}, lambda m: combine(part[2](m) for part in parts)

    several = st.lists(inner, min_size=2, max_size=3)
    return st.one_of(inner.map(negated), st.builds(joined, st.sampled_from(["and", "or"]), several))


EXPRESSIONS = st.recursive(
    st.one_of(comparisons(), dates(), presences(), searches(), pieces(), calendar_parts(), circles(), areas()),
    combined,
    max_leaves=6,
)


@pytest.fixture(params=["memory", "edge"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    store: Any = QdrantClient(":memory:") if request.param == "memory" else EdgeClient(tmp_path)
    store.create_collection("c", vectors_config=models.VectorParams(size=2, distance=models.Distance.COSINE))
    if request.param == "edge":  # the in-memory client has no indexes, and warns when asked for one
        for key, field_type in SCHEMA.indexes().items():
            store.create_payload_index("c", key, field_schema=index_params(field_type))
    yield store
    store.close()


def payload_of(metadata: dict[str, Any]) -> dict[str, Any]:
    """What is stored for metadata; its first shot is when the image was taken."""
    shots = elements(metadata, "shot")
    return add_derived({"metadata": metadata, **({"taken_at": shots[0]} if shots else {})}, FIELDS)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payloads=st.lists(PAYLOADS, min_size=1, max_size=12), expressions=st.lists(EXPRESSIONS, min_size=1, max_size=6))
def test_a_filter_selects_what_its_expression_says(
    client: Any, payloads: list[dict[str, Any]], expressions: list[Expression]
) -> None:
    stored = [SCHEMA.normalise(payload) for payload in payloads]
    client.delete("c", points_selector=models.Filter(must=[]))
    points = [models.PointStruct(id=i, vector=[1.0, 0.0], payload=payload_of(m)) for i, m in enumerate(stored)]
    client.upsert("c", points=points)
    for text, form, holds in expressions:
        expected = {
            i for i, each in enumerate(stored) if holds({**each, "taken_at": next(iter(elements(each, "shot")), None)})
        }
        for where in (text, form):
            found, _ = client.scroll("c", scroll_filter=build_filter(where, FIELDS), limit=100)
            assert {point.id for point in found} == expected, where


@given(EXPRESSIONS)
def test_text_and_dict_build_the_same_filter(expression: Expression) -> None:
    text, form, _ = expression
    assert build_filter(text, FIELDS) == build_filter(form, FIELDS)


WORDS_OF_THE_LANGUAGE = """
year album `odd name` liked shot notes place exif.stars nope and or not in between is null exists of km m within
( ( ) ) , = != < <= > >= ~ 1 -2.5 1e9 99999999999999999999 1e400 'x' "y" '2024-05' '9999' '0001' true false ' `
"""
FRAGMENTS = [*WORDS_OF_THE_LANGUAGE.split(), "\ud800"]


@settings(max_examples=500)
@given(st.one_of(st.text(max_size=40), st.lists(st.sampled_from(FRAGMENTS), max_size=14).map(" ".join)))
def test_no_text_raises_anything_but_a_filter_error(text: str) -> None:
    try:
        build_filter(text, FIELDS)
    except FilterError as error:
        assert error.column is None or 1 <= error.column <= len(text) + 1


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.sampled_from(MOMENTS)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["=", ">", "in", "km", "of", "lat"]), inner)
    ),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*SCHEMA.fields, "and", "or", "not", "nope"]), JSON))
def test_no_dict_raises_anything_but_a_filter_error(where: dict[str, Any]) -> None:
    try:
        build_filter(where, FIELDS)
    except FilterError as error:
        assert str(error)
