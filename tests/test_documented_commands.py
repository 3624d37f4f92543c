"""Every command line of README and docs runs with its own defaults, in a folder like the one that it speaks of.

A line runs as it stands unless a table below says what stands in its place: another address for what is not on this
computer, an option more where it would take minutes. A line that needs one and has none fails here.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from program import Outcome, Program
from s3 import Bucket, new_bucket
from tiny import pictures, tiny_checkpoint
from web import Reply, WebSite

from clip_qdrant.cli import run, wiring
from clip_qdrant.cli.app import app
from clip_qdrant.embedder import ClipEmbedder
from clip_qdrant.model.saving import save_checkpoint
from clip_qdrant_training.config import TrainConfig

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

# Pieces of lines that name what is elsewhere. {bucket}, {endpoint} and {site} are on the loopback address.
PLACES: Mapping[str, str] = {
    "~/Pictures": "photos",
    "/srv/photos": "photos",
    "s3://bucket/": "{bucket}/",
    "s3://photos/": "{bucket}/photos/",
    "s3://shop/": "{bucket}/",
    "s3://set/": "{bucket}/",
    "http://localhost:9000": "{endpoint}",
    "https://host/photos/": "{site}/photos/ --allow-private",
    "127.0.0.1:8080": "127.0.0.1:0",
    "$JOB_COMPLETION_INDEX": "0",
    "{000..099}": "{000..002}",
    "hf:openai/clip-vit-base-patch32 ": "",
}
# Ends of lines: what makes seconds of minutes. They train a tiny model; tests/test_newcomer.py trains the bundled one.
TINY = "--model tiny.pt --epochs 1 --device cpu"
SHORTENED: Mapping[str, str] = {
    "train train.jsonl --val dev.jsonl --output mine.pt": TINY,
    "train photos/captions.csv --freeze-encoders --epochs 3 --output mine.pt": TINY,
    "train train.jsonl --val dev.jsonl --output mine.pt --freeze-encoders --epochs 10": TINY,
    "train photos.jsonl drawings.csv --weight 1 --weight 0.5 --val dev.jsonl --output mine.pt": TINY,
    "train dataset_flickr8k.json --images Images --split train --val-split val --output mine.pt": TINY,
    "train train.jsonl --val dev.jsonl --output mine.pt --tensorboard": TINY,
    "train train.jsonl --val dev.jsonl --output mine.pt --recipe runs/first/config.toml --seed 1": TINY,
    "train train.jsonl --find-lr --freeze-encoders": "--model tiny.pt",
    "evaluate bundled mine.pt dev.jsonl --report compare.html": "--bootstrap 0",
    "evaluate bundled mine.pt hf:openai/clip-vit-base-patch32 dev.jsonl --report compare.html": "--bootstrap 0",
}
# Lines that are only parsed here, and why.
PARSED: Mapping[str, str] = {
    "demo": "tests/cli/test_cli_demo.py runs it",
    "calibrate": "it needs 30 images; tests/cli/test_cli_search.py runs it",
    "calibrate --collection photos": "the same",
    "export hf:openai/clip-vit-base-patch32 vit-b-32.pt": "it downloads; tests/cli/test_cli_export.py",
    "export hf:openai/clip-vit-base-patch32 vit-b-32-int8.pt --precision int8": "the same",
    "export mine.pt mine --layout transformers": "mine.pt is none of theirs; tests/cli/test_cli_export.py",
    **dict.fromkeys(
        (
            f"train train.jsonl --val dev.jsonl --output mine.pt --start hf:{learns}"
            for learns in (
                "openai/clip-vit-base-patch32 --freeze-encoders",
                "openai/clip-vit-base-patch32 --last-layers 2",
                "openai/clip-vit-base-patch32 --lora 8",
                "google/siglip-base-patch16-224 --lora 8 --wise-ft",
            )
        ),
        "it downloads; tests/training/test_training_published.py",
    ),
    **dict.fromkeys(
        (
            f"ingest photos --model {named}"
            for named in (
                "open_clip:ViT-B-32/laion2b_s34b_b79k",
                "open_clip:MobileCLIP2-S0/dfndr2b",
                "open_clip:ViT-B-32/weights.pt",
                "hf:timm/ViT-B-16-SigLIP2",
                "hf:sentence-transformers/clip-ViT-B-32+hf:sentence-transformers/clip-ViT-B-32-multilingual-v1",
            )
        ),
        "it downloads; tests/model/test_model_open_clip.py, tests/model/test_model_pairs.py",
    ),
    "train train.jsonl --val dev.jsonl --output mine.pt --recipe tutorial --set epochs=3 --set cache=disk": "downloads",
    "train train.jsonl --val dev.jsonl --output mine.pt --recipe tutorial --set epochs=3": "it downloads DistilBERT",
    "train train.jsonl --val dev.jsonl --output mine.pt --wandb my-project": "it sends to wandb.ai",
    "ingest s3://photos/ --collection photos --bulk": "it needs a Qdrant server",
    **dict.fromkeys(
        (
            f"mcp {options}"
            for options in (
                "--collection photos",
                "--http 127.0.0.1:8090",
                "--http 127.0.0.1:8090 --collections photos,products",
                "--http 0.0.0.0:8090 --names images.example.com",
            )
        ),
        "it serves until it is ended; tests/integrations/mcp/test_mcp_program.py",
    ),
}
# Lines that continue others: what runs before, in a folder without a store.
AFTER: Mapping[str, tuple[str, ...]] = {
    "ingest photos --model mine.pt": (),
    'search "a red sailing boat" --model mine.pt': ("ingest photos --model mine.pt",),
}
CODES: Mapping[str, tuple[int, ...]] = {"--fail-under": (0, 1)}  # the tiny model may be below
HERE = ("{bucket}", "{endpoint}", "{site}")
PROGRAM: Any = __import__("typer").main.get_command(app)


def command_lines() -> list[str]:
    """The lines without `clip-qdrant` and comment, each once."""
    found = []
    for page in PAGES:
        for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            lines = re.findall(r"^\$? ?clip-qdrant +(.*)$", block.replace("\\\n", " "), re.MULTILINE)
            found += [re.split(r" {2,}#", line)[0].strip() for line in lines]
    return list(dict.fromkeys(found))


LINES = command_lines()


def test_no_entry_of_the_tables_is_left_behind() -> None:
    assert {*SHORTENED, *PARSED, *AFTER} <= set(LINES)
    assert all(any(place in line for line in LINES) for place in PLACES)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the lines speak of, without a store."""
    folder = tmp_path_factory.mktemp("documented")
    images = pictures(6)
    names = ["cat.jpg", "boat.jpg", "pets/2022/dog.jpg", "2024-05-01_rome.jpg", "drafts/a.jpg", "a-small.jpg"]
    for name, picture in zip(names, images, strict=True):
        path = folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    rows = [{"image": f"photos/{name}", "caption": f"a picture {n}"} for n, name in enumerate(names)]
    for name in ("train.jsonl", "dev.jsonl", "photos.jsonl"):
        (folder / name).write_text("\n".join(map(json.dumps, rows)))
    (folder / "drawings.csv").write_text("image,caption\nphotos/cat.jpg,a cat\nphotos/boat.jpg,a boat\n")
    (folder / "photos" / "captions.csv").write_text("image,caption\n" + "".join(f"{n},a {n}\n" for n in names[:4]))
    tags = "file_name,album,year,taken_at\n" + "".join(f"{n},pets,2022,2024-05-01T10:00:00Z\n" for n in names[:2])
    (folder / "photos" / "metadata.csv").write_text(tags)
    (folder / "products.csv").write_text("image_url,price\nphotos/cat.jpg,3\nphotos/boat.jpg,4\n")
    shutil.copytree(folder / "photos", folder / "Images")
    flickr = [
        {"filename": name, "split": split, "sentences": [{"raw": f"a picture {name}"}]}
        for name, split in zip(names[:4], ("train", "train", "val", "val"), strict=True)
    ]
    (folder / "dataset_flickr8k.json").write_text(json.dumps({"images": flickr}))
    for name in ("sunset.jpg", "query.jpg"):
        shutil.copy(folder / "photos" / "cat.jpg", folder / name)
    (folder / "data").mkdir()
    for number in range(3):
        with tarfile.open(folder / "data" / f"shard-{number:03}.tar", "w") as archive:
            archive.add(folder / "photos" / "cat.jpg", "cat.jpg")
    (folder / "keys.toml").write_text(f'[[keys]]\nname = "app"\nkey = "{"k" * 20}"\nscopes = ["read"]\n')
    config = folder / "runs" / "first" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(TrainConfig().to_toml())
    for name in ("mine.pt", "tiny.pt"):
        save_checkpoint(tiny_checkpoint(), folder / name)
    return folder


