"""How the program starts: what each command imports, and that it finds its model's export again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from exports import exported_checkpoint, make_export
from tiny import pictures

from clip_qdrant.model.saving import save_checkpoint

pytestmark = pytest.mark.slow  # each test starts the program, and the first may export a model

# What must not be imported, by whom: the first takes 3 s, the others come with it or are only needed to export.
HEAVY = ("torch", "torchvision", "transformers", "timm", "onnx", "onnxscript")
RUN = """
import contextlib, io, json, sys
from clip_qdrant.cli import run
outcomes = []
for arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        outcomes.append((run(arguments), out.getvalue()))
print(json.dumps([outcomes, sorted(sys.modules)]), file=sys.stderr)
"""


def start(folder: Path, *commands: list[str]) -> tuple[list[str], set[str]]:
    """Runs commands one after the other in a process of its own: what each printed, and the modules they imported."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLIP_QDRANT_")}
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(commands)],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env={**environment, "CLIP_QDRANT_RUNTIME": "onnx"},
    )
    outcomes, modules = json.loads(done.stderr.splitlines()[-1])
    assert [code for code, _ in outcomes] == [0] * len(commands), done.stderr
    return [out for _, out in outcomes], set(modules)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a model, images, and both ingested: the cache is warm."""
    folder = tmp_path_factory.mktemp("warm")
    save_checkpoint(exported_checkpoint(), folder / "tiny.pt")
    make_export(folder / "tiny.pt")
    (folder / "photos").mkdir()
    for number, picture in enumerate(pictures(4)):
        picture.save(folder / "photos" / f"{number}.png")
    start(folder, ["ingest", "photos", "--model", "tiny.pt"])
    return folder


@pytest.mark.parametrize(
    "commands",
    [
        [
            ["search", "a red square", "--where", "image.width >= 1"],
            ["search", "--image", "photos/0.png", "--html", "page.html"],
            ["facet", "image.format"],
        ],
        [["info"], ["ingest", "photos"]],
    ],
    ids=["search", "ingest"],
)
def test_with_a_warm_cache_nothing_imports_torch(folder: Path, commands: list[list[str]]) -> None:
    outputs, modules = start(folder, *([*arguments, "--model", "tiny.pt", "--json"] for arguments in commands))

    assert modules.isdisjoint(HEAVY)
    assert "clip_qdrant_training" not in modules
    assert ("clip_qdrant_ingestion" in modules) == (["ingest", "photos"] in commands)
    assert all(isinstance(json.loads(out), dict) for out in outputs)


def test_help_and_version_import_neither_qdrant_nor_onnxruntime(folder: Path) -> None:
    _, modules = start(folder, ["--version"], ["--help"], ["search", "--help"])

    assert modules.isdisjoint((*HEAVY, "qdrant_client", "onnxruntime", "numpy"))


def test_the_program_leaves_other_libraries_as_they_are(folder: Path) -> None:
    before = "import gc; from pydantic import BaseModel; rebuild = BaseModel.__dict__['model_rebuild']; "
    after = "; print(BaseModel.__dict__['model_rebuild'] is rebuild, gc.isenabled(), gc.get_freeze_count())"
    run = "from clip_qdrant.cli import run; run(['search', 'a red square', '--model', 'tiny.pt'])"
    environment = {**os.environ, "CLIP_QDRANT_RUNTIME": "onnx"}

    done = subprocess.run(
        [sys.executable, "-c", before + run + after],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env=environment,
    )

    assert done.stdout.splitlines()[-1] == "True True 0"
