"""Runs that requests start: from allowed places alone, followed as they go on, cancelled, and reported."""

from __future__ import annotations

import json
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fakes import COLOURS, FakeEmbedder, write_image
from running_service import run_app

from clip_qdrant import errors
from clip_qdrant.service import Client
from clip_qdrant.service.app import create_app
from clip_qdrant.service.bodies.ingest import IngestBody
from clip_qdrant.service.ingest.places import Places
from clip_qdrant.service.ingest.rules import IngestRules
from clip_qdrant.service.options import ServiceOptions
from clip_qdrant.service.state import Service


class GatedEmbedder(FakeEmbedder):
    """Embeds images while `gate` is open; `waits` says that some wait there."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.waits = threading.Event(), threading.Event()
        self.gate.set()

    def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
        self.waits.set()
        assert self.gate.wait(30)
        return super().embed_pixels(pixels)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the service may read, beside what it may not."""
    root = tmp_path_factory.mktemp("ingest")
    for colour in COLOURS:
        write_image(root / "open" / "photos" / f"{colour}.png", colour)
    (root / "open" / "photos" / "bad.jpg").write_bytes(b"no image")
    write_image(root / "closed" / "secret.png", "red")
    (root / "open" / "photos" / "link.png").symlink_to(root / "closed" / "secret.png")
    (root / "open" / "way-out").symlink_to(root / "closed")
    (root / "opened-too").mkdir()
    rows = ["photos/red.png", "../closed/secret.png", str(root / "closed" / "secret.png"), "way-out/secret.png"]
    with tarfile.open(root / "closed" / "secret.tar", "w") as archive:
        archive.add(root / "closed" / "secret.png", "secret.png")
    (root / "open" / "archives").mkdir()
    (root / "open" / "archives" / "link.tar").symlink_to(root / "closed" / "secret.tar")
    with tarfile.open(root / "open" / "archives" / "own.tar", "w") as archive:
        archive.add(root / "open" / "photos" / "red.png", "red.png")
    (root / "open" / "rows.csv").write_text("\n".join(["image", *rows]))
    return root


@pytest.fixture(scope="module")
def options(root: Path) -> ServiceOptions:
    places = (str(root / "open"), "s3://bucket/photos", "https://host/photos")
    rules = IngestRules(places=places, at_once=1, state=root / "state.sqlite")
    return ServiceOptions(collection="photos", ingest=rules)


@pytest.fixture(scope="module")
def embedder() -> GatedEmbedder:
    return GatedEmbedder()


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url, patience=0) as client:
        yield client


def test_a_run_stores_the_images_of_a_place(url: str, root: Path) -> None:
    with Client(url, collection="placed", patience=0) as client:
        run = client.ingest(str(root / "open" / "photos"))
        found = client.search("red", limit=50)
        report = client.read_ingest_report(run.id)

    assert (run.state, run.collection, run.error) == ("done", "placed", None)
    assert run.progress.added == len(COLOURS)
    assert run.report is not None
    assert run.report["reasons"] == {"not an image": 1}
    assert run.ended_at is not None
    assert {hit.path.name for hit in found if hit.path} == {f"{one}.png" for one in COLOURS}
    assert [row["uri"] for row in report["quarantined"]] == [(root / "open" / "photos" / "bad.jpg").as_uri()]


def test_a_second_run_finds_nothing_to_do(client: Client, root: Path) -> None:
    request = IngestBody(source=f"file://{root}/open/photos", delete=True)
    client.ingest(request)

    run = client.ingest(request)

    assert run.report is not None
    assert (run.report["added"], run.report["skipped"], run.report["deleted"]) == (0, len(COLOURS), 0)
    assert run.report["still_bad"] == 1


def test_a_run_is_followed_by_events(client: Client, http: httpx.Client, embedder: GatedEmbedder, root: Path) -> None:
    embedder.gate.clear()
    started = http.post("/v1/ingest", json={"source": str(root / "open" / "photos"), "collection": "events"})
    events: list[tuple[str, dict[str, Any]]] = []
    name = ""
    with http.stream("GET", f"{started.headers['Location']}/events") as answer:
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                events.append((name, json.loads(line.removeprefix("data: "))))
                embedder.gate.set()

    assert (started.status_code, started.json()["state"]) == (202, "running")
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert events[0][1]["state"] == "running"
    assert (events[-1][0], events[-1][1]["state"]) == ("end", "done")
    assert {name for name, _ in events[:-1]} == {"progress"}
    assert http.get(started.headers["Location"]).json() == events[-1][1]


def test_a_run_is_cancelled(client: Client, http: httpx.Client, embedder: GatedEmbedder, root: Path) -> None:
    embedder.gate.clear()
    embedder.waits.clear()
    source = str(root / "open" / "photos")
    started = http.post("/v1/ingest", json={"source": source, "collection": "cancelled"}).json()
    assert embedder.waits.wait(30)

    told = client.cancel_ingest(started["id"])
    with pytest.raises(errors.NotServed, match="it goes on"):
        client.read_ingest_report(started["id"])
    with pytest.raises(errors.IngestRunning, match=f"{started['id']}.*cancel it"):
        client.start_ingest(IngestBody(source=source, collection="cancelled"))
    with pytest.raises(errors.IngestRunning, match="1 runs are going on"):
        client.start_ingest(source)
    embedder.gate.set()
    *_, last = client.follow_ingest(started["id"])

    assert told.state == "running"
    assert last.state in ("interrupted", "done")
    assert client.ingest(IngestBody(source=source, collection="cancelled")).state == "done"


