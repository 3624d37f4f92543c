"""A few published models to begin with, what is known of each, and which to take. Any other of its kind loads as well.

Figures are those of others, in percent: text-to-image recall@1 of Flickr30k (1,000 test images) and COCO (5,000), and
zero-shot top-1 on ImageNet. What its source does not give is None.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from clip_qdrant.content import BUNDLED

__all__ = ["CATALOG", "SPEEDS", "CatalogEntry", "suggest_model"]

# For one image on a CPU, beside a ViT-B/32: counted in multiplications, where nobody has measured it.
SPEEDS = {
    "fastest": "less than a ViT-B/32",
    "fast": "up to 1.5 times a ViT-B/32",
    "medium": "2.5 to 4 times",
    "slow": "18 to 40 times: for a GPU",
}
_OPEN_CLIP = "open_clip, docs/openclip_results.csv and openclip_retrieval_results.csv"
_SIGLIP_2 = "SigLIP 2, arXiv 2502.14786 and google-research/big_vision, README_siglip2.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogEntry:
    """One model: its name as `--model` takes it, the size of its files, its licence, and published figures.

    `languages` is the number of languages it was trained with. `advice` says for what it is the one to take.
    """

    name: str
    megabytes: int
    license: str
    speed: Literal["fastest", "fast", "medium", "slow"]
    languages: int = 1
    flickr30k: float | None = None
    coco: float | None = None
    imagenet: float | None = None
    source: str = ""
    advice: str = ""


CATALOG = (
    CatalogEntry(
        name=BUNDLED,
        megabytes=58,
        license="MIT",
        speed="fastest",
        source="content/MODEL_CARD.md, measured on other sets",
        advice="without a download",
    ),
    CatalogEntry(
        name="hf:openai/clip-vit-base-patch32",
        megabytes=605,
        license="MIT",
        speed="fast",
        flickr30k=58.8,
        coco=30.4,
        imagenet=63.3,
        source=_OPEN_CLIP,
    ),
    CatalogEntry(
        name="hf:laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        megabytes=605,
        license="MIT",
        speed="fast",
        flickr30k=66.8,
        coco=39.3,
        imagenet=66.6,
        source=_OPEN_CLIP,
    ),
    CatalogEntry(
        name="hf:google/siglip2-base-patch32-256",
        megabytes=1507,
        license="Apache-2.0",
        speed="fast",
        languages=109,
        coco=47.2,
        imagenet=74.0,
        source=_SIGLIP_2,
        advice="CPUs",
    ),
    CatalogEntry(
        name="hf:google/siglip-base-patch16-224",
        megabytes=813,
        license="Apache-2.0",
        speed="medium",
        flickr30k=74.7,
        coco=47.8,
        source=_OPEN_CLIP,
    ),
    CatalogEntry(
        name="hf:google/siglip2-base-patch16-224",
        megabytes=1501,
        license="Apache-2.0",
        speed="medium",
        languages=109,
        coco=52.1,
        imagenet=78.2,
        source=_SIGLIP_2,
    ),
    CatalogEntry(
        name="hf:openai/clip-vit-large-patch14",
        megabytes=1710,
        license="MIT",
        speed="slow",
        flickr30k=65.0,
        coco=36.5,
        imagenet=75.5,
        source=_OPEN_CLIP,
    ),
    CatalogEntry(
        name="hf:google/siglip2-so400m-patch16-256",
        megabytes=4544,
        license="Apache-2.0",
        speed="slow",
        languages=109,
        coco=55.4,
        imagenet=83.4,
        source=_SIGLIP_2,
        advice="GPUs",
    ),
    CatalogEntry(
        name="hf:laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        megabytes=3944,
        license="MIT",
        speed="slow",
        flickr30k=77.6,
        coco=49.5,
        imagenet=78.0,
        source=_OPEN_CLIP,
    ),
)


def suggest_model(model: str) -> str | None:
    """One line for who uses the bundled model: that there are better ones, and which; None for who chose another."""
    if model != BUNDLED:
        return None
    names = {entry.advice: entry.name for entry in CATALOG}
    return f"larger models find more, such as {names['CPUs']}, on a GPU {names['GPUs']}"
