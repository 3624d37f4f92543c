"""ClipEmbedder as the embedding provider of an app that keeps vectors itself: the images of a folder that fit a text.

python examples/embed.py "a bird"                     # in the sample gallery
python examples/embed.py "a red car" ~/Pictures
"""

import sys
from pathlib import Path

import numpy as np

from clip_qdrant import ClipEmbedder
from clip_qdrant.content import sample_gallery


def main(text: str, folder: Path) -> None:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
    clip = ClipEmbedder.load()  # or a path, "hf:openai/clip-vit-base-patch32", …
    images = clip.embed_images(files)  # (n, dim), float32, rows of length 1
    (query,) = clip.embed_texts([text])  # (dim,)
    scores = images @ query  # of unit vectors this is the cosine similarity
    for position in np.argsort(-scores)[:5]:
        print(f"{scores[position]:.3f}", files[position].name)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else sample_gallery())
