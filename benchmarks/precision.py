"""What int8 is worth on this CPU: images/s, texts/s, memory and nearness, beside float32, torch and others.

    python benchmarks/precision.py PHOTOS [--models bundled clip siglip] [--images 64] [--rounds 3] [--pairs dev.jsonl]

PHOTOS is a folder of images, decoded before anything is timed. "clip" is ViT-B/32 and "siglip" B/16 at 224 px, random
weights that are spread so that images differ: vectors of those say how near int8 is, not how good. The bundled model
is judged by its recall on `--pairs` too. Each way runs in a process of its own, on all cores; rounds of the ways take
turns, and medians count. sentence-transformers is measured where it is installed and can open the model.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from peer_ways import make_clip, photos
from rich.console import Console
from rich.table import Table

from clip_qdrant.embedder import ClipEmbedder
from clip_qdrant.export import export_model
from clip_qdrant.images.load import load_image
from clip_qdrant_training import evaluate, read_pairs

BASE = "ONNX Runtime, float32"
WAYS = (BASE, "ONNX Runtime, int8", "torch", "torch, compiled", "sentence-transformers")
TEXTS = ["a photo a photo a", "photo a photo a photo a photo", "a photo of a dog that runs on the grass"] * 16
BATCH = 32
Timed = Callable[[], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument(
        "--models", nargs="+", choices=("bundled", "clip", "siglip"), default=("bundled", "clip", "siglip")
    )
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pairs", type=Path)
    options = parser.parse_args()
    for model in options.models:
        with tempfile.TemporaryDirectory() as folder:
            show(model, Path(folder), options)


def show(model: str, work: Path, options: argparse.Namespace) -> None:
    source = "bundled"
    if model != "bundled":
        in_a_process(make_model, model, work)
        source = f"hf:{work / model}" if model == "clip" else str(work / "siglip.pt")
    for precision in ("float32", "int8"):
        in_a_process(export, source, work / f"{precision}.pt", precision)
    ways = {way: Process(way, source, work, options) for way in WAYS if is_possible(way, model)}
    rates: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way, process in ways.items():
            rates[way].append(process.ask("time"))
    rows = {way: process.ask("rows") for way, process in ways.items()}
    table = Table(title=f"{model}: {options.images} images, {len(TEXTS)} texts, batches of {BATCH}")
    for heading in ("way", "images/s", "times", "texts/s", "times", "MiB", "image cosine", "text cosine", "recall@1"):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    first = [statistics.median(column) for column in zip(*rates[BASE], strict=True)]
    for way, process in ways.items():
        images, texts = (statistics.median(column) for column in zip(*rates[way], strict=True))
        cosines = [f"{(one * other).sum(1).min():.4f}" for one, other in zip(rows[BASE], rows[way], strict=True)]
        recall = ""
        if options.pairs and model == "bundled" and way in WAYS[:2]:
            recall = f"{process.ask('recall'):.1f}"
        table.add_row(
            way, f"{images:.1f}", f"{images / first[0]:.2f}", f"{texts:.0f}", f"{texts / first[1]:.2f}",
            f"{process.ask('memory'):,.0f}", *cosines, recall,
        )  # fmt: skip
    Console(width=150).print(table)
    for process in ways.values():
        process.ask("end")


def is_possible(way: str, model: str) -> bool:
    return way != "sentence-transformers" or (
        model == "clip" and importlib.util.find_spec("sentence_transformers") is not None
    )


def in_a_process(function: Callable[..., Any], *arguments: Any) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.apply(function, arguments)


def export(source: str, path: Path, precision: Any) -> None:
    export_model(source, path, precision=precision)


def make_model(model: str, work: Path) -> None:
    import torch
    from transformers import CLIPModel, SiglipConfig, SiglipModel

    if model == "clip":
        make_clip(work / "clip")
        clip = CLIPModel.from_pretrained(work / "clip")
        spread(clip)
        clip.save_pretrained(work / "clip")
        return
    from tokenizers import Tokenizer, models, pre_tokenizers

    from clip_qdrant.model.checkpoint import Checkpoint
    from clip_qdrant.model.published.encoder import HubEncoder
    from clip_qdrant.model.saving import save_checkpoint
    from clip_qdrant.model_inputs.preprocessing import Preprocessing
    from clip_qdrant.model_inputs.tokenization import Tokenization

    torch.manual_seed(0)
    network = SiglipModel(SiglipConfig())
    spread(network)
    tokenizer = Tokenizer(models.WordLevel({"<pad>": 0, "a": 1, "photo": 2, "of": 3, "dog": 4}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    half = (0.5, 0.5, 0.5)
    preprocessing = Preprocessing(mean=half, std=half)
    tokenization = Tokenization(max_length=64, padding="max_length", pad_token="<pad>")
    checkpoint = Checkpoint(HubEncoder(network, preprocessing).eval(), preprocessing, tokenization, tokenizer.to_str())
    save_checkpoint(checkpoint, work / "siglip.pt")


def spread(network: Any) -> None:
    """A fresh network gives nearly the same row to everything."""
    import torch

    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "embedding" not in name and parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)


class Process:
    """One way, in a process of its own."""

    def __init__(self, way: str, source: str, work: Path, options: argparse.Namespace) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        context.Process(target=serve, args=(there, way, source, work, options), daemon=True).start()

    def ask(self, what: str) -> Any:
        self._here.send(what)
        return self._here.recv()


def serve(pipe: Connection, way: str, source: str, work: Path, options: argparse.Namespace) -> None:
    embedder = None
    if way == "sentence-transformers":
        images, texts = by_sentence_transformers(source.removeprefix("hf:"), options)
    else:
        embedder = open_embedder(way, source, work)
        images, texts = by_us(embedder, options)
    rows = images(), texts()
    while (asked := pipe.recv()) != "end":
        if asked == "time":
            pipe.send(tuple(len(row) / measure(run) for row, run in zip(rows, (images, texts), strict=True)))
        elif asked == "rows":
            pipe.send(rows)
        elif asked == "memory":
            pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        elif embedder is not None:
            pipe.send(evaluate(embedder, read_pairs(options.pairs))["text_to_image_recall@1"])
    pipe.send(None)


def measure(run: Timed) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def open_embedder(way: str, source: str, work: Path) -> ClipEmbedder:
    if way.startswith("ONNX"):
        return ClipEmbedder.load(work / f"{way.partition(', ')[2]}.pt", runtime="onnx", cache_dir=work / "cache")
    return ClipEmbedder.load(source, runtime="torch", device="cpu", compile="compiled" in way, batch_size=BATCH)


def by_us(embedder: ClipEmbedder, options: argparse.Namespace) -> tuple[Timed, Timed]:
    loaded = [load_image(path, target=embedder.image_size).rgb for path in photos(options.photos)[: options.images]]
    pixels = np.stack([embedder.preprocess(rgb) for rgb in loaded])

    def images() -> np.ndarray:
        return np.concatenate([embedder.embed_pixels(pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH)])

    return images, lambda: embedder.embed_texts(TEXTS)


def by_sentence_transformers(folder: str, options: argparse.Namespace) -> tuple[Timed, Timed]:
    """With its own preprocessing, which cannot be left out; images are decoded before."""
    from PIL import Image
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder, device="cpu")
    pictures = [Image.open(path).convert("RGB") for path in photos(options.photos)[: options.images]]

    def encode(inputs: Any) -> np.ndarray:
        rows: np.ndarray = model.encode(inputs, batch_size=BATCH, normalize_embeddings=True)
        return rows

    return lambda: encode(pictures), lambda: encode(TEXTS)


if __name__ == "__main__":
    main()
