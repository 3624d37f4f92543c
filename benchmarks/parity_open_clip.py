"""Whether models of open_clip at their real size give the vectors that open_clip gives, with random weights.

    python benchmarks/parity_open_clip.py FOLDER_OF_IMAGES ViT-B-32 RN50 MobileCLIP-S1

Weights are spread out, so that a model tells inputs apart. Nothing is downloaded: models with another tokenizer than
CLIP's are tried with CLIP's. Prints a row a model; the file of weights lies in the temporary folder meanwhile.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from clip_qdrant.embedder import ClipEmbedder

TEXTS = [
    "",
    "a dog",
    "A Photo of TWO cats",
    "a dog " * 100,
    "caf\u00e9, it\u2019s \u201cfine\u201d & 3.5 m",
    "\u732b\u3068\u72ac \U0001f415",
    "<end_of_text> a dog",
    "first line\nsecond line",
]


def spread(model: nn.Module) -> None:
    """A fresh network gives nearly the same row to everything."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.mul_(10 if "embedding" in name else 1.3)
            if "layer_scale" in name:  # layers that begin as nothing would not be compared
                parameter.fill_(0.3)


def compare(architecture: str, paths: list[Path], work: Path, runtime: str) -> str:
    library: Any = importlib.import_module("open_clip")
    shown = architecture
    config = library.get_model_config(architecture)
    if config["text_cfg"].pop("hf_tokenizer_name", None):
        config["text_cfg"]["vocab_size"] = 49408
        architecture = "with-tokenizer-of-clip"  # a name from which open_clip tells no other tokenizer
        library.factory._MODEL_CONFIGS[architecture] = config
    model, _, prepare = library.create_model_and_transforms(architecture, pretrained_text=False)
    model.eval()
    spread(model)
    tokenize = library.get_tokenizer(architecture)
    with torch.inference_mode():
        pixels = [prepare(Image.open(path).convert("RGB")) for path in paths]
        images = torch.cat([nn.functional.normalize(model.encode_image(each[None]), dim=-1) for each in pixels]).numpy()
        texts = nn.functional.normalize(model.encode_text(tokenize(TEXTS)), dim=-1).numpy()
    file = work / "weights.pt"
    torch.save(model.state_dict(), file)
    del model
    start = time.perf_counter()
    options: Any = {"runtime": runtime, "cache_dir": work / "cache", "batch_size": 4}
    embedder = ClipEmbedder.load(f"open_clip:{architecture}/{file}", **options)
    seconds = time.perf_counter() - start
    rows = embedder.embed_images(paths)
    image = (rows * images).sum(axis=1).min()
    text = (embedder.embed_texts(TEXTS) * texts).sum(axis=1).min()
    return f"| {shown} | {runtime} | {seconds:.0f} | {image:.6f} | {text:.6f} | {(images @ images.T).min():.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("images", type=Path)
    parser.add_argument("architectures", nargs="+")
    parser.add_argument("--runtime", choices=("torch", "onnx"), default="torch")
    parser.add_argument("--most", type=int, default=8, help="images")
    arguments = parser.parse_args()
    paths = sorted(path for path in arguments.images.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    print("| model | runtime | load s | image cosine min | text cosine min | least alike images |")
    print("|---|---|---|---|---|---|")
    for architecture in arguments.architectures:
        with tempfile.TemporaryDirectory() as work:
            print(compare(architecture, paths[: arguments.most], Path(work), arguments.runtime), flush=True)


if __name__ == "__main__":
    main()
