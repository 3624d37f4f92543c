"""Tiny networks with random weights, and small pictures: enough to test everything about models but their quality."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.dual_encoder import DualEncoder, DualEncoderConfig
from clip_qdrant.model_inputs.preprocessing import Preprocessing
from clip_qdrant.model_inputs.tokenization import Tokenization
from clip_qdrant_training import Pair

SIZE = 64
WORDS = ["a", "photo", "of", "dog", "cat", "red", "square", "circle", "on", "the", "grass", "two", "runs"]
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "yellow": (230, 220, 40)}


def word_tokenizer(words: list[str] = WORDS) -> str:
    """A tokenizer.json that splits at spaces and knows these words; [PAD] is 0 and [CLS] comes first."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary = {word: index for index, word in enumerate(dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words]))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return str(tokenizer.to_str())


def tiny_checkpoint(seed: int = 0, **changes: Any) -> Checkpoint:
    tokenizer = word_tokenizer(WORDS + list(COLOURS))
    text = {
        "model_type": "bert",
        "vocab_size": len(json.loads(tokenizer)["model"]["vocab"]),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 24,
    }
    config = DualEncoderConfig(
        **{"image": "test_efficientnet", "text": text, "pooling": "mean", "dim": 32, "hidden": 16, **changes}
    )
    torch.manual_seed(seed)
    preprocessing = Preprocessing(image_size=SIZE)
    model = DualEncoder(config, preprocessing)
    # A fresh network gives nearly the same row to everything: spread the weights, and set BatchNorm by some pictures.
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        pixels = [np.asarray(picture) for picture in pictures(16, seed=9, size=(SIZE, SIZE))]
        model.image_encoder(model.pixel_norm(torch.from_numpy(np.stack(pixels))))
    model.eval()
    return Checkpoint(model, preprocessing, Tokenization(max_length=24), tokenizer, trained_on=("nothing",))


def pictures(n: int, *, seed: int = 0, size: tuple[int, int] = (80, 70)) -> list[Image.Image]:
    """Smooth random pictures, all different."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (n, 4, 4, 3), dtype=np.uint8)
    return [Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC) for pixels in coarse]


def coloured_pairs(folder: Path) -> list[Pair]:
    """Eight images, two of each colour, whose captions name it."""
    pairs = []
    for name, colour in COLOURS.items():
        for shade in (1.0, 0.8):
            path = folder / f"{name}-{shade}.png"
            Image.new("RGB", (64, 64), tuple(int(channel * shade) for channel in colour)).save(path)
            pairs.append(Pair(path, (f"a {name} square", f"photo of {name}")))
    return pairs
