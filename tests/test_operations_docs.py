"""docs/operations.md says what is there: settings, options, metrics, paths, exit codes; and its files parse."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from clip_qdrant.cli import failures
from clip_qdrant.cli.app import app
from clip_qdrant.cli.wiring import Options
from clip_qdrant_ingestion.run.report import Progress, Report, StageTime
from clip_qdrant_ingestion.settings import IngestSettings
from clip_qdrant_ingestion.worker import endpoints
from clip_qdrant_ingestion.worker.metrics import Metrics

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
MANIFESTS = [yaml.safe_load(body) for kind, body in BLOCKS if kind == "yaml"]


def ours(node: Any) -> Iterator[list[str]]:
    """The arguments of every container of the worker in a manifest."""
    if isinstance(node, dict):
        given = node.get("args") or node.get("command")
        if given is not None:
            yield [str(one).replace("$(JOB_COMPLETION_INDEX)", "0") for one in given]
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else []:
        yield from ours(inner)


def command_lines() -> Iterator[list[str]]:
    for document in MANIFESTS:
        yield from ours(document)
    flat = TEXT.replace("\\\n", " ")
    for line in re.findall(r"clip-qdrant ingest (/.+|s3:.+)$", flat, re.MULTILINE):
        yield ["ingest", *shlex.split(line.replace("$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT", "0/8"))]


@pytest.mark.parametrize("arguments", list(command_lines()), ids=" ".join)
def test_every_command_line_parses(arguments: list[str]) -> None:
    program: Any = typer.main.get_command(app)

    name, *options = arguments

    program.get_command(None, name).make_context(name, options, obj=Options())


def test_there_are_command_lines_to_parse() -> None:
    assert len(list(command_lines())) >= 9


def test_every_variable_is_a_setting() -> None:
    names = {name.lower() for name in re.findall(r"\bCLIP_QDRANT_([A-Z_]+)\b", TEXT)}

    assert names - set(IngestSettings.model_fields) == set()


def test_every_metric_is_described_and_no_other() -> None:
    metrics = Metrics()
    metrics.note_start()
    metrics.note_progress(Progress(queues={"read": (0, 1)}, stages={"read": 0.5}))
    shown = metrics.render(ready=True).decode()
    metrics.note_end(Report(stages={"read": StageTime(1.0, 1, 0.5)}))
    shown += metrics.render(ready=True).decode()
    there = set(re.findall(r"^clip_qdrant_ingestion_(\w+)", shown, re.MULTILINE))

    described = re.findall(r"^\| `(\w+)(?:\{\w+\})?` \| (?:counter|gauge)", TEXT, re.MULTILINE)
    assert set(described) == {name for name in there if not name.endswith("_created")}
    used = re.findall(r"\bclip_qdrant_ingestion_(\w*[a-z])", "".join(body for kind, body in BLOCKS if kind == "yaml"))
    assert set(used) <= set(described)


def test_every_path_is_described() -> None:
    assert endpoints.__doc__ is not None
    paths = re.findall(r"(?:GET|POST) /\w+", endpoints.__doc__)

    assert re.findall(r"^\| `((?:GET|POST) /\w+)`", TEXT, re.MULTILINE) == paths


def test_every_exit_code_of_ingestion_is_described() -> None:
    described = {int(code) for code in re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)}

    codes = {code for _, code in failures.EXIT_CODES} | {failures.QUARANTINED, failures.INTERRUPTED}
    assert described == {0, *codes, failures.REFUSED, failures.TERMINATED}


def test_the_ini_and_shell_blocks_parse() -> None:
    bash = shutil.which("bash")
    for kind, body in BLOCKS:
        if kind == "ini":
            unit = configparser.ConfigParser(strict=False, interpolation=None)
            unit.read_string(body)
            assert set(unit.sections()) == {"Unit", "Service", "Install"}
        elif kind == "sh" and bash is not None:
            subprocess.run([bash, "-n"], input=body, text=True, check=True, capture_output=True)


def test_links_lead_to_files() -> None:
    targets = [one for one in re.findall(r"\]\(([^)#]+)\)", TEXT) if not one.startswith("http")]

    assert [one for one in targets if not (ROOT / "docs" / one).exists()] == []
