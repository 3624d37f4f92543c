"""What to search for: a weighted sum of texts, images, stored images and vectors.

    Query.text("beach") + 0.5 * Query.image("sunset.jpg") - Query.text("people")

Each part becomes a unit vector of the embedder's space, the parts are added with their weights, and the sum is
normalised again: the composition by addition that Mikolov et al. (2013, https://arxiv.org/abs/1301.3781) found in
word vectors and that CLIP-style spaces share.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from clip_qdrant.collection.options import is_number, list_of
from clip_qdrant.errors import QueryError, shorten
from clip_qdrant.model_inputs.prompts import read_bias, read_prompts

if TYPE_CHECKING:
    from clip_qdrant.collection.hits import Hit
    from clip_qdrant.embedder_protocol import Embedder
    from clip_qdrant.images.load import ImageInput

__all__ = ["Query", "QueryVector", "Term", "embed_query_texts", "evaluate_queries", "merge_prompted", "write_prompts"]

Kind = Literal["text", "image", "id", "vector"]
Box = tuple[float, float, float, float]  # left, top, right, bottom
# Gives the stored vectors of the images named, by name; float32 (dim,) each. A name that is not there is left out.
Fetch = Callable[[Sequence[str]], Mapping[str, np.ndarray]]

# A sum this much shorter than its parts is rounding noise of parts that cancel, not a direction.
_CANCELLED = 1e-5
_SHOWN = 200  # characters of a text in the name of a term
_LIKED, _DISLIKED = 0.75, 0.15  # weights beside the 1 of the query


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a query. `key` is what equality and hashing look at, `value` is what gets embedded."""

    kind: Kind
    key: Hashable
    value: Any = field(compare=False, repr=False)
    weight: float = 1.0
    box: Box | None = None  # of an image: the part that counts
    raw: bool = False  # of a text: no prompt of the embedder is put around it, and no bias taken from it

    def __str__(self) -> str:
        more = (f", box={self.box}" if self.box else "") + (", raw=True" if self.raw else "")
        if self.kind == "vector":
            return f"Query.vector(<{len(self.value)} numbers>)"
        if self.kind == "image" and not isinstance(self.value, str | os.PathLike):
            return f"Query.image(<{type(self.value).__name__}>{more})"
        return f"Query.{self.kind}({shorten(str(self.value), _SHOWN)!r}{more})"


