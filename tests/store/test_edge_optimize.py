"""An embedded collection is optimized while it is read and written, in a child process, and loses nothing of it."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from forks import FORKS
from program import program_in
from qdrant_client import models

from clip_qdrant.errors import CollectionNotFound, StoreDamaged, StoreError, StoreFull
from clip_qdrant.store.edge import optimize as optimizing
from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant.store.edge.convert.queries.params import to_search_params
from clip_qdrant.store.edge.entry import CollectionEntry
from clip_qdrant.store.edge.files import journal as journals
from clip_qdrant.store.edge.optimize import OptimizeStep

DIM, POINTS = 32, 1500
VECTORS = np.random.default_rng(0).standard_normal((POINTS + 200, DIM))
CONFIG = models.VectorParams(size=DIM, distance=models.Distance.COSINE)
INDEXED = models.OptimizersConfigDiff(indexing_threshold=10)  # KB of vectors
DELETED = models.Filter(must=[models.FieldCondition(key="n", range=models.Range(lt=300))])


def batch(ids: range, **more: Any) -> models.Batch:
    return models.Batch(
        ids=[*ids], vectors=VECTORS[ids.start : ids.stop].tolist(), payloads=[{"n": i, **more} for i in ids]
    )


def make(client: EdgeClient, name: str = "c") -> None:
    client.create_collection(name, CONFIG, optimizers_config=INDEXED)
    client.create_payload_index(name, "n", "integer")
    client.upsert(name, batch(range(POINTS)))
    client.delete(name, DELETED)


@pytest.fixture
def client(edge_client: EdgeClient) -> EdgeClient:
    make(edge_client)
    return edge_client


def read_all(client: EdgeClient, name: str = "c") -> dict[Any, Any]:
    records, _ = client.scroll(name, limit=10_000, with_vectors=True)
    return {record.id: (record.payload, record.vector) for record in records}


def folders(client: EdgeClient) -> list[str]:
    return [path.name for path in (client._folder.root / "collections").iterdir() if path.is_dir()]


def test_what_is_written_meanwhile_is_there_afterwards(client: EdgeClient) -> None:
    [before], fresh = folders(client), range(POINTS, POINTS + 100)
    other, stop, answers = EdgeClient(client._folder.root), threading.Event(), []

    def use() -> None:
        for number in fresh:
            other.upsert("c", batch(range(number, number + 1)))
            answers.append(len(other.query_points("c", query=VECTORS[number].tolist(), limit=3).points))
            stop.wait(0.02)
        client.set_payload("c", {"seen": True}, points=models.Filter())
        other.delete("c", [400, POINTS + 1])
        client.create_payload_index("c", "seen", "bool")

    user, steps = threading.Thread(target=use), list[OptimizeStep]()

    def follow(step: OptimizeStep) -> None:
        if not steps:
            user.start()
        steps.append(step)

    done = client.optimize("c", on_progress=follow)
    user.join()

    assert (done.changed, done.points, done.indexed) == (True, POINTS - 300, POINTS - 300)
    assert [*dict.fromkeys(step.name for step in steps)] == ["copy", "build", "exchange"]
    assert answers == [3] * len(fresh)
    for reader in (client, other):
        found = read_all(reader)
        assert {*found} == {*range(300, POINTS + 100)} - {400, POINTS + 1}
        assert all(payload == {"n": key, "seen": True} for key, (payload, _) in found.items())
    assert [*folders(client)] != [before]
    assert len(folders(client)) == 1
    client.close()
    assert read_all(other) == found
    other.close()

    with EdgeClient(client._folder.root) as again:
        assert read_all(again) == found
        assert {*again.get_collection("c").payload_schema} == {"n", "seen"}


@pytest.fixture(scope="module")
def optimized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("optimized") / "store"
    with EdgeClient(store) as client:
        make(client)
        client.optimize("c")
    return store


def test_a_search_in_an_index_finds_what_comparing_with_every_vector_does(optimized: Path) -> None:
    with EdgeClient(optimized) as client:
        found: list[dict[Any, float]] = []
        exact: list[dict[Any, float]] = []
        for vector in VECTORS[POINTS:]:
            for kind, params in ((found, None), (exact, models.SearchParams(exact=True))):
                answer = client.query_points("c", query=vector.tolist(), search_params=params)
                kind.append({point.id: point.score for point in answer.points})
        right = sum(len({*one} & {*other}) for one, other in zip(found, exact, strict=True))
        assert right >= 0.98 * 10 * len(exact)
        for one, other in zip(found, exact, strict=True):  # by the vectors themselves, not by their bytes
            assert {key: one[key] for key in one if key in other} == pytest.approx(
                {key: other[key] for key in one if key in other}, abs=1e-6
            )


def test_payload_indexes_serve_filters_facets_and_orders_as_before(optimized: Path) -> None:
    with EdgeClient(optimized) as client:
        few = models.Filter(must=[models.FieldCondition(key="n", range=models.Range(gte=700, lt=710))])
        assert {record.id for record in client.scroll("c", few)[0]} == {*range(700, 710)}
        facets = client.facet("c", "n", facet_filter=few, limit=20, exact=True).hits
        assert {hit.value: hit.count for hit in facets} == dict.fromkeys(range(700, 710), 1)
        order = models.OrderBy(key="n", direction=models.Direction.DESC)
        assert [record.id for record in client.scroll("c", order_by=order, limit=3)[0]] == [1499, 1498, 1497]
        assert client.get_collection("c").payload_schema["n"] == models.PayloadIndexInfo(
            data_type=models.PayloadSchemaType.INTEGER, points=POINTS - 300
        )


def test_vectors_of_which_there_are_bytes_are_not_read_when_it_is_opened(optimized: Path) -> None:
    [segment] = [
        read
        for path in optimized.glob("collections/*/segments/*/segment.json")
        if (read := json.loads(path.read_text("utf-8"))["config"]["vector_data"][""])["index"]["type"] == "hnsw"
    ]
    assert segment["storage_type"] == "Mmap"  # not InRamMmap, which reads all at once
    assert segment["quantization_config"] == {"scalar": {"type": "int8", "always_ram": True}}
    with EdgeClient(optimized) as client:
        assert client.get_collection("c").config.params.vectors == CONFIG  # as it was asked for


@pytest.mark.parametrize(
    ("given", "quantize", "on_disk"),
    [
        ({}, True, True),
        ({}, False, None),
        ({"on_disk": False}, True, False),
        ({"memory": models.Memory.PINNED}, True, None),
        (
            {"quantization_config": models.ScalarQuantization(scalar=models.ScalarQuantizationConfig(type="int8"))},
            False,
            True,
        ),
    ],
)
def test_where_vectors_lie_is_chosen_where_nothing_was_said(
    given: dict[str, Any], quantize: bool, on_disk: bool | None
) -> None:
    one = CONFIG.model_copy(update=given)
    for vectors in (one, {"a": one}):
        entry = CollectionEntry("c", models.CreateCollection(vectors=vectors))
        tuned = optimizing.tune(entry, 1_000_000, quantize=quantize)
        assert [params.on_disk for params in tuned.dense.values()] == [on_disk]
        assert tuned.dense.keys() == entry.dense.keys()


@pytest.mark.parametrize(
    ("given", "threshold", "on_disk"),
    [
        ({}, 75, True),
        ({}, 76, None),
        ({}, 0, None),
        ({"datatype": models.Datatype.FLOAT16}, 37, True),
        ({"datatype": models.Datatype.FLOAT16}, 38, None),
        ({"datatype": models.Datatype.UINT8}, 18, True),
        ({"datatype": models.Datatype.UINT8}, 19, None),
    ],
)
def test_vectors_of_which_there_are_no_bytes_stay_in_memory(
    edge_client: EdgeClient, given: dict[str, Any], threshold: int, on_disk: bool | None
) -> None:
    small = models.VectorParams(size=2, distance=models.Distance.DOT)
    vectors = {"a": CONFIG.model_copy(update=given), "b": small}
    optimizers = models.OptimizersConfigDiff(indexing_threshold=threshold)
    made = models.CreateCollection(vectors=vectors, optimizers_config=optimizers)
    tuned = optimizing.tune(CollectionEntry("c", made), 600)
    assert [params.on_disk for params in tuned.dense.values()] == [on_disk, on_disk]

    edge_client.create_collection("c", vectors, optimizers_config=optimizers)
    rows = {"a": np.abs(VECTORS[:600]).tolist(), "b": [[1.0, 2.0]] * 600}
    edge_client.upsert("c", models.Batch(ids=[*range(600)], vectors=rows))
    done = edge_client.optimize("c")
    assert (done.changed, done.indexed) == ((True, 600) if on_disk else (False, 0))


def test_multivectors_are_taken_for_many_unless_nothing_is_indexed() -> None:
    several = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    vectors = CONFIG.model_copy(update={"multivector_config": several})
    for threshold, on_disk in ((1_000_000, True), (0, None)):
        optimizers = models.OptimizersConfigDiff(indexing_threshold=threshold)
        made = models.CreateCollection(vectors=vectors, optimizers_config=optimizers)
        assert optimizing.tune(CollectionEntry("c", made), 1).dense[""].on_disk == on_disk


@pytest.mark.parametrize(
    ("given", "in_memory"),
    [
        (models.ScalarQuantization(scalar=models.ScalarQuantizationConfig(type="int8", always_ram=False)), False),
        (models.ScalarQuantization(scalar=models.ScalarQuantizationConfig(type="int8", memory="cold")), None),
        (models.ProductQuantization(product=models.ProductQuantizationConfig(compression="x4")), True),
        (models.BinaryQuantization(binary=models.BinaryQuantizationConfig()), True),
        (models.TurboQuantization(turbo=models.TurboQuantQuantizationConfig()), True),
    ],
)
def test_bytes_stay_in_memory_where_nothing_else_was_said(
    given: models.QuantizationConfig, in_memory: bool | None
) -> None:
    own = CONFIG.model_copy(update={"quantization_config": given})
    made = models.CreateCollection(vectors=own, quantization_config=given)
    tuned = optimizing.tune(CollectionEntry("c", made), 1_000_000)
    for chosen in (tuned.config.quantization_config, tuned.dense[""].quantization_config):
        [(_, config)] = chosen
        assert config.always_ram == in_memory
    assert made.quantization_config == given


def test_words_of_points_that_change_later_weigh_less_until_it_is_optimized_again(edge_client: EdgeClient) -> None:
    words = {"w": models.SparseVectorParams(modifier=models.Modifier.IDF)}
    edge_client.create_collection("c", {"d": CONFIG}, sparse_vectors_config=words, optimizers_config=INDEXED)

    def write(ids: range) -> None:
        vectors = [models.SparseVector(indices=[i % 7], values=[1.0]) for i in ids]
        dense = VECTORS[ids.start : ids.stop : ids.step].tolist()
        edge_client.upsert("c", models.Batch(ids=[*ids], vectors={"d": dense, "w": vectors}))

    def weigh() -> float:
        query = models.SparseVector(indices=[0], values=[1.0])
        return edge_client.query_points("c", query=query, using="w", limit=1).points[0].score

    write(range(300))
    edge_client.delete("c", [299])
    assert edge_client.optimize("c").changed
    before = weigh()
    write(range(0, 299, 7))
    assert weigh() < before - 0.1
    edge_client.optimize("c")
    assert weigh() == pytest.approx(before)


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        (lambda client, ids: client.set_payload("c", {"x": 1}, points=ids), {"n": 400, "x": 1}),
        (lambda client, ids: client.set_payload("c", {"x": 1}, points=ids, key="y"), {"n": 400, "y": {"x": 1}}),
        (lambda client, ids: client.overwrite_payload("c", {"x": 1}, points=ids), {"x": 1}),
        (lambda client, ids: client.delete_payload("c", ["n"], points=ids), {}),
        (lambda client, ids: client.clear_payload("c", ids), {}),
    ],
)
def test_a_point_that_is_named_twice_is_changed_once(
    optimized: Path, tmp_path: Path, change: Callable[[EdgeClient, list[int]], Any], changed: dict[str, Any]
) -> None:
    store = tmp_path / "store"
    shutil.copytree(optimized, store)
    with EdgeClient(store) as client:
        change(client, [400, 401, 400])
        assert client.retrieve("c", [400])[0].payload == changed
        assert client.count("c").count == POINTS - 300


def test_what_has_no_need_of_it_is_left_as_it_is(optimized: Path) -> None:
    with EdgeClient(optimized) as client:
        before = folders(client)
        done = client.optimize("c")
        assert (done.changed, done.points, done.indexed) == (False, POINTS - 300, POINTS - 300)
        assert folders(client) == before


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


@pytest.mark.parametrize("name", ["id_tracker.mappings", "vector_storage/matrix.dat", "vector_index/graph.bin"])
def test_damage_of_optimized_files_is_noticed(tmp_path: Path, optimized: Path, name: str) -> None:
    store = Path(shutil.copytree(optimized, tmp_path / "store"))
    [file] = store.glob(f"collections/*/segments/*/{name}")
    cut(file)
    with EdgeClient(store) as client, pytest.raises(StoreDamaged, match=f"{name} has .* at the last flush"):
        client.count("c")


def give_up_at(wanted: str) -> Callable[[OptimizeStep], None]:
    def follow(step: OptimizeStep) -> None:
        if step.name == wanted:
            raise KeyboardInterrupt

    return follow


@pytest.mark.parametrize("step", ["copy", "build"])
def test_interrupted_it_leaves_all_as_it_was(client: EdgeClient, step: str) -> None:
    before, there = folders(client), read_all(client)

    with pytest.raises(KeyboardInterrupt):
        client.optimize("c", on_progress=give_up_at(step))

    assert (folders(client), read_all(client)) == (before, there)
    client.upsert("c", batch(range(5)))
    assert client.count("c").count == len(there) + 5


# In place of the child: it leaves the copy as it is, and says that it changed it.
PRETEND = ("-c", f'print(\'{{"changed": true, "points": {POINTS - 300}}}\')')


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def optimize_and_die(store: Path, moment: str) -> None:
    def follow(step: OptimizeStep) -> None:
        if step.name == moment and (step.done or step.seconds > 1):
            die()

    client = EdgeClient(store)
    if moment != "build":
        optimizing._MODULE = PRETEND
    if moment == "catalog":
        setattr(client._folder._catalog, "write", die)  # noqa: B010  mypy lets no method be assigned
    if moment == "removal":
        setattr(client._folder._shards, "remove", die)  # noqa: B010
    client.set_payload("c", {"acknowledged": True}, points=[300])
    client.optimize("c", on_progress=follow)


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL on Windows")
@pytest.mark.parametrize("moment", ["copy", "build", "catalog", "removal"])
def test_killed_at_any_moment_it_loses_nothing_and_what_it_left_goes_at_the_next_opening(
    tmp_path: Path, moment: str
) -> None:
    with EdgeClient(tmp_path) as client:
        make(client)
        before = folders(client)
    process = FORKS.Process(target=optimize_and_die, args=(tmp_path, moment))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len([path for path in (tmp_path / "collections").iterdir() if path.is_dir()]) == 2

    for _ in range(100):  # the child ends with its parent, and then lets go of the copy
        with EdgeClient(tmp_path) as client:
            assert {*(found := read_all(client))} == {*range(300, POINTS)}
            assert found[300][0] == {"n": 300, "acknowledged": True}
            if len(there := folders(client)) == 1:
                break
        time.sleep(0.1)
    assert (there == before) == (moment != "removal")
    assert len(there) == 1


def test_a_disk_without_room_for_the_copy_is_told_before_it_starts(
    client: EdgeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = folders(client)
    monkeypatch.setattr("clip_qdrant.store.edge.files.room.shutil.disk_usage", lambda _: SimpleNamespace(free=40 << 20))
    steps: list[OptimizeStep] = []
    with pytest.raises(StoreFull, match=r"has 40\.0 MiB free, and .* MiB are needed for a copy"):
        client.optimize("c", on_progress=steps.append)
    assert (steps, folders(client)) == ([], before)


def test_a_disk_that_others_fill_meanwhile_is_told(client: EdgeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before, there = folders(client), read_all(client)
    monkeypatch.setattr("clip_qdrant.store.edge.files.copy._copy_file", fill)
    with pytest.raises(StoreFull, match=r"cannot copy collection 'c' to optimize it: .* all is as it was"):
        client.optimize("c")
    assert (folders(client), read_all(client)) == (before, there)


def test_a_child_that_fails_says_why_and_leaves_all_as_it_was(
    client: EdgeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, there = folders(client), read_all(client)
    for program, words in (
        ("raise MemoryError('no memory')", "no memory"),
        ("os.kill(os.getpid(), 9)", "killed"),
    ):
        monkeypatch.setattr(optimizing, "_MODULE", ("-c", f"import os; {program}"))
        with pytest.raises(StoreError, match=f"optimizes collection 'c'.*{words}.*all is as it was"):
            client.optimize("c")
        assert (folders(client), read_all(client)) == (before, there)


def test_more_changes_than_memory_should_hold_end_it(client: EdgeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "_MOST_POINTS", 20)
    monkeypatch.setattr("clip_qdrant.store.edge.points._POINTS_A_FLUSH", 10)
    monkeypatch.setattr(optimizing, "_MODULE", PRETEND)

    def write(step: OptimizeStep) -> None:
        if step.name == "build":
            client.upsert("c", batch(range(POINTS, POINTS + 30)))

    with pytest.raises(StoreError, match="more than 20 points were written meanwhile"):
        client.optimize("c", on_progress=write)
    assert client.count("c").count == POINTS - 300 + 30


@pytest.mark.parametrize("moment", ["copy", "build", "exchange"])
def test_a_collection_that_is_deleted_meanwhile_stays_deleted(
    client: EdgeClient, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    monkeypatch.setattr(optimizing, "_MODULE", PRETEND)

    def delete(step: OptimizeStep) -> None:
        if step.name == moment:
            client.delete_collection("c")

    with pytest.raises(StoreError, match="'c' was closed or deleted meanwhile"):
        client.optimize("c", on_progress=delete)
    assert folders(client) == []


def test_only_one_optimizes_a_collection_at_a_time(client: EdgeClient) -> None:
    def again(step: OptimizeStep) -> None:
        if step.name == "build":
            with pytest.raises(StoreError, match="is being optimized already"):
                client.optimize("c")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.optimize("c", on_progress=again)
    with pytest.raises(CollectionNotFound):
        client.optimize("nothing")


def test_of_two_that_start_at_once_one_is_refused_and_nothing_of_what_is_written_is_lost(client: EdgeClient) -> None:
    refusals, written = list[Exception](), POINTS

    def start() -> None:
        try:
            client.optimize("c")
        except StoreError as error:
            refusals.append(error)

    second = threading.Thread(target=start)

    def follow(step: OptimizeStep) -> None:
        nonlocal written
        if step.name == "copy" and second.ident is None:
            second.start()
            while len([*(client._folder.root / "collections").glob("*.lock")]) < 3:  # till it waits for the copy
                time.sleep(0.01)
            time.sleep(0.1)
        elif step.name == "build":
            client.upsert("c", batch(range(written, written + 1)))
            written += 1

    assert client.optimize("c", on_progress=follow).changed
    second.join()
    assert [str(error) for error in refusals] == ["collection 'c' is being optimized already"]
    assert {*read_all(client)} == {*range(300, written)}
    assert len(folders(client)) == 1


def test_a_vector_that_is_added_while_it_begins_is_no_hindrance(
    client: EdgeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = optimizing._copy
    added = models.DenseVectorNameConfig(dense=models.DenseVectorConfig(size=3, distance="Dot"))

    def add_and_copy(*arguments: Any) -> Any:
        client.create_vector_name("c", "x", added)
        return begin(*arguments)

    monkeypatch.setattr(optimizing, "_copy", add_and_copy)
    assert client.optimize("c").changed
    client.update_vectors("c", [models.PointVectors(id=300, vector={"x": [1, 2, 3]})])
    assert client.retrieve("c", [300], with_vectors=["x"])[0].vector == {"x": [1, 2, 3]}


def test_what_it_brings_is_told_where_it_pays(client: EdgeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client.explain_optimize("c") is None
    monkeypatch.setattr(optimizing, "_MANY_PLAIN", 1 << 10)
    assert client.explain_optimize("c") == (
        "1,200 of its 1,200 points are in no vector index, and each search looks at all of these"
    )
    monkeypatch.setattr(optimizing, "_MANY_DELETED", 1 << 10)
    assert "MiB" not in str(client.explain_optimize("c"))  # a fifth
    client.delete("c", [*range(300, 700)])
    client.close()
    client = EdgeClient(client._folder.root)
    assert "0 MiB on disk are of deleted points" in str(client.explain_optimize("c"))
    client.close()


def test_the_command_optimizes_and_info_says_where_that_pays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "store"
    with EdgeClient(store) as client:
        make(client)
    monkeypatch.setattr(optimizing, "_MANY_PLAIN", 1 << 10)
    with program_in(tmp_path / "folder", monkeypatch) as program:
        noted = program("info", "--location", store)
        done = program("optimize", "--location", store, "--json")
        silent = program("info", "--location", store)
        nowhere = program("optimize", "--location", "http://localhost:6333")
        missing = program("optimize", "--location", store, "--collection", "x")
    assert "c: 1,200 of its 1,200 points are in no vector index" in noted.out
    assert "`clip-qdrant optimize --collection c` mends that" in noted.out
    [row] = done.json["collections"]
    assert (row["name"], row["changed"], row["indexed"]) == ("c", True, 1200)
    assert "vector index" not in silent.out
    assert (nowhere.code, missing.code) == (2, 3)
    assert "only an embedded store is optimized" in nowhere.err


@pytest.mark.parametrize(
    ("params", "ef"),
    [
        (None, 256),
        (models.SearchParams(), 256),
        (models.SearchParams(exact=False, indexed_only=True), 256),
        (models.SearchParams(hnsw_ef=64), 64),
    ],
)
def test_a_search_of_the_index_keeps_256_candidates_unless_it_says_how_many(
    params: models.SearchParams | None, ef: int
) -> None:
    assert to_search_params(params).hnsw_ef == ef
