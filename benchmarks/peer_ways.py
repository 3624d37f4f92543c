"""The ways from a folder of images to vectors that `peers.py` compares; each is one function.

A way prepares itself, and returns two functions: what is measured, and what tells its vectors afterwards.
"""

from __future__ import annotations

import importlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from qdrant_client import QdrantClient
from qdrant_client.client_base import QdrantBase
from qdrant_client.models import Distance, PointStruct, VectorParams

from clip_qdrant.runtime import cpu_count
from clip_qdrant.store.edge.client import EdgeClient

OURS = "clip_qdrant"
CLIP_RETRIEVAL = "clip-retrieval"
REENACTED = "clip-retrieval's way, re-enacted"
LEGS = {
    "clip": (OURS, "sentence-transformers, QdrantClient", "sentence-transformers, EdgeClient"),
    "resnet50": (OURS, "DataLoader, QdrantClient", "DataLoader, EdgeClient"),
}
COLLECTION = "photos"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Vectors = dict[str, np.ndarray]  # by file name
Way = tuple[Callable[[], None], Callable[[], Vectors]]


def photos(folder: Path) -> list[Path]:
    """The images of a folder, in order of their paths."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))


def make_clip(folder: Path) -> None:
    """CLIP ViT-B/32 as transformers saves it, random weights, with a tokenizer of two words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, PreTrainedTokenizerFast

    start, end = "<|startoftext|>", "<|endoftext|>"
    tokenizer = Tokenizer(models.WordLevel({start: 0, end: 1, "a": 2, "photo": 3}, unk_token=end))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, 0), (end, 1)]
    )
    special = {"bos_token": start, "eos_token": end, "pad_token": end, "unk_token": end}
    fast: Any = PreTrainedTokenizerFast
    fast(tokenizer_object=tokenizer, model_max_length=77, **special).save_pretrained(folder)
    torch.manual_seed(0)
    text = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    CLIPModel(CLIPConfig(text_config=text)).save_pretrained(folder)
    CLIPImageProcessor().save_pretrained(folder)


def make_resnet50(path: Path) -> None:
    """Our default image encoder with random weights; the least of a text encoder, as no text is embedded."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers

    from clip_qdrant.model.checkpoint import Checkpoint
    from clip_qdrant.model.dual_encoder import DualEncoder, DualEncoderConfig
    from clip_qdrant.model.saving import save_checkpoint
    from clip_qdrant.model_inputs.preprocessing import Preprocessing
    from clip_qdrant.model_inputs.tokenization import Tokenization

    tokenizer = Tokenizer(models.WordLevel({"[PAD]": 0, "photo": 1}, unk_token="[PAD]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    text = {"model_type": "distilbert", "vocab_size": 2, "dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 64}
    torch.manual_seed(0)
    preprocessing = Preprocessing(mean=MEAN, std=STD)
    model = DualEncoder(DualEncoderConfig(text=text), preprocessing).eval()
    save_checkpoint(Checkpoint(model, preprocessing, Tokenization(max_length=16), tokenizer.to_str()), path)


def make_open_clip(path: Path) -> None:
    """open_clip's ViT-B-32 with random weights."""
    import torch

    torch.save(importlib.import_module("open_clip").create_model("ViT-B-32").state_dict(), path)


def ours(work: Path, model: str, size: int) -> Way:
    from clip_qdrant.collection.images import ImageCollection
    from clip_qdrant.embedder import ClipEmbedder
    from clip_qdrant_ingestion import FolderSource, ingest

    source = f"hf:{work / 'clip'}" if model == "clip" else work / "resnet50.pt"
    embedder = ClipEmbedder.load(source, runtime="onnx", cache_dir=work / "cache", batch_size=size)
    embedder.embed_pixels(np.zeros((size, embedder.image_size, embedder.image_size, 3), np.uint8))
    client = EdgeClient(work / "store")

    def run() -> None:
        report = ingest(FolderSource(work / "images"), ImageCollection(COLLECTION, embedder, client), batch_size=size)
        assert report.added == report.listed, report

    return run, lambda: stored(client)


def by_sentence_transformers(work: Path, client: QdrantBase, size: int) -> Way:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(work / "clip"), device="cpu")
    model.encode([Image.new("RGB", (224, 224))] * size, batch_size=size)

    def run() -> None:
        paths = photos(work / "images")
        for start in range(0, len(paths), size):
            part = paths[start : start + size]
            store(client, part, np.asarray(model.encode([Image.open(path) for path in part], batch_size=size)))

    return run, lambda: stored(client)


