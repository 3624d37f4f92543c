"""One collection in two stores, requests sent to both, and what came of each."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from clip_qdrant.errors import ClipQdrantError, UnsupportedByEdge
from congruence.compare import COMPARISONS, compare_records
from congruence.layouts import Layout, random_layout
from congruence.mistakes import MISTAKES
from congruence.payloads import INDEXES
from congruence.queries import QUERIES
from congruence.reads import READS
from congruence.requests import Request, Scene
from congruence.writes import WRITES, random_points

__all__ = ["KINDS", "Outcome", "Tally", "World"]

KINDS = {**QUERIES, **READS, **WRITES, **MISTAKES}
_WITHOUT_POINTS = ("upsert", "upload_points", "count", "scroll", "no query", "sample", "facet")


@dataclass(frozen=True)
class Outcome:
    """What came of one request. `difference` is empty where the stores agree; `failed` if both refused it."""

    request: Request
    difference: str
    failed: bool
    seed: int


class World:
    """A random collection, the same in `ours` and `theirs`, and another one to look things up in."""

    def __init__(
        self, ours: QdrantBase, theirs: QdrantBase, seed: int, *, layout: str | None = None, name: str = "world"
    ) -> None:
        self.ours, self.theirs, self.seed = ours, theirs, seed
        self.random = Random(seed)
        self.name, self.other = f"{name}_{seed}", f"{name}_{seed}_other"
        self.layout: Layout = random_layout(self.random, layout)
        self.tolerance = max(one.tolerance for one in self.layout.vectors)
        self.is_spoilt = False  # no further requests, as answers would differ because of an earlier difference
        scene = Scene(self.layout, [], self.other, [])
        points = random_points(self.random, scene, self.random.choice([0, 3, 20, 40, 60]))
        self.other_ids = [one.id for one in points]
        text = models.TextIndexParams(type="text", scoring=True, phrase_matching=True)
        self.indexes = {key: kind for key, kind in INDEXES.items() if kind != "geo" or self.random.random() < 0.5}
        for client in (ours, theirs):
            for collection in (self.name, self.other):
                client.create_collection(collection, **self.layout.config)
            for key, kind in self.indexes.items():
                client.create_payload_index(self.name, key, kind)
            client.create_payload_index(self.name, "text", text)
            if points:
                client.upsert(self.name, points)
                client.upsert(self.other, points)

    def close(self) -> None:
        for client in (self.ours, self.theirs):
            client.delete_collection(self.name)
            client.delete_collection(self.other)

    def scene(self) -> Scene:
        """The points there are now."""
        found, _ = self.theirs.scroll(self.name, limit=10_000, with_payload=False)
        return Scene(self.layout, [one.id for one in found], self.other, self.other_ids)

    def outcomes(self, number: int) -> Iterator[Outcome]:
        """As many requests, each kind in its turn, and the state of both stores after each that changed points."""
        scene = self.scene()
        kinds: list[str] = []
        while number and not self.is_spoilt:
            kinds = kinds or self.random.sample(list(KINDS), len(KINDS))
            kind = kinds.pop()
            if not scene.ids and kind not in _WITHOUT_POINTS:
                kind = "upsert"
            request = KINDS[kind](self.random, scene)
            if request is None:  # this collection has not the vectors for it
                continue
            number -= 1
            yield self.outcome(request)
            if request.compare == "state":
                scene = self.scene()

    def outcome(self, request: Request) -> Outcome:
        ours, our_error = _answer(self.ours, self.name, request, dicts=True)
        theirs, their_error = _answer(self.theirs, self.name, request, dicts=False)
        said = ""
        if our_error is not None or their_error is not None:
            said = _error_difference(our_error, their_error, ours, theirs)
        else:
            said = COMPARISONS[request.compare](ours, theirs, max(request.tolerance, self.tolerance)) or ""
        if request.compare == "state":
            state = self._state_difference() or ""
            self.is_spoilt = bool(state) and self.layout.has_idf  # deleted points would count
            if state:
                self._repair()
            said = said or state
        return Outcome(request, said, our_error is not None and their_error is not None, self.seed)

    def _state_difference(self) -> str | None:
        pages = [
            client.scroll(self.name, limit=10_000, with_vectors=True, with_payload=True)[0]
            for client in (self.ours, self.theirs)
        ]
        return compare_records(pages[0], pages[1], self.tolerance)

    def _repair(self) -> None:
        """Make ours hold what theirs holds, after a difference."""
        self.ours.delete(self.name, models.Filter(must=[]))
        points = [
            models.PointStruct(id=one.id, payload=one.payload, vector=one.vector if one.vector is not None else {})
            for one in self.theirs.scroll(self.name, limit=10_000, with_vectors=True, with_payload=True)[0]
        ]
        if points:
            self.ours.upsert(self.name, points)


def _answer(client: QdrantBase, name: str, request: Request, *, dicts: bool) -> tuple[Any, Exception | None]:
    try:
        return request.send(client, name, dicts=dicts), None
    except Exception as error:  # noqa: BLE001 - whatever it is, the other store must refuse the request too
        return None, error


def _error_difference(ours: Exception | None, theirs: Exception | None, answer: Any, other: Any) -> str:
    if ours is not None and not isinstance(ours, ClipQdrantError):
        return f"untyped {type(ours).__name__}: {ours} (the other: {theirs!r})"
    if theirs is None:
        kind = "unsupported" if isinstance(ours, UnsupportedByEdge) else "refused"
        return f"{kind}: {ours}; the other gave {str(other)[:300]}"
    if ours is None:
        return f"not refused, but the other said {type(theirs).__name__}: {theirs}; ours gave {str(answer)[:300]}"
    return ""


@dataclass
class Tally:
    """How many requests of each kind agree."""

    agree: Counter[str] = field(default_factory=Counter)
    total: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    differences: dict[str, list[Outcome]] = field(default_factory=lambda: defaultdict(list))

    def add(self, outcome: Outcome) -> None:
        kind = outcome.request.kind
        self.total[kind] += 1
        self.refused[kind] += outcome.failed
        if outcome.difference:
            self.differences[kind].append(outcome)
        else:
            self.agree[kind] += 1

    def table(self) -> str:
        """The kinds in the order in which they are declared."""
        lines = [f"{'kind':<28} {'agree':>7} {'of':>7} {'both refuse':>12}"]
        for kind in KINDS:
            lines.append(f"{kind:<28} {self.agree[kind]:>7} {self.total[kind]:>7} {self.refused[kind]:>12}")
        sums = [sum(one.values()) for one in (self.agree, self.total, self.refused)]
        return "\n".join([*lines, f"{'all':<28} {sums[0]:>7} {sums[1]:>7} {sums[2]:>12}"])
