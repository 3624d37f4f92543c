"""The dashboard shows metrics that there are: of the service and of the worker by their real names."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml
from compose import ROOT, read_compose

from clip_qdrant.service.metrics import ServiceMetrics
from clip_qdrant_ingestion.run.report import Progress, Report, StageTime
from clip_qdrant_ingestion.worker.metrics import Metrics

GRAFANA = ROOT / "deploy" / "grafana"
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "clip-qdrant.json").read_text(encoding="utf-8"))
OF_QDRANT = {"rest_responses_total", "grpc_responses_total", "memory_resident_bytes"}
WORDS = {"sum", "by", "rate", "increase", "histogram_quantile", "topk", "time"}


def list_queries() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]


def list_names(query: str) -> set[str]:
    """The names of metrics in a query: what is neither a function nor within braces, brackets or a list of labels."""
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|by \([^)]*\)", "", query)
    return set(re.findall(r"[a-z_]+[a-z]", bare)) - WORDS


def list_metrics() -> set[str]:
    worker = Metrics()
    worker.note_start()
    worker.note_progress(Progress(queues={"read": (0, 1)}, stages={"read": 0.5}))
    shown = worker.render(ready=True).decode()
    worker.note_end(Report(stages={"read": StageTime(1.0, 1, 0.5)}))
    shown += worker.render(ready=True).decode()
    service = ServiceMetrics()
    service.note_start()
    service.note_end("/v1/search", "POST", 200, 0.01)
    service.watch_queue("threads", lambda: 0)
    shown += service.text().decode()
    return set(re.findall(r"^(\w+)", shown, re.MULTILINE))


def test_every_query_asks_for_metrics_that_there_are() -> None:
    there = list_metrics() | OF_QDRANT
    queries = list_queries()

    assert len(queries) >= 20
    assert {query: list_names(query) - there for query in queries if list_names(query) - there} == {}


def test_labels_of_the_queries_are_those_of_the_metrics() -> None:
    labels = set()
    for query in list_queries():
        labels |= set(re.findall(r"(\w+)(?==)", query))
        labels |= {name.strip() for group in re.findall(r"by \(([^)]*)\)", query) for name in group.split(",")}
    assert labels == {"route", "status", "le", "outcome", "endpoint", "job"}
    assert {"service", "worker"} == {
        name for query in list_queries() for name in re.findall(r'job="(\w+)"', query)
    } & read_compose()["services"].keys()


def test_panels_have_places_of_their_own_and_the_source_that_is_provisioned() -> None:
    source = yaml.safe_load((GRAFANA / "datasource.yml").read_text(encoding="utf-8"))["datasources"][0]
    covered: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & covered, panel["title"]
        covered |= cells
        assert panel["type"] == "row" or panel["datasource"]["uid"] == source["uid"]
    assert max(x for x, _ in covered) == 23
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_grafana_finds_what_is_mounted() -> None:
    service = read_compose()["services"]["grafana"]
    targets = [volume.split(":")[1] for volume in service["volumes"]]
    provider = yaml.safe_load((GRAFANA / "dashboards.yml").read_text(encoding="utf-8"))["providers"][0]

    assert service["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] in targets
    assert f"{provider['options']['path']}/clip-qdrant.json" in targets
    source = yaml.safe_load((GRAFANA / "datasource.yml").read_text(encoding="utf-8"))["datasources"][0]
    assert source["url"] == "http://prometheus:9090"
