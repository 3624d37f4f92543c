"""Filters select the same points on EdgeClient, with and without payload indexes, as in qdrant-client's own engine."""

from __future__ import annotations

import random
import uuid
import warnings
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from qdrant_client import QdrantClient, models
from qdrant_client.client_base import QdrantBase

from clip_qdrant.errors import InvalidRequest, MetadataError, StoreError
from clip_qdrant.fields.schema import Schema
from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant.store.edge.convert.filters import to_filter

WORDS = ["dog", "cat", "green", "grass", "beach", "Übung", "don't", "x1"]
TAGS = ["pets", "trips", "", "Pets", "a b", "ünï", "trip"]
IDS = [str(uuid.UUID(int=i)) if i % 2 else i for i in range(1, 81)]
INDEXES: dict[str, Any] = {
    "tag": models.PayloadSchemaType.KEYWORD,
    "n": models.PayloadSchemaType.INTEGER,
    "f": models.PayloadSchemaType.FLOAT,
    "b": models.PayloadSchemaType.BOOL,
    "d": models.PayloadSchemaType.DATETIME,
    "g": models.PayloadSchemaType.GEO,
    "t": models.TextIndexParams(type=models.TextIndexType.TEXT, lowercase=True, phrase_matching=True),
    "o.tag": models.PayloadSchemaType.KEYWORD,
    "o.n": models.PayloadSchemaType.INTEGER,
}


def payload(dice: random.Random) -> dict[str, Any]:
    def some(make: Any) -> Any:
        kind = dice.random()
        if kind < 0.1:
            return None
        return [make() for _ in range(dice.randrange(4))] if kind < 0.3 else make()

    def moment() -> str:
        zone = timezone(timedelta(hours=dice.choice([0, 0, 2, -7])))
        return datetime(2024, dice.randint(1, 3), dice.randint(1, 28), dice.randint(0, 23), tzinfo=zone).isoformat()

    whole: dict[str, Any] = {
        "tag": some(lambda: dice.choice(TAGS)),
        "n": some(lambda: dice.randint(-3, 3)),
        "f": some(lambda: dice.choice([-1.5, 0.0, 0.25, 1.5, 3.75])),
        "b": some(lambda: dice.random() < 0.5),
        "d": some(moment),
        "g": some(lambda: {"lat": dice.uniform(-80, 80), "lon": dice.uniform(-179, 179)}),
        # One text a point: over several, a text index collects the words of all, and a search without one does not.
        "t": " ".join(dice.choices(WORDS, k=dice.randint(0, 5))),
        "o": {"tag": some(lambda: dice.choice(TAGS)), "n": some(lambda: dice.randint(-3, 3))},
        "items": [{"k": dice.choice(TAGS), "v": dice.randint(0, 3)} for _ in range(dice.randrange(4))],
    }
    return {key: value for key, value in whole.items() if dice.random() < 0.8}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, QdrantBase]]:
    """The same eighty points in the engine of qdrant-client, in a plain and in an indexed embedded store."""
    dice = random.Random(20240501)
    points = [models.PointStruct(id=one, vector=[1.0, 0.5], payload=payload(dice)) for one in IDS]
    folder = tmp_path_factory.mktemp("filters")
    every: dict[str, QdrantBase] = {
        "memory": QdrantClient(":memory:"),
        "edge": EdgeClient(folder / "plain"),
        "indexed edge": EdgeClient(folder / "indexed"),
    }
    for name, client in every.items():
        client.create_collection("c", vectors_config=models.VectorParams(size=2, distance=models.Distance.COSINE))
        if name == "indexed edge":
            for field, kind in INDEXES.items():
                client.create_payload_index("c", field, kind)
        client.upsert("c", points)
    yield every
    for client in every.values():
        client.close()


def bounds(values: st.SearchStrategy[Any], make: Any) -> st.SearchStrategy[Any]:
    names = st.sets(st.sampled_from(["gt", "gte", "lt", "lte"]), min_size=1, max_size=2)
    return names.flatmap(lambda chosen: st.fixed_dictionaries(dict.fromkeys(sorted(chosen), values))).map(
        lambda limits: make(**limits)
    )


def on(keys: list[str], **condition: st.SearchStrategy[Any]) -> st.SearchStrategy[models.FieldCondition]:
    return st.builds(models.FieldCondition, key=st.sampled_from(keys), **condition)


