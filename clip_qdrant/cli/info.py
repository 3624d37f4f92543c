"""`clip-qdrant info`: what is in force and what is there, also where nothing is there yet."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clip_qdrant.cli import wiring
from clip_qdrant.cli.failures import exit_code
from clip_qdrant.cli.output import plain, print_json, print_line, print_table
from clip_qdrant.errors import ClipQdrantError
from clip_qdrant.fields.types import RESERVED_FIELDS
from clip_qdrant.model_catalog import suggest_model

if TYPE_CHECKING:
    from qdrant_client import models
    from qdrant_client.client_base import QdrantBase

    from clip_qdrant.settings import Settings

__all__ = ["info"]

_PACKAGES = (
    "clip-qdrant",
    "qdrant-client",
    "qdrant-edge-py",
    "onnxruntime",
    "tokenizers",
    "torch",
    "timm",
    "transformers",
    "pillow",
)


def info(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show the collections in the store and their fields, the model, versions and settings.

    What cannot be opened is shown with its error; the exit code is then that of the first error.
    """
    from clip_qdrant_ingestion.settings import IngestSettings

    settings = wiring.settings_of(context, None, IngestSettings)
    errors: list[ClipQdrantError] = []
    document = {
        "store": _store(settings, errors),
        "standard_fields": dict(RESERVED_FIELDS),
        "model": _model(settings, errors),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
        "settings": {name: {"value": value, "from": origin} for name, value, origin in settings.rows()},
    }
    if as_json:
        print_json(document)
    else:
        _show(document)
    if errors:
        raise typer.Exit(exit_code(errors[0]))


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _model(settings: Settings, errors: list[ClipQdrantError]) -> dict[str, Any]:
    found: dict[str, Any] = {"name": settings.model}
    try:
        embedder = wiring.open_embedder(settings)
    except ClipQdrantError as error:
        errors.append(error)
        return {**found, "error": str(error)}
    found |= {"fingerprint": embedder.fingerprint, "dim": embedder.dim, "image_size": embedder.image_size}
    for name in ("runtime", "trained_on", "metrics"):  # of a ClipEmbedder; other embedders need not have them
        value = getattr(embedder, name, None)
        if value:
            found[name] = dict(value) if isinstance(value, Mapping) else value
    return found


def _store(settings: Settings, errors: list[ClipQdrantError]) -> dict[str, Any]:
    found: dict[str, Any] = {"location": settings.shown_location}
    try:
        client = wiring.open_client(settings)
        from clip_qdrant.store.calls import call

        try:
            names = call(client.get_collections, what=f"listing the collections of {found['location']}").collections
            found["collections"] = [_collection(client, item.name, errors) for item in names]
        finally:
            client.close()
    except ClipQdrantError as error:
        errors.append(error)
        found["error"] = str(error)
    return found


def _collection(client: QdrantBase, name: str, errors: list[ClipQdrantError]) -> dict[str, Any]:
    from clip_qdrant.collection.strict_mode import StrictMode
    from clip_qdrant.store.calls import call

    found: dict[str, Any] = {"name": name}
    try:
        info = call(lambda: client.get_collection(name), what=f"opening collection {name!r}")
        config, exact = info.config, StrictMode.read(info.config).exact
        found["images"] = call(lambda: client.count(name, exact=exact), what=f"counting in collection {name!r}").count
    except ClipQdrantError as error:
        errors.append(error)
        return {**found, "error": str(error)}
    profile = (config.metadata or {}).get("clip_qdrant")
    if isinstance(profile, Mapping):
        found |= {key: profile[key] for key in ("fingerprint", "model", "dim", "fields") if key in profile}
    if not exact:
        found["about"] = True
    if notes := _notes(name, info, profile) + _explain_optimize(client, name):
        found["notes"] = notes
    return found


def _notes(name: str, info: models.CollectionInfo, profile: Any) -> list[str]:
    """What a reader should know of a collection that works, but not as it should."""
    from clip_qdrant.collection.indexing import explain_indexing
    from clip_qdrant.collection.strict_mode import StrictMode, explain_missing
    from clip_qdrant.fields.schema import Schema

    unindexed = explain_indexing(info.config)
    notes = [f"collection {name!r} is {unindexed}"] if unindexed is not None else []
    if isinstance(profile, Mapping):
        wanted = Schema(dict(profile.get("fields") or {})).indexes()
        missing = [key for key in wanted if key not in (info.payload_schema or {})]
        lacking = explain_missing(name, missing, len(wanted), StrictMode.read(info.config))
        notes += [lacking] if lacking is not None else []
    return notes


def _explain_optimize(client: QdrantBase, name: str) -> list[str]:
    """What optimizing a collection of an embedded store would bring, if it pays."""
    from clip_qdrant.store.connect import is_embedded

    if not is_embedded(client):
        return []
    embedded: Any = client
    gain = embedded.explain_optimize(name)
    return [] if gain is None else [f"{name}: {gain}; `clip-qdrant optimize --collection {name}` mends that"]


def _show(document: dict[str, Any]) -> None:
    store = document["store"]
    if "error" in store:
        print_table("store", ("", ""), [(name, _text(value)) for name, value in store.items()])
    elif store["collections"]:
        mine = document["model"].get("fingerprint")
        print_table(
            f"collections in {store['location']}",
            ("name", ">images", "embedder", "fields"),
            [_row(collection, mine) for collection in store["collections"]],
        )
        for note in (note for collection in store["collections"] for note in collection.get("notes", ())):
            print_line(plain(note))
    else:
        print_line(f"no collections in {store['location']} yet: clip-qdrant ingest FOLDER makes one")
    print_table("standard fields, of every collection", ("name", "type"), document["standard_fields"].items())
    print_table("model", ("", ""), [(name, _text(value)) for name, value in document["model"].items()])
    if better := suggest_model(document["model"]["name"]):
        print_line(f"{better}; `clip-qdrant models` lists some")
    versions = [(name, version or "not installed") for name, version in document["versions"].items()]
    print_table("versions", ("package", "version"), versions)
    rows = [(name, item["value"], item["from"]) for name, item in document["settings"].items()]
    print_table("settings", ("name", "value", "from"), rows)


def _row(collection: dict[str, Any], mine: str | None) -> tuple[object, ...]:
    if "error" in collection:
        return collection["name"], collection.get("images", ""), collection["error"], ""
    theirs = collection.get("fingerprint")
    if theirs is None:
        embedder = "not made by clip-qdrant"
    elif theirs == mine:
        embedder = "this model"
    else:
        embedder = " ".join(filter(None, (collection.get("model"), theirs[:12])))
    images = f"about {collection['images']}" if collection.get("about") else collection["images"]
    return collection["name"], images, embedder, _text(collection.get("fields", {}))


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items())
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
