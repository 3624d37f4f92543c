"""Fine-tune CLIP on pairs of your own, and search with it: a table of images and captions is all it takes.

python examples/finetune.py photos/captions.csv mine.pt         # the bundled model, its heads alone: minutes on a CPU
python examples/finetune.py captions.csv mine.pt --start hf:openai/clip-vit-base-patch32   # all of it: wants a GPU

`mine.pt` is all that is needed afterwards: ClipEmbedder.load("mine.pt"), clip-qdrant search --model mine.pt.
"""

import argparse
from pathlib import Path

from clip_qdrant import ClipEmbedder
from clip_qdrant_training import EpochReport, read_pairs


def tell(epoch: EpochReport) -> None:
    print(f"epoch {epoch.epoch}: loss {epoch.loss:.3f}, recall of the pairs held out {epoch.metrics}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("captions", type=Path, help="a header `image,caption`, then a line for each image")
    parser.add_argument("output", type=Path)
    parser.add_argument("--start", default="bundled")
    parser.add_argument("--epochs", type=int, default=5)
    given = parser.parse_args()
    clip = ClipEmbedder.fit(
        given.captions,  # a part is held out to judge by, unless validation= names pairs for it
        start=given.start,
        output=given.output,
        epochs=given.epochs,
        freeze_encoders=given.start == "bundled",
        on_epoch=tell,
    )
    pairs = list(read_pairs(given.captions))
    text = pairs[0].captions[0]
    scores = clip.embed_images([pair.image for pair in pairs]) @ clip.embed_texts([text])[0]
    print(f"{text!r} finds the image of {pairs[int(scores.argmax())].captions[0]!r}")


if __name__ == "__main__":
    main()
