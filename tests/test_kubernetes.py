"""deploy/kubernetes: manifests that hang together, containers that may do little, and commands that parse."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import typer
import yaml
from compose import ROOT, read_compose

from clip_qdrant.cli.app import app
from clip_qdrant.cli.wiring import Options
from clip_qdrant.service.settings import ServeSettings

FOLDER = ROOT / "deploy" / "kubernetes"
LIST = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))
MANIFESTS = [
    manifest for name in LIST["resources"] for manifest in yaml.safe_load_all((FOLDER / name).read_text("utf-8"))
]
DOCS = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")


def pods() -> Iterator[dict[str, Any]]:
    for manifest in MANIFESTS:
        if "template" in manifest["spec"]:
            yield manifest["spec"]["template"]["spec"]


def containers() -> list[dict[str, Any]]:
    return [container for pod in pods() for container in pod["containers"]]


def test_no_variable_for_a_service_of_the_cluster_is_taken_for_a_setting() -> None:
    name = next(each["metadata"]["name"] for each in MANIFESTS if each["kind"] == "Service" and "clip" in str(each))
    assert f"{name}_port".replace("-", "_").upper() == "CLIP_QDRANT_PORT"  # what Kubernetes sets, and serve reads
    assert [pod.get("enableServiceLinks") for pod in pods()] == [False, False, False]


def test_every_file_is_listed() -> None:
    assert {path.name for path in FOLDER.glob("*.yaml")} == {"kustomization.yaml", *LIST["resources"]}


def test_services_select_pods_and_ports_that_there_are() -> None:
    labels = {
        manifest["spec"]["template"]["metadata"]["labels"]["app"]: manifest["spec"]["template"]["spec"]
        for manifest in MANIFESTS
        if "template" in manifest["spec"]
    }
    for manifest in MANIFESTS:
        if manifest["kind"] == "Service":
            pod = labels[manifest["spec"]["selector"]["app"]]
            there = {port["name"]: port["containerPort"] for one in pod["containers"] for port in one["ports"]}
            for port in manifest["spec"]["ports"]:
                assert port.get("targetPort", port["name"]) in there or port["port"] in there.values()
    for manifest in MANIFESTS:
        if "template" in manifest["spec"]:
            assert manifest["spec"]["selector"]["matchLabels"].items() <= (
                manifest["spec"]["template"]["metadata"]["labels"].items()
            )


def test_addresses_lead_to_services_that_there_are() -> None:
    services = {one["metadata"]["name"]: one["spec"]["ports"] for one in MANIFESTS if one["kind"] == "Service"}
    addresses = [
        found
        for container in containers()
        for variable in container["env"]
        for found in re.findall(r"http://([\w-]+):(\d+)", str(variable.get("value")))
    ]

    assert len(addresses) == 3
    assert all(int(port) in [one["port"] for one in services[name]] for name, port in addresses)


def test_no_pod_may_more_than_it_needs() -> None:
    assert len(list(pods())) == 3
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted <= {volume["name"] for volume in pod["volumes"]} | {"storage"}
            assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_secrets_are_those_that_the_docs_make() -> None:
    made = {
        name: set(re.findall(r"--from-literal=([\w-]+)", rest))
        for name, rest in re.findall(r"kubectl create secret generic ([\w-]+) ((?:.*\\\n)*.*)", DOCS)
    }
    asked: dict[str, set[str]] = {}
    for container in containers():
        for variable in container["env"]:
            if "valueFrom" in variable:
                reference = variable["valueFrom"]["secretKeyRef"]
                asked.setdefault(reference["name"], set()).add(reference["key"])
        for group in container.get("envFrom", ()):
            asked.setdefault(group["secretRef"]["name"], made[group["secretRef"]["name"]])

    assert asked == made


def test_the_qdrant_is_that_of_docker_compose() -> None:
    [image] = [container["image"] for container in containers() if container["name"] == "qdrant"]

    assert image == read_compose()["services"]["qdrant"]["image"]


@pytest.mark.parametrize("container", [one for one in containers() if "args" in one], ids=lambda one: one["name"])
def test_commands_parse_and_variables_are_settings(container: dict[str, Any]) -> None:
    program: Any = typer.main.get_command(app)
    command, *arguments = container["args"]

    assert program.get_command(None, command).make_context(command, arguments, obj=Options())
    names = {variable["name"] for variable in container["env"]}
    assert {name.removeprefix("CLIP_QDRANT_").lower() for name in names} <= set(ServeSettings.model_fields)


def test_kustomize_puts_them_together() -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("there is no kubectl, so the manifests are not put together by kustomize")

    done = subprocess.run([kubectl, "kustomize", str(FOLDER)], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    built = list(yaml.safe_load_all(done.stdout))
    assert len(built) == len(MANIFESTS)
    assert done.stdout.count("registry.example/clip-qdrant:0.1.0") == 2
