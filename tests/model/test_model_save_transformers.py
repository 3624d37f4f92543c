"""A checkpoint written in the layout of transformers gives the same vectors there, and here when it is loaded again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published import save_published
from tiny import pictures, tiny_checkpoint
from tiny_published import LENGTH, tiny_published
from torch import Tensor
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from clip_qdrant import ClipEmbedder
from clip_qdrant.errors import CheckpointError
from clip_qdrant.model.published.load import load_published
from clip_qdrant.model.published.save import save_transformers
from clip_qdrant.model_inputs.tokenization import TextTokenizer

TEXTS = ["a photo of two dog", "RED square,  on the grass!", "", "cat " * 40]


def unit(rows: Tensor) -> np.ndarray:
    return np.asarray(torch.nn.functional.normalize(rows, dim=-1))


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_transformers_gives_the_same_vectors_and_so_do_we(family: str, tmp_path: Path) -> None:
    start = tiny_published(family)
    canonical = replace(start.tokenization, canonicalize=family == "siglip")
    checkpoint = replace(start, tokenization=canonical)
    clip = ClipEmbedder.from_checkpoint(checkpoint, device="cpu")
    images = pictures(3, size=(47, 40))
    expected = clip.embed_images(images), clip.embed_texts(TEXTS)

    save_transformers(checkpoint, tmp_path / "saved")

    model = AutoModel.from_pretrained(tmp_path / "saved").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved")
    processor = AutoImageProcessor.from_pretrained(tmp_path / "saved")
    padding = checkpoint.tokenization.padding
    inputs = tokenizer(TEXTS, padding=padding, max_length=LENGTH, truncation=True, return_tensors="pt")
    named = {name: inputs[name] for name in ("input_ids", "attention_mask")[: 2 if family == "clip" else 1]}
    with torch.inference_mode():
        rows = model.get_image_features(**processor(images=images, return_tensors="pt")).pooler_output
        texts = model.get_text_features(**named).pooler_output
    np.testing.assert_allclose(unit(rows), expected[0], atol=0.02)  # the processor resizes without reducing first
    np.testing.assert_allclose(unit(texts), expected[1], atol=1e-5)
    again = ClipEmbedder.load(f"hf:{tmp_path / 'saved'}", runtime="torch", device="cpu")
    np.testing.assert_allclose(again.embed_images(images), expected[0], atol=1e-3)
    np.testing.assert_allclose(again.embed_texts(TEXTS), expected[1], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "tokenizer", "processor"),
    [
        ("siglip2", {}, {}),  # rows of patches
        ("siglip2 of fixed size", {"padding_side": "left"}, {}),
        ("clip", {}, {"do_resize": False}),
        ("clip", {}, {"size": {"shortest_edge": 40}}),
        ("align", {}, {}),
    ],
)
def test_texts_and_images_are_prepared_as_those_of_the_model_that_was_loaded(
    name: str, tokenizer: dict[str, str], processor: dict[str, Any], tmp_path: Path
) -> None:
    folder = save_published(name, tmp_path / "model")
    for file, changes in (("tokenizer_config.json", tokenizer), ("preprocessor_config.json", processor)):
        values = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**values, **changes}))
    loaded = load_published(str(folder))

    save_transformers(loaded, tmp_path / "saved")

    again = load_published(str(tmp_path / "saved"))
    assert again.preprocessing == loaded.preprocessing
    pairs = zip(TextTokenizer(loaded.tokenizer, loaded.tokenization)(TEXTS),
                TextTokenizer(again.tokenizer, again.tokenization)(TEXTS), strict=True)  # fmt: skip
    for before, after in pairs:
        np.testing.assert_array_equal(after, before)


def test_what_transformers_has_no_class_for_is_refused(tmp_path: Path) -> None:
    for checkpoint in (tiny_checkpoint(), tiny_published("open_clip")):
        with pytest.raises(CheckpointError, match=r"transformers has no class: .* keep the checkpoint file"):
            save_transformers(checkpoint, tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot write .*file"):
        save_transformers(tiny_published("clip"), tmp_path / "file")
