"""The path of somebody with a folder of 50 images and their captions: train, ingest, search, as the README has it."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import time
from pathlib import Path

import pytest
from forks import PROGRAM, run_fork

from clip_qdrant.content import sample_gallery

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
SECTION = README.partition("### Your own 50 images in ten minutes")[2].partition("\n### ")[0]
TRAIN, INGEST, SEARCH = re.findall(r"^\$ clip-qdrant (.+)$", SECTION, re.MULTILINE)


def clip_qdrant(folder: Path, *arguments: str) -> str:
    """What the program prints, run in a process of its own without settings from outside."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLIP_QDRANT_")}
    environment["CLIP_QDRANT_CACHE_DIR"] = str(folder / "cache")
    code, out, errors = run_fork(PROGRAM, *arguments, cwd=folder, env=environment)
    assert code == 0, errors
    return out


@pytest.mark.slow
def test_fifty_images_of_ones_own_are_trained_on_ingested_and_found_within_ten_minutes(tmp_path: Path) -> None:
    began = time.monotonic()
    (tmp_path / "photos").mkdir()
    rows = [json.loads(line) for line in (sample_gallery() / "metadata.jsonl").read_text("utf-8").splitlines()]
    chosen = [row for row in rows if len(row["caption"].split()) > 1][:50]
    assert len(chosen) == 50
    with (tmp_path / "photos" / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "caption"])
        for row in chosen:
            shutil.copy(sample_gallery() / row["file_name"], tmp_path / "photos")
            table.writerow([row["file_name"], row["caption"]])

    trained = clip_qdrant(tmp_path, *shlex.split(TRAIN))
    ingested = clip_qdrant(tmp_path, *shlex.split(INGEST))
    found = 0
    wanted = chosen[::20]
    for row in wanted:
        arguments = shlex.split(SEARCH)
        arguments[1] = row["caption"]
        hits = json.loads(clip_qdrant(tmp_path, *arguments, "--limit", "5", "--json"))["hits"]
        found += any(hit["uri"].endswith(row["file_name"]) for hit in hits)

    assert trained.splitlines()[-1] == "written to mine.pt; use it with --model mine.pt"
    assert re.search(r"added +\S +50", ingested)
    assert found >= len(wanted) - 1
    assert (tmp_path / "runs" / "mine" / "config.toml").is_file()
    assert time.monotonic() - began < 600
