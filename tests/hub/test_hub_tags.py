"""The weights of a tag of open_clip, which lie on the hub: downloaded once, and told of if they cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_hub import FakeHub, refusal
from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError

from clip_qdrant.errors import CheckpointError
from clip_qdrant.model.published.open_clip.source import find_named

NAME, REPOSITORY = "ViT-B-32/laion2b_s34b_b79k", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def find_weights() -> Path:
    return find_named(NAME, f"open_clip:{NAME}").weights


@pytest.mark.parametrize("file", FILES)
def test_weights_are_downloaded_once_and_then_need_no_network(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    hub.add(REPOSITORY, {file: b"weights"})
    for other in FILES:
        hub.site.pages.setdefault(f"/{REPOSITORY}/resolve/main/{other}", refusal(404, "EntryNotFound"))

    assert find_weights().read_bytes() == b"weights"
    asked = len(hub.site.requests)
    assert find_weights().name == file
    assert len(hub.site.requests) == asked
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert find_weights().name == file


def test_a_repository_without_them_is_told(hub: FakeHub) -> None:
    for file in FILES:
        hub.site.pages[f"/{REPOSITORY}/resolve/main/{file}"] = refusal(404, "EntryNotFound")
    with pytest.raises(CheckpointError, match=f"hf:{REPOSITORY}, .* has no file open_clip_model"):
        find_weights()


def test_without_a_network_it_is_not_the_repository_that_lacks_them(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(*_: object, **__: object) -> str:  # as it is after half a minute of retries
        raise LocalEntryNotFoundError("not in the cache") from ConnectionError("refused")

    with monkeypatch.context() as away:
        away.setattr("huggingface_hub.hf_hub_download", download)
        with pytest.raises(CheckpointError, match=f"cannot reach the hub at .* for hf:{REPOSITORY}: refused"):
            find_weights()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=f"hf:{REPOSITORY} has not been downloaded .* HF_HUB_OFFLINE"):
        find_weights()
