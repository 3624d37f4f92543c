"""The limits that a Qdrant server sets to a collection by its strict mode, and how this package keeps within them.

Source: https://qdrant.tech/documentation/ops-configuration/administration/#strict-mode
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from qdrant_client import models

from clip_qdrant.errors import TooFewIndexes
from clip_qdrant.fields.derived import index_keys
from clip_qdrant.fields.types import FIELD_TYPES, METADATA_PREFIX, FieldType

__all__ = ["NECESSARY_INDEXES", "StrictMode", "choose_indexes", "explain_missing"]

# What ingestion itself filters by: deletion, images of the same bytes, near-duplicates.
NECESSARY_INDEXES = ("source.name", "image.sha256", "fingerprint", "duplicate_of")


@dataclass(frozen=True, slots=True)
class StrictMode:
    """What a collection allows; by default everything."""

    exact: bool = True  # counts and facets
    page: int | None = None  # the most points that one call gives
    indexes: int | None = None  # payload indexes, of whoever made them
    unindexed: bool = True  # filters on fields without an index

    @classmethod
    def read(cls, config: models.CollectionConfig) -> StrictMode:
        said = config.strict_mode_config
        if said is None or not said.enabled:
            return cls()
        return cls(
            exact=said.search_allow_exact is not False,
            page=said.max_query_limit,
            indexes=said.max_payload_index_count,
            unindexed=said.unindexed_filtering_retrieve is not False and said.unindexed_filtering_update is not False,
        )


def choose_indexes(
    wanted: Mapping[str, FieldType], there: Collection[str], strict: StrictMode, *, first: Iterable[str] = ()
) -> list[str]:
    """The payload indexes to make, the necessary ones first, then those of the fields named `first`, as many as may be.

    `wanted` and `there` are payload keys. Raises TooFewIndexes where not even the necessary ones may be made.
    """
    order = dict.fromkeys([*NECESSARY_INDEXES, *_keys_of(first), *wanted])
    missing = [key for key in order if key in wanted and key not in there]
    if strict.indexes is None:
        return missing
    chosen = missing[: max(0, strict.indexes - len(there))]
    without = [key for key in NECESSARY_INDEXES if key in missing and key not in chosen]
    if without:
        raise TooFewIndexes(
            f"the server allows {strict.indexes} payload indexes (strict mode, max_payload_index_count), and "
            f"{len(there)} are there: {', '.join(without)} cannot be indexed, which ingestion needs; {len(wanted)} are "
            f"needed for all fields, {len(NECESSARY_INDEXES)} at least"
        )
    return chosen


def _keys_of(names: Iterable[str]) -> Iterable[str]:
    """The keys of the indexes that fields, named as in a filter, may have."""
    for name in names:
        for key in (name, METADATA_PREFIX + name):
            yield from (index for field_type in FIELD_TYPES for index in index_keys(key, field_type))


def explain_missing(name: str, missing: Collection[str], wanted: int, strict: StrictMode) -> str | None:
    """What is wrong where payload indexes are missing, and what to do; None if none are."""
    if not missing:
        return None
    keys = ", ".join(missing)
    effect = "filters on them are slow" if strict.unindexed else "no filter may name them"
    if strict.indexes is None:
        return f"collection {name!r} lacks payload indexes, so that {effect}: {keys}; the next ingest makes them"
    return (
        f"collection {name!r} lacks payload indexes, so that {effect}: {keys}; {wanted} are needed, and the server "
        f"allows {strict.indexes} (strict mode, max_payload_index_count): raise that, or name the fields to be indexed "
        "first in the setting indexes; the next ingest makes those that may be"
    )
