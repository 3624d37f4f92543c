"""docker-compose.yml pins a server that goes with the installed qdrant-client."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

COMPOSE = (Path(__file__).parent.parent / "docker-compose.yml").read_text(encoding="utf-8")


def test_the_server_is_pinned_within_one_minor_version_of_the_client() -> None:
    [pinned] = re.findall(r"image: qdrant/qdrant:v(\d+)\.(\d+)\.\d+\n", COMPOSE)
    client = [int(part) for part in version("qdrant-client").split(".")[:2]]

    assert int(pinned[0]) == client[0]
    assert abs(int(pinned[1]) - client[1]) <= 1
    assert int(pinned[1]) >= 20  # the first with every condition of filters: substrings of keywords


def test_an_api_key_that_is_not_set_is_not_handed_on_as_an_empty_one() -> None:
    assert re.search(r"^\s+- QDRANT__SERVICE__API_KEY$", COMPOSE, re.MULTILINE)


def test_the_server_is_told_not_to_report_to_its_maker() -> None:
    assert re.search(r"^\s+- QDRANT__TELEMETRY_DISABLED=true$", COMPOSE, re.MULTILINE)
