"""ImageCollection: the images of one embedder in one Qdrant collection; add them, search, filter, count, delete.

photos = ImageCollection("photos", ClipEmbedder.load(), connect("./qdrant-data"))
photos.add(["cat.jpg"], metadata=[{"album": "pets", "year": 2024}])
photos.search("a cat asleep", where="year >= 2022")
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.async_face import run_in_thread
from clip_qdrant.collection.description import CollectionDescription
from clip_qdrant.collection.facets.histogram import Histogram, Period, make_histogram
from clip_qdrant.collection.facets.values import Facets, count_selected, count_values
from clip_qdrant.collection.hits import Hit, Hits
from clip_qdrant.collection.options import CollectionOptions, list_of
from clip_qdrant.collection.points import check_whole_number, id_of, make_hit
from clip_qdrant.collection.reader import CollectionReader
from clip_qdrant.collection.search.examples import Strategy, rank_by_context, rank_by_examples
from clip_qdrant.collection.search.options import Collapse, SearchOptions
from clip_qdrant.collection.search.run import Searcher, query_of, read_pair
from clip_qdrant.collection.standard_fields import check_declared_fields
from clip_qdrant.collection.text.fusion import TEXT_WEIGHT, Fusion
from clip_qdrant.collection.writer import CollectionWriter
from clip_qdrant.embedder_protocol import Embedder, check_embedder
from clip_qdrant.errors import CollectionNotFound, ConfigError, QueryError
from clip_qdrant.fields.schema import Schema
from clip_qdrant.fields.types import FieldType
from clip_qdrant.filters.build import Where

if TYPE_CHECKING:
    from typing import TypeAlias

    from clip_qdrant.calibration.curves import Calibration
    from clip_qdrant.collection.add import AddResult
    from clip_qdrant.collection.edit.classify import Classification, Label
    from clip_qdrant.collection.query import Query
    from clip_qdrant.collection.relevance.scale import MinRelevance
    from clip_qdrant.collection.text.fields import TextFields
    from clip_qdrant.images.load import ImageInput

    Example: TypeAlias = str | Query | ImageInput | Sequence[float]

__all__ = ["ImageCollection"]

logger = logging.getLogger(__name__)


class ImageCollection:
    """Images and their vectors under one name. Opening is one client call; the first write creates the collection.

    `fields` declares metadata fields by name ("year") and type; others are inferred from the first values written.
    `shard_number` and `replication_factor` say how a collection that is created is spread over a Qdrant cluster.
    `patience` is how many seconds a call that fails because the store is away or busy is tried again, with growing
    pauses, before it raises StoreUnavailable; opening waits 2 at most. A request that times out took its time off it,
    and once `stopped` says so nothing is tried again.
    `indexes` names fields that get their payload index first, where a server allows fewer than there are fields.
    `writer` stores records and vectors that are made already, as ingestion does; `searcher` ranks by what is none of
    the queries of `search`.
    All methods may be called from several threads. Any of them may raise StoreError.

    Raises FingerprintMismatch if the collection was made by another embedder, StoreError if it was not made by this
    package, ConfigError if a declared field has another type in it.
    """

    def __init__(
        self,
        name: str,
        embedder: Embedder,
        client: QdrantBase,
        *,
        fields: Mapping[str, FieldType] | None = None,
        patience: float = 2.0,
        shard_number: int | None = None,
        replication_factor: int | None = None,
        stopped: Callable[[], bool] = lambda: False,
        indexes: Sequence[str] = (),
    ) -> None:
        if not name:
            raise ConfigError("a collection needs a name that is not empty")
        declared = Schema(check_declared_fields({} if fields is None else fields))
        check_embedder(embedder)
        options = CollectionOptions(patience, shard_number, replication_factor, stopped, tuple(indexes))
        self.name = name
        self.embedder = embedder
        self.client = client
        self._description = CollectionDescription(name, client, embedder, declared=declared, options=options)
        self._reader = CollectionReader(client, self._description)
        self.searcher = Searcher(self._reader, embedder)
        self.writer = CollectionWriter(embedder, self._reader)
        self._told: set[str] = set()

    def __repr__(self) -> str:
        return f"ImageCollection({self.name!r})"

    @property
    def fields(self) -> Mapping[str, FieldType]:
        """The type of every field that `where` knows, by full payload key: "metadata.year", "caption", …"""
        return self._description.payload_fields

    @property
    def calibration(self) -> Calibration | None:
        """What a cosine similarity is worth here: as measured by `calibrate`, else by those who made the model."""
        return self.searcher.calibration

    def exists(self) -> bool:
        """Whether the collection is there now (asks the store)."""
        return self._description.open()

    def add(
        self,
        images: Iterable[ImageInput],
        *,
        uris: Iterable[str | os.PathLike[str] | None] | None = None,
        captions: Iterable[str | None] | None = None,
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
        batch_size: int = 32,
        progress: Callable[[int], None] | None = None,
    ) -> AddResult:
        """Embeds and stores images, a batch at a time; `uris`, `captions` and `metadata` go with them one to one.

        An image is known by its uri: that of its path, or `urn:sha256:…` of its bytes or pixels. Adding it again
        writes nothing where nothing changed, only the payload where its bytes are the same, everything where they
        are not. A caption or metadata that is not given (None) stays as it is stored; "" and {} remove it.
        `caption`, `taken_at` and `location` in the metadata are those of the image, and go over what its file says.
        Of one uri given twice in a batch the last wins. `progress` is told, after each batch, how many images it held.

        Raises ImageError (naming uri and position), MetadataError, or ConfigError if the iterables differ in length:
        the batches before are stored, the batch at fault is not at all.
        """
        from clip_qdrant.collection.add import add_images

        return add_images(
            self.writer,
            images,
            uris=uris,
            captions=captions,
            metadata=metadata,
            batch_size=batch_size,
            progress=progress,
        )

    def search(
        self,
        query: str | Query | ImageInput | Sequence[float] | None = None,
        *,
        where: Where | None = None,
        limit: int = 10,
        offset: int = 0,
        score_threshold: float | None = None,
        min_relevance: MinRelevance | None = None,
        text: bool | str | None = None,
        text_fields: TextFields | None = None,
        text_weight: float = TEXT_WEIGHT,
        fusion: Fusion = "sum",
        order_by: str | None = None,
        candidates: int | None = None,
        diversity: float | None = None,
        collapse: Collapse | None = None,
        group_by: str | None = None,
        group_size: int = 3,
        exact: bool = False,
        ef: int | None = None,
        rescore: bool | None = None,
        oversampling: float | None = None,
        payload: bool | Sequence[str] = True,
        vectors: bool = False,
        explain: bool = False,
    ) -> Hits:
        """The images most similar to a query, best first, among those that `where` holds for; all without a query.

        A `str` is always a text. A Path, bytes, PIL image or uint8 array is an image; a float array or list (dim,)
        is a vector; a Query combines them. Stored images that a Query names are left out of its result.
        A collection that is not there yet gives no hits; `Hits.reason` says why there are none. docs/search.md shows
        each option:

        `score_threshold` is the least cosine similarity, -1 to 1, and `min_relevance` the least relevance, 0 to 1: the
        share of random pairs of a query and an image that are less alike. "auto" leaves likely matches alone, where the
        model or the collection is calibrated. `text` looks for words too, in captions, names of files and folders, and
        metadata: those of the query (True), or others; without a query for words alone. `text_fields` are the fields to
        look in, or their weights by name. `fusion` puts what is alike and what has the words into one order: by the
        "sum" of both scores, the one of the words weighted `text_weight` (0 to 1), or by both ranks ("rrf"). What has
        the words is found however unlike it is. `order_by` is a field ("taken_at", "-taken_at" for the newest first):
        of all images without a query, else of the images that match, which are those that pass the threshold or the
        `candidates` best (100), the same for all pages. `diversity` (0 to 1) chooses among the best `candidates` those
        that are unlike each other. `collapse` shows one of those with the same "bytes", of the same "shot", or that
        look "similar"; its `copies` are the others. `group_by` gives the best `group_size` hits of each of `limit`
        values of a field, also as `Hits.groups`. `exact` compares all vectors, `ef` says how far an index looks,
        `rescore` and `oversampling` how quantized vectors are compared. `payload` names the fields that hits carry
        (all, or none but the uri), `vectors` adds theirs. `explain` fills `Hits.explanation` and `Hit.shares`.

        Raises QueryError, FilterError, ImageError.
        """
        self._tell_notes()
        options = SearchOptions(
            limit=limit,
            offset=offset,
            score_threshold=score_threshold,
            min_relevance=min_relevance,
            text=text,
            text_fields=text_fields,
            text_weight=text_weight,
            fusion=fusion,
            order_by=order_by,
            candidates=candidates,
            diversity=diversity,
            collapse=collapse,
            group_by=group_by,
            group_size=group_size,
            exact=exact,
            ef=ef,
            rescore=rescore,
            oversampling=oversampling,
            payload=payload,
            vectors=vectors,
            explain=explain,
        )
        return self.searcher.search(query, where=where, options=options)

    def search_batch(
        self,
        queries: Iterable[str | Query | ImageInput | Sequence[float]],
        *,
        where: Where | None = None,
        options: SearchOptions | None = None,
    ) -> list[Hits]:
        """The hits of each query, as `search` gives them: all are embedded at once, and asked in one call.

        What orders, groups or collapses the hits takes a call or more for each query. Raises as `search` does.
        """
        self._tell_notes()
        return self.searcher.search_batch(list_of("queries", queries), where=where, options=options or SearchOptions())

    def recommend(
        self,
        positive: Iterable[Example],
        negative: Iterable[Example] = (),
        *,
        strategy: Strategy = "average",
        where: Where | None = None,
        options: SearchOptions | None = None,
    ) -> Hits:
        """The images most like the `positive` examples and unlike the `negative` ones; each is what `search` takes.

        "average" compares with one vector made of all, as `search` does with a Query. "best" takes the nearest of the
        examples, so that unlike ones may each find their own; "sum" adds up all similarities: their scores are no
        cosines, have no relevance, and `score_threshold` may be any number. Stored images that are examples are left
        out. Raises as `search` does.
        """
        self._tell_notes()
        near = [query_of(one) for one in list_of("positive", positive)]
        far = [query_of(one) for one in list_of("negative", negative)]
        return self.searcher.rank_by(
            lambda evaluate: rank_by_examples(near, far, strategy, evaluate), where=where, options=options
        )

    def discover(
        self,
        target: Example | None,
        context: Iterable[tuple[Example, Example]],
        *,
        where: Where | None = None,
        options: SearchOptions | None = None,
    ) -> Hits:
        """The images on the positive side of each pair of `context`, (near to this, rather than to that), and of these
        first those most like `target`; without a target those that lie deepest in the context.

        Scores say how many pairs are met: they are no cosines, have no relevance, and `score_threshold` may be any
        number. Raises as `search` does.
        """
        self._tell_notes()
        start = None if target is None else query_of(target)
        pairs = [read_pair(pair) for pair in list_of("context", context)]
        return self.searcher.rank_by(
            lambda evaluate: rank_by_context(start, pairs, evaluate), where=where, options=options
        )

    def classify(
        self,
        labels: Mapping[str, str | Sequence[str]],
        *,
        where: Where | None = None,
        write: str | None = None,
        again: bool = False,
        min_relevance: MinRelevance | None = None,
        on_image: Callable[[Label], None] | None = None,
    ) -> Classification:
        """Gives each image the label whose prompts it is nearest to: `{"cat": ["a cat", "a kitten"], "dog": "a dog"}`.

        `write` names a metadata field ("metadata.label") that keeps it. Images that have that field already are left
        alone, so what was interrupted goes on where it stopped; `again` labels them anew. With `min_relevance` an image
        that is like none of the labels gets none, and with `again` loses the one it had. `on_image` is told of each
        image. Raises QueryError, FilterError, MetadataError.
        """
        from clip_qdrant.collection.edit.classify import Classification, classify, embed_labels, field_to_write

        min_relevance = SearchOptions(min_relevance=min_relevance).min_relevance
        vectors, field = embed_labels(labels, self.embedder), None if write is None else field_to_write(write)
        return self._reader.read_if_there(
            lambda: classify(
                self._reader,
                self.writer,
                labels,
                vectors,
                selection=self._reader.build_filter(where),
                write=field,
                again=again,
                calibration=self.calibration,
                min_relevance=min_relevance,
                on_image=on_image,
            ),
            otherwise=Classification(dict.fromkeys(labels, 0)),
        )

    def update_metadata(
        self,
        changes: Mapping[str, Any],
        *,
        uris: Iterable[str | os.PathLike[str]] | None = None,
        where: Where | None = None,
    ) -> int:
        """Changes metadata fields, caption, taken_at or location of stored images, None takes a field away; the images
        are not needed. For those of these uris (or paths, or point ids), those `where` holds for ("" for all), or
        with both those in both. Gives the number of images that were not so before.

        What is changed here stays whatever ingestion finds later. Raises QueryError without either and, before anything
        is changed, for an image that is not stored; MetadataError for what does not fit its field.
        """
        if uris is None and where is None:
            raise QueryError('update_metadata() needs uris or where; where="" means all images')
        if isinstance(uris, str | os.PathLike):
            raise QueryError(f"uris takes an iterable: [{str(uris)!r}]")
        from clip_qdrant.collection.edit.metadata import update_metadata

        ids = None if uris is None else {id_of(uri): str(uri) for uri in uris}
        return self._reader.read_if_there(
            lambda: update_metadata(
                self._reader, self.writer, changes, ids=ids, selection=self._reader.build_filter(where)
            ),
            otherwise=0,
        )

    def get(self, image: str | os.PathLike[str]) -> Hit | None:
        """The stored image of this uri, path or point id, without a score; None if it is not there."""
        wanted = [id_of(image)]
        none: list[models.Record] = []
        found = self._reader.read_if_there(lambda: [*self._reader.retrieve(wanted, with_payload=True)], otherwise=none)
        return next((make_hit(record, None) for record in found), None)

    def __len__(self) -> int:
        return self.count()

    def count(self, where: Where | None = None) -> int:
        """The number of images that `where` holds for; of all without it. Exact if `counts_exactly`."""
        return self._reader.read_if_there(lambda: self._reader.count(self._reader.build_filter(where)), otherwise=0)

    @property
    def counts_exactly(self) -> bool:
        """Whether `count` and `facet` are exact: a Qdrant server may refuse that in its strict mode, and estimates."""
        return self._description.strict.exact

    def facet(self, field: str, *, where: Where | None = None, limit: int = 20) -> Facets:
        """The values of a keyword, integer or bool field, or of a calendar part ("taken_at.month"), and how many images
        have each, most frequent first. Of the values beyond `limit` the result tells how many there are.

        A server that limits what one call gives (strict mode, max_query_limit) gives no more values than that.

        Raises FilterError for a field that is not there or has another type.
        """
        limit = check_whole_number("limit", limit, at_least=1)
        return self._reader.read_if_there(lambda: count_values(self._reader, field, where, limit), otherwise=Facets())

    def facets(
        self, selected: Mapping[str, Sequence[Any]], *, where: Where | None = None, limit: int = 20
    ) -> dict[str, Facets]:
        """The values of several fields, as somebody needs them who chooses among them: {"album": ["pets"], "year": []}.

        Each field is counted among the images that have one of the chosen values of every other field; its own chosen
        values do not restrict it, and are in the result even if no image has them. No chosen value is no restriction.

        Raises FilterError, QueryError.
        """
        limit = check_whole_number("limit", limit, at_least=1)
        return self._reader.read_if_there(
            lambda: count_selected(self._reader, selected, where, limit),
            otherwise={field: Facets() for field in selected},
        )

    def histogram(
        self,
        field: str,
        *,
        by: Period | None = None,
        bins: int | None = None,
        edges: Sequence[float] | None = None,
        where: Where | None = None,
    ) -> Histogram:
        """How many images lie in each range of a field, from its least value to its greatest, empty ranges included.

        Dates are counted `by` "year", "month", "day" or "hour" of what the clock showed; numbers in `bins` ranges of
        equal width (10 without), or between `edges`, each range without its end but the last. 2000 ranges at most.

        Raises FilterError for a field that is not there, QueryError for ranges that do not fit it.
        """
        return self._reader.read_if_there(
            lambda: make_histogram(self._reader, field, where, by=by, bins=bins, edges=edges), otherwise=Histogram()
        )

    def delete(self, *, uris: Iterable[str | os.PathLike[str]] | None = None, where: Where | None = None) -> int:
        """Deletes the images of these uris (or paths, or point ids), those `where` holds for, or with both the
        images that are in both. Gives the number deleted. Raises QueryError without either: `drop` deletes all.
        """
        if isinstance(uris, str | os.PathLike):
            raise QueryError(f"uris takes an iterable: [{str(uris)!r}]")
        from clip_qdrant.collection.edit.delete import delete_images

        ids = None if uris is None else list(dict.fromkeys(id_of(uri) for uri in uris))
        return self._reader.read_if_there(
            lambda: delete_images(self._reader, ids=ids, selection=self._reader.build_filter(where)), otherwise=0
        )

    def calibrate(self) -> Calibration:
        """Measures what a cosine similarity is worth in this collection, and keeps it there for `min_relevance`.

        It takes the place of the model's own calibration, if that has one. A sample of 1,000 images is compared with
        its captions and with texts about what hardly any collection has. Measure again when the collection has changed
        much. Raises QueryError for fewer than 30 images.
        """
        from clip_qdrant.collection.relevance.calibrate import calibrate_collection

        return calibrate_collection(self._reader, self.embedder)

    def drop(self) -> None:
        """Deletes the whole collection; the next write creates it again. No error if it is not there."""
        with contextlib.suppress(CollectionNotFound):
            self._description.ask(
                lambda: self.client.delete_collection(self.name), what=f"deleting collection {self.name!r}"
            )
        self._description.forget()

    # The same for async code, each in a thread of asyncio's pool.
    asearch = run_in_thread(search)
    asearch_batch = run_in_thread(search_batch)
    aadd = run_in_thread(add)
    aget = run_in_thread(get)
    acount = run_in_thread(count)
    afacet = run_in_thread(facet)
    afacets = run_in_thread(facets)
    ahistogram = run_in_thread(histogram)
    arecommend = run_in_thread(recommend)
    adiscover = run_in_thread(discover)
    aclassify = run_in_thread(classify)
    aupdate_metadata = run_in_thread(update_metadata)
    adelete = run_in_thread(delete)

    def _tell_notes(self) -> None:
        """Warns, once for each, of what keeps the collection from working as it should."""
        for note in self._description.notes:
            if note not in self._told:
                self._told.add(note)
                logger.warning("%s", note)
