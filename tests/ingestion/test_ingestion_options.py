"""The options of a run: what may be said in Python, with which default, and what is refused."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

from clip_qdrant.errors import ConfigError
from clip_qdrant_ingestion import ingest, plan
from clip_qdrant_ingestion.options import IngestOptions

DEFAULTS = {field.name: field.default for field in dataclasses.fields(IngestOptions) if field.name != "limits"}


def test_ingest_takes_every_option_with_its_default() -> None:
    parameters = inspect.signature(ingest).parameters

    assert {name: parameters[name].default for name in DEFAULTS} == DEFAULTS
    assert parameters["limits"].default is None


def test_a_plan_takes_some_options_with_the_same_defaults() -> None:
    parameters = inspect.signature(plan).parameters
    shared = DEFAULTS.keys() & parameters.keys()

    assert shared == {"owns", "dedupe", "retry_failed", "patience"}
    assert {name: parameters[name].default for name in shared} == {name: DEFAULTS[name] for name in shared}


@pytest.mark.parametrize("name", ["batch_size", "workers", "readers"])
def test_a_number_of_threads_or_images_is_at_least_one(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be at least 1, not 0"):
        IngestOptions(**{name: 0})  # type: ignore[arg-type]  # names of options


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_the_most_that_may_be_deleted_is_a_share(share: float) -> None:
    with pytest.raises(ConfigError, match="max_delete is a share of the collection, 0 to 1"):
        IngestOptions(max_delete=share)


def test_a_way_to_treat_duplicates_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="dedupe must be off, tag or skip, not 'drop'"):
        IngestOptions(dedupe="drop")  # type: ignore[arg-type]  # that is the point
