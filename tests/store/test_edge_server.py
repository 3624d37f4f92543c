"""The server for tests is a Qdrant to its clients: it keeps the contract, serves several at once, survives kill -9."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from edge_server import EdgeServer
from fakes import FakeEmbedder, write_image
from forks import Fork, run_fork, start_fork
from qdrant_client import QdrantClient, models
from qdrant_client.client_base import QdrantBase
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse
from test_client_contract import *  # noqa: F403 - collected here too, with the client of this file
from test_client_contract import COSINE, photos  # noqa: F401

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import StoreError, StoreUnavailable
from clip_qdrant.store.calls import call
from clip_qdrant.store.connect import connect

# Writes points of ids from..to-1 one at a time and prints each id once its write is acknowledged.
WRITER = """
import sys
from qdrant_client import QdrantClient, models
url, first, end = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
client = QdrantClient(url=url)
for i in range(first, end):
    client.upsert("numbers", [models.PointStruct(id=i, vector=[1.0, i, 0, 0], payload={"n": i})], wait=True)
    print(i, flush=True)
"""


def start_writer(server: EdgeServer, first: int, end: int) -> Fork:
    return start_fork(WRITER, server.url, str(first), str(end))


def ids_in(client: QdrantBase, collection: str) -> set[int | str]:
    return {record.id for record in client.scroll(collection, limit=10_000, with_payload=False)[0]}


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeServer]:
    with EdgeServer(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def client(shared_server: EdgeServer) -> Iterator[QdrantBase]:
    """In place of the one of conftest.py."""
    client = connect(shared_server.url)
    yield client
    client.close()


def test_the_client_finds_a_version_of_qdrant_that_fits(shared_server):
    client = QdrantClient(url=shared_server.url)  # it warns if not, and a warning is an error here

    assert "qdrant" in client.info().title
    client.close()


def test_a_batch_of_operations_is_done_in_order_up_to_the_first_that_fails(client, photos):  # noqa: F811
    def mark(point: int, value: int) -> models.SetPayloadOperation:
        return models.SetPayloadOperation(set_payload=models.SetPayload(payload={"mark": value}, points=[point]))

    new = models.PointStruct(id=1, vector=[0.0, 0, 0, 1], payload={"new": True})
    first = models.UpsertOperation(upsert=models.PointsList(points=[new]))
    overwrite = models.OverwritePayloadOperation(overwrite_payload=models.SetPayload(payload={"only": 1}, points=[1]))

    results = client.batch_update_points(photos, [first, mark(1, 1), mark(1, 2)])
    assert [result.status for result in results] == [models.UpdateStatus.COMPLETED] * 3
    assert client.retrieve(photos, ids=[1])[0].payload == {"new": True, "mark": 2}

    client.batch_update_points(photos, [overwrite, mark(1, 3)])
    assert client.retrieve(photos, ids=[1])[0].payload == {"only": 1, "mark": 3}

    with pytest.raises(StoreError, match="No point with id 999"):
        call(lambda: client.batch_update_points(photos, [mark(1, 4), mark(999, 4), mark(1, 5)]), what="mark")
    assert client.retrieve(photos, ids=[1])[0].payload["mark"] == 4

    gone = models.DeleteOperation(delete=models.PointIdsList(points=[1]))
    client.batch_update_points(photos, [gone])
    assert client.count(photos).count == 9


def test_the_indexing_threshold_is_told_as_it_was_set_also_after_a_restart(edge_server):
    client = connect(edge_server.url)

    def threshold() -> int | None:
        return client.get_collection("photos").config.optimizer_config.indexing_threshold

    client.create_collection("photos", vectors_config=COSINE)
    assert threshold() == 10_000

    client.update_collection("photos", optimizers_config=models.OptimizersConfigDiff(indexing_threshold=0))
    assert threshold() == 0
    edge_server.restart()
    assert call(threshold, what="look") == 0

    client.delete_collection("photos")
    client.create_collection("photos", vectors_config=COSINE)
    assert threshold() == 10_000
    client.close()


def test_what_the_engine_cannot_do_is_answered_as_such(client, photos):  # noqa: F811
    with pytest.raises(UnexpectedResponse) as caught:
        client.create_shard_key(photos, "x")

    assert caught.value.status_code == 501
    with pytest.raises(StoreError, match="make a key: Qdrant answered 501: Not implemented"):
        call(
            lambda: client.create_shard_key(photos, "x"),
            what="make a key",
        )


def test_a_body_that_is_no_request_is_bad_input(shared_server):
    answer = httpx.put(f"{shared_server.url}/collections/photos/points", content=b"{", timeout=60)

    assert answer.status_code == 400
    assert answer.json()["status"]["error"].startswith("Format error in JSON body")


@pytest.mark.slow
def test_several_processes_write_one_collection_at_once(edge_server):
    client = connect(edge_server.url)
    client.create_collection("numbers", vectors_config=COSINE)

    writers = [start_writer(edge_server, 100 * i, 100 * i + 100) for i in range(3)]
    for writer in writers:
        _, errors = writer.communicate()
        assert writer.returncode == 0, errors

    assert ids_in(client, "numbers") == set(range(300))
    client.close()


@pytest.mark.slow
def test_a_killed_server_has_every_acknowledged_point_when_it_is_back(edge_server):
    client = connect(edge_server.url)
    client.create_collection("numbers", vectors_config=COSINE, metadata={"kept": 1})
    client.create_payload_index("numbers", "n", models.PayloadSchemaType.INTEGER)

    writer = start_writer(edge_server, 0, 100_000)
    acknowledged = {int(writer.stdout.readline()) for _ in range(100)}
    edge_server.kill()
    acknowledged |= {int(line) for line in writer.communicate()[0].split()}
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        call(lambda: client.count("numbers"), what="count", patience=0)
    edge_server.restart()

    there = call(lambda: ids_in(client, "numbers"), what="look")
    info = client.get_collection("numbers")
    client.close()
    assert acknowledged <= there
    assert len(there) <= len(acknowledged) + 1  # the one under way
    assert info.config.metadata == {"kept": 1}
    assert list(info.payload_schema) == ["n"]


def test_a_killed_server_can_be_killed_again(edge_server):
    edge_server.kill()
    edge_server.kill()
    edge_server.restart()

    client = connect(edge_server.url)
    assert client.get_collections().collections == []
    client.close()


def test_the_server_ends_with_the_process_that_started_it(tmp_path):
    script = """
