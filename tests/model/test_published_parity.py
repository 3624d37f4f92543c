"""hf: models of every family give the vectors that transformers gives with its own processor and its own model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import transformers
from PIL import Image
from published import PUBLISHED, embed_images, embed_texts, save_published
from varied import VARIED_TEXTS, read_upright

from clip_qdrant import ClipEmbedder
from clip_qdrant.model.published.families import FAMILIES

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.fixture(scope="module")
def upright(varied_files: list[Path]) -> list[Image.Image]:
    return [read_upright(file) for file in varied_files]


def assert_apart(rows: np.ndarray) -> None:
    """A test of equal vectors is worth something where those of different inputs differ."""
    others = (rows @ rows.T)[~np.eye(len(rows), dtype=bool)]
    assert np.median(others) < 0.98


def test_every_family_is_compared() -> None:
    assert {row.model_type or name for name, row in PUBLISHED.items()} == set(FAMILIES)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_vectors_are_those_of_transformers(
    name: str, varied_files: list[Path], upright: list[Image.Image], tmp_path: Path
) -> None:
    folder = save_published(name, tmp_path / "model")
    reference = transformers.AutoModel.from_pretrained(folder, trust_remote_code=False).eval()
    images = embed_images(reference, folder, upright)
    texts = embed_texts(reference, folder, PUBLISHED[name], VARIED_TEXTS)
    assert_apart(images)
    assert_apart(texts)
    clip = ClipEmbedder.load(f"hf:{folder}", runtime="torch", device="cpu")
    of_images = (clip.embed_images(varied_files) * images).sum(1)
    of_texts = (clip.embed_texts(VARIED_TEXTS) * texts).sum(1)
    assert of_images.min() >= 0.9995, varied_files[of_images.argmin()].name
    assert of_texts.min() >= 0.99999, VARIED_TEXTS[of_texts.argmin()][:80]


@pytest.mark.slow
def test_images_of_any_shape_go_through_one_graph(
    varied_files: list[Path], upright: list[Image.Image], tmp_path: Path
) -> None:
    folder = save_published("siglip2", tmp_path / "model", layers=1)  # each takes a second to export
    reference = transformers.AutoModel.from_pretrained(folder, trust_remote_code=False).eval()
    images = embed_images(reference, folder, upright)
    clip = ClipEmbedder.load(f"hf:{folder}", runtime="onnx", device="cpu", cache_dir=tmp_path / "cache")
    assert (clip.embed_images(varied_files) * images).sum(1).min() >= 0.9995
