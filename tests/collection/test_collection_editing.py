"""update_metadata() and classify(): what is stored of images changes without them, and stays changed."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import COLOURS, FakeEmbedder, write_image
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from clip_qdrant.calibration.curves import LEVELS, Calibration
from clip_qdrant.collection.edit.classify import Label
from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import FilterError, MetadataError, QueryError
from clip_qdrant.fields.types import Location
from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant_ingestion import FolderSource, ingest

LABELS = {"warm": ["red", "yellow"], "cold": "blue"}


@pytest.fixture
def photos(client: QdrantBase, tmp_path: Path) -> ImageCollection:
    collection = ImageCollection("photos", FakeEmbedder(), client)
    collection.add(
        [write_image(tmp_path / f"{colour}.png", colour) for colour in COLOURS],
        captions=[f"a {colour} card" for colour in COLOURS],
        metadata=[{"number": number, "tags": ["card"]} for number in range(len(COLOURS))],
    )
    return collection


def names(hits: Any) -> set[str]:
    return {hit.path.stem for hit in hits}


def test_fields_of_some_images_change_and_the_rest_stays(photos: ImageCollection, tmp_path: Path) -> None:
    before = {hit.uri: hit for hit in photos.search()}

    changed = photos.update_metadata({"album": "pets", "tags": None}, where="number < 2")

    assert changed == 2
    assert names(photos.search(where="album = 'pets' and tags is null")) == {"red", "green"}
    for hit in photos.search():
        old = before[hit.uri]
        if hit.metadata["number"] >= 2:
            assert hit.payload == old.payload
        else:
            assert hit.metadata == {"number": old.metadata["number"], "album": "pets"}
            assert {**hit.payload, "caption": 0} == {
                **old.payload,
                "metadata": hit.metadata,
                "edits": {"album": "pets", "tags": None},
                "ingested_at": hit.payload["ingested_at"],
                "caption": 0,
            }
    assert photos.search("red", limit=1)[0].path == tmp_path / "red.png"
    assert photos.update_metadata({"album": "pets", "tags": None}, where="number < 2") == 0


def test_caption_date_and_place_may_be_changed(photos: ImageCollection, tmp_path: Path) -> None:
    changes = {"caption": "ein Bild", "taken_at": datetime(2020, 5, 1, 12), "location": (48.1, 11.5)}

    assert photos.update_metadata({**changes, "location": {"lat": 48.1, "lon": 11.5}}, uris=[tmp_path / "red.png"]) == 1

    found = photos.get(tmp_path / "red.png")
    assert found is not None
    assert (found.caption, found.taken_at) == ("ein Bild", datetime(2020, 5, 1, 12))
    assert found.location == Location(48.1, 11.5)
    assert names(photos.search(where="taken_at = '2020-05' and location within 1 km of (48.1, 11.5)")) == {"red"}
    assert photos.update_metadata({"taken_at": None, "caption": None}, uris=[tmp_path / "red.png"]) == 1
    found = photos.get(tmp_path / "red.png")
    assert found is not None
    assert (found.caption, found.taken_at) == (None, None)


def test_nothing_is_changed_where_one_cannot_be(photos: ImageCollection, tmp_path: Path) -> None:
    with pytest.raises(QueryError, match=r"1 of the images, the first .*nowhere\.png"):
        photos.update_metadata({"number": 7}, uris=[tmp_path / "red.png", tmp_path / "nowhere.png"])
    with pytest.raises(MetadataError, match="number"):
        photos.update_metadata({"number": "seven"}, where="")
    with pytest.raises(MetadataError, match="caption must be text"):
        photos.update_metadata({"caption": 7}, where="")
    with pytest.raises(QueryError, match="needs uris or where"):
        photos.update_metadata({"number": 7})
    with pytest.raises(QueryError, match="takes an iterable"):
        photos.update_metadata({"number": 7}, uris=str(tmp_path / "red.png"))
    with pytest.raises(FilterError):
        photos.update_metadata({"number": 7}, where="nowhere = 1")
    for nothing in ({}, ["album"]):
        with pytest.raises(MetadataError, match="fields to change"):
            photos.update_metadata(nothing, where="")  # type: ignore[arg-type]  # that is the point
    assert {hit.metadata["number"] for hit in photos.search()} == set(range(8))
    assert all("edits" not in hit.payload for hit in photos.search())


def test_a_field_may_be_named_as_filters_name_it(photos: ImageCollection, tmp_path: Path) -> None:
    assert photos.update_metadata({"metadata.number": 70}, uris=[tmp_path / "red.png"]) == 1

    assert names(photos.search(where="number = 70")) == {"red"}


def test_a_field_within_another_is_changed_with_that_alone(photos: ImageCollection) -> None:
    photos.update_metadata({"exif": {"iso": 100, "kind": "a"}}, where="number < 2")

    for change in ({"exif.iso": 200}, {"metadata.exif.iso": 200}):
        with pytest.raises(MetadataError, match=r"'exif\.iso' is a field within 'exif': give 'exif' whole"):
            photos.update_metadata(change, where="")
    with pytest.raises(MetadataError, match="within 'exif'"):
        photos.classify(LABELS, write="exif.kind")

    assert photos.update_metadata({"exif": {"iso": 200, "kind": "a"}}, where="number = 1") == 1
    assert (photos.count("exif.iso = 200"), photos.count("exif.iso = 100")) == (1, 1)


def test_uris_and_where_together_mean_both(photos: ImageCollection, tmp_path: Path) -> None:
    uris = [tmp_path / "red.png", tmp_path / "blue.png"]
    assert photos.update_metadata({"seen": True}, uris=uris, where="number = 0") == 1
    assert names(photos.search(where="seen = true")) == {"red"}


def test_ingestion_does_not_take_back_what_was_changed(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    rows = []
    for colour in ("red", "blue"):
        write_image(folder / f"{colour}.png", colour)
        rows.append({"file_name": f"{colour}.png", "caption": f"a {colour} card", "album": "cards", "year": 2020})
    table = folder / "metadata.jsonl"
    table.write_text("\n".join(map(json.dumps, rows)))
    source = FolderSource(folder)
    with EdgeClient(tmp_path / "store") as client:
        photos = ImageCollection("photos", FakeEmbedder(), client)
        ingest(source, photos)
        photos.update_metadata({"album": "mine", "year": None, "caption": "my card"}, uris=[folder / "red.png"])

        assert ingest(source, photos).skipped == 2
        rows[0].update(album="theirs", year=2021, shelf="top")
        table.write_text("\n".join(map(json.dumps, rows)))
        ingest(source, photos)
        red = photos.get(folder / "red.png")
        assert red is not None
        assert (red.caption, dict(red.metadata)) == ("my card", {"album": "mine", "shelf": "top"})

        write_image(folder / "red.png", "magenta")  # other bytes, read anew
        ingest(source, photos)
        red = photos.get(folder / "red.png")
        assert red is not None
        assert (red.caption, dict(red.metadata)) == ("my card", {"album": "mine", "shelf": "top"})

        (folder / "red.png").unlink()
        ingest(source, photos, delete=True)
        assert names(photos.search()) == {"blue"}


def test_each_image_gets_the_label_it_is_nearest_to(photos: ImageCollection) -> None:
    told: list[Label] = []

    found = photos.classify(LABELS, where="number < 4", on_image=told.append)

    assert found.counts == {"warm": 3, "cold": 1}
    assert {label.uri.rpartition("/")[2]: label.label for label in told} == {
        "red.png": "warm",
        "green.png": "warm",
        "yellow.png": "warm",
        "blue.png": "cold",
    }
    assert all("label" not in hit.metadata for hit in photos.search())


def test_labels_are_kept_and_an_interrupted_run_goes_on(
    photos: ImageCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clip_qdrant.collection.edit.classify._AT_ONCE", 3)

    def stop(label: Label, seen: list[Label] = []) -> None:  # noqa: B006  counts over the whole run
        seen.append(label)
        if len(seen) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        photos.classify(LABELS, write="metadata.kind", on_image=stop)
    again = photos.classify(LABELS, write="metadata.kind")
    third = photos.classify(LABELS, write="metadata.kind")

    assert again.left_alone == 6
    assert sum(again.counts.values()) == 2
    assert (sum(third.counts.values()), third.left_alone) == (0, 8)
    assert names(photos.search(where="kind = 'cold'")) >= {"blue", "cyan"}
    turned = photos.classify({"cold": "red", "warm": "blue"}, write="kind", again=True)
    assert sum(turned.counts.values()) == 8
    assert "blue" in names(photos.search(where="kind = 'warm'"))


def test_labels_for_likely_images_alone_need_a_calibration(photos: ImageCollection) -> None:
    with pytest.raises(QueryError, match=r"needs a calibration.*without min_relevance each image gets the label"):
        photos.classify(LABELS, min_relevance="auto", write="kind")

    assert photos.count() == len(COLOURS)
    assert "metadata.kind" not in photos.fields


def test_an_image_that_is_like_no_label_gets_none(photos: ImageCollection) -> None:
    photos.embedder.calibration = Calibration(LEVELS, LEVELS, 0.9)  # type: ignore[attr-defined]  # may have one

    found = photos.classify({"warm": "red", "cold": "blue"}, min_relevance="auto", write="kind")

    assert found.counts == {"warm": 1, "cold": 1}
    assert found.unsure == 6
    assert names(photos.search(where="kind exists")) == {"red", "blue"}


def test_an_image_that_is_like_no_label_any_more_loses_the_one_it_had(photos: ImageCollection) -> None:
    photos.embedder.calibration = Calibration(LEVELS, LEVELS, 0.9)  # type: ignore[attr-defined]  # it may have one
    photos.classify(LABELS, write="kind")
    assert photos.count("kind exists") == len(COLOURS)

    found = photos.classify(LABELS, write="kind", again=True, min_relevance="auto")

    assert 0 < found.unsure < len(COLOURS)
    assert photos.count("kind is null") == found.unsure


@pytest.mark.parametrize("wrong", [float("nan"), "often", 2, True])
def test_a_relevance_that_cannot_be_is_refused_for_labels_too(photos: ImageCollection, wrong: Any) -> None:
    photos.embedder.calibration = Calibration(LEVELS, LEVELS, 0.9)  # type: ignore[attr-defined]  # it may have one
    with pytest.raises(QueryError, match="min_relevance must be"):
        photos.classify(LABELS, min_relevance=wrong)


@pytest.mark.parametrize(
    ("labels", "write", "what"),
    [
        ({"one": "red"}, None, "at least two labels"),
        (["red", "blue"], None, "at least two labels"),
        ({"one": [], "two": "blue"}, None, "at least one prompt"),
        ({"one": "", "two": "blue"}, None, "empty"),
        ({"one": 7, "two": "blue"}, None, "at least one prompt"),
        (LABELS, "uri", "names a metadata field"),
        (LABELS, "caption", "names a metadata field"),
        (LABELS, "", "names a metadata field"),
    ],
)
def test_what_cannot_be_a_label_is_refused(photos: ImageCollection, labels: Any, write: Any, what: str) -> None:
    with pytest.raises(QueryError, match=what):
        photos.classify(labels, write=write)


def test_a_collection_that_is_not_there_yet_has_nothing_to_change(client: QdrantBase) -> None:
    nothing = ImageCollection("nothing", FakeEmbedder(), client)
    assert nothing.update_metadata({"a": 1}, where="") == 0
    assert nothing.classify(LABELS).counts == {"warm": 0, "cold": 0}


def test_a_label_is_the_mean_of_its_prompts(photos: ImageCollection) -> None:
    from clip_qdrant.collection.edit.classify import embed_labels

    vectors = embed_labels(LABELS, photos.embedder)
    red, yellow = photos.embedder.embed_texts(["red", "yellow"])
    assert vectors[0] == pytest.approx((red + yellow) / np.linalg.norm(red + yellow), abs=1e-6)


def test_points_of_other_programs_get_no_label(photos: ImageCollection) -> None:
    vector = photos.embedder.embed_texts(["red"])[0].tolist()
    photos.client.upsert("photos", [models.PointStruct(id=7, vector={"": vector}, payload={"uri": "urn:other"})])

    found = photos.classify(LABELS, write="kind")

    assert sum(found.counts.values()) == len(COLOURS)
    assert "kind" not in str(photos.client.retrieve("photos", [7])[0].payload)