import sys, os
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from edge_server import EdgeServer
print(EdgeServer(Path(sys.argv[2])).url, flush=True)
os._exit(1)
"""
    code, out, _ = run_fork(script, Path(__file__).parents[1] / "support", tmp_path)
    assert code == 1

    with pytest.raises(StoreUnavailable):
        call(connect(out.strip()).get_collections, what="list", patience=0)


def test_a_server_that_cannot_start_is_an_error(tmp_path, shared_server):
    with pytest.raises(RuntimeError, match=r"did not start: .*Address already in use"):
        EdgeServer(tmp_path, port=shared_server.port)


@pytest.mark.slow
def test_requests_fail_before_or_after_their_work_and_connections_are_cut(edge_server):
    client = connect(edge_server.url)
    client.create_collection("numbers", vectors_config=COSINE)
    edge_server.fail_share = 0.5
    edge_server.restart()

    outcomes: list[str] = []
    for i in range(60):
        try:
            client.upsert("numbers", [models.PointStruct(id=i, vector=[1.0, 0, 0, 0])])
            outcomes.append("done")
        except UnexpectedResponse as error:
            outcomes.append(str(error.status_code))
        except ResponseHandlingException:
            outcomes.append("cut")
    edge_server.fail_share = 0.0
    edge_server.restart()
    there = call(lambda: ids_in(client, "numbers"), what="look")
    client.close()

    assert {(outcome, i in there) for i, outcome in enumerate(outcomes)} == {
        ("done", True),
        ("503", True),
        ("503", False),
        ("cut", True),
        ("cut", False),
    }


@pytest.mark.slow
def test_a_collection_of_images_works_over_it_though_requests_fail(tmp_path):
    colours = ["red", "green", "blue", "yellow"]
    paths = [write_image(tmp_path / f"{colour}.png", colour) for colour in colours]
    with EdgeServer(tmp_path / "server", fail_share=0.2, seed=3, latency=0.001) as server:
        client = connect(server.url)
        images = ImageCollection("photos", FakeEmbedder(), client, patience=60)
        metadata = [
            {"album": "warm" if c in ("red", "yellow") else "cold", "year": 2020 + i} for i, c in enumerate(colours)
        ]

        assert images.add(paths, metadata=metadata, batch_size=2).added == 4
        assert images.add(paths, metadata=metadata).unchanged == 4
        assert images.search("yellow", limit=1)[0].uri == paths[3].as_uri()
        assert images.search("yellow", where="album = 'cold' and year >= 2021", limit=1)[0].uri == paths[1].as_uri()
        assert [(facet.value, facet.count) for facet in images.facet("year", where="album = 'warm'")] == [
            (2020, 1),
            (2023, 1),
        ]
        assert images.delete(where="album = 'cold'") == 2
        assert images.count() == 2
        images.drop()
        assert not images.exists()
        client.close()


def test_threads_share_one_client(client, collection_name):
    client.create_collection(collection_name, vectors_config=COSINE)

    def write(first: int) -> None:
        for i in range(first, first + 25):
            client.upsert(collection_name, [models.PointStruct(id=i, vector=[1.0, i, 0, 0])])

    threads = [threading.Thread(target=write, args=(25 * i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert ids_in(client, collection_name) == set(range(200))