tags, numbers = st.sampled_from([*TAGS, "none such"]), st.integers(-4, 4)
moments = st.datetimes(datetime(2024, 1, 1), datetime(2024, 4, 1), timezones=st.sampled_from([UTC]))
places = st.builds(models.GeoPoint, lat=st.floats(-85, 85), lon=st.floats(-179, 179))
phrases = st.lists(st.sampled_from([*WORDS, "DOG", "none"]), min_size=1, max_size=3).map(" ".join)
any_key = ["tag", "n", "f", "b", "d", "g", "t", "o.tag", "o.n", "items", "items[].k", "missing"]
boxes = st.builds(
    lambda north, south, west, east: models.GeoBoundingBox(
        top_left=models.GeoPoint(lat=north, lon=west), bottom_right=models.GeoPoint(lat=south, lon=east)
    ),
    north=st.floats(1, 80),
    south=st.floats(-80, 0),
    west=st.floats(-170, -1),
    east=st.floats(0, 170),
)
polygons = st.builds(
    lambda lat, lon, size: models.GeoPolygon(
        exterior=models.GeoLineString(
            points=[
                models.GeoPoint(lat=lat + size * y, lon=lon + size * x)
                for x, y in [(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]
            ]
        )
    ),
    lat=st.floats(-60, 20),
    lon=st.floats(-120, 60),
    size=st.floats(5, 50),
)
items = st.one_of(
    on(["k"], match=st.builds(models.MatchValue, value=tags)),
    on(["v"], range=bounds(numbers.map(float), models.Range)),
)
conditions = st.one_of(
    on(["tag", "o.tag", "items[].k"], match=st.builds(models.MatchValue, value=tags)),
    on(["tag", "o.tag"], match=st.builds(lambda v: models.MatchAny(any=v), st.lists(tags, min_size=1, max_size=3))),
    on(["tag", "o.tag"], match=st.builds(lambda v: models.MatchExcept(**{"except": v}), st.lists(tags, min_size=1))),
    on(["tag", "o.tag"], match=st.builds(models.MatchPrefix, prefix=st.sampled_from(["p", "tr", "trip", "Z"]))),
    on(["tag", "o.tag"], match=st.builds(models.MatchSubstring, substring=st.sampled_from(["et", "ip", " ", "zz"]))),
    on(["n", "o.n"], match=st.builds(models.MatchValue, value=numbers)),
    on(["n", "o.n"], match=st.builds(lambda v: models.MatchAny(any=v), st.lists(numbers, min_size=1, max_size=3))),
    on(["n", "o.n"], match=st.builds(lambda v: models.MatchExcept(**{"except": v}), st.lists(numbers, min_size=1))),
    on(["b"], match=st.builds(models.MatchValue, value=st.booleans())),
    on(["t"], match=st.builds(models.MatchText, text=phrases)),
    on(["t"], match=st.builds(models.MatchTextAny, text_any=phrases)),
    on(["t"], match=st.builds(models.MatchPhrase, phrase=phrases)),
    on(["n", "f", "o.n"], range=bounds(st.floats(-4, 4).map(lambda x: round(x, 2)), models.Range)),
    on(["d"], range=bounds(moments, models.DatetimeRange)),
    on(["g"], geo_radius=st.builds(models.GeoRadius, center=places, radius=st.floats(1e5, 9e6))),
    on(["g"], geo_bounding_box=boxes),
    on(["g"], geo_polygon=polygons),
    on(any_key, values_count=bounds(st.integers(0, 4), models.ValuesCount)),
    on(any_key, is_empty=st.booleans()),
    on(any_key, is_null=st.booleans()),
    st.builds(lambda key: models.IsEmptyCondition(is_empty=models.PayloadField(key=key)), st.sampled_from(any_key)),
    st.builds(lambda key: models.IsNullCondition(is_null=models.PayloadField(key=key)), st.sampled_from(any_key)),
    st.builds(lambda ids: models.HasIdCondition(has_id=ids), st.lists(st.sampled_from([*IDS, 999]), max_size=9)),
    st.builds(lambda i: models.SliceCondition(slice=models.Slice(total=4, index=i)), st.integers(0, 3)),
    st.builds(lambda name: models.HasVectorCondition(has_vector=name), st.just("")),
    st.builds(
        lambda some: models.NestedCondition(nested=models.Nested(key="items", filter=models.Filter(must=some))),
        st.lists(items, min_size=1, max_size=2),
    ),
)


def combined(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[models.Filter]:
    some = st.none() | st.lists(inner, min_size=1, max_size=3)
    least = st.builds(models.MinShould, conditions=st.lists(inner, min_size=1, max_size=4), min_count=st.integers(1, 3))
    return st.builds(models.Filter, must=some, should=some, must_not=some, min_should=st.none() | least)


filters = combined(st.recursive(conditions, combined, max_leaves=4))


def selected(client: QdrantBase, chosen: models.Filter) -> list[Any]:
    records, _ = client.scroll("c", scroll_filter=chosen, limit=1000, with_payload=False)
    return [record.id for record in records]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["edge", "indexed edge"])
@given(chosen=filters)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_filter_selects_the_same_points(stores: dict[str, QdrantBase], engine: str, chosen: models.Filter) -> None:
    expected = selected(stores["memory"], chosen)

    assert selected(stores[engine], chosen) == expected
    assert stores[engine].count("c", count_filter=chosen).count == len(expected)


@pytest.mark.parametrize("engine", ["edge", "indexed edge"])
@given(condition=conditions)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_single_condition_selects_the_same_points(
    stores: dict[str, QdrantBase], engine: str, condition: models.Condition
) -> None:
    chosen = models.Filter(must=condition)

    assert selected(stores[engine], chosen) == selected(stores["memory"], chosen)


def test_of_two_bounds_on_one_side_the_tighter_one_counts(stores: dict[str, QdrantBase]) -> None:
    both = models.Range(gt=-4, gte=2, lt=9, lte=2)
    chosen = models.Filter(must=[models.FieldCondition(key="n", range=both)])

    expected = selected(stores["memory"], chosen)
    assert expected
    assert selected(stores["indexed edge"], chosen) == expected


@pytest.mark.parametrize("value", [True, False])
def test_a_boolean_reaches_the_engine_as_one(value: bool) -> None:
    test = models.FieldCondition(key="b", match=models.MatchValue(value=value))
    with warnings.catch_warnings():  # numpy before 2.3 warns where its booleans are taken for numbers
        warnings.simplefilter("ignore")
        selected: Any = to_filter(models.Filter(must=[test]))

    assert selected.must[0].match.value is value


def test_a_boolean_among_alternatives_stays_a_boolean(stores: dict[str, QdrantBase]) -> None:
    unchecked = models.MatchAny.model_construct(any=[True])
    condition = models.FieldCondition.model_construct(key="b", match=unchecked)
    is_true = models.Filter(must=[models.FieldCondition(key="b", match=models.MatchValue(value=True))])

    chosen = models.Filter.model_construct(must=[condition])
    assert selected(stores["edge"], chosen) == selected(stores["memory"], is_true)


def test_a_date_means_its_midnight_in_utc(stores: dict[str, QdrantBase]) -> None:
    def since(moment: object) -> list[Any]:
        bound = models.DatetimeRange.model_construct(gte=moment)
        condition = models.FieldCondition.model_construct(key="d", range=bound)
        return selected(stores["edge"], models.Filter.model_construct(must=[condition]))

    assert since(date(2024, 2, 10)) == since(datetime(2024, 2, 10, tzinfo=UTC)) == since(datetime(2024, 2, 10))


@pytest.mark.parametrize(
    "condition",
    [
        models.FieldCondition(
            key="g",
            geo_radius=models.GeoRadius.model_construct(center=models.GeoPoint(lat=200, lon=0), radius=1.0),
        ),
        models.FieldCondition(key="a..[b", match=models.MatchValue(value="x")),
    ],
    ids=["a place off the globe", "a broken key"],
)
def test_a_filter_that_the_engine_cannot_read_is_a_store_error(
    stores: dict[str, QdrantBase], condition: models.Condition
) -> None:
    with pytest.raises(StoreError):
        selected(stores["edge"], models.Filter(must=[condition]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.one_of(st.sampled_from("\"\\\\'`[].*/ \n\t\0%$-_aZ0é"), st.characters()), min_size=1, max_size=4))
@example("a\\b")
@example("\\")
@example("[0]")
def test_a_key_that_metadata_may_have_can_be_indexed_and_asked_for(edge_client: EdgeClient, key: str) -> None:
    if not edge_client.collection_exists("keys"):
        edge_client.create_collection("keys", models.VectorParams(size=2, distance=models.Distance.COSINE))
    try:
        [path] = [name for name in Schema().extend([{key: 1}]).payload_fields() if name.startswith("metadata.")]
    except MetadataError:
        return
    edge_client.create_payload_index("keys", path, "integer")
    edge_client.upsert("keys", [models.PointStruct(id=1, vector=[1.0, 0.0], payload={"metadata": {key: 1}})])
    chosen = models.Filter(must=[models.FieldCondition(key=path, match=models.MatchValue(value=1))])
    assert edge_client.count("keys", count_filter=chosen).count == 1


def test_what_is_no_filter_is_refused(stores: dict[str, QdrantBase]) -> None:
    for wrong in ({"must": 5}, "album = 'a'"):
        with pytest.raises(InvalidRequest, match=r"is no models\.Filter"):
            stores["edge"].count("c", count_filter=wrong)  # type: ignore[arg-type]  # on purpose


def test_a_dict_stands_for_a_filter(stores: dict[str, QdrantBase]) -> None:
    chosen = {"must": [{"key": "tag", "match": {"value": "pets"}}]}
    assert selected(stores["edge"], chosen) == selected(stores["edge"], models.Filter.model_validate(chosen))  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ["memory", "edge", "indexed edge"])