def test_runs_are_listed(client: Client, http: httpx.Client, root: Path) -> None:
    run = client.ingest(str(root / "open" / "photos"))

    runs = http.get("/v1/ingest").json()["runs"]

    assert runs[0]["id"] == run.id
    assert http.get("/v1/ingest/nothing").status_code == 404
    assert http.delete("/v1/ingest").headers["Allow"] == "GET, POST"
    assert http.put("/v1/points/delete").headers["Allow"] == "POST"
    assert http.put(f"/v1/ingest/{run.id}").headers["Allow"] == "GET"
    with pytest.raises(errors.NotServed, match="no run 'nothing'"):
        client.cancel_ingest("nothing")


@pytest.mark.parametrize(
    "place",
    [
        "{root}/closed",
        "{root}/open/../closed",
        "{root}/open/way-out",
        "{root}/opened-too",
        "{root}",
        "/",
        "file://{root}/closed",
        "file://{root}/open/%2e%2e/closed",
        "{root}/open/{{a,../../closed}}/x.tar",
        "{root}/open/.{{.,x}}/closed/x.tar",
        "{root}/open/{{.,x}}./closed/x.tar",
        "{root}/open/{{.}}%7B.%7D/closed/x.tar",
        "s3://bucket/photos-of-others",
        "s3://bucket/photos/../secrets",
        "s3://bucket",
        "s3://me:word@bucket/photos",
        "zip://x::s3://bucket/photos",
        "http://localhost/",
        "https://bucket/photos",
    ],
)
def test_what_lies_elsewhere_is_refused(client: Client, root: Path, place: str) -> None:
    with pytest.raises(errors.Forbidden, match="none of the places") as told:
        client.start_ingest(place.format(root=root))

    assert "word" not in str(told.value)


def test_a_table_names_nothing_that_lies_elsewhere(client: Client, root: Path) -> None:
    run = client.ingest(IngestBody(source=str(root / "open" / "rows.csv"), collection="rows"))

    report = client.read_ingest_report(run.id)
    assert run.progress.added == 1
    told = [row["reason"] for row in report["quarantined"]]
    assert sorted(told) == ["bad metadata", "not allowed", "not allowed"]  # two rows name the same file


def test_a_link_among_archives_leads_to_nothing_that_lies_elsewhere(client: Client, root: Path) -> None:
    run = client.ingest(IngestBody(source=f"{root}/open/archives/*.tar", collection="archives"))

    report = client.read_ingest_report(run.id)
    assert run.progress.added == 1
    assert [row["reason"] for row in report["quarantined"]] == ["not allowed"]


@pytest.mark.parametrize("source", ["file://{root}/open/photos", "file:{root}/open/photos", "https://host/photos"])
def test_a_folder_or_a_page_is_not_read_as_a_bucket_which_would_follow_links(
    service: Service, root: Path, source: str
) -> None:
    with pytest.raises(errors.ConfigError, match="is no bucket"):
        service.ingestion.start(IngestBody(source=source.format(root=root), kind="bucket", collection="links"), "links")


def test_options_that_do_not_go_together_are_refused(client: Client, root: Path) -> None:
    source = str(root / "open" / "photos")
    with pytest.raises(errors.ConfigError, match="uri_column"):
        client.start_ingest(IngestBody(source=source, uri_column="image"))
    with pytest.raises(errors.ConfigError, match=r"nothing\.txt cannot be ingested"):
        client.start_ingest(f"{root}/open/nothing.txt")
    with pytest.raises(errors.ServiceError, match=r"failed: cannot list .*nothing"):
        client.ingest(IngestBody(source=f"{root}/open/nothing", collection="none"))


def test_a_service_that_is_told_no_place_reads_none(service: Service, root: Path) -> None:
    with (
        run_app(create_app(Service(service.client, FakeEmbedder()))) as url,
        Client(url, patience=0) as client,
        pytest.raises(errors.Forbidden, match="reads no place"),
    ):
        client.start_ingest(str(root / "open" / "photos"))


def test_the_end_of_the_service_ends_its_runs(service: Service, embedder: GatedEmbedder, root: Path) -> None:
    embedder.gate.clear()
    embedder.waits.clear()
    rules = IngestRules(places=(str(root),))
    ending = Service(service.client, embedder, ServiceOptions(collection="ending", ingest=rules))
    with run_app(create_app(ending)) as url, Client(url, patience=0) as client:
        client.start_ingest(str(root / "open" / "photos"))
        assert embedder.waits.wait(30)
        embedder.gate.set()

    run = ending.ingestion.runs.list()[0]
    assert run.state in ("interrupted", "done")
    assert not any(thread.name.startswith("ingest ") for thread in threading.enumerate())


def test_the_places_are_compared_part_by_part() -> None:
    places = Places(["https://host/photos/", "gs://bucket"])

    assert places.contains("https://host/photos")
    assert places.contains("HTTPS://host/photos/a.csv")
    assert places.contains("gs://bucket/any/thing")
    assert not places.contains("https://host/photos2/a.csv")
    assert not places.contains("gs://bucket2/")
    assert not places.contains("https://host/photos/%2e%2e/a.csv")
    assert not places.contains("/\0")


def test_names_with_dots_and_commas_are_no_steps_up() -> None:
    places = Places(["/srv/photos"])

    for name in ("shard-{0..9}.tar", "./{a,b}.tar", "a, b.png", "a,..png", "c,.d.png", "e.,f.png"):
        assert places.contains(f"/srv/photos/{name}")
