"""What is built and installed: three packages, their types, the weights, the gallery, the licence."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PACKAGES = {"clip_qdrant", "clip_qdrant_training", "clip_qdrant_ingestion"}
NAMESPACE = "haystack_integrations"  # which all integrations of Haystack share
INTEGRATION = Path("clip_qdrant", "integrations", "haystack", NAMESPACE)  # where the part of it that is ours lies


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder that the wheel was installed into, without its dependencies."""
    target = tmp_path_factory.mktemp("site")
    options = ["--no-deps", "--no-index", "--no-compile", "--target", str(target)]
    command = [sys.executable, "-m", "pip", "install", *options, str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
    return target


def tell(installed: Path, code: str) -> str:
    """What `code` prints, run on what is installed and not on the checkout."""
    start = f"import sys; sys.path.insert(0, {str(installed)!r})\n"
    done = subprocess.run(
        [sys.executable, "-c", start + code], capture_output=True, text=True, check=True, cwd=installed
    )
    return done.stdout.strip()


def find_needed(requirements: list[str]) -> set[str]:
    """The distributions that are installed when these are, by name."""
    needed: set[str] = set()
    waiting = [(text, "") for text in requirements]
    while waiting:
        text, extra = waiting.pop()
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        for wanted in {"", *requirement.extras} if name not in needed else requirement.extras:
            waiting += [(each, wanted) for each in metadata.requires(name) or ()]
        needed.add(str(name))
    return needed


@pytest.fixture(scope="module")
def core(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site-packages with the wheel and what it needs without any extra, and nothing else."""
    (info,) = installed.glob("*.dist-info")
    told = metadata.PathDistribution(info).requires or []
    site = tmp_path_factory.mktemp("core")
    for entry in installed.iterdir():
        (site / entry.name).symlink_to(entry)
    for name in find_needed(told):
        about = metadata.distribution(name)
        for part in {file.parts[0] for file in about.files or () if file.parts[0] not in ("..", "bin")}:
            if not (site / part).exists():
                (site / part).symlink_to(Path(str(about.locate_file(part))))
    return site


def run_core(core: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The program, in a Python that sees nothing but the standard library and this folder."""
    code = f"import sys; sys.path.insert(0, {str(core)!r}); from clip_qdrant.cli import main; main()"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CLIP_QDRANT", "PYTHON"))}
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**environment, "CLIP_QDRANT_CACHE_DIR": str(folder / "cache")},
    )


def test_what_is_installed_without_extras_ingests_and_searches(core: Path, tmp_path: Path) -> None:
    assert not any((core / name).exists() for name in ("torch", "transformers", "timm", "onnx", "onnxscript"))
    images = sorted((core / "clip_qdrant" / "content" / "gallery").glob("*.webp"))
    (tmp_path / "photos").mkdir()
    for image in images[::20]:
        shutil.copy(image, tmp_path / "photos")
    ingested = run_core(core, tmp_path, "ingest", "photos", "--json")
    assert ingested.returncode == 0, ingested.stderr
    assert json.loads(ingested.stdout)["added"] == len(images[::20]) > 10
    found = run_core(core, tmp_path, "search", "a bird", "--json")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["hits"]
    assert not list((tmp_path / "cache").rglob("*.pt"))  # nothing was exported


def test_without_the_extra_what_needs_torch_says_how_to_get_it(core: Path, tmp_path: Path) -> None:
    for arguments in (["train", "pairs.jsonl"], ["search", "a bird", "--model", "hf:openai/clip-vit-base-patch32"]):
        refused = run_core(core, tmp_path, *arguments)
        assert refused.returncode == 1
        assert "pip install 'clip-qdrant[torch]'" in refused.stderr