@dataclass(frozen=True, slots=True, repr=False)
class Query:
    """An immutable, hashable sum of weighted terms; build it with `text`, `image`, `id`, `vector` and + - * /.

    Equal texts, ids, paths, bytes and vectors make equal queries; PIL images and arrays are compared by identity,
    and are not copied.
    """

    terms: tuple[Term, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.terms, tuple) or not all(isinstance(term, Term) for term in self.terms):
            raise QueryError(
                f"Query takes no {type(self.terms).__name__}; write Query.text(…), Query.image(…), Query.id(…) or "
                "Query.vector(…), and add them up"
            )

    # numpy scalars would otherwise take `np.float32(0.5) * query` for an array of objects
    __array_ufunc__ = None

    @classmethod
    def text(cls, text: str, *, raw: bool = False) -> Query:
        """What a text describes, within the prompts of the embedder and without its bias, if it has any; `raw` takes it
        as it is.

        Raises QueryError for an empty one.
        """
        if not isinstance(text, str):
            raise QueryError(f"Query.text takes a string, not {type(text).__name__}; Query.image takes images")
        if not text.strip():
            raise QueryError(f"the query text {text!r} is empty; say what the images should show")
        return cls((Term("text", (text, raw), text, raw=raw),))

    @classmethod
    def image(cls, image: ImageInput, *, box: Sequence[float] | None = None) -> Query:
        """What an image shows: a path, bytes, a PIL image or a uint8 array (H, W, 3). Read when the query runs.

        `box` is the part of it that counts: left, top, right, bottom in pixels of the image as it is seen (upright),
        counted from its upper left corner, as the width and height of a hit are.
        """
        part = None if box is None else check_box(box)
        if isinstance(image, str | os.PathLike):
            # The uri of a hit is an image too.
            path = image if isinstance(image, str) and image.startswith("file:") else Path(image)
            return cls((Term("image", (path, part), path, box=part),))
        key = image if isinstance(image, bytes) else id(image)
        return cls((Term("image", (key, part), image, box=part),))

    @classmethod
    def id(cls, image: str | os.PathLike[str]) -> Query:
        """A stored image, by uri, path or point id: its vector is read from the collection that is searched."""
        name = os.fspath(image) if isinstance(image, str | os.PathLike) else ""
        if not name:
            raise QueryError(f"Query.id takes the uri, path or point id of a stored image, not {image!r}")
        return cls((Term("id", name, name),))

    @classmethod
    def vector(cls, vector: Sequence[float] | np.ndarray) -> Query:
        """A vector of the embedder's space, float (dim,). Only its direction counts.

        Raises QueryError if it is not one row of finite numbers or is zero.
        """
        values = as_vector(vector)
        return cls((Term("vector", values.tobytes(), values),))

    def __add__(self, other: object) -> Query:
        return Query(self.terms + other.terms) if isinstance(other, Query) else NotImplemented

    def __radd__(self, other: object) -> Query:
        return self if isinstance(other, int) and other == 0 else NotImplemented  # where sum() starts

    def __sub__(self, other: object) -> Query:
        return Query(self.terms + (-other).terms) if isinstance(other, Query) else NotImplemented

    def __neg__(self) -> Query:
        return self * -1

    def __pos__(self) -> Query:
        return self

    def __mul__(self, factor: object) -> Query:
        if not isinstance(factor, Real):
            return NotImplemented
        weight = float(factor)
        if not math.isfinite(weight):
            raise QueryError(f"a query cannot be weighted with {weight}; use a finite number")
        return Query(tuple(replace(term, weight=term.weight * weight) for term in self.terms))

    __rmul__ = __mul__

    def __truediv__(self, divisor: object) -> Query:
        if not isinstance(divisor, Real):
            return NotImplemented
        if float(divisor) == 0:
            raise QueryError("a query cannot be divided by zero")
        return self * (1 / float(divisor))

    def __repr__(self) -> str:
        parts = []
        for position, term in enumerate(self.terms):
            sign = "-" if term.weight < 0 else "+"
            lead = f" {sign} " if position else sign.replace("+", "")
            weight = "" if abs(term.weight) == 1 else f"{abs(term.weight):g} * "
            parts.append(f"{lead}{weight}{term}")
        return "".join(parts) or "Query(())"

    def refine(
        self,
        *,
        liked: Iterable[Hit | str | os.PathLike[str]] = (),
        disliked: Iterable[Hit | str | os.PathLike[str]] = (),
    ) -> Query:
        """The query moved towards stored images that were chosen from its result, and away from others: hits, uris,
        paths or point ids. A search with it finds none of them again.

        Rocchio's formula with the weights 1, 0.75 and 0.15 (Manning, Raghavan, Schütze 2008, Introduction to
        Information Retrieval, section 9.1.1).
        """
        total = sum(abs(term.weight) for term in self.terms) or 1.0
        refined = self / total
        for name, given, weight in (("liked", liked, _LIKED), ("disliked", disliked, -_DISLIKED)):
            images = list_of(name, given)
            for image in images:
                refined = refined + weight / len(images) * Query.id(
                    image if isinstance(image, str | os.PathLike) else image.id
                )
        return refined

    def names(self) -> list[str]:
        """The stored images that the query mentions, in order, each once."""
        return list(dict.fromkeys(str(term.value) for term in self.terms if term.kind == "id"))

    def evaluate(self, embedder: Embedder, fetch: Fetch) -> np.ndarray:
        """The query as one unit vector, float32 (dim,); see `evaluate_queries`."""
        return evaluate_queries([self], embedder, fetch)[0].vector


