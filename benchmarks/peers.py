"""What users do today, on the same images with the same architecture and random weights, next to `ingest`.

    python benchmarks/peers.py IMAGES_FOLDER [--images 500] [--model clip|resnet50] [--clip-retrieval FOLDER]

clip: CLIP ViT-B/32. sentence-transformers and qdrant-client by hand get the very weights that ours gets, so the vectors
must agree. clip-retrieval's own reader, mapper and writer run open_clip's ViT-B-32, and write numpy files only. What it
pins does not go with this project's packages, so it is taken from a folder of its own:

    pip install --target FOLDER --no-deps clip-retrieval all_clip clip-anytorch open-clip-torch fire termcolor \\
        braceexpand ftfy wcwidth wandb flask-restful aniso8601 flask-cors h5py autofaiss faiss-cpu embedding-reader \\
        setuptools==69.5.1

Without that folder its way is re-enacted: a torch DataLoader with a process a core, torchvision's transforms, torch,
numpy files.

resnet50: our default architecture. sentence-transformers has none such, so a DataLoader feeds the same network
in torch.

Each is measured in a process of its own, after its model is loaded and has seen a batch, from the listing to the last
vector stored; they take turns, round after round, and the median counts. All run on the CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from peer_ways import CLIP_RETRIEVAL, LEGS, OURS, REENACTED, make_clip, make_open_clip, make_resnet50, photos, prepared
from rich.console import Console
from rich.table import Table

from clip_qdrant.runtime import cpu_count


def child(arguments: list[str]) -> str:
    """The last line that a process of this script prints."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
    return done.stdout.strip().rpartition("\n")[2]


def prepare(work: Path, model: str, size: int, *, clip_retrieval: bool) -> None:
    """In a process of its own: makes the models, and our export."""
    if model == "clip":
        make_clip(work / "clip")
    else:
        make_resnet50(work / "resnet50.pt")
    if clip_retrieval:
        make_open_clip(work / "open_clip.pt")
    prepared(OURS, work, model, size)


def measure(leg: str, work: Path, model: str, size: int) -> None:
    """In a process of its own: prints seconds by the clock and of the CPU, and leaves the vectors in a file."""
    for left in ("store", "numpy"):
        shutil.rmtree(work / left, ignore_errors=True)
    run, tell = prepared(leg, work, model, size)
    cpu, clock = os.times(), time.perf_counter()
    run()
    seconds, after = time.perf_counter() - clock, os.times()
    used = sum(after[:4]) - sum(cpu[:4])  # own and that of processes that ended
    np.savez(work / f"{leg}.npz", **tell())  # type: ignore[arg-type, unused-ignore]  # the names are files
    print(json.dumps({"seconds": seconds, "cpu": used}))


def agreement(work: Path, leg: str) -> str:
    """How the vectors of a way go with ours: the least cosine, and the least once the mean of all is taken off.

    Random networks give all images much the same vector, so only the second one says something.
    """
    mine, theirs = (np.load(work / f"{name}.npz") for name in (OURS, leg))
    if not theirs.files:
        return "of other weights, not compared"
    assert sorted(mine.files) == sorted(theirs.files)
    one, other = (unit(np.stack([rows[name] for name in mine.files])) for rows in (mine, theirs))
    mean = one.mean(axis=0)
    centred = (unit(one - mean) * unit(other - mean)).sum(axis=1)
    return f"least cosine {(one * other).sum(axis=1).min():.4f}, less the mean {centred.min():.4f}"


def unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def compare(options: argparse.Namespace, work: Path) -> None:
    (work / "images").mkdir()
    chosen = photos(options.folder)[: options.images]
    for number, path in enumerate(chosen):
        shutil.copyfile(path, work / "images" / f"{number:06d}{path.suffix.lower()}")
    shared = ["--work", str(work), "--model", options.model, "--batch-size", str(options.batch_size)]
    legs = list(LEGS[options.model])
    if options.model == "clip":
        legs.append(CLIP_RETRIEVAL if options.clip_retrieval else REENACTED)
    if options.clip_retrieval:
        shared += ["--clip-retrieval", str(options.clip_retrieval)]
    child([str(options.folder), "--leg", "prepare", *shared])
    seconds: dict[str, list[float]] = {leg: [] for leg in legs}
    cpu: dict[str, list[float]] = {leg: [] for leg in legs}
    for _ in range(options.rounds):
        for leg in legs:
            took = json.loads(child([str(options.folder), "--leg", leg, *shared]))
            seconds[leg].append(took["seconds"])
            cpu[leg].append(took["cpu"])

    count = len(chosen)
    table = Table(title=f"{options.model}, {count} images, batches of {options.batch_size}, {cpu_count()} cores")
    for heading in ("way", "images/s", "CPU ms/image", "ours is"):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    own = statistics.median(seconds[OURS])
    for leg in legs:
        clock = statistics.median(seconds[leg])
        used = 1000 * statistics.median(cpu[leg]) / count
        table.add_row(leg, f"{count / clock:.1f}", f"{used:.1f}", f"{clock / own:.2f} times")
    console = Console()
    console.print(table)
    for leg in legs[1:]:
        console.print(f"vectors of {leg}: {agreement(work, leg)}", highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--model", choices=LEGS, default="clip")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clip-retrieval", type=Path, help="the folder it was installed into")
    parser.add_argument("--leg", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.clip_retrieval:
        sys.path.append(str(options.clip_retrieval))  # after the project's own packages
    if options.leg == "prepare":
        prepare(options.work, options.model, options.batch_size, clip_retrieval=bool(options.clip_retrieval))
    elif options.leg:
        measure(options.leg, options.work, options.model, options.batch_size)
    else:
        with tempfile.TemporaryDirectory() as folder:
            compare(options, Path(folder))


if __name__ == "__main__":
    main()
