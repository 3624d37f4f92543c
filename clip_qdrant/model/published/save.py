"""A checkpoint of a transformers model as a folder that transformers reads: the way back from `hf:`.

save_transformers(load_checkpoint("mine.pt"), "mine")
CLIPModel.from_pretrained("mine"), AutoTokenizer.from_pretrained("mine"), AutoImageProcessor.from_pretrained("mine")
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image
from tokenizers import Regex, Tokenizer, normalizers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from clip_qdrant.errors import CheckpointError
from clip_qdrant.file_replacement import raise_if_full
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.published.token_warnings import pass_over_token_warnings
from clip_qdrant.model_inputs.preprocessing import Preprocessing
from clip_qdrant.model_inputs.tokenization import Tokenization

__all__ = ["save_transformers"]

_PUNCTUATION = r"[!-/:-@\[-`{-~]"  # of ASCII


@pass_over_token_warnings()
def save_transformers(checkpoint: Checkpoint, folder: str | Path) -> None:
    """Write config.json, model.safetensors, tokenizer and preprocessor_config.json, in float32.

    What is done to texts before they are tokenized becomes a part of tokenizer.json. Prompts and calibration have no
    place there. Raises CheckpointError for a network that is none of transformers, for images that its processors see
    in another way, and for a folder that cannot be written; DiskFull where there is no room.
    """
    network: Any = getattr(checkpoint.model, "model", None)
    if checkpoint.config.get("family") != "transformers" or not isinstance(network, PreTrainedModel):
        raise CheckpointError(
            f"the network is of the family {checkpoint.config.get('family')!r}, for which transformers has no class: "
            "only what came from transformers (hf:) can be written in its layout; keep the checkpoint file"
        )
    processor = _describe_processor(checkpoint.preprocessing)
    tokenizer = _make_tokenizer(checkpoint.tokenizer, checkpoint.tokenization)
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        text = json.dumps(processor, indent=2) + "\n"
        (folder / "preprocessor_config.json").write_text(text, encoding="utf-8")
    except (OSError, RuntimeError) as error:
        raise_if_full(error, folder)
        raise CheckpointError(f"cannot write {folder}: {error}") from error


def _describe_processor(preprocessing: Preprocessing) -> dict[str, Any]:
    """The preprocessor_config.json that says the same."""
    resize = preprocessing.resize
    resample = getattr(Image.Resampling, preprocessing.interpolation.upper(), None)
    if resize == "pad" or resample is None:
        raise CheckpointError(
            f"its images are resized by {resize!r} and {preprocessing.interpolation!r}, which no image processor of "
            "transformers does: keep the checkpoint file"
        )
    told = {
        "do_convert_rgb": True,
        "do_resize": resize != "none",
        "resample": int(resample),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocessing.mean),
        "image_std": list(preprocessing.std),
    }
    if resize == "patches":
        sizes = {"patch_size": preprocessing.patch, "max_num_patches": preprocessing.patches}
        return {"image_processor_type": "Siglip2ImageProcessor", **told, **sizes}
    height, width = preprocessing.image_size, preprocessing.width or preprocessing.image_size
    side = preprocessing.scaled
    crops = resize != "squash" or side is not None
    if crops and preprocessing.offset != "floor":
        raise CheckpointError(
            "its images are cropped at another place than transformers crops them: keep the checkpoint file"
        )
    short, both = {"shortest_edge": side or height}, {"height": side or height, "width": side or width}
    return {
        "image_processor_type": "CLIPImageProcessor",
        **told,
        "size": short if resize == "crop" else both,
        "do_center_crop": crops,
        "crop_size": {"height": height, "width": width},
    }


def _make_tokenizer(text: str, tokenization: Tokenization) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer.from_str(text)
    steps: list[Any] = []
    if tokenization.lower_case or tokenization.canonicalize:
        steps.append(normalizers.Lowercase())
    if tokenization.canonicalize:
        steps += [
            normalizers.Replace(Regex(_PUNCTUATION), ""),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
        ]
    if steps:
        own = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
        tokenizer.normalizer = normalizers.Sequence([*steps, *own])
    fast: Any = PreTrainedTokenizerFast  # without types
    saved: PreTrainedTokenizerFast = fast(
        tokenizer_object=tokenizer,
        pad_token=tokenizer.id_to_token(tokenization.pad_id) or tokenization.pad_token,
        model_max_length=tokenization.max_length,
        padding_side="left" if tokenization.pad_left else "right",
        model_input_names=["input_ids", "attention_mask"],
    )
    return saved
