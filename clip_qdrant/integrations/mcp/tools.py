"""The tools. Each says to the model what it does and takes; all of them read, none writes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, ParamSpec, TypeVar

from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult
from pydantic import BeforeValidator, Field

from clip_qdrant.errors import ClipQdrantError, QueryError, shorten
from clip_qdrant.images.inline import decode_inline_image
from clip_qdrant.integrations.mcp.answers import (
    ToolCollection,
    ToolCollections,
    ToolFacets,
    ToolHits,
    answer_with,
    answer_with_hits,
    list_fields,
)
from clip_qdrant.integrations.mcp.catalog import CollectionCatalog
from clip_qdrant.integrations.mcp.lookup import Lookup, Period, ReadableCollection
from clip_qdrant.integrations.mcp.pictures import LARGE_SIDE, SMALL_SIDE, Previews, make_pictures
from clip_qdrant.url_secrets import mask_secrets

__all__ = ["ImageTools"]

_SHOWN = 200  # characters of the name of an image that is not there
_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")

# Models fill in "" for what they want to leave out.
_Blank = BeforeValidator(lambda value: None if isinstance(value, str) and not value.strip() else value)

Collection = Annotated[
    str | None, _Blank, Field(description="name of the collection; the usual one without (list_collections names them)")
]
WherePart = Annotated[
    str | None,
    _Blank,
    Field(
        description="only images this holds for, as in: album = 'pets' and year >= 2022. Fields and values: "
        "describe_collection. Operators: = != < <= > >= in ('a','b') between 1 and 2, caption ~ 'words', ^= 'prefix', "
        "is null, taken_at = '2024-05' (a whole month), location within 5 km of (52.52, 13.40), and, or, not"
    ),
]
FilterPart = Annotated[
    dict[str, Any] | None,
    Field(
        description="only images that pass a Qdrant filter (JSON with must, should, must_not); for collections that "
        "another program made, which know no where"
    ),
]
Limit = Annotated[int, Field(ge=1, le=50, description="the most images")]
Offset = Annotated[int, Field(ge=0, le=10_000, description="leave out the first so many, for the next page")]
Pictures = Annotated[int, Field(ge=0, le=50, description="how many of the images come with a small picture")]
Stored = Annotated[
    str, Field(min_length=1, max_length=20_000, description="a stored image by its id or uri, as hits have them")
]
Image = Annotated[
    str,
    Field(
        min_length=1,
        description="a stored image by its id or uri, as hits have them; or an image as data: URL (base64)",
    ),
]


def tell_errors(tool: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """The tool with errors of this package told to the model; others are crashes, whose text stays in the log."""

    @functools.wraps(tool)
    def call(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        try:
            return tool(*args, **kwargs)
        except ClipQdrantError as error:
            raise ToolError(mask_secrets(str(error))) from error

    return call


class ImageTools:
    """The tools over the collections of a catalog. `previews` makes pictures of images that are no local files."""

    def __init__(self, catalog: CollectionCatalog, *, previews: Previews | None = None) -> None:
        self._catalog = catalog
        self._previews = previews

    @tell_errors
    def search_images(
        self,
        query: Annotated[
            str | None, _Blank, Field(description="what the images should show, in a few words; all images without")
        ] = None,
        collection: Collection = None,
        where: WherePart = None,
        filter: FilterPart = None,
        words: Annotated[
            str | None,
            _Blank,
            Field(description="words to look for in captions, names and metadata too, such as the name of a person"),
        ] = None,
        limit: Limit = 10,
        offset: Offset = 0,
        order_by: Annotated[
            str | None, _Blank, Field(description="a field to order by instead of likeness: taken_at, or -taken_at")
        ] = None,
        min_relevance: Annotated[
            float | Literal["auto"] | None,
            Field(description='0 to 1; "auto" leaves out what is not likely to match, where the model can tell'),
        ] = None,
        pictures: Pictures = 10,
    ) -> Annotated[CallToolResult, ToolHits]:
        """Search images by what they show, filtered by their metadata; best first, with small pictures."""
        lookup = Lookup(
            where=where,
            filter=filter,
            limit=limit,
            offset=offset,
            words=words,
            min_relevance=min_relevance,
            order_by=order_by,
        )
        opened = self._catalog.open(collection)
        hits = opened.search(query, lookup)
        asked = [query] if query else []
        asked += [f"the words {words!r}"] if words else []
        wanted = " and ".join(asked) or "all images"
        return self._tell_hits(opened, hits, f"{wanted}, in collection {opened.name}", pictures, first=offset + 1)

    @tell_errors
    def similar_images(
        self,
        image: Image,
        collection: Collection = None,
        where: WherePart = None,
        filter: FilterPart = None,
        limit: Limit = 10,
        offset: Offset = 0,
        pictures: Pictures = 10,
    ) -> Annotated[CallToolResult, ToolHits]:
        """Find images that look like a stored image, or like one that is handed over as a data: URL."""
        lookup = Lookup(where=where, filter=filter, limit=limit, offset=offset)
        opened = self._catalog.open(collection)
        is_given = image.startswith("data:")
        hits = opened.find_similar(decode_inline_image(image) if is_given else image, lookup)
        title = f"images like {'the one given' if is_given else image}, in collection {opened.name}"
        return self._tell_hits(opened, hits, title, pictures, first=offset + 1)

    @tell_errors
    def describe_image(self, image: Stored, collection: Collection = None) -> Annotated[CallToolResult, ToolHits]:
        """Show one stored image: a larger picture, and all that is stored with it."""
        opened = self._catalog.open(collection)
        found = opened.get(image)
        if found is None:
            shown = shorten(image, _SHOWN)
            raise QueryError(f"no stored image {shown!r} in collection {opened.name!r}; give the id or uri of a hit")
        answer = ToolHits(
            collection=opened.name, hits=opened.list_hits([found], whole=True), reason=None, notes=[*opened.notes]
        )
        picture = make_pictures([found], side=LARGE_SIDE, previews=self._previews)
        return answer_with_hits(answer, [found], picture, f"image of collection {opened.name}")

    @tell_errors
    def list_collections(self) -> Annotated[CallToolResult, ToolCollections]:
        """List the collections of images: how many images each has, and whether it can be searched here."""
        found = self._catalog.describe_all()
        lines = [_describe_collection(one) for one in found] or ["there are no collections in this store yet"]
        return answer_with(ToolCollections(collections=found), lines)

    @tell_errors
    def describe_collection(
        self,
        collection: Collection = None,
        values: Annotated[int, Field(ge=1, le=100, description="the most values of each field")] = 10,
    ) -> Annotated[CallToolResult, ToolCollection]:
        """List the fields of a collection, their types, and their most frequent values with numbers of images."""
        opened = self._catalog.open(collection)
        answer = ToolCollection(collection=opened.name, notes=[*opened.notes], **opened.describe(values))
        about = "" if answer.exact else "about "
        sample = f"; values counted of {answer.sample}" if answer.sample is not None else ""
        head = f"collection {answer.collection}: {about}{answer.images} images{sample}"
        return answer_with(answer, [head, *answer.notes, *list_fields(answer.fields)])

    @tell_errors
    def facets(
        self,
        fields: Annotated[
            list[str],
            Field(min_length=1, max_length=20, description="fields to count, or parts of a date: taken_at.month"),
        ],
        collection: Collection = None,
        where: WherePart = None,
        filter: FilterPart = None,
        limit: Annotated[int, Field(ge=1, le=200, description="the most values of each field")] = 20,
        by: Annotated[Period | None, Field(description="the period that dates are counted by; year without")] = None,
    ) -> Annotated[CallToolResult, ToolFacets]:
        """Count images by the values of fields; numbers with fractions and dates by ranges."""
        lookup = Lookup(where=where, filter=filter, limit=limit)
        opened = self._catalog.open(collection)
        counted: Mapping[str, dict[str, Any]] = {field: opened.count_values(field, lookup, by) for field in fields}
        answer = ToolFacets(collection=opened.name, fields=dict(counted), notes=[*opened.notes])
        return answer_with(answer, [f"collection {opened.name}", *answer.notes, *list_fields(counted)])

    def _tell_hits(
        self, opened: ReadableCollection, hits: Any, title: str, pictures: int, *, first: int
    ) -> CallToolResult:
        answer = ToolHits(
            collection=opened.name,
            hits=opened.list_hits(hits, whole=False),
            reason=hits.reason,
            notes=[*opened.notes],
        )
        made = make_pictures(hits[:pictures], side=SMALL_SIDE, previews=self._previews)
        return answer_with_hits(answer, hits, made, title, first=first)


def _describe_collection(one: Mapping[str, Any]) -> str:
    images = f"{one['images']} images" if "images" in one else "unknown"
    usual = ", the usual one" if one.get("default") else ""
    foreign = ", made by another program" if one.get("made_by") == "another program" else ""
    return f"{one['name']}: {images}{usual}{foreign}" + (f"; {one['unusable']}" if "unusable" in one else "")
