"""A ClipEmbedder gives the same unit rows whatever the input type, batch size and runtime."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exports import exported_checkpoint
from PIL import Image
from tiny import SIZE, pictures

from clip_qdrant import ClipEmbedder
from clip_qdrant.errors import CheckpointError, ConfigError, NotAnImage
from clip_qdrant.images.load import load_image
from clip_qdrant.model.saving import save_checkpoint

TEXTS = ["a photo of a dog", "red", "two cat on the grass circle square", "blue blue blue"]


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.pt"
    save_checkpoint(exported_checkpoint(), path)
    return path


@pytest.fixture(scope="module")
def onnx(model_path: Path) -> ClipEmbedder:
    return ClipEmbedder.load(model_path, runtime="onnx")


@pytest.fixture(scope="module")
def torch_runtime(model_path: Path) -> ClipEmbedder:
    return ClipEmbedder.load(model_path, runtime="torch", device="cpu")


@pytest.fixture(params=["onnx", "torch_runtime"])
def clip(request: pytest.FixtureRequest) -> ClipEmbedder:
    embedder: ClipEmbedder = request.getfixturevalue(request.param)
    return embedder


def test_rows_are_float32_of_norm_one(clip: ClipEmbedder) -> None:
    for rows in (clip.embed_images(pictures(5)), clip.embed_texts(TEXTS)):
        assert rows.dtype == np.float32
        assert rows.shape[1] == clip.dim == 32
        assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_it_goes_by_the_name_that_it_was_loaded_by_without_folders(clip: ClipEmbedder) -> None:
    assert clip.name == "tiny.pt"


def test_different_inputs_get_different_rows(clip: ClipEmbedder) -> None:
    for rows in (clip.embed_images(pictures(5)), clip.embed_texts(TEXTS)):
        similarity = rows @ rows.T
        assert similarity[~np.eye(len(rows), dtype=bool)].max() < 0.999


@pytest.mark.parametrize("batch_size", [1, 3, 7, 32])
def test_rows_do_not_depend_on_the_batch_size(model_path: Path, batch_size: int) -> None:
    images = pictures(20)
    for runtime in ("onnx", "torch"):
        embedder = ClipEmbedder.load(model_path, runtime=runtime, device="cpu", batch_size=batch_size)
        alone = np.concatenate([embedder.embed_images([image]) for image in images])
        assert np.allclose(embedder.embed_images(images), alone, atol=1e-5)
        alone = np.concatenate([embedder.embed_texts([text]) for text in TEXTS])
        assert np.allclose(embedder.embed_texts(TEXTS), alone, atol=1e-5)


def test_rows_do_not_depend_on_the_runtime(onnx: ClipEmbedder, torch_runtime: ClipEmbedder) -> None:
    assert (onnx.runtime, torch_runtime.runtime) == ("onnx", "torch")
    assert onnx.fingerprint == torch_runtime.fingerprint
    images = pictures(9)
    assert np.allclose(onnx.embed_images(images), torch_runtime.embed_images(images), atol=1e-4)
    assert np.allclose(onnx.embed_texts(TEXTS * 30), torch_runtime.embed_texts(TEXTS * 30), atol=1e-4)


def test_a_path_bytes_an_image_and_an_array_are_one_input(clip: ClipEmbedder, tmp_path: Path) -> None:
    [image] = pictures(1)
    image.save(tmp_path / "one.png")
    path = tmp_path / "one.png"
    rows = clip.embed_images([path, str(path), path.read_bytes(), image, np.asarray(image)])
    assert np.allclose(rows, rows[0], atol=1e-6)
    for single in (path, image, np.asarray(image)):  # one image is not taken for a sequence
        assert np.allclose(clip.embed_images(single), rows[:1], atol=1e-6)
    assert clip.embed_images(np.stack([image, image, image])).shape == (3, 32)


def test_pixels_are_what_preprocess_makes_of_an_image(clip: ClipEmbedder) -> None:
    images = pictures(3)
    pixels = np.stack([clip.preprocess(load_image(image).rgb) for image in images])
    assert pixels.shape == (3, SIZE, SIZE, 3)
    assert np.allclose(clip.embed_pixels(pixels), clip.embed_images(images), atol=1e-5)
    with pytest.raises(ConfigError, match=r"float32.*expected uint8"):
        clip.embed_pixels(pixels.astype(np.float32))


def test_images_stream_in_bounded_memory_and_progress_is_told(clip: ClipEmbedder) -> None:
    taken, told = [], []

    def endless() -> object:
        for number, image in enumerate(pictures(200)):
            taken.append(number)
            yield image

    rows = clip.iter_embed_images(endless(), progress=told.append)  # type: ignore[arg-type]
    next(rows)
    assert len(taken) == clip.batch_size
    assert len(list(rows)) == 199
    assert told == [32, 64, 96, 128, 160, 192, 200]


def test_nothing_in_gives_nothing_out(clip: ClipEmbedder) -> None:
    assert clip.embed_images([]).shape == (0, 32)
    assert clip.embed_texts([]).shape == (0, 32)


def test_tokens_are_counted_as_the_encoder_reads_them(clip: ClipEmbedder) -> None:
    ids, mask = clip._tokenize(TEXTS)  # what it is given, by the reference

    assert clip.count_tokens(TEXTS) == [int(row.sum()) for row in mask]
    assert clip.count_tokens("red")[0] < clip.count_tokens("a photo of a dog")[0] <= ids.shape[1]
    assert clip.count_tokens([]) == []


def test_bad_input_is_named(clip: ClipEmbedder, tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_text("<html>")
    with pytest.raises(NotAnImage, match=r"page\.jpg"):
        clip.embed_images([tmp_path / "page.jpg"])
    with pytest.raises(NotAnImage, match="image 1"):
        clip.embed_images([pictures(1)[0], b"no image at all, but long enough to look at"])
    with pytest.raises(ConfigError, match="not int: 7"):
        clip.embed_texts(["fine", 7])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="not valid Unicode"):
        clip.embed_texts(["fine", "caf\udce9"])
    assert clip.embed_texts("a dog").shape == (1, 32)  # one text is not taken for its letters


def test_arguments_that_contradict_each_other_are_refused(model_path: Path) -> None:
    with pytest.raises(ConfigError, match="auto, onnx and torch"):
        ClipEmbedder.load(model_path, runtime="jax")  # type: ignore[arg-type]
    for device in ("cuda:99", "meta", "nonsense"):
        with pytest.raises(ConfigError, match=device):
            ClipEmbedder.load(model_path, device=device)
    with pytest.raises(ConfigError, match="threads is 0"):
        ClipEmbedder.load(model_path, threads=0)
    with pytest.raises(ConfigError, match="batch_size is 0"):
        ClipEmbedder.load(model_path, runtime="torch", device="cpu:0", batch_size=0)
    with pytest.raises(CheckpointError, match=r"no/such\.pt"):
        ClipEmbedder.load("no/such.pt")


def test_an_onnx_embedder_saves_its_checkpoint(onnx: ClipEmbedder, tmp_path: Path) -> None:
    assert onnx.save(tmp_path / "copy.pt", graphs=False) == onnx.fingerprint
    again = ClipEmbedder.load(tmp_path / "copy.pt", runtime="torch", device="cpu")
    assert again.fingerprint == onnx.fingerprint
    assert again.trained_on == onnx.trained_on == ("nothing",)


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_a_name_of_the_hub_and_a_folder_are_told_how_they_are_written(tmp_path: Path, runtime: Any) -> None:
    def refuse(model: str | Path) -> str:
        with pytest.raises(CheckpointError) as caught:
            ClipEmbedder.load(model, runtime=runtime, device="cpu", cache_dir=tmp_path / "cache")
        return str(caught.value)

    (tmp_path / "model").mkdir()
    assert "named hf:openai/clip-vit-base-patch32" in refuse("openai/clip-vit-base-patch32")
    assert f"named hf:{tmp_path / 'model'}" in refuse(tmp_path / "model")
    assert "hf:" not in refuse("runs/best.pt")


LOAD = """
import sys
from clip_qdrant import ClipEmbedder
clip = ClipEmbedder.load(sys.argv[1], runtime="onnx", device="cpu")
print(clip.embed_texts(["a dog"])[0, 0], "torch" in sys.modules, "transformers" in sys.modules)
"""


def test_a_warm_embedder_imports_neither_torch_nor_transformers(model_path: Path, onnx: ClipEmbedder) -> None:
    command = [sys.executable, "-c", LOAD, str(model_path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert answer.stdout.split()[1:] == ["False", "False"]


def test_a_photo_with_an_orientation_gets_the_row_of_the_upright_one(clip: ClipEmbedder, tmp_path: Path) -> None:
    [image] = pictures(1, size=(96, 64))
    turned = image.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[274] = 6  # rotate by 270 degrees to see it upright
    turned.save(tmp_path / "turned.png", exif=exif)
    assert np.allclose(clip.embed_images([tmp_path / "turned.png"]), clip.embed_images([image]), atol=1e-5)


def test_compiling_is_for_torch_alone() -> None:
    with pytest.raises(ConfigError, match="compile is for torch"):
        ClipEmbedder.load(runtime="onnx", compile=True)
