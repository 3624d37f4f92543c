"""What people want to know of a hit at a glance, as text: when, where, which folder, and what was said of it.

Tables in a terminal, cards and pages show these. What only says how a camera was set comes apart (`list_settings`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from clip_qdrant.image_names import split_name
from clip_qdrant.url_secrets import mask_secrets

__all__ = ["ShownImage", "choose_metadata", "list_settings", "show_date", "show_folder", "show_name", "show_place"]

# Tags of a file that say how it was made. A field of the same name that the user filled is shown as any other.
_OF_THE_CAMERA = (
    *("camera", "lens", "exposure_time", "f_number", "iso", "focal_length"),
    *("altitude", "software", "copyright"),
)


class ShownImage(Protocol):
    """What is shown of an image: a `Hit`, or anything with these attributes."""

    @property
    def uri(self) -> str: ...
    @property
    def score(self) -> float | None: ...
    @property
    def relevance(self) -> float | None: ...
    @property
    def caption(self) -> str | None: ...
    @property
    def metadata(self) -> Mapping[str, Any]: ...
    @property
    def payload(self) -> Mapping[str, Any]: ...


def show_date(image: ShownImage) -> str:
    """When it was taken by the clock of the place, to the minute: 2024-12-31 23:30; empty where nothing tells."""
    taken_at = image.payload.get("taken_at")
    return taken_at[:16].replace("T", " ") if isinstance(taken_at, str) else ""


def show_place(image: ShownImage) -> str:
    """Latitude and longitude in degrees, to 10 metres; empty where nothing tells."""
    place = image.payload.get("location")
    try:
        return f"{place['lat']:.4f}, {place['lon']:.4f}" if place else ""
    except (TypeError, KeyError, ValueError):  # a payload that another program wrote
        return ""


def show_folder(image: ShownImage) -> str:
    """The folder, bucket or archive in which it lies."""
    return split_name(mask_secrets(image.uri))[0]


def show_name(image: ShownImage) -> str:
    """What it is called there; in an archive, the name of the member."""
    return split_name(mask_secrets(image.uri))[1]


def choose_metadata(image: ShownImage) -> dict[str, Any]:
    """The metadata without what only says how the camera was set."""
    hidden = list_settings(image)
    return {name: value for name, value in image.metadata.items() if name not in hidden}


def list_settings(image: ShownImage) -> dict[str, Any]:
    """The metadata that say how the camera was set, as its file has them."""
    info = image.payload.get("image")
    tags = info.get("tags") if isinstance(info, Mapping) else None
    if not isinstance(tags, Mapping):
        return {}
    return {name: image.metadata[name] for name in _OF_THE_CAMERA if name in tags and name in image.metadata}