def test_more_conditions_than_there_are_hold_for_nothing(stores: dict[str, QdrantBase], engine: str) -> None:
    pets = models.FieldCondition(key="tag", match=models.MatchAny(any=["pets"]))
    assert selected(stores[engine], models.Filter(should=[pets]))
    least = models.MinShould(conditions=[pets], min_count=2)
    assert selected(stores[engine], models.Filter(should=[pets], min_should=least)) == []
    negated = models.Filter(must_not=[models.Filter(should=[pets], min_should=least)])
    assert len(selected(stores[engine], negated)) == stores[engine].count("c").count


PETS = models.FieldCondition(key="tag", match=models.MatchValue(value="pets"))
ONE = models.FieldCondition(key="n", match=models.MatchValue(value=1))


@pytest.mark.parametrize("engine", ["edge", "indexed edge"])
def test_two_indexed_conditions_in_all_places_and_more_than_once(stores: dict[str, QdrantBase], engine: str) -> None:
    clauses: list[Any] = [None, [PETS], [ONE], [PETS, ONE]]
    repeated = [[*some] for length in (1, 2, 3) for some in product([PETS, ONE], repeat=length)]
    counted = [models.MinShould(conditions=some, min_count=n) for some in repeated for n in range(1, len(some) + 1)]
    wrong = []
    for must, should, must_not, least in product(clauses, clauses, [None, [PETS]], [None, *counted]):
        chosen = models.Filter(must=must, should=should, must_not=must_not, min_should=least)
        if selected(stores[engine], chosen) != selected(stores["memory"], chosen):
            wrong.append(chosen)

    assert wrong == []


