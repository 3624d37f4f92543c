"""Whether published models give here the vectors of their own library, at real size: a table, kept in docs/models.md.

    python benchmarks/parity.py [MODEL …] [--onnx] [--write]

The configurations are those that their publishers wrote, the weights random and spread out, and the images and texts of
tests/support/varied.py: what is compared is everything but the training. One model at a time, each in a process of its
own, which needs about three times the memory of its float32 weights. Tokenizers are the real one for CLIP, and small
ones of the same kind for the rest.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs" / "models.md"
BEGIN, END = "<!-- begin: benchmarks/parity.py --write -->", "<!-- end -->"
Values = dict[str, Any]

_LARGE_TEXT: Values = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
_LARGE_IMAGE: Values = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
}
_SO400M: Values = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
}
_XLM_R: Values = {"max_position_embeddings": 77, "eos_token_id": 2, "bos_token_id": 0, "pad_token_id": 1}
# By name: the row of tests/support/published.py that has its kind of tokenizer and processor, the values of its
# configuration that are not transformers' defaults for text, image and the whole, and the side of its images.
MODELS: Mapping[str, tuple[str, Values, Values, Values, int]] = {
    "openai/clip-vit-base-patch32": ("clip", {"eos_token_id": 2}, {}, {}, 224),
    "openai/clip-vit-base-patch16": ("clip", {"eos_token_id": 2}, {"patch_size": 16}, {}, 224),
    "openai/clip-vit-large-patch14": (
        *("clip", {**_LARGE_TEXT, "eos_token_id": 2}, _LARGE_IMAGE, {"projection_dim": 768}, 224),
    ),
    "google/siglip-base-patch16-224": ("siglip", {}, {}, {}, 224),
    "google/siglip-so400m-patch14-384": (
        *("siglip", _SO400M, {**_SO400M, "patch_size": 14, "image_size": 384}, {}, 384),
    ),
    "google/siglip2-base-patch16-224": ("siglip2 of fixed size", {}, {}, {}, 224),
    "google/siglip2-base-patch32-256": ("siglip2 of fixed size", {}, {"patch_size": 32, "image_size": 256}, {}, 256),
    "google/siglip2-base-patch16-naflex": ("siglip2", {}, {}, {}, 256),
    "facebook/metaclip-2-worldwide-s16": (
        *(
            "metaclip_2",
            {**_XLM_R, "hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 6},
        ),
        *({"hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 6, "patch_size": 16},),
        *({"projection_dim": 384}, 224),
    ),
    "OFA-Sys/chinese-clip-vit-base-patch16": ("chinese_clip", {"vocab_size": 21128}, {"patch_size": 16}, {}, 224),
    "BAAI/AltCLIP": ("altclip", {}, _LARGE_IMAGE, {}, 224),
}  # Not ALIGN: with random weights its 55 blocks of convolutions make a chaos of rounding, in transformers' hands too.


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*", help="names from the list in this file; all by default")
    parser.add_argument("--onnx", action="store_true", help="on ONNX Runtime too, which exports first")
    parser.add_argument("--write", action="store_true", help="put the rows into docs/models.md")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(compare(options.one, onnx=options.onnx)))
        return
    rows: dict[str, Values] = {}
    for name in options.models or MODELS:
        rows[name] = run(name, onnx=options.onnx)
        if options.write:
            write_docs(rows)
    table = Table(title="vectors here beside those of the model's own library")
    for heading in (*HEADINGS, "s", "GB"):
        table.add_column(heading)
    for name, row in rows.items():
        table.add_row(*columns(name, row), f"{row.get('seconds', 0):.0f}", f"{row.get('gigabytes', 0):.1f}")
    Console(width=160).print(table)


HEADINGS = ("model", "loads", "image cosine", "text cosine", "runtimes", "trains")


def columns(name: str, row: Values) -> list[str]:
    if "error" in row:
        return [f"`{name}`", f"no: {row['error']}", "", "", "", ""]
    return [f"`{name}`", "yes", row["image"], row["text"], ", ".join(row["runtimes"]), "yes" if row["trains"] else "no"]


def run(name: str, *, onnx: bool) -> Values:
    """One model in a process of its own."""
    command = [sys.executable, __file__, "--one", name, *(["--onnx"] if onnx else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["it was ended"])[-1][:120]}
    values: Values = json.loads(done.stdout.strip().splitlines()[-1])
    return values


def compare(name: str, *, onnx: bool) -> Values:
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    import numpy as np
    import torch
    import transformers

    from clip_qdrant import ClipEmbedder

    published, varied = import_module("published"), import_module("varied")
    start = time.perf_counter()
    kind, text, image, own, side = MODELS[name]
    with tempfile.TemporaryDirectory() as temporary:
        folder = published.save_real(kind, Path(temporary) / "model", text=text, image=image, own=own, side=side)
        files = varied.varied_images(Path(temporary) / "images")
        reference: Any = transformers.AutoModel.from_pretrained(folder, trust_remote_code=False).eval()
        images = published.embed_images(reference, folder, [varied.read_upright(file) for file in files])
        texts = published.embed_texts(reference, folder, published.PUBLISHED[kind], varied.VARIED_TEXTS)
        del reference
        worst: dict[str, list[float]] = {"image": [], "text": []}
        runtimes = ["torch", *(["ONNX Runtime"] if onnx else [])]
        for runtime in runtimes:
            clip = ClipEmbedder.load(
                f"hf:{folder}",
                runtime="torch" if runtime == "torch" else "onnx",
                device="cpu",
                cache_dir=Path(temporary) / "cache",
            )
            worst["image"].append(float((clip.embed_images(files) * images).sum(1).min()))
            worst["text"].append(float((clip.embed_texts(varied.VARIED_TEXTS) * texts).sum(1).min()))
            del clip
    return {
        "image": f"{np.floor(min(worst['image']) * 1e6) / 1e6:.6f}",
        "text": f"{np.floor(min(worst['text']) * 1e6) / 1e6:.6f}",
        "runtimes": runtimes,
        "trains": kind != "siglip2",  # training makes its own views of images, which are squares
        "seconds": time.perf_counter() - start,
        "gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "threads": torch.get_num_threads(),
    }


def write_docs(rows: Mapping[str, Values]) -> None:
    """Put the rows between the marks; those of models that were not run stay."""
    before, _, rest = DOCS.read_text(encoding="utf-8").partition(BEGIN)
    old, _, after = rest.partition(END)
    kept = {line.split("|")[1].strip(): line for line in old.strip().splitlines()[2:]}
    for name, row in rows.items():
        kept[f"`{name}`"] = f"| {' | '.join(columns(name, row))} |"
    lines = [f"| {' | '.join(HEADINGS)} |", f"|{'---|' * len(HEADINGS)}", *kept.values()]
    DOCS.write_text(f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
