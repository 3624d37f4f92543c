"""A table of more columns than a collection has fields costs no image: the surplus is left out and counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import FakeEmbedder, solid_image
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import MetadataError
from clip_qdrant.fields.schema import MOST_FIELDS
from clip_qdrant.fields.types import METADATA_PREFIX
from clip_qdrant_ingestion import ingest
from clip_qdrant_ingestion.sources.tables.manifest import ManifestSource


def test_a_table_of_too_many_columns_fills_the_collection_and_no_more(
    tmp_path: Path, memory_client: QdrantBase
) -> None:
    names = [f"c{i}" for i in range(MOST_FIELDS + 40)]
    lines = [",".join(["path", *names])]
    for number in range(2):
        solid_image((number * 90, 9, 9)).save(tmp_path / f"{number}.png")
        lines.append(",".join([f"{number}.png", *("7" for _ in names)]))
    (tmp_path / "table.csv").write_text("\n".join(lines))
    collection = ImageCollection("photos", FakeEmbedder(), memory_client)
    report = ingest(ManifestSource(tmp_path / "table.csv"), collection)
    assert (report.added, report.quarantined) == (2, ())
    own = [key for key in collection.fields if key.startswith(METADATA_PREFIX)]
    assert MOST_FIELDS - 40 < len(own) <= MOST_FIELDS  # there is room for what photos say of themselves
    assert {row.count for row in report.fields_left_out} == {2}
    assert "256 at most" in report.fields_left_out[0].detail
    assert ingest(ManifestSource(tmp_path / "table.csv"), collection).skipped == 2
    with pytest.raises(MetadataError, match="256 at most"):
        collection.add([solid_image("blue")], metadata=[{f"d{i}": 1 for i in range(100)}])
