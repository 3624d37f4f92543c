"""Images within text: base64 of either alphabet, data URLs, and what is neither."""

from __future__ import annotations

import base64
from urllib.parse import quote_from_bytes

import pytest

from clip_qdrant.errors import EmptyImage, ImageTooLarge, NotAnImage
from clip_qdrant.images.inline import decode_inline_image
from clip_qdrant.images.load import Limits

CONTENT = bytes(range(251, 256)) * 3 + b"\x00\xff"
PLAIN = base64.b64encode(CONTENT).decode()
SAFE = base64.urlsafe_b64encode(CONTENT).decode()


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        SAFE,
        PLAIN.rstrip("="),
        "\r\n".join(PLAIN[at : at + 8] for at in range(0, len(PLAIN), 8)),
        f"data:image/png;base64,{PLAIN}",
        f"DATA:;Base64,{SAFE}",
        f"data:image/png;name=a.png;base64,{PLAIN}",
        f"data:image/png,{quote_from_bytes(CONTENT)}",
    ],
)
def test_the_same_bytes_are_read_from_every_spelling(text: str) -> None:
    assert decode_inline_image(text) == CONTENT


@pytest.mark.parametrize("text", ["a dog!", "ünicode", "data:image/png;base64", "data:image/png;base64,*", "\ud800"])
def test_what_is_no_base64_is_told_with_its_beginning(text: str) -> None:
    with pytest.raises(NotAnImage, match=r"base64|data URL"):
        decode_inline_image(text)


@pytest.mark.parametrize("text", ["", "data:image/png;base64,", "data:,", " "])
def test_nothing_is_an_empty_image(text: str) -> None:
    with pytest.raises(EmptyImage):
        decode_inline_image(text)


@pytest.mark.parametrize("size", [101, 1000])
@pytest.mark.parametrize("head", ["", "data:image/png;base64,"])
def test_the_limit_of_bytes_holds(head: str, size: int) -> None:
    limits = Limits(max_bytes=100)
    assert decode_inline_image(head + base64.b64encode(bytes(100)).decode(), limits=limits) == bytes(100)
    with pytest.raises(ImageTooLarge, match="the limit is 100"):
        decode_inline_image(head + base64.b64encode(bytes(size)).decode(), limits=limits)


def test_the_limit_holds_without_base64_too() -> None:
    with pytest.raises(ImageTooLarge):
        decode_inline_image("data:," + "a" * 101, limits=Limits(max_bytes=100))