@pytest.mark.parametrize("engine", ["edge", "indexed edge"])
@pytest.mark.parametrize("number", [1, 2, 3, 11, 17, 29, 30])
def test_at_least_so_many_of_thirty_conditions(stores: dict[str, QdrantBase], engine: str, number: int) -> None:
    conditions: list[Any] = [models.HasIdCondition(has_id=IDS[first : first + 31]) for first in range(30)]
    chosen = models.Filter(min_should=models.MinShould(conditions=conditions, min_count=number))

    expected = selected(stores["memory"], chosen)
    assert len(expected) == 62 - 2 * number
    assert selected(stores[engine], chosen) == expected


def test_more_choices_than_can_be_gone_through_are_refused(stores: dict[str, QdrantBase]) -> None:
    conditions: list[Any] = [models.HasIdCondition(has_id=[one]) for one in IDS[:60]]

    def find(number: int) -> list[Any]:
        least = models.MinShould(conditions=conditions, min_count=number)
        return selected(stores["edge"], models.Filter(min_should=least))

    assert (len(find(1)), find(60), find(61)) == (60, [], [])
    with pytest.raises(InvalidRequest, match=r"a min_should of 30 among 60 conditions .* give 40 conditions at most"):
        find(30)


@pytest.mark.parametrize("number", [0, -1])
def test_a_number_that_all_points_reach_is_refused(stores: dict[str, QdrantBase], number: int) -> None:
    chosen = models.Filter(min_should=models.MinShould(conditions=[PETS], min_count=number))
    with pytest.raises(InvalidRequest, match=f"min_count of min_should is {number}: it must be 1 or more"):
        selected(stores["edge"], chosen)


@pytest.mark.parametrize("short", ["is_empty", "is_null"])
@pytest.mark.parametrize("wanted", [True, False])
def test_the_short_form_of_empty_and_null_asks_of_all_values_of_a_key_together(
    memory_client: QdrantBase, edge_client: EdgeClient, short: str, wanted: bool
) -> None:
    lists = [[], [1, 2], [1, None], [None], [[], 1], [[], None]]
    payloads: list[dict[str, Any]] = [{"items": [{"k": value} for value in values]} for values in lists]
    payloads += [{}, {"items": None}, {"items": [{}]}]
    chosen = models.Filter(must=[models.FieldCondition(key="items[].k", **{short: wanted})])
    for client in (memory_client, edge_client):
        client.create_collection("c", models.VectorParams(size=1, distance=models.Distance.DOT))
        client.upsert("c", [models.PointStruct(id=i, vector=[1], payload=one) for i, one in enumerate(payloads)])

    assert selected(edge_client, chosen) == selected(memory_client, chosen)
