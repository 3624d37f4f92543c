"""The image of the program: what can be told without building it, and, where Docker runs, that it builds and runs."""

from __future__ import annotations

import ast
import fnmatch
import inspect
import json
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from clip_qdrant import ClipEmbedder
from clip_qdrant.cli.app import COMMANDS
from clip_qdrant.service.settings import ServeSettings
from clip_qdrant_ingestion.settings import IngestSettings

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """Name and arguments of each, comments left out and continued lines joined."""
    lines = [line for line in DOCKERFILE.read_text("utf-8").splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in joined.splitlines() if line.strip()]


INSTRUCTIONS = instructions()
LAST_STAGE = INSTRUCTIONS[max(at for at, (name, _) in enumerate(INSTRUCTIONS) if name == "FROM") :]
COPIED = [
    source for name, rest in INSTRUCTIONS if name == "COPY" and "--from" not in rest for source in rest.split()[:-1]
]


def last(name: str) -> str:
    return [rest for kind, rest in LAST_STAGE if kind == name][-1]


def test_every_base_image_is_pinned_to_a_version() -> None:
    bases = [rest.split()[0] for name, rest in INSTRUCTIONS if name == "FROM"]

    assert bases == ["python:3.12-slim"] * 2


def test_everything_copied_is_there_and_reaches_the_build() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line and line[0] != "#"]

    assert rules[0] == "*"
    assert {rule.removeprefix("!") for rule in rules if rule.startswith("!")} == set(COPIED)
    assert all((ROOT / source).exists() for source in COPIED)


def test_secrets_and_caches_stay_out_of_the_build() -> None:
    for name in (".env", ".git", ".venv", "qdrant-data", "demo-data", "runs"):
        assert not any(fnmatch.fnmatch(name, source) for source in COPIED)


@pytest.mark.slow
def test_what_is_copied_is_enough_to_build_the_package(tmp_path: Path) -> None:
    for source in COPIED:
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, tmp_path / source, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, tmp_path / source)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")

    assert {"clip_qdrant/content/best.pt", "clip_qdrant_ingestion/worker/health.py"} <= set(
        zipfile.ZipFile(wheel).namelist()
    )


def test_it_installs_extras_that_there_are() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text("utf-8")
    text = DOCKERFILE.read_text("utf-8")
    given = re.findall(r"EXTRAS=([a-z0-9,]+)", text)  # by default, and as the comment says

    assert '".[${EXTRAS}]"' in text
    assert len(given) == 2
    assert all(re.search(rf"^{extra} = \[", pyproject, re.MULTILINE) for extras in given for extra in extras.split(","))


def test_the_program_is_started_without_a_shell_and_serves_where_it_is_told_nothing_else() -> None:
    scripts = {
        script.name for script in entry_points(group="console_scripts") if script.value == "clip_qdrant.cli:main"
    }

    assert set(json.loads(last("ENTRYPOINT"))) == scripts
    assert json.loads(last("CMD")) == ["serve"]
    assert "serve" in COMMANDS
    assert not any(name == "STOPSIGNAL" for name, _ in LAST_STAGE)


def test_the_program_is_not_root_and_no_later_step_is() -> None:
    users = [rest for name, rest in LAST_STAGE if name == "USER"]

    assert users == ["10001:10001"]
    names = [name for name, _ in LAST_STAGE]
    assert "RUN" not in names[names.index("USER") :]


def test_its_environment_are_settings_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    given = dict(pair.split("=", 1) for pair in last("ENV").split())
    for name, value in given.items():
        if name.startswith("CLIP_QDRANT_"):
            monkeypatch.setenv(name, value)
    ours = {name.removeprefix("CLIP_QDRANT_").lower(): value for name, value in given.items() if "QDRANT" in name}
    found = {
        name: str(getattr(settings, name))
        for settings in (kind.load(dotenv=None, also_known=lambda: ours) for kind in (IngestSettings, ServeSettings))
        for name in ours
        if hasattr(settings, name)
    }

    assert found == ours


def test_its_libraries_are_told_not_to_report_to_their_makers() -> None:
    given = dict(pair.split("=", 1) for pair in last("ENV").split())

    assert {name: given[name] for name in ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY")} == {
        "ORT_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


def test_the_model_is_checked_by_a_call_that_there_is_into_the_folder_that_is_used() -> None:
    (code,) = [re.findall(r'-c "(.+)"', rest)[0] for name, rest in INSTRUCTIONS if name == "RUN" and '-c "' in rest]
    call: Any = ast.parse(code).body[-1]
    arguments = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.value.keywords}

    inspect.signature(ClipEmbedder.load).bind(**arguments)
    assert f"CLIP_QDRANT_CACHE_DIR={arguments['cache_dir']} " in last("ENV")


@pytest.mark.slow
def test_the_image_builds_and_runs() -> None:
    try:
        there = subprocess.run(["docker", "info"], capture_output=True, timeout=20, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        there = False
    if not there:
        pytest.skip("`docker info` fails, so the image is not built")
    tag = "clip-qdrant:test"
    subprocess.run(["docker", "build", "-f", str(DOCKERFILE), "-t", tag, str(ROOT)], check=True, capture_output=True)

    shown = subprocess.run(
        ["docker", "run", "--rm", tag, "ingest", "--help"], check=True, capture_output=True, text=True
    )
    assert "SOURCE" in shown.stdout
    user = subprocess.run(
        ["docker", "run", "--rm", "--entrypoint", "id", tag, "-u"], check=True, capture_output=True, text=True
    )
    assert user.stdout.strip() == "10001"
    size = subprocess.run(
        ["docker", "image", "inspect", "--format", "{{.Size}}", tag], check=True, capture_output=True, text=True
    )
    assert int(size.stdout) < 1_000_000_000
