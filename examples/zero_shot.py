"""Labels for images that nobody has labelled: each gets that of the prompts it is nearest to, and keeps it as metadata.

python examples/zero_shot.py                          # the sample gallery
python examples/zero_shot.py ~/Pictures
"""

import sys
from contextlib import closing
from pathlib import Path

from clip_qdrant import ClipEmbedder, ImageCollection, connect
from clip_qdrant.content import sample_gallery
from clip_qdrant_ingestion import FolderSource, ingest

LABELS = {
    "animal": ["a picture of an animal", "a bird", "a fish", "a dog"],
    "plant": ["a flower", "a tree", "leaves"],
    "food": ["something to eat", "a fruit", "a cup of coffee"],
    "thing": ["a tool", "a machine", "a sign"],
}


def main(folder: Path) -> None:
    with closing(connect("./qdrant-data")) as client:
        images = ImageCollection("labelled", ClipEmbedder.load(), client)
        ingest(FolderSource(folder), images)
        done = images.classify(LABELS, write="kind")  # of images that have a kind already, nothing is changed
        print(dict(done.counts), f"{done.left_alone} had one")
        for hit in images.search("something sweet", where="kind = 'food'", limit=3):
            print(f"{hit.score:.3f} {hit.metadata['kind']} {hit.uri}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else sample_gallery())
