"""The worker tells how it is: probes, metrics, progress; and takes events, over real HTTP."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

from clip_qdrant.errors import ConfigError, MissingExtra, SourceError, StoreUnavailable
from clip_qdrant_ingestion.run.report import Progress, Quarantined, Report, StageTime
from clip_qdrant_ingestion.worker.endpoints import serve
from clip_qdrant_ingestion.worker.events.messages import LONGEST_MESSAGE, Change
from clip_qdrant_ingestion.worker.health import Health
from clip_qdrant_ingestion.worker.metrics import OUTCOMES, Metrics

PREFIX = "clip_qdrant_ingestion_"
BAD = tuple(Quarantined(f"file:///{n}.jpg", reason, "…") for n, reason in enumerate(["empty", "truncated", "empty"]))


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Client:
    """Requests to the server under test; `changes` are those it was given."""

    url: str
    changes: list[Change] = field(default_factory=list)

    def ask(
        self, path: str, body: bytes | None = None, *, method: str | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, str]:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=30)
        connection.request(method or ("GET" if body is None else "POST"), path, body, headers or {})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    def value(self, name: str, **labels: str) -> float | None:
        for family in text_string_to_metric_families(self.ask("/metrics")[1]):
            for sample in family.samples:
                if sample.name == PREFIX + name and sample.labels == labels:
                    return sample.value
        return None


@contextmanager
def serving(health: Health, *, token: str | None = None) -> Iterator[Client]:
    changes: list[Change] = []
    with serve(health, on_events=changes.extend, token=token) as url:
        yield Client(url, changes)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health(stall=60, metrics=Metrics(), clock=clock)


@pytest.fixture
def client(health: Health) -> Iterator[Client]:
    with serving(health) as one:
        yield one


# Probes


def test_a_worker_is_live_until_its_loop_has_stopped_for_too_long(client: Client, health: Health, clock: Clock) -> None:
    clock.now += 60
    assert client.ask("/live") == (200, "ok\n")
    clock.now += 1
    assert client.ask("/live") == (503, "nothing has moved for 61 s\n")
    health.tick()
    assert client.ask("/live") == (200, "ok\n")


def test_whatever_a_run_tells_keeps_the_worker_alive(health: Health, clock: Clock) -> None:
    tell = [
        health.note_model,
        health.note_answer,
        health.note_start,
        lambda: health.note_progress(Progress(listed=1)),
        lambda: health.note_end(Report()),
        lambda: health.note_failure(SourceError("gone")),
        lambda: health.note_outage("restarting"),
    ]
    for one in tell:
        clock.now += 50
        one()
        assert health.not_live() is None


def test_a_worker_is_ready_when_the_model_is_loaded_and_the_store_answered(client: Client, health: Health) -> None:
    assert client.ask("/ready") == (503, "the model is not loaded yet\n")
    health.note_model()
    assert client.ask("/ready") == (503, "the store has not answered yet\n")
    health.note_answer()
    assert client.ask("/ready") == (200, "ok\n")


def test_a_worker_is_not_ready_while_the_store_is_away(client: Client, health: Health) -> None:
    health.note_start()
    health.note_failure(StoreUnavailable("no answer from http://key:secret@store:6333"))
    assert client.ask("/ready") == (503, "no answer from http://***@store:6333\n")
    health.note_start()
    health.note_progress(Progress(listed=5, quarantined=2))  # the store was not needed for these
    assert client.ask("/ready")[0] == 503
    health.note_progress(Progress(listed=5, quarantined=2, skipped=1))
    assert client.ask("/ready") == (200, "ok\n")


def test_a_source_that_is_away_leaves_the_worker_ready(client: Client, health: Health) -> None:
    health.note_answer()
    health.note_start()
    health.note_failure(SourceError("cannot list s3://photos: timeout"))
    assert client.ask("/ready") == (200, "ok\n")


# Progress


def test_progress_shows_the_run_at_hand_and_how_the_last_one_ended(client: Client, health: Health) -> None:
    shown: dict[str, Any] = json.loads(client.ask("/progress")[1])
    assert shown == {
        "ready": False,
        "not_ready": "the model is not loaded yet",
        "waiting": 0,
        "run": None,
        "last": None,
    }
    health.tick(waiting=4)
    health.note_start()
    health.note_progress(Progress(listed=10, added=4, skipped=2, seconds=2.0, queues={"embed": (3, 64)}))
    shown = json.loads(client.ask("/progress")[1])
    assert shown["waiting"] == 4
    assert (
        shown["run"] | {"listed": 10, "done": 6, "images_per_second": 2.0, "queues": {"embed": [3, 64]}} == shown["run"]
    )

    health.note_end(Report(listed=10, added=7, quarantined=BAD, seconds=3.5))
    shown = json.loads(client.ask("/progress")[1])
    assert shown["run"] is None
    assert shown["last"]["outcome"] == "done"
    assert shown["last"]["report"]["added"] == 7
    assert shown["last"]["report"]["quarantined"] == 3
    assert shown["last"]["report"]["reasons"] == {"empty": 2, "truncated": 1}
    assert "file:///" not in json.dumps(shown)

    health.note_start()
    health.note_failure(SourceError("cannot list https://me:pw@photos"))
    assert json.loads(client.ask("/progress")[1])["last"]["error"] == "cannot list https://***@photos"


# Metrics


def test_every_outcome_is_there_before_the_first_run(client: Client) -> None:
    assert [client.value("objects_total", outcome=outcome) for outcome in OUTCOMES] == [0.0] * len(OUTCOMES)
    assert client.value("last_success_timestamp_seconds") == 0
    assert client.value("ready") == 0


def test_counters_go_on_over_runs_that_each_count_from_zero(client: Client, health: Health) -> None:
    health.note_start()
    health.note_progress(Progress(listed=5, added=3))
    assert client.value("running") == 1
    health.note_progress(Progress(listed=9, added=5, quarantined=1))
    health.note_progress(Progress(listed=8, added=4))  # late
    health.note_end(Report(listed=9, added=6, quarantined=BAD))
    health.note_progress(Progress(listed=9, added=6))  # later still
    health.note_start()
    health.note_progress(Progress(listed=2, added=1))
    health.note_failure(StoreUnavailable("away"))
    health.note_start()
    health.note_end(Report(listed=9, added=1, skipped=8))

    assert client.value("running") == 0
    assert client.value("listed_objects_total") == 9 + 2 + 9
    assert client.value("objects_total", outcome="added") == 6 + 1 + 1
    assert client.value("objects_total", outcome="skipped") == 8
    assert client.value("objects_total", outcome="quarantined") == 3
    assert client.value("runs_total", outcome="done") == 2
    assert client.value("runs_total", outcome="failed") == 1


def test_stages_and_queues_are_shown_while_a_run_goes_on(client: Client, health: Health) -> None:
    health.note_start()
    health.note_progress(Progress(queues={"read": (7, 32), "embed": (64, 64)}, stages={"embed": 0.97}))
    assert client.value("queue_objects", stage="read") == 7
    assert client.value("queue_capacity_objects", stage="embed") == 64
    assert client.value("stage_busy_ratio", stage="embed") == 0.97

    stages = {"embed": StageTime(19.5, 2, 0.97), "read": StageTime(0.5, 4, 0.01)}
    health.note_end(Report(seconds=10.0, stages=stages))
    health.note_start()
    health.note_end(Report(seconds=5.0, stages=stages))
    assert client.value("stage_seconds_total", stage="embed") == 39
    assert client.value("stage_seconds_total", stage="read") == 1
    assert client.value("last_run_seconds") == 5
    assert client.value("queue_objects", stage="read") is None


@pytest.mark.parametrize(
    ("report", "outcome"),
    [
        (Report(), "done"),
        (Report(quarantined=BAD), "done"),
        (Report(interrupted=True), "interrupted"),
        (Report(gone=90, refused="90 of 100 would go"), "refused"),
    ],
)
def test_a_success_is_a_run_that_was_neither_interrupted_nor_refused(
    client: Client, health: Health, report: Report, outcome: str
) -> None:
    health.note_start()
    health.note_end(report)

    assert client.value("runs_total", outcome=outcome) == 1
    succeeded = client.value("last_success_timestamp_seconds")
    assert succeeded is not None
    assert (succeeded > 1.7e9) == (outcome == "done")


def test_readiness_and_what_waits_are_metrics_too(client: Client, health: Health) -> None:
    health.note_answer()
    health.tick(waiting=12)
    assert client.value("ready") == 1
    assert client.value("waiting_changes") == 12


def test_without_metrics_there_is_no_such_path() -> None:
    with serving(Health()) as client:
        assert client.ask("/metrics") == (404, "there is no /metrics\n")


def test_metrics_need_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(
        MissingExtra, match=r"showing metrics needs prometheus-client: pip install 'clip-qdrant\[worker\]'"
    ):
        Metrics()


# Events


def test_events_are_handed_on(client: Client) -> None:
    body = b'[{"uri": "s3://photos/a.jpg"}, {"uri": "s3://photos/b.jpg", "removed": true}]'

    assert client.ask("/events", body) == (202, "changes: 2\n")
    assert client.changes == [Change("s3://photos/a.jpg"), Change("s3://photos/b.jpg", removed=True)]


def test_what_is_no_event_is_refused_with_the_reason(client: Client) -> None:
    status, text = client.ask("/events", b"hello")

    assert status == 400
    assert "cannot use this event: it is no JSON" in text
    assert client.changes == []


def test_a_message_of_the_longest_length_is_taken_and_one_byte_more_is_not(client: Client) -> None:
    longest = b'{"uri": "a"}'.ljust(LONGEST_MESSAGE)

    assert client.ask("/events", longest)[0] == 202
    assert client.ask("/events", longest + b" ") == (
        413,
        "1048577 bytes are more than the 1048576 of the longest message\n",
    )


def test_with_a_token_events_need_it() -> None:
    body = b'{"uri": "s3://photos/a.jpg"}'
    with serving(Health(), token="opensesame") as client:
        assert client.ask("/events", body)[0] == 401
        assert client.ask("/events", body, headers={"Authorization": "Bearer opensesam"})[0] == 401
        assert client.changes == []
        assert client.ask("/events", body, headers={"Authorization": "Bearer opensesame"})[0] == 202
        assert client.ask("/live")[0] == 200


def test_a_token_is_taken_as_a_password_and_asked_for_as_sns_needs_it() -> None:
    body = b'{"uri": "s3://photos/a.jpg"}'
    basic = [base64.b64encode(login).decode() for login in (b"sns:opensesame", b"sns:other", b"\xff:")]
    with serving(Health(), token="opensesame") as client:
        answer = urllib.request.Request(f"{client.url}/events", body)
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(answer)
        assert refusal.value.headers["WWW-Authenticate"] == 'Basic realm="events"'
        refusal.value.close()
        tried = [client.ask("/events", body, headers={"Authorization": f"Basic {one}"})[0] for one in (*basic, "=")]
    assert tried == [202, 401, 401, 401]


def test_beyond_loopback_events_need_a_token(caplog: pytest.LogCaptureFixture) -> None:
    body = b'{"uri": "s3://photos/a.jpg"}'
    with serve(Health(), host="0.0.0.0", on_events=list) as url:
        client = Client(url)
        assert client.ask("/events", body) == (
            403,
            "events are taken here only once CLIP_QDRANT_EVENTS_TOKEN is set\n",
        )
        assert client.ask("/live")[0] == 200
    assert "events are refused at 0.0.0.0, where anybody may send them: set CLIP_QDRANT_EVENTS_TOKEN" in caplog.text
    with serve(Health(), host="0.0.0.0", on_events=list, token="opensesame") as url:
        assert Client(url).ask("/events", body, headers={"Authorization": "Bearer opensesame"})[0] == 202


def test_where_nobody_takes_events_there_is_no_such_path() -> None:
    with serve(Health()) as url:
        assert Client(url).ask("/events", b"[]")[0] == 404
        assert Client(url).ask("/events")[0] == 404


# The server itself


def test_requests_that_are_none_of_these_are_refused(client: Client) -> None:
    assert client.ask("/")[0] == 404
    assert client.ask("/live?verbose=1")[0] == 200
    assert client.ask("/live", b"{}")[0] == 404
    assert client.ask("/events")[0] == 405
    assert client.ask("/events", method="PUT")[0] == 501
    assert client.ask("/events", method="POST", headers={"Content-Length": "many"})[0] == 411
    assert client.ask("/events", method="POST", headers={"Content-Length": "-1"})[0] == 411
    assert client.ask("/events", method="POST", headers={"Content-Length": "9" * 5000})[0] == 411
    assert client.ask("/live", headers={"X-Long": "a" * 40_000})[0] == 431
    assert client.ask("/live", headers={f"X-{n}": "a" * 1000 for n in range(50)})[0] == 431
    assert client.ask("/live", headers={"X-Long": "a" * 30_000})[0] == 200


def test_many_idle_connections_leave_room_for_a_probe(client: Client) -> None:
    address = (urlsplit(client.url).hostname, urlsplit(client.url).port)
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection(address, timeout=5)) for _ in range(50)]
        assert client.ask("/live") == (200, "ok\n")
        assert idle[0].recv(1) == b""  # the oldest were cut off, before their own 10 seconds were over
        idle[-1].sendall(b"GET /live HTTP/1.0\r\n\r\n")
        assert idle[-1].recv(12) == b"HTTP/1.0 200"


def test_nothing_is_written_for_requests_not_even_for_broken_ones(
    client: Client, capfd: pytest.CaptureFixture[str]
) -> None:
    address = urlsplit(client.url)
    for sent in (b"\x00\xff\r\n\r\n", b"POST /events HTTP/1.0\r\nContent-Length: 50\r\n\r\n{", b""):
        with socket.create_connection((address.hostname, address.port)) as raw:
            raw.sendall(sent)
    assert client.ask("/live")[0] == 200
    assert capfd.readouterr() == ("", "")


def test_it_listens_on_loopback_and_is_gone_afterwards() -> None:
    with serve(Health()) as url:
        assert urlsplit(url).hostname == "127.0.0.1"
    with pytest.raises(ConnectionRefusedError):
        Client(url).ask("/live")


def test_it_listens_on_ipv6_too() -> None:
    try:
        with serve(Health(), host="::1") as url:
            assert url.startswith("http://[::1]:")
            assert Client(url).ask("/live")[0] == 200
    except ConfigError:
        pytest.skip("this machine has no IPv6")


def test_a_port_that_is_taken_is_told_with_the_way_out(client: Client) -> None:
    port = urlsplit(client.url).port
    assert port is not None
    with (
        pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port}: Address already in use; choose another port, or 0"),
        serve(Health(), port=port),
    ):
        pass


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70000), ("203.0.113.7", 0)])
def test_an_address_that_cannot_be_listened_on_is_told(host: str, port: int) -> None:
    with (
        pytest.raises(ConfigError, match=f"cannot serve health on {host}:{port}: "),
        serve(Health(), host=host, port=port),
    ):
        pass
