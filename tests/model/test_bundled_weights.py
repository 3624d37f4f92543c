"""content/best.pt: small enough to ship, the same rows on both runtimes, and as good as its model card says it is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from clip_qdrant import ClipEmbedder
from clip_qdrant.content import bundled_checkpoint, sample_gallery

CARD = (Path(__file__).resolve().parents[2] / "content" / "MODEL_CARD.md").read_text(encoding="utf-8")
TEXTS = ["a dog runs in the snow", "a bird", "two children play with a red ball on the beach near the sea", "7"]
pytestmark = pytest.mark.slow  # the model is exported first, unless another test has done so
# The first numbers of two rows. They change with the weights, and only with them.
GOLDEN_TEXT = [-0.0234, -0.0843, 0.0330, 0.0460, -0.0370, 0.0522]
GOLDEN_IMAGE = [0.0116, 0.0184, -0.0453, 0.0270, -0.0611, -0.0239]


@pytest.fixture(scope="module")
def clip() -> ClipEmbedder:
    return ClipEmbedder.load(runtime="onnx")


def gallery() -> list[dict[str, str]]:
    return [json.loads(line) for line in (sample_gallery() / "metadata.jsonl").read_text("utf-8").splitlines()]


def test_golden_rows(clip: ClipEmbedder) -> None:
    image = sample_gallery() / "uccello_profilo_02_archi_01.webp"
    assert np.allclose(clip.embed_texts(TEXTS[:1])[0, :6], GOLDEN_TEXT, atol=2e-4)
    # Pillow 12 and 13 decode and scale to pixels that differ a little.
    assert np.allclose(clip.embed_images([image])[0, :6], GOLDEN_IMAGE, atol=5e-4)


def test_both_runtimes_give_the_same_rows_in_batches_of_any_size(clip: ClipEmbedder) -> None:
    images = [sample_gallery() / row["file_name"] for row in gallery()[:9]]
    other = ClipEmbedder.load(runtime="torch", device="cpu", batch_size=4)
    assert other.fingerprint == clip.fingerprint
    assert np.allclose(clip.embed_images(images), other.embed_images(images), atol=1e-4)
    assert np.allclose(clip.embed_texts(TEXTS), other.embed_texts(TEXTS), atol=1e-4)
    for embedder in (clip, other):
        alone = np.concatenate([embedder.embed_texts([text]) for text in TEXTS])
        assert np.allclose(embedder.embed_texts(TEXTS), alone, atol=1e-5)
        alone = np.concatenate([embedder.embed_images([image]) for image in images])
        assert np.allclose(embedder.embed_images(images), alone, atol=1e-5)


def test_the_model_card_tells_its_size_fingerprint_and_figures(clip: ClipEmbedder) -> None:
    size = bundled_checkpoint().stat().st_size
    assert size <= 60e6
    assert f"{size / 1e6:.1f} MB" in CARD
    assert f"`{clip.fingerprint[:12]}…`" in CARD
    for data, name in (("flickr8k", "Flickr8k dev"), ("openclipart", "openclipart dev")):
        [row] = re.findall(rf"^\| {name} \|.*$", CARD, re.MULTILINE)
        for way in ("text_to_image", "image_to_text"):
            figures = " / ".join(f"{clip.metrics[f'{data}_dev_{way}_recall@{k}']:.1f}" for k in (1, 5, 10))
            assert figures in row


def test_it_says_what_its_similarities_are_worth(clip: ClipEmbedder) -> None:
    known = clip.calibration
    assert known is not None
    assert known.cutoff == pytest.approx(0.98, abs=0.01)
    assert f"a cosine of at least {known.score(known.cutoff):.2f} to a text" in CARD
    rows = gallery()[::4]
    images = clip.embed_images(sample_gallery() / row["file_name"] for row in rows)
    texts = clip.embed_texts(row["caption"] for row in rows)
    relevance = np.vectorize(known.relevance)(texts @ images.T)
    assert np.median(np.diag(relevance)) > np.median(relevance) + 0.1


def test_it_finds_most_of_the_gallery_by_its_titles(clip: ClipEmbedder) -> None:
    rows = gallery()
    images = clip.embed_images(sample_gallery() / row["file_name"] for row in rows)
    scores = clip.embed_texts(row["caption"] for row in rows) @ images.T
    own = np.diag(scores)
    ranks = (scores > own[:, None]).sum(axis=1)
    assert np.mean(ranks < 10) > 0.4  # by chance 0.04
