"""docker-compose.yml: what can be told of it without Docker, and, where Docker Compose is, what that says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer
import yaml
from compose import BASE, CLUSTER, ROOT, read_compose
from fakes import FakeEmbedder
from qdrant_client import QdrantClient
from running_service import run_app

from clip_qdrant.cli.app import app
from clip_qdrant.cli.wiring import Options
from clip_qdrant.service.app import create_app
from clip_qdrant.service.embedding.routers import EMBEDDING_ROUTERS
from clip_qdrant.service.settings import ServeSettings
from clip_qdrant.service.state import Service
from clip_qdrant.settings import Settings
from clip_qdrant_ingestion.settings import IngestSettings
from clip_qdrant_ingestion.worker.endpoints import serve
from clip_qdrant_ingestion.worker.health import Health

KEYS = {
    "QDRANT__SERVICE__API_KEY": "a key of Qdrant",
    "CLIP_QDRANT_SERVICE_KEY": "a key of the service that may do everything",
    "CLIP_QDRANT_SERVICE_READ_KEY": "a key of the service that reads",
}
TEXT = BASE.read_text(encoding="utf-8")
MODEL = read_compose()
SERVICES = MODEL["services"]
CLUSTERED = read_compose(BASE, CLUSTER, environment=KEYS)
KINDS: dict[str, type[Settings]] = {"worker": IngestSettings, "service": ServeSettings}
# Of the elements that the specification has (https://github.com/compose-spec/compose-spec), those that are used here.
TOP = {"name", "services", "volumes"}
ELEMENTS = {
    *(
        "image",
        "build",
        "entrypoint",
        "command",
        "profiles",
        "restart",
        "init",
        "read_only",
        "tmpfs",
        "cap_drop",
        "security_opt",
    ),
    *("ports", "environment", "volumes", "healthcheck", "depends_on", "stop_grace_period"),
}


def all_models() -> list[Any]:
    return [pytest.param(MODEL, id="one node"), pytest.param(CLUSTERED, id="three nodes")]


@pytest.mark.parametrize("model", all_models())
def test_it_holds_what_the_specification_has_and_names_only_what_is_there(model: dict[str, Any]) -> None:
    assert {name for name in model if not name.startswith("x-")} <= TOP
    for service in model["services"].values():
        assert service.keys() <= ELEMENTS
        assert set(service.get("depends_on", ())) <= model["services"].keys()
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in model["volumes"] or source.startswith("./")
            assert not source.startswith("./deploy") or (ROOT / source).is_file()
    used = {volume.split(":")[0] for one in model["services"].values() for volume in one.get("volumes", ())}
    assert set(model["volumes"]) <= used


@pytest.mark.parametrize("model", all_models())
def test_no_container_may_more_than_it_needs(model: dict[str, Any]) -> None:
    for service in model["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["tmpfs"] == ["/tmp"]


@pytest.mark.parametrize("model", all_models())
def test_every_image_is_built_here_or_pinned(model: dict[str, Any]) -> None:
    for service in model["services"].values():
        assert "build" in service or re.fullmatch(r"[\w/.-]+:v?\d+\.\d+\.\d+[\w-]*", service["image"])
    assert (ROOT / SERVICES["service"]["build"]["dockerfile"]).is_file()
    assert SERVICES["service"]["build"] == SERVICES["worker"]["build"]


def test_what_is_published_is_published_to_this_computer_alone_unless_somebody_says_otherwise() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]

    assert len(ports) == 5
    assert all(port.startswith("127.0.0.1:") for port in ports)
    opened = read_compose(environment={"SERVICE_BIND": "0.0.0.0"})["services"]
    assert opened["service"]["ports"] == ["0.0.0.0:8080:8080"]


def test_qdrant_and_the_service_are_started_and_the_others_where_their_profile_is_asked_for() -> None:
    assert {name: service.get("profiles") for name, service in SERVICES.items()} == {
        "qdrant": None,
        "service": None,
        "worker": ["worker"],
        "prometheus": ["monitoring"],
        "grafana": ["monitoring"],
    }
    assert "depends_on" not in SERVICES["qdrant"]  # it is started alone by the tests, and by who wants no more


def test_the_server_is_pinned_within_one_minor_version_of_the_client() -> None:
    for service in CLUSTERED["services"].values():
        if service["image"].startswith("qdrant/"):
            pinned = re.fullmatch(r"qdrant/qdrant:v(\d+)\.(\d+)\.\d+-unprivileged", service["image"])
            assert pinned is not None
            client = [int(part) for part in version("qdrant-client").split(".")[:2]]
            assert int(pinned[1]) == client[0]
            assert abs(int(pinned[2]) - client[1]) <= 1
            assert int(pinned[2]) >= 20  # the first with every condition of filters: substrings of keywords


@pytest.mark.parametrize("name", ["qdrant", "qdrant-2", "qdrant-3"])
def test_a_qdrant_reports_to_nobody_and_writes_only_where_it_may(name: str) -> None:
    service = CLUSTERED["services"][name]

    assert service["environment"]["QDRANT__TELEMETRY_DISABLED"] == "true"
    assert service["environment"]["QDRANT_INIT_FILE_PATH"].startswith("/tmp/")
    assert sorted(volume.split(":")[1] for volume in service["volumes"]) == ["/qdrant/snapshots", "/qdrant/storage"]


def test_a_key_that_is_not_set_is_not_handed_to_qdrant_as_an_empty_one() -> None:
    assert "QDRANT__SERVICE__API_KEY" not in SERVICES["qdrant"]["environment"]
    for name in ("qdrant", "qdrant-2", "qdrant-3"):
        assert CLUSTERED["services"][name]["environment"]["QDRANT__SERVICE__API_KEY"] == "a key of Qdrant"


@pytest.mark.parametrize("name", ["service", "worker"])
def test_its_variables_are_settings_that_there_are(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [*os.environ]:
        if variable.startswith("CLIP_QDRANT_"):
            monkeypatch.delenv(variable)
    for variable, value in CLUSTERED["services"][name]["environment"].items():
        if variable.startswith("CLIP_QDRANT_"):
            monkeypatch.setenv(variable, value)
            assert variable.removeprefix("CLIP_QDRANT_").lower() in KINDS[name].model_fields
    settings = KINDS[name].load(dotenv=None)

    assert settings.location == "http://qdrant:6333"
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == "a key of Qdrant"
    assert (settings.shard_number, settings.replication_factor) == (6, 2)


@pytest.mark.parametrize("name", ["service", "worker"])
def test_its_commands_parse(name: str) -> None:
    program: Any = typer.main.get_command(app)
    command, *arguments = SERVICES[name]["command"]

    assert program.get_command(None, command).make_context(command, arguments, obj=Options())


def test_the_nodes_of_a_cluster_find_each_other() -> None:
    services = CLUSTERED["services"]

    for name in ("qdrant", "qdrant-2", "qdrant-3"):
        command = services[name]["command"]
        assert services[name]["environment"]["QDRANT__CLUSTER__ENABLED"] == "true"
        assert urlsplit(command[command.index("--uri") + 1]).hostname == name
        assert ("--bootstrap" in command) == (name != "qdrant")
        if "--bootstrap" in command:
            assert command[command.index("--bootstrap") + 1] == services["qdrant"]["command"][-1]
            assert "ports" not in services[name]


def test_qdrant_has_texts_and_images_embedded_by_the_service_with_a_key_that_reads() -> None:
    paths = {route.path for router in EMBEDDING_ROUTERS for route in router.routes}
    port = ServeSettings.model_fields["port"].default

    for name in ("qdrant", "qdrant-2", "qdrant-3"):
        environment = CLUSTERED["services"][name]["environment"]
        address = urlsplit(environment["QDRANT__INFERENCE__ADDRESS"])
        assert (address.scheme, address.hostname, address.port) == ("http", "service", port)
        assert address.path in paths
        assert environment["QDRANT__INFERENCE__TOKEN"] == "a key of the service that reads"


def run_check(service: str, port: int) -> int:
    """The exit code of the health check of a service, which asks at a port of this computer."""
    _, python, *arguments = SERVICES[service]["healthcheck"]["test"]
    assert python == "python"
    command = [sys.executable, *(argument.replace("8080", str(port)) for argument in arguments)]
    environment = {**os.environ, "http_proxy": "http://127.0.0.1:9"}  # a proxy must not matter
    return subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False).returncode


def test_the_health_check_of_the_worker_tells_a_live_one_from_a_hung_one_and_from_none() -> None:
    now = 0.0
    with serve(Health(stall=60, clock=lambda: now)) as url:
        port = urlsplit(url).port
        assert port is not None
        assert run_check("worker", port) == 0
        now = 100.0
        assert run_check("worker", port) == 1
    assert run_check("worker", port) == 1


def test_the_health_check_of_the_service_tells_whether_it_is_ready() -> None:
    client = QdrantClient(":memory:")
    service = Service(client, FakeEmbedder())
    with run_app(create_app(service)) as url:
        port = urlsplit(url).port
        assert port is not None
        service.warm_up()
        assert run_check("service", port) == 0
        service.drain()
        assert run_check("service", port) == 1
    client.close()
    assert run_check("service", port) == 1


def test_prometheus_asks_services_that_there_are_with_their_keys(tmp_path: Path) -> None:
    config = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text(encoding="utf-8"))
    service = read_compose(environment=KEYS)["services"]["prometheus"]
    [command] = service["command"]
    written = command.replace("/tmp/", f"{tmp_path}/").partition("&& exec")[0]
    subprocess.run([*service["entrypoint"], written], env={**os.environ, **service["environment"]}, check=True)

    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    targets = {name: job["static_configs"][0]["targets"] for name, job in jobs.items()}
    assert targets == {"service": ["service:8080"], "worker": ["worker:8080"], "qdrant": ["qdrant:6333"]}
    for name, key in (("service", "a key of the service that reads"), ("qdrant", "a key of Qdrant")):
        file = jobs[name]["authorization"]["credentials_file"]
        assert (tmp_path / file.removeprefix("/tmp/")).read_text() == key


@pytest.mark.parametrize("files", [[BASE], [BASE, CLUSTER]], ids=["one node", "three nodes"])
def test_docker_compose_takes_it(files: list[Any]) -> None:
    asked = ["docker", "compose", "version"]
    try:
        answer = subprocess.run(asked, capture_output=True, timeout=20, check=False).returncode
    except (OSError, subprocess.TimeoutExpired):
        answer = 1
    if answer:
        pytest.skip("`docker compose version` fails, so its own check of docker-compose.yml is left out")
    command = ["docker", "compose", *(part for file in files for part in ("-f", str(file))), "config", "--quiet"]
    profiles = {**os.environ, "COMPOSE_PROFILES": "worker,monitoring"}

    done = subprocess.run(command, env=profiles, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stderr) == (0, "")