def test_the_wheel_is_for_every_platform(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")


def test_three_packages_and_our_part_of_a_namespace_land_in_site_packages_and_nothing_else(installed: Path) -> None:
    names = {path.name for path in installed.iterdir() if path.name != "bin"}

    assert {name for name in names if not name.endswith(".dist-info")} == {*PACKAGES, NAMESPACE}
    assert len(names) == len(PACKAGES) + 2


def test_the_namespace_stays_one_that_others_share(wheel: Path, installed: Path) -> None:
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if NAMESPACE in name}
    ours = {path.relative_to(ROOT / INTEGRATION.parent).as_posix() for path in (ROOT / INTEGRATION).rglob("*.py")}

    folders = {name.rpartition("/")[0] for name in ours}
    assert {folder.rpartition("/")[2] for folder in folders} == {"clip_qdrant"}  # __init__.py above would hide others
    assert shipped == ours | {f"{folder}/py.typed" for folder in folders}
    name = f"{NAMESPACE}.components.embedders.clip_qdrant"
    found = tell(installed, f"from importlib.util import find_spec; print(find_spec({name!r}).origin)")
    assert found == str(installed / NAMESPACE / "components" / "embedders" / "clip_qdrant" / "__init__.py")


def test_an_editable_install_finds_all_of_it() -> None:
    # hatchling puts on the path what a rewrite takes away from the front of each module, and refuses any other rewrite.
    found = set()
    for file in WheelBuilder(str(ROOT)).recurse_selected_project_files():
        if file.path.endswith(".py"):
            found.add(file.relative_path[: file.relative_path.index(file.distribution_path)])

    assert found == {"", "training/", "ingestion/", f"{INTEGRATION.parent.as_posix()}/"}


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_each_package_says_that_it_is_typed(installed: Path, package: str) -> None:
    assert (installed / package / "py.typed").is_file()


def test_every_module_of_the_checkout_is_in_the_wheel(wheel: Path) -> None:
    shipped = set(zipfile.ZipFile(wheel).namelist())
    for package in PACKAGES:
        folder = next(ROOT.glob(f"{package}/")) if package == "clip_qdrant" else next(ROOT.glob(f"*/{package}/"))
        paths = [path for path in folder.rglob("*.py") if not path.is_relative_to(ROOT / INTEGRATION)]
        assert {f"{package}/{path.relative_to(folder).as_posix()}" for path in paths} <= shipped


def test_weights_and_gallery_are_inside_the_package(installed: Path) -> None:
    content = installed / "clip_qdrant" / "content"

    assert (content / "best.pt").stat().st_size == (ROOT / "content" / "best.pt").stat().st_size
    rows = [json.loads(line) for line in (content / "gallery" / "metadata.jsonl").read_text("utf-8").splitlines()]
    assert rows
    assert all((content / "gallery" / row["file_name"]).is_file() for row in rows)


def test_recipes_are_inside_the_training_package_without_what_makes_the_content(installed: Path) -> None:
    shipped = {path.name for path in (installed / "clip_qdrant_training" / "recipes").iterdir()}

    assert "tutorial.toml" in shipped
    assert shipped == {path.name for path in (ROOT / "training" / "recipes").glob("*.toml")}


def test_licence_and_readme_are_in_the_metadata(installed: Path) -> None:
    (info,) = installed.glob("*.dist-info")

    assert (info / "licenses" / "LICENSE").read_text("utf-8") == (ROOT / "LICENSE").read_text("utf-8")
    metadata = (info / "METADATA").read_text("utf-8")
    assert "License-Expression: MIT" in metadata
    assert (ROOT / "README.md").read_text("utf-8").strip() in metadata


def test_the_program_is_an_entry_point(installed: Path) -> None:
    (info,) = installed.glob("*.dist-info")

    assert "clip-qdrant = clip_qdrant.cli:main" in (info / "entry_points.txt").read_text("utf-8")


def test_what_is_installed_is_imported_lightly(installed: Path) -> None:
    heavy = ("torch", "transformers", "fastapi", "langchain", "langchain_core", "qdrant_client")
    shown = tell(
        installed, f"import clip_qdrant; print(clip_qdrant.__file__, [m for m in {heavy} if m in sys.modules])"
    )

    assert shown == f"{installed / 'clip_qdrant' / '__init__.py'} []"


def test_what_is_installed_finds_its_own_weights_and_gallery(installed: Path) -> None:
    shown = tell(installed, "from clip_qdrant.content import sample_gallery; print(sample_gallery())")

    assert shown == str(installed / "clip_qdrant" / "content" / "gallery")


def test_training_and_ingestion_are_imported_from_there_too(installed: Path) -> None:
    shown = tell(installed, "import clip_qdrant_ingestion; print(clip_qdrant_ingestion.__file__)")

    assert shown == str(installed / "clip_qdrant_ingestion" / "__init__.py")
