"""A part of an image as a query: a box in pixels of the image as it is seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import FakeEmbedder, solid_image
from PIL import Image

from clip_qdrant.collection.query import Query
from clip_qdrant.errors import QueryError


def picture() -> Image.Image:
    """40 x 20 pixels, red on the left and blue on the right."""
    image = solid_image("red", (40, 20))
    image.paste(solid_image("blue", (20, 20)), (20, 0))
    return image


def vector(query: Query) -> np.ndarray:
    return query.evaluate(FakeEmbedder(), lambda names: {})


def test_the_box_is_what_counts(tmp_path: Path) -> None:
    picture().save(tmp_path / "two.png")
    for image in (picture(), tmp_path / "two.png", (tmp_path / "two.png").read_bytes(), np.asarray(picture())):
        np.testing.assert_allclose(
            vector(Query.image(image, box=(20, 0, 40, 20))), vector(Query.image(solid_image("blue"))), atol=1e-5
        )
        np.testing.assert_allclose(
            vector(Query.image(image, box=(0, 5, 19.5, 20))), vector(Query.image(solid_image("red"))), atol=1e-5
        )


def test_the_box_is_that_of_the_upright_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown a quarter turn clockwise: the left is at the top
    picture().save(tmp_path / "turned.png", exif=exif)

    upper, lower = (vector(Query.image(tmp_path / "turned.png", box=(0, top, 20, top + 20))) for top in (0, 20))
    np.testing.assert_allclose(upper, vector(Query.image(solid_image("red"))), atol=1e-5)
    np.testing.assert_allclose(lower, vector(Query.image(solid_image("blue"))), atol=1e-5)


@pytest.mark.parametrize("box", [(0, 0, 41, 20), (0, 0, 40, 20.5), (50, 0, 60, 20)])
def test_a_box_that_reaches_beyond_the_image_is_refused_with_the_size(box: Any) -> None:
    with pytest.raises(QueryError, match=r"beyond the image, which is 40 x 20 pixels"):
        vector(Query.image(picture(), box=box))


@pytest.mark.parametrize(
    "box", [(-1, 0, 5, 5), (5, 0, 5, 5), (0, 9, 5, 3), (0, 0, 5), "0123", 7, (0, 0, float("nan"), 5), ("a", 0, 1, 1)]
)
def test_what_is_no_box_is_refused_at_once(box: Any) -> None:
    with pytest.raises(QueryError, match="box"):
        Query.image("a.jpg", box=box)


def test_two_boxes_of_one_image_are_two_terms() -> None:
    left, right = Query.image("a.jpg", box=(0, 0, 5, 5)), Query.image("a.jpg", box=(5, 0, 9, 5))

    assert left != right
    assert left == Query.image("a.jpg", box=[0, 0, 5, 5])
    assert repr(left) == "Query.image('a.jpg', box=(0, 0, 5, 5))"
