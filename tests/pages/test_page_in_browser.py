"""The result page in a real browser: every thumbnail is seen, on a wide and on a narrow screen."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from fakes import COLOURS, write_image
from PIL import Image

from clip_qdrant.collection.hits import Hit
from clip_qdrant.pages.hits import Section, page_html
from clip_qdrant.uris import to_uri

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars "
    "--disable-background-networking --disable-component-update --disable-sync"
)
SHOWN = ("red", "green", "blue", "magenta")

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed (apt-get install chromium)")


def screenshot(page: Path, width: int) -> np.ndarray:
    """The page as pixels, (height, width, 3)."""
    picture = page.with_name(f"{width}.png")
    command = [
        CHROMIUM,
        *FLAGS.split(),
        f"--user-data-dir={page.parent / f'profile-{width}'}",
        f"--window-size={width},2400",
        f"--screenshot={picture}",
        page.as_uri(),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return np.asarray(Image.open(picture).convert("RGB")).astype(int)


@pytest.mark.slow
def test_every_thumbnail_of_the_page_is_seen_on_wide_and_narrow_screens(tmp_path: Path) -> None:
    hits = [
        Hit(str(rank), 0.5, to_uri(write_image(tmp_path / f"{colour}.png", colour)), colour, {"rank": rank})
        for rank, colour in enumerate(SHOWN)
    ]
    (tmp_path / "page.html").write_text(page_html("colours", [Section(hits, "four of them")]), encoding="utf-8")
    for width in (1200, 500):
        pixels = screenshot(tmp_path / "page.html", width)
        for colour in SHOWN:
            near = np.abs(pixels - COLOURS[colour]).max(axis=2) < 12  # JPEG thumbnails
            assert near.sum() > 10_000, f"{colour} is not seen at {width} px"
    assert not (np.abs(pixels - COLOURS["yellow"]).max(axis=2) < 12).any()  # the check can fail
