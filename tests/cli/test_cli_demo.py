"""`clip-qdrant demo`: the sample gallery is complete, ingested once, searched, and shown in a page of its own."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import FakeEmbedder
from forks import PROGRAM, run_fork
from program import Outcome, Program, program_in

from clip_qdrant.content import sample_gallery
from clip_qdrant.images.load import load_image

GALLERY = sample_gallery()


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    with program_in(tmp_path, monkeypatch) as program:
        yield program


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A working folder in which the demo ran, and what it printed."""
    folder = tmp_path_factory.mktemp("shown")
    with pytest.MonkeyPatch.context() as patch, program_in(folder, patch) as program:
        return folder, program("demo")


def gallery_rows() -> list[dict[str, object]]:
    return [json.loads(line) for line in (GALLERY / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_gallery_describes_each_of_its_images_and_no_other() -> None:
    rows = gallery_rows()

    described = [str(row["file_name"]) for row in rows]
    assert sorted(described) == sorted(path.name for path in GALLERY.glob("*.webp"))
    assert len(set(described)) == len(described) >= 250
    assert all(row["caption"] and row["category"] for row in rows)
    assert sum(path.stat().st_size for path in GALLERY.iterdir()) < 4_000_000


def test_every_image_of_the_gallery_can_be_read_and_is_no_blank() -> None:
    for path in GALLERY.glob("*.webp"):
        loaded = load_image(path)
        assert max(loaded.info.width, loaded.info.height) <= 256
        assert any(low != high for low, high in loaded.rgb.getextrema()), path.name


def test_it_ingests_the_gallery_and_shows_results_with_and_without_filters(shown: tuple[Path, Outcome]) -> None:
    _, outcome = shown

    assert outcome.code == 0, outcome.err
    size = len(gallery_rows())
    assert outcome.out.startswith(f"{size} images: {size} added")
    assert '"a bird"' in outcome.out
    assert "where category = 'food'" in outcome.out
    assert "images by category" in outcome.out


def test_a_second_run_finds_it_all_there(program: Program, shown: tuple[Path, Outcome]) -> None:
    folder, first = shown
    os.chdir(folder)
    second = program("demo")

    size = len(gallery_rows())
    assert second.code == 0
    assert second.out.splitlines()[0].endswith(f"{size} were there already")
    assert second.out.splitlines()[1:] == first.out.splitlines()[1:]


def test_the_page_is_one_file_that_loads_nothing(program: Program) -> None:
    outcome = program("demo", "--folder", "here")

    path = Path(re.search(r"the same with pictures: (.+)", outcome.out)[1])
    page = path.read_text(encoding="utf-8")
    assert path == program.folder / "here" / "demo.html"
    assert page.count("<h2>") == 6
    assert page.count("data:image/jpeg;base64,") == 6 * 5
    assert not re.search(r"""(src|href)=["']?https?:""", page)


def test_the_command_it_proposes_works(program: Program, shown: tuple[Path, Outcome]) -> None:
    folder, outcome = shown
    os.chdir(folder)

    line = next(line for line in outcome.out.splitlines() if line.startswith("  clip-qdrant search"))
    proposed = program(*shlex.split(line)[1:], "--json")

    assert proposed.code == 0
    assert len(proposed.json["hits"]) == 10


@pytest.mark.parametrize("option", ["--location", "--model", "--api-key"])
@pytest.mark.parametrize("before", [True, False])
def test_it_refuses_another_store_or_model(program: Program, option: str, before: bool) -> None:
    given = [option, "x"]

    outcome = program(*(given if before else []), "demo", *([] if before else given))

    assert outcome.code == 2
    assert outcome.err.startswith(f"error: the demo takes no {option}: it ")
    assert list(program.folder.iterdir()) == []


def test_it_has_no_other_collection(program: Program) -> None:
    outcome = program("demo", "--collection", "x")

    assert outcome.code == 2
    assert "No such option: --collection" in outcome.err


def test_settings_of_other_commands_do_not_lead_it_elsewhere(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOCATION", "MODEL", "COLLECTION"):
        monkeypatch.setenv(f"CLIP_QDRANT_{name}", "elsewhere")

    outcome = program("demo")

    assert outcome.code == 0, outcome.err
    assert not (program.folder / "elsewhere").exists()
    found = program("search", "red", "--location", "demo-data/qdrant", "--collection", "gallery", "--json")
    assert len(found.json["hits"]) == 10


@pytest.mark.slow
def test_after_the_weights_changed_it_starts_afresh(program: Program, shown: tuple[Path, Outcome]) -> None:
    shutil.copytree(shown[0] / "demo-data", program.folder / "demo-data")
    program.embedder = FakeEmbedder(dim=24, name="newer")

    outcome = program("demo")

    size = len(gallery_rows())
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith(f"{size} images: {size} added")


@pytest.mark.slow
def test_images_of_an_earlier_gallery_are_gone(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = program.folder / "content"
    shutil.copytree(GALLERY, earlier / "gallery")
    with monkeypatch.context() as patched:
        patched.setattr("clip_qdrant.cli.demo.sample_gallery", lambda: earlier / "gallery")
        program("demo")

    outcome = program("demo")

    size = len(gallery_rows())
    assert outcome.out.startswith(f"{size} images: {size} added")
    found = program("facet", "category", "--location", "demo-data/qdrant", "--collection", "gallery", "--json")
    assert sum(row["count"] for row in found.json["values"]) == size


# The demo over the guitars and every twelfth image of the gallery: the model looks at each.
FEW = """
import sys
from pathlib import Path
from clip_qdrant.cli import demo, main
demo.sample_gallery = lambda: Path("few")
main()
"""


def copy_some(folder: Path) -> int:
    """Part of the gallery into a folder; how many images."""
    folder.mkdir()
    rows = gallery_rows()
    some = [row for number, row in enumerate(rows) if number % 12 == 0 or "guitar" in str(row["caption"])]
    for row in some:
        shutil.copy(GALLERY / str(row["file_name"]), folder)
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some), encoding="utf-8")
    return len(some)


@pytest.mark.slow
def test_with_the_bundled_weights_it_finds_what_it_looks_for(tmp_path: Path) -> None:
    size = copy_some(tmp_path / "few")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLIP_QDRANT_")}

    def clip_qdrant(*arguments: str, program: str = PROGRAM) -> str:
        code, out, errors = run_fork(program, *arguments, cwd=tmp_path, env=environment)
        assert code == 0, errors
        return out

    shown = clip_qdrant("demo", program=FEW)
    store = ("--location", "demo-data/qdrant", "--collection", "gallery", "--json")
    found = json.loads(clip_qdrant("search", "a guitar", "-n", "3", *store))["hits"]

    assert f"{size} added" in shown
    assert sum("guitar" in hit["caption"] for hit in found) >= 2
