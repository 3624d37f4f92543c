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
RUN = "import json, sys; from clip_qdrant.cli import run; code = run(sys.argv[1:]); sys.stdout.flush()\n"
TELL = "print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)"


def start(folder: Path, *arguments: str) -> tuple[int, set[str], str]:
    """Runs the program in a process of its own: exit code, the modules it imported, stdout."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLIP_QDRANT_")}
    done = subprocess.run(
        [sys.executable, "-c", RUN + TELL, *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env={**environment, "CLIP_QDRANT_RUNTIME": "onnx"},
    )
    code, modules = json.loads(done.stderr.splitlines()[-1])
    return code, set(modules), done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a model, images, and both ingested: the cache is warm."""
    folder = tmp_path_factory.mktemp("warm")
    save_checkpoint(exported_checkpoint(), folder / "tiny.pt")
    make_export(folder / "tiny.pt")
    (folder / "photos").mkdir()
    for number, picture in enumerate(pictures(4)):
        picture.save(folder / "photos" / f"{number}.png")
    code, _, _ = start(folder, "ingest", "photos", "--model", "tiny.pt")
    assert code == 0
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ["search", "a red square", "--where", "image.width >= 1"],
        ["search", "--image", "photos/0.png", "--html", "page.html"],
        ["facet", "image.format"],
        ["info"],
        ["ingest", "photos"],
    ],
)
def test_with_a_warm_cache_nothing_imports_torch(folder: Path, arguments: list[str]) -> None:
    code, modules, out = start(folder, *arguments, "--model", "tiny.pt", "--json")

    assert code == 0
    assert modules.isdisjoint(HEAVY)
    assert "clip_qdrant_training" not in modules
    assert arguments[0] in ("ingest", "info") or "clip_qdrant_ingestion" not in modules
    assert isinstance(json.loads(out), dict)


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["search", "--help"]])
def test_help_and_version_import_neither_qdrant_nor_onnxruntime(folder: Path, arguments: list[str]) -> None:
    code, modules, _ = start(folder, *arguments)

    assert code == 0
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
