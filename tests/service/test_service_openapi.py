"""The OpenAPI document describes the service: random requests made from it find no bug, and answers are as it says."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from fakes import FakeEmbedder
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks
from served_photos import NAME, add_photos

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import SourceError
from clip_qdrant.images.load import Limits
from clip_qdrant.service.app import create_app
from clip_qdrant.service.ingest.rules import IngestRules
from clip_qdrant.service.options import ServiceOptions
from clip_qdrant.service.state import Service
from clip_qdrant.store.connect import connect
from clip_qdrant.web.fetch import Fetcher

CASES = int(os.environ.get("CLIP_QDRANT_TEST_CASES", "2"))  # of each operation
COVERAGE = "CLIP_QDRANT_TEST_CASES" in os.environ  # every limit of the schemas, too
# Examples have a test of their own.
SETTINGS = {
    "generation": {"mode": "all"},
    "phases": {"coverage": {"enabled": COVERAGE}, "examples": {"enabled": False}},
}
# What a filter or the name of a field means, a schema cannot say: such a request may well be refused.
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.missing_required_header,
    checks.unsupported_method,
    checks.allow_header_conformance,
]


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> ServiceOptions:
    places = (str(tmp_path_factory.mktemp("place")),)
    return ServiceOptions(collection=NAME, ingest=IngestRules(places=places))


class NoWeb(Fetcher):
    """Asks nobody: what the addresses of a random request mean nobody knows."""

    def fetch(self, url: str, *, limits: Limits) -> bytes:
        raise SourceError(f"cannot fetch {url}: there is no web here")


@pytest.fixture(scope="module")
def photos(service: Service) -> ImageCollection:
    service.fetcher = NoWeb()
    return add_photos(service.client, service.embedder)


@pytest.fixture(scope="module")
def document(url: str) -> dict[str, Any]:
    document: dict[str, Any] = httpx.get(f"{url}/openapi.json", timeout=60).json()
    return document


def load_api() -> Any:
    """The service as schemathesis knows it. It wants to know the paths before there is a fixture."""
    with contextlib.closing(connect(":memory:")) as client:
        document = create_app(Service(client, FakeEmbedder())).openapi()
    config = schemathesis.Config.from_dict(SETTINGS)
    return schemathesis.openapi.from_dict(document, config=config)


api = load_api()


@api.parametrize()
@settings(
    max_examples=CASES, derandomize=not COVERAGE, deadline=None, suppress_health_check=list(HealthCheck), database=None
)
def test_random_requests_find_no_bug_and_get_answers_as_described(
    case: schemathesis.Case, url: str, photos: ImageCollection
) -> None:
    # Requests that others have described are read as their own services do, which take 0 for false.
    lenient = [checks.negative_data_rejection] if "embeddings" in case.operation.tags else []
    case.call_and_validate(base_url=url, checks=CHECKS, excluded_checks=lenient, timeout=30)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        told = f"{method} {path}"
        assert operation.get("summary"), told
        assert operation.get("description"), told
        assert operation.get("tags"), told
        assert {"4XX", "5XX"} <= operation["responses"].keys(), told


def test_every_example_is_understood(http: httpx.Client, document: dict[str, Any], photos: ImageCollection) -> None:
    """That the images are not there, or no address of the examples answers, is no fault of the example."""
    for path, method, operation in operations(document):
        content = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if content is None:
            continue
        if "examples" not in content:  # then each of its members has
            [name] = re.findall(r"#/components/schemas/(\w+)", json.dumps(content))
            members = document["components"]["schemas"][name]["properties"]
            assert all("examples" in member for member in members.values()), f"{method} {path} has no example"
            continue
        for name, example in content["examples"].items():
            answer = http.request(method, path, json=example["value"])
            told = answer.json()
            assert answer.status_code in (200, 202, 400, 403, 404, 422), (path, name, told)
            if answer.status_code in (400, 422):
                known = ("no stored image", "not stored are", "no web here")
                assert any(words in told["detail"] for words in known), (path, name, told)
