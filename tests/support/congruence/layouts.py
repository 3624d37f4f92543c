"""Vectors of random collections: their parameters, and values that each type of storage keeps as they are."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from qdrant_client import models

__all__ = ["LAYOUTS", "Layout", "VectorSpec", "random_layout"]

DISTANCES = list(models.Distance)
# local mode keeps every vector as float32, so the values below are such that no type loses any of them.
DATATYPES = [None, models.Datatype.FLOAT32, models.Datatype.FLOAT16, models.Datatype.UINT8]


@dataclass(frozen=True)
class VectorSpec:
    """One vector of a collection. `kind` is dense, multi or sparse."""

    name: str
    kind: str
    size: int = 0
    distance: models.Distance | None = None
    datatype: models.Datatype | None = None
    idf: bool = False

    @property
    def params(self) -> Any:
        if self.kind == "sparse":
            return models.SparseVectorParams(modifier=models.Modifier.IDF if self.idf else None)
        several = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
        return models.VectorParams(
            size=self.size,
            distance=self.distance,
            datatype=self.datatype,
            multivector_config=several if self.kind == "multi" else None,
        )

    @property
    def is_exact(self) -> bool:
        """Whether scores hardly ever tie, and do not hang on how the store rounds what it keeps."""
        return self.datatype in (None, models.Datatype.FLOAT32)

    @property
    def tolerance(self) -> float:
        """Of scores and values, as a share: normalized vectors are rounded once more where floats are short."""
        return 2e-3 if self.distance is models.Distance.COSINE and self.datatype is models.Datatype.FLOAT16 else 1e-5

    def value(self, random: Random) -> Any:
        """A vector as a point of the collection has it."""
        if self.kind == "sparse":
            some = random.sample(range(12), random.randint(1, 6))
            return models.SparseVector(indices=some, values=[self._number(random) for _ in some])
        if self.kind == "multi":
            return [self._row(random) for _ in range(random.randint(1, 3))]
        return self._row(random)

    def _row(self, random: Random) -> list[float]:
        return [self._number(random) for _ in range(self.size)]

    def _number(self, random: Random) -> float:
        if self.datatype is models.Datatype.UINT8:
            return float(random.randint(1, 255))
        if self.datatype is models.Datatype.FLOAT16:
            return random.randint(-256, 256) / 64 or 1.0
        return round(random.gauss(0, 1), 5) or 1.0


@dataclass(frozen=True)
class Layout:
    """The vectors of a collection; the name of an unnamed one is empty."""

    label: str
    vectors: tuple[VectorSpec, ...]

    def of_kind(self, *kinds: str, exact: bool = False) -> list[VectorSpec]:
        return [one for one in self.vectors if one.kind in kinds and (one.is_exact or not exact)]

    @property
    def has_idf(self) -> bool:
        """Whether deleted points still count in scores: in an index they do until it is made anew."""
        return any(one.idf for one in self.vectors)

    @property
    def config(self) -> dict[str, Any]:
        """Arguments of create_collection."""
        sparse = {one.name: one.params for one in self.of_kind("sparse")}
        rest = {one.name: one.params for one in self.of_kind("dense", "multi")}
        vectors: Any = rest[""] if list(rest) == [""] else rest
        return {"vectors_config": vectors, **({"sparse_vectors_config": sparse} if sparse else {})}

    def values(self, random: Random) -> Any:
        """The vectors of a point, some left out where they have names."""
        if len(self.vectors) == 1 and self.vectors[0].name == "" and random.random() < 0.9:
            return self.vectors[0].value(random)
        return {one.name: one.value(random) for one in self.vectors if random.random() < 0.85}


def _dense(random: Random, name: str, kind: str = "dense") -> VectorSpec:
    datatype, distance = random.choice(DATATYPES) if random.random() < 0.5 else None, random.choice(DISTANCES)
    if distance is models.Distance.COSINE and datatype is models.Datatype.UINT8:
        datatype = None  # local mode gives these back normalized
    return VectorSpec(name, kind, random.randint(2, 8), distance, datatype)


def _unnamed(random: Random) -> list[VectorSpec]:
    return [_dense(random, "")]


def _unnamed_and_sparse(random: Random) -> list[VectorSpec]:
    return [_dense(random, ""), VectorSpec("words", "sparse", idf=random.random() < 0.5)]


def _named(random: Random) -> list[VectorSpec]:
    return [_dense(random, name) for name in ("image", "text", "wide")[: random.randint(1, 3)]]


def _multi(random: Random) -> list[VectorSpec]:
    return [_dense(random, "patches", "multi"), *([_dense(random, "image")] if random.random() < 0.7 else [])]


def _sparse(random: Random) -> list[VectorSpec]:
    return [VectorSpec("words", "sparse"), VectorSpec("terms", "sparse", idf=random.random() < 0.5)]


def _everything(random: Random) -> list[VectorSpec]:
    return [_dense(random, "image"), _dense(random, "text"), _dense(random, "patches", "multi"), *_sparse(random)]


LAYOUTS = {
    "unnamed": _unnamed,
    "unnamed and sparse": _unnamed_and_sparse,
    "named": _named,
    "multi": _multi,
    "sparse": _sparse,
    "everything": _everything,
}


def random_layout(random: Random, label: str | None = None) -> Layout:
    label = label or random.choice(list(LAYOUTS))
    return Layout(label, tuple(LAYOUTS[label](random)))
