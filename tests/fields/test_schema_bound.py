"""A collection has 256 metadata fields at most: each has a payload index."""

from __future__ import annotations

import pytest

from clip_qdrant.errors import MetadataError
from clip_qdrant.fields.schema import MOST_FIELDS, Schema

WIDE = {f"column {i}": i for i in range(10_000)}


def test_too_many_fields_are_refused_with_the_number_and_the_first_beyond() -> None:
    with pytest.raises(MetadataError, match=r"column 256.*: 256 .*one of 10000 fields, .*256 at most"):
        Schema().extend([WIDE], uris=["urn:x"])
    full = Schema().extend([{f"f{i}": 1 for i in range(MOST_FIELDS)}])
    assert full.extend([{"f0": 2}]) is full
    with pytest.raises(MetadataError, match=r"'other'.* would be one of 257 fields"):
        full.extend([{"other": 1}])


def test_a_lenient_schema_takes_the_fields_that_most_images_have_and_leaves_room_for_those_expected() -> None:
    schema = Schema(expected={"camera": "keyword", "column 3": "float"})
    rows = [WIDE, {"often": "a"}, {"often": "b"}]
    extended = schema.extend(rows, lenient=True)
    assert len(extended.fields) == MOST_FIELDS - 2
    assert "often" in extended.fields
    assert (
        len(extended.extend([{"camera": "x"}, {"column 3": 1}]).fields)
        == MOST_FIELDS - ('"column 3"' in extended.fields) * 1
    )


def test_normalising_leaves_out_what_a_full_schema_does_not_have() -> None:
    schema = Schema().extend([WIDE], lenient=True)
    left_out: list[MetadataError] = []
    kept = schema.normalise(WIDE, left_out=left_out)
    assert len(kept) == MOST_FIELDS
    assert kept.complete
    assert len(left_out) == 100
    assert schema.extend([kept]) is schema
    half = Schema({"year": "integer"})
    kept = half.normalise({"year": 2024, **WIDE}, left_out=[])
    assert len(half.extend([kept]).fields) == MOST_FIELDS
