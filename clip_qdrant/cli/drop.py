"""`clip-qdrant drop`: deletes a whole collection, once the user has said so."""

from __future__ import annotations

from typing import Annotated

import typer

from clip_qdrant.cli import wiring
from clip_qdrant.cli.confirm import confirm
from clip_qdrant.cli.output import plain, print_line
from clip_qdrant.errors import CollectionNotFound

__all__ = ["drop"]


def drop(
    context: typer.Context,
    collection: Annotated[str, typer.Argument(help="The collection to delete.", metavar="COLLECTION")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a whole collection from the store. The image files stay where they are.

    Works for collections of any model, needs none, and asks before it deletes.
    """
    settings = wiring.settings_of(context, {"collection": collection})
    client = wiring.open_client(settings)
    from clip_qdrant.collection.strict_mode import StrictMode
    from clip_qdrant.store.calls import call

    where = plain(settings.shown_location)
    try:
        names = [
            one.name for one in call(client.get_collections, what=f"listing the collections of {where}").collections
        ]
        if collection not in names:
            there = ", ".join(map(plain, sorted(names))) or "none"
            raise CollectionNotFound(f"there is no collection {plain(collection)!r} in {where}; there are: {there}")
        config = call(lambda: client.get_collection(collection), what=f"opening collection {collection!r}").config
        exact = StrictMode.read(config).exact
        what = f"counting in collection {collection!r}"
        number = call(lambda: client.count(collection, exact=exact), what=what).count
        count = f"{number}" if exact else f"about {number}"
        if not yes and not confirm(f"delete collection {plain(collection)!r} with {count} images from {where}?"):
            print_line("nothing was deleted")
            raise typer.Exit(1)
        call(lambda: client.delete_collection(collection), what=f"deleting collection {collection!r}")
    finally:
        client.close()
    print_line(f"collection {plain(collection)} with {count} images is deleted")