@dataclass(frozen=True, slots=True)
class QueryVector:
    """`vector` is the unit vector of a query, `parts` are those of its terms that add up to it; float32 (dim,).

    `strength` is the mean length of its terms, above 0: a text is a little shorter or longer without the bias of the
    model, all else has 1. A score times the strength is what relevance is told by.
    """

    vector: np.ndarray
    parts: Mapping[str, np.ndarray]
    strength: float = 1.0


def embed_query_texts(texts: Iterable[str], embedder: Embedder, *, unit: bool = True) -> np.ndarray:
    """float32 (n, dim): texts as a search embeds them, with the prompts of a model around short ones and without its
    bias. Unit rows, or else each as long as its strength."""
    made = evaluate_queries([Query.text(text) for text in texts], embedder, lambda _names: {})
    return np.stack([one.vector if unit else one.vector * np.float32(one.strength) for one in made])


def evaluate_queries(queries: Sequence[Query], embedder: Embedder, fetch: Fetch) -> list[QueryVector]:
    """The vectors of queries: the texts of all in one batch, the images of all in one, one `fetch`.

    Raises QueryError if a query has no terms, a box reaches beyond its image, a stored image is missing, a vector has
    another length than `embedder.dim`, or the terms cancel; ImageError if an image cannot be read.
    """
    if not all(query.terms for query in queries):
        raise QueryError("the query has no terms; start from Query.text, Query.image, Query.id or Query.vector")
    terms = {(term.kind, term.key): term for query in queries for term in query.terms}
    texts, images, ids = ([key for key in terms if key[0] == kind] for kind in ("text", "image", "id"))
    found = {key: term.value for key, term in terms.items() if key[0] == "vector"}
    if texts:
        found.update(zip(texts, _embed_texts([terms[key] for key in texts], embedder), strict=True))
    if images:
        parts = [_read_image(terms[key], embedder) for key in images]
        found.update(zip(images, embedder.embed_images(parts), strict=True))
    if ids:
        names = [str(terms[key].value) for key in ids]
        stored = fetch(names)
        missing = [name for name in names if name not in stored]
        if missing:
            raise QueryError(f"no stored image {missing[0]!r}; give the uri, path or point id of one that is there")
        found.update({key: stored[name] for key, name in zip(ids, names, strict=True)})
    return [_add_up(query, found, embedder.dim) for query in queries]


def _embed_texts(terms: Sequence[Term], embedder: Embedder) -> list[np.ndarray]:
    """float64 (dim,) for each, as long as its strength."""
    prompts, bias = read_prompts(embedder), read_bias(embedder)
    written = [[term.value] if term.raw or prompts is None else prompts.wrap(term.value) for term in terms]
    means = _average(embedder.embed_texts([text for texts in written for text in texts]), written)
    return [mean if term.raw else mean - bias for term, mean in zip(terms, means, strict=True)]


def write_prompts(texts: Sequence[str], embedder: Embedder) -> list[list[str]]:
    """What is embedded for each text of a search: the text within each of the model's prompts, or as it is.

    Raises QueryError for an empty text.
    """
    prompts = read_prompts(embedder)
    wanted = [Query.text(text).terms[0].value for text in texts]
    return [[text] if prompts is None else prompts.wrap(text) for text in wanted]


def merge_prompted(vectors: np.ndarray, written: Sequence[Sequence[str]], embedder: Embedder) -> np.ndarray:
    """One unit row for each text of a search, float32 (len(written), dim), of the `vectors` of all that `write_prompts`
    gave for it."""
    bias = read_bias(embedder)
    return np.stack([to_unit(mean - bias) for mean in _average(vectors, written)]).astype(np.float32)


def _average(vectors: np.ndarray, written: Sequence[Sequence[str]]) -> list[np.ndarray]:
    """A unit vector for each text, float64 (dim,): of one within several prompts that of their mean.

    Radford et al. 2021, section 3.1.4.
    """
    ends = np.cumsum([len(texts) for texts in written])
    return [to_unit(part.mean(axis=0)) for part in np.split(vectors, ends[:-1])]


