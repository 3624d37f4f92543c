"""Names of models of the hub: what they say, and what is told to those who write them in another way."""

from __future__ import annotations

from pathlib import Path

import pytest

from clip_qdrant import ClipEmbedder
from clip_qdrant.errors import CheckpointError
from clip_qdrant.model_names import HubName, leave_out_folders, parse_hub_name, suggest_name


@pytest.mark.parametrize(
    ("name", "repository", "revision"),
    [
        ("openai/clip-vit-base-patch32", "openai/clip-vit-base-patch32", None),
        ("google/siglip2-base-patch32-256@main", "google/siglip2-base-patch32-256", "main"),
        ("a/b@refs/pr/3", "a/b", "refs/pr/3"),
        ("gpt2", "gpt2", None),
    ],
)
def test_a_name_is_a_repository_and_perhaps_a_revision(name: str, repository: str, revision: str | None) -> None:
    assert parse_hub_name(name) == HubName(repository, revision)
    assert str(HubName(repository, revision)) == f"hf:{name}"


@pytest.mark.parametrize("name", ["", "./photos", "a/b/c", "/root/model", "a b/c", "../a", "a/..", "a/b@", "a/b@../c"])
def test_what_is_neither_a_folder_nor_such_a_name_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match=r"there is no folder|names no revision|names no model"):
        parse_hub_name(name)


@pytest.mark.parametrize(
    "written",
    [
        "openai/clip-vit-base-patch32",
        "https://huggingface.co/openai/clip-vit-base-patch32",
        "https://huggingface.co/openai/clip-vit-base-patch32/tree/main",
        "hf://openai/clip-vit-base-patch32",
    ],
)
def test_a_model_of_the_hub_without_hf_is_told_how_it_is_named(written: str) -> None:
    for runtime in ("onnx", "torch"):
        with pytest.raises(CheckpointError, match=r"is named hf:openai/clip-vit-base-patch32$"):
            ClipEmbedder.load(written, runtime=runtime, device="cpu")


def test_the_revision_of_a_page_and_of_a_name_is_kept() -> None:
    assert suggest_name("https://huggingface.co/a/b/tree/v1").endswith("is named hf:a/b@v1")
    assert suggest_name("a/b@v1").endswith("is named hf:a/b@v1")
    with pytest.raises(CheckpointError, match=r"named hf:a/b@v1$"):
        parse_hub_name("https://huggingface.co/a/b/tree/v1")


def test_files_and_folders_are_not_taken_for_models_of_the_hub(tmp_path: Path) -> None:
    assert suggest_name("models/best.pt") == suggest_name("best") == ""
    assert suggest_name(tmp_path) == f"; the folder of a published model is named hf:{tmp_path}"


def test_what_is_here_is_named_without_the_folders_that_it_lies_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder" / "clip").mkdir(parents=True)
    (tmp_path / "folder" / "mine.pt").touch()
    monkeypatch.chdir(tmp_path / "folder")
    names = {
        "bundled": "bundled",
        "hf:openai/clip-vit-base-patch32@main": "hf:openai/clip-vit-base-patch32@main",
        "open_clip:ViT-B-32/laion2b_s34b_b79k": "open_clip:ViT-B-32/laion2b_s34b_b79k",
        "hf:a/images+hf:a/texts": "hf:a/images+hf:a/texts",
        f"{tmp_path}/folder/mine.pt": "mine.pt",
        "hf:.": "hf:folder",
        f"hf:{tmp_path}/folder/clip/": "hf:clip",
        f"open_clip:ViT-B-32/{tmp_path}/folder/mine.pt": "open_clip:ViT-B-32/mine.pt",
        f"hf:{tmp_path}/folder/clip+hf:a/texts": "hf:clip+hf:a/texts",
    }
    assert {name: leave_out_folders(name) for name in names} == names