@pytest.fixture(scope="module")
def embedders() -> dict[str, ClipEmbedder]:
    return {}


@pytest.fixture(scope="module")
def stored(template: Path, embedders: dict[str, ClipEmbedder], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same folder with a store, in which the photos were ingested."""
    folder = tmp_path_factory.mktemp("stored") / "folder"
    shutil.copytree(template, folder)
    with pytest.MonkeyPatch.context() as patch:
        program = program_like(folder, patch, embedders)
        for more in ([], ["--collection", "photos"]):
            assert program("ingest", "photos", *more).code == 0
    return folder


def program_like(folder: Path, monkeypatch: pytest.MonkeyPatch, embedders: dict[str, ClipEmbedder]) -> Program:
    """The program in a folder; each model is loaded once, and by torch, which needs no export."""
    for name in [name for name in os.environ if name.startswith("CLIP_QDRANT_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(folder)

    def load(settings: Any) -> ClipEmbedder:
        if settings.model not in embedders:
            embedders[settings.model] = ClipEmbedder.load(settings.model, runtime="torch", device="cpu")
        return embedders[settings.model]

    monkeypatch.setattr(wiring, "open_embedder", load)
    return Program(folder)


@pytest.fixture
def places(template: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mapping[str, str]]:
    """A bucket and a web site with what the lines look for there."""
    bucket: Bucket = new_bucket(monkeypatch)
    photo = (template / "photos" / "cat.jpg").read_bytes()
    for key in ("photos/cat.jpg", "products/pets/2022/cat.jpg"):
        bucket.put(key, photo)
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.BufferOutputStream()
    pq.write_table(pa.table({"image_link": ["photos/cat.jpg"]}), table)
    bucket.put("feed.parquet", table.getvalue().to_pybytes())
    with tarfile.open(template / "t.tar.gz", "w:gz") as archive:
        archive.add(template / "photos" / "cat.jpg", "cat.jpg")
    bucket.put("train/0.tar.gz", (template / "t.tar.gz").read_bytes())
    with WebSite().running() as site:
        site.pages["/photos/"] = Reply(b'<a href="cat.jpg">cat</a>', headers={"Content-Type": "text/html"})
        site.pages["/photos/cat.jpg"] = photo
        yield {"bucket": bucket.url, "endpoint": bucket.endpoint, "site": site.url}


def parse(line: str) -> list[str]:
    return shlex.split(line, comments=True)


@pytest.mark.usefixtures("no_charts", "no_graphs")
@pytest.mark.parametrize(
    "line", [pytest.param(line, marks=[pytest.mark.slow] if line in SHORTENED else []) for line in LINES]
)
def test_every_documented_command_line_runs(
    line: str,
    request: pytest.FixtureRequest,
    template: Path,
    embedders: dict[str, ClipEmbedder],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if line in PARSED:
        name, *arguments = parse(line)
        assert PROGRAM.get_command(None, name).make_context(name, arguments).info_name == name
        return
    text = f"{line} {SHORTENED.get(line, '')}"
    for place, stands in PLACES.items():
        text = text.replace(place, stands)
    for token in HERE:
        if token in text:
            text = text.replace(token, request.getfixturevalue("places")[token.strip("{}")])
    needs_store = (
        line.split()[0] in ("search", "facet", "drop", "info", "repair", "optimize", "ingest-report")
        and line not in AFTER
    )
    folder = request.getfixturevalue("stored") if needs_store else tmp_path / "folder"
    if not needs_store or line.startswith(("drop", "repair", "optimize")):
        before, folder = folder if needs_store else template, tmp_path / "folder"
        shutil.copytree(before, folder)
    program = program_like(folder, monkeypatch, embedders)
    # The loop of --watch ends with its first run.
    monkeypatch.setattr("clip_qdrant_ingestion.cli.watch.watch", run_once)
    monkeypatch.setattr("clip_qdrant.service.server.run_server", lambda *_, **__: None)  # it ends when it is told to
    for earlier in AFTER.get(line, ()):
        assert program(*parse(earlier)).code == 0
    monkeypatch.setattr("sys.stdin", None)
    if line.startswith("drop "):
        text += " --yes"

    outcome: Outcome = program(*parse(text))

    allowed = next((codes for option, codes in CODES.items() if option in line), (0,))
    assert outcome.code in allowed, outcome.err + outcome.out


def run_once(run: Any, *_: Any, **__: Any) -> Any:
    from clip_qdrant_ingestion.run.extent import EVERYTHING

    return run(EVERYTHING)


@pytest.mark.parametrize("line", ["ingest s3://elsewhere/x", "search x --model there-is-none.pt"])
def test_a_line_that_cannot_run_here_fails_without_an_entry(
    line: str, template: Path, embedders: dict[str, ClipEmbedder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    program_like(template, monkeypatch, embedders)

    assert run([*parse(line), "--location", ":memory:", *(["--patience", "0"] if "ingest" in line else [])]) != 0
