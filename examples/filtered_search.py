"""Search by meaning among the images that a filter selects, and what there is to select by.

python examples/filtered_search.py "a bird" "category = 'animals'"
python examples/filtered_search.py "at the sea" "year >= 2020 and album = 'trips'" ~/Pictures
"""

import sys
from contextlib import closing
from pathlib import Path

from clip_qdrant import ClipEmbedder, ImageCollection, connect
from clip_qdrant.content import sample_gallery
from clip_qdrant.errors import FilterError
from clip_qdrant_ingestion import FolderSource, ingest


def main(text: str, where: str, folder: Path) -> None:
    with closing(connect("./qdrant-data")) as client:
        images = ImageCollection("filtered", ClipEmbedder.load(), client)
        ingest(FolderSource(folder), images)  # with its metadata.jsonl; a second run skips what is unchanged
        try:
            hits = images.search(text, where=where, limit=5)
        except FilterError as error:  # a field that is not there, a value of another type, …
            print(error)
            return
        for hit in hits:
            print(f"{hit.score:.3f} {hit.caption} {dict(hit.metadata)}")
        for name, kind in images.fields.items():
            if name.startswith("metadata.") and kind == "keyword":
                values = ", ".join(f"{one.value} ({one.count})" for one in images.facet(name, where=where, limit=5))
                print(f"{name.removeprefix('metadata.')}: {values}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]) if len(sys.argv) > 3 else sample_gallery())