def by_data_loader(work: Path, model: str, size: int, store_rows: Callable[[Sequence[str], np.ndarray], None]) -> Way:
    """A process a core decodes and transforms; `store_rows` gets paths and rows, batch by batch."""
    import torch
    from torch.utils.data import DataLoader
    from torchvision import transforms  # type: ignore[import-untyped, unused-ignore]  # by its version

    squash = [transforms.Resize((224, 224), transforms.InterpolationMode.BICUBIC)]
    crop = [transforms.Resize(224, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(224)]
    encode, mean, std = torch_encoder(work, model)
    transform = transforms.Compose(
        [*(crop if model == "clip" else squash), transforms.ToTensor(), transforms.Normalize(mean, std)]
    )
    with torch.inference_mode():
        encode(torch.zeros(size, 3, 224, 224))

    class Photos:
        def __init__(self) -> None:
            self._paths = photos(work / "images")

        def __len__(self) -> int:
            return len(self._paths)

        def __getitem__(self, number: int) -> tuple[str, Any]:
            path = self._paths[number]
            return str(path), transform(Image.open(path).convert("RGB"))

    def run() -> None:
        dataset: Any = Photos()
        loader: Any = DataLoader(dataset, batch_size=size, num_workers=cpu_count())
        with torch.inference_mode():
            for paths, images in loader:
                store_rows(paths, np.asarray(torch.nn.functional.normalize(encode(images), dim=-1).numpy()))

    return run, dict


def torch_encoder(work: Path, model: str) -> tuple[Callable[[Any], Any], Sequence[float], Sequence[float]]:
    """Normalised pixels -> rows, and the mean and deviation they are normalised with."""
    if model == "clip":
        from transformers import CLIPImageProcessor, CLIPModel

        processor: Any = CLIPImageProcessor.from_pretrained(work / "clip")
        clip: Any = CLIPModel.from_pretrained(work / "clip")
        return (
            lambda images: clip.get_image_features(pixel_values=images).pooler_output,
            processor.image_mean,
            processor.image_std,
        )
    from clip_qdrant.model.loading import load_checkpoint

    dual = load_checkpoint(work / "resnet50.pt").model
    return lambda images: dual.image_projection(dual.image_encoder(images)), MEAN, STD


def by_clip_retrieval(work: Path, size: int) -> Way:
    """Its runner with its reader, mapper and writer; without its logger, which writes statistics from a process."""
    inference = "clip_retrieval.clip_inference"
    reader, mapper, writer, runner = (
        importlib.import_module(f"{inference}.{name}") for name in ("reader", "mapper", "writer", "runner")
    )
    name = f"open_clip:ViT-B-32/{work / 'open_clip.pt'}"
    # With the arguments that the mapper will ask with: it is kept by them, warm.
    _, preprocess, tokenizer = importlib.import_module("all_clip").load_clip(
        clip_model=name, use_jit=False, warmup_batch_size=size, clip_cache_path=None
    )
    only_images = {"enable_image": True, "enable_text": False, "enable_metadata": False}

    def run() -> None:
        runner.Runner(
            lambda sampler: reader.FilesReader(
                sampler, preprocess, tokenizer, work / "images", size, cpu_count(), **only_images
            ),
            lambda: mapper.ClipMapper(
                **only_images,
                use_mclip=False,
                clip_model=name,
                use_jit=False,
                mclip_model="",
                warmup_batch_size=size,
            ),
            lambda part: writer.NumpyWriter(part, str(work / "numpy"), False, True, False, 1),
            lambda _: Silent(),
            1,
        )(0)
        assert len(np.load(work / "numpy/img_emb/img_emb_0.npy")) == len(photos(work / "images"))

    return run, dict


class Silent:
    """A logger of clip-retrieval that logs nothing."""

    def start(self) -> None: ...
    def end(self) -> None: ...
    def __call__(self, _: object) -> None: ...


def store(client: QdrantBase, paths: Sequence[Path | str], rows: np.ndarray) -> None:
    if not client.collection_exists(COLLECTION):
        client.create_collection(COLLECTION, vectors_config=VectorParams(size=rows.shape[1], distance=Distance.COSINE))
    points = [
        PointStruct(id=str(uuid.uuid5(uuid.NAMESPACE_URL, str(path))), vector=row.tolist(), payload={"uri": str(path)})
        for path, row in zip(paths, rows, strict=True)
    ]
    client.upsert(COLLECTION, points=points)


def stored(client: QdrantBase) -> Vectors:
    """All vectors of a collection by file name."""

    def pages() -> Iterator[Any]:
        offset = None
        while True:
            points, offset = client.scroll(COLLECTION, limit=1000, offset=offset, with_vectors=True)
            yield from points
            if offset is None:
                return

    vectors: Vectors = {}
    for point in pages():
        vector = point.vector
        row = next(iter(vector.values())) if isinstance(vector, dict) else vector
        vectors[Path(point.payload["uri"]).name] = np.asarray(row, dtype=np.float32)
    return vectors


def to_numpy_files(work: Path, size: int) -> Way:
    """A DataLoader's rows, collected and written as clip-retrieval does."""
    kept: list[np.ndarray] = []
    names: list[str] = []

    def keep(paths: Sequence[str], rows: np.ndarray) -> None:
        kept.append(rows.astype(np.float16))
        names.extend(Path(path).name for path in paths)

    run, _ = by_data_loader(work, "clip", size, keep)

    def run_and_write() -> None:
        run()
        np.save(work / "rows.npy", np.concatenate(kept))

    return run_and_write, lambda: dict(zip(names, np.load(work / "rows.npy").astype(np.float32), strict=True))


def prepared(leg: str, work: Path, model: str, size: int) -> Way:
    """A way by its name, its model loaded and warm, its store empty."""
    if leg == OURS:
        return ours(work, model, size)
    if leg == CLIP_RETRIEVAL:
        return by_clip_retrieval(work, size)
    if leg == REENACTED:
        return to_numpy_files(work, size)
    client: QdrantBase = EdgeClient(work / "store") if "EdgeClient" in leg else QdrantClient(path=str(work / "store"))
    if leg.startswith("sentence-transformers"):
        return by_sentence_transformers(work, client, size)
    run, _ = by_data_loader(work, model, size, lambda paths, rows: store(client, paths, rows))
    return run, lambda: stored(client)