def _read_image(term: Term, embedder: Embedder) -> Any:
    """The image of a term as an embedder takes it; its part as uint8 (h, w, 3)."""
    if term.box is None:
        return term.value
    from clip_qdrant.images.load import DEFAULT_LIMITS, load_image

    upright = load_image(term.value, limits=getattr(embedder, "limits", DEFAULT_LIMITS)).rgb
    left, top, right, bottom = term.box
    if right > upright.width or bottom > upright.height:
        raise QueryError(
            f"the box {term.box} of {term} reaches beyond the image, which is {upright.width} x {upright.height} pixels"
        )
    return np.asarray(upright.crop((math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom))))


def check_box(box: Sequence[float]) -> Box:
    """A box as four numbers; QueryError for what is none."""
    numbers = tuple(box) if isinstance(box, Sequence | np.ndarray) and not isinstance(box, str) else ()
    if len(numbers) != 4 or not all(is_number(one) and math.isfinite(one) for one in numbers):
        raise QueryError(f"box takes left, top, right and bottom in pixels, not {box!r}")
    left, top, right, bottom = numbers
    if not (0 <= left < right and 0 <= top < bottom):
        raise QueryError(f"the box {numbers} holds nothing: 0 <= left < right, and 0 <= top < bottom, in pixels")
    return left, top, right, bottom


def _add_up(query: Query, found: Mapping[tuple[Kind, Hashable], np.ndarray], dim: int) -> QueryVector:
    # Relative to the largest weight, so that neither huge nor tiny weights leave the range of floats.
    scale = max(abs(term.weight) for term in query.terms) or 1.0
    if not math.isfinite(scale):
        raise QueryError(f"the weights of {query!r} are not finite; use smaller ones")
    parts: dict[str, np.ndarray] = {}
    strength = weights = 0.0
    for term in query.terms:
        vector = found[term.kind, term.key]
        if vector.shape != (dim,):
            raise QueryError(f"{term} has shape {vector.shape}; this embedder's vectors have ({dim},)")
        weight = term.weight / scale
        strength += abs(weight) * (float(np.linalg.norm(vector)) if term.kind == "text" else 1.0)
        weights += abs(weight)
        name, part = str(term), weight * to_unit(vector)
        parts[name] = parts[name] + part if name in parts else part
    total: np.ndarray = np.add.reduce([*parts.values()]) if len(parts) > 1 else next(iter(parts.values()))
    length = float(np.linalg.norm(total))
    if not math.isfinite(length):
        raise QueryError(f"the vector of {query!r} is not finite: the embedder, or a stored vector, is at fault")
    if length <= _CANCELLED:
        raise QueryError(f"the terms of {query!r} cancel, which leaves no direction to search in; change a weight")
    unit = (total / length).astype(np.float32)
    if len(parts) == 1:
        return QueryVector(unit, dict.fromkeys(parts, unit), strength / weights)
    shares = {name: (part / length).astype(np.float32) for name, part in parts.items()}
    return QueryVector(unit, shares, strength / weights)


def as_vector(values: Iterable[float] | np.ndarray) -> np.ndarray:
    """A read-only float32 copy (dim,) of a query vector; QueryError if it is not one row of finite numbers, or zero."""
    try:
        vector = np.array(values, np.float32)
    except (TypeError, ValueError) as error:
        raise QueryError(f"a query vector must be a row of numbers: {error}") from error
    if vector.ndim != 1 or not len(vector):
        raise QueryError(f"a query vector must have one dimension, not shape {vector.shape}; images are uint8")
    if not np.isfinite(vector).all():
        raise QueryError("the query vector has values that are not finite numbers")
    if not vector.any():
        raise QueryError("the query vector is zero, which is no direction to search in")
    vector.setflags(write=False)
    return vector


def to_unit(vector: np.ndarray) -> np.ndarray:
    """The vector divided by its length, float64 (dim,): float32 squares of large numbers overflow."""
    wide = np.asarray(vector, np.float64)
    return wide / (float(np.linalg.norm(wide)) or 1.0)
