"""EdgeClient answers random requests of every kind as local mode does, and a server where there is one.

CLIP_QDRANT_TEST_REQUESTS is the number of requests to each layout of vectors; support/congruence makes them.
"""

from __future__ import annotations

import os
from random import Random

import pytest
from congruence.layouts import LAYOUTS, random_layout
from congruence.requests import Scene
from congruence.worlds import KINDS, Outcome, World
from qdrant_client.client_base import QdrantBase

from clip_qdrant.store.edge.client import EdgeClient

# Local mode says of what it is given that it makes nothing of it.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
REQUESTS = int(os.environ.get("CLIP_QDRANT_TEST_REQUESTS", "70"))
TO_ONE_COLLECTION = 100


@pytest.fixture(params=["memory", "server"])
def other(request: pytest.FixtureRequest) -> QdrantBase:
    return request.getfixturevalue(f"{request.param}_client")


def describe(outcome: Outcome) -> str:
    return (
        f"{outcome.request.kind}, seed {outcome.seed}: {str(outcome.request)[:2000]}\n    {outcome.difference[:1000]}"
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_requests_of_every_kind_agree(edge_client, other, collection_name, layout):
    found: list[str] = []
    for seed in range(max(1, REQUESTS // TO_ONE_COLLECTION)):
        world = World(edge_client, other, seed, layout=layout, name=collection_name)
        for outcome in world.outcomes(min(REQUESTS, TO_ONE_COLLECTION)):
            if outcome.difference:
                found.append(describe(outcome))
        world.close()

    assert not found, "\n".join([f"{len(found)} differences", *found[:5]])


@pytest.mark.parametrize("layout", ["unnamed and sparse", "everything"])
def test_requests_agree_after_the_store_was_opened_again_and_optimized(tmp_path, memory_client, layout):
    with EdgeClient(tmp_path) as before:
        world = World(before, memory_client, 1, layout=layout)
        found = [describe(outcome) for outcome in world.outcomes(15) if outcome.difference]
    with EdgeClient(tmp_path) as after:
        world.ours = after
        found += [describe(outcome) for outcome in world.outcomes(15) if outcome.difference]
        after.optimize(world.name)
        found += [describe(outcome) for outcome in world.outcomes(15) if outcome.difference]

    assert not found, "\n".join(found[:5])


def test_every_kind_of_request_can_be_made():
    made: set[str] = set()
    for layout in LAYOUTS:
        random = Random(layout)
        scene = Scene(random_layout(random, layout), ids=[1, 2, 3], other="other", other_ids=[1])
        made |= {kind for kind in KINDS for _ in range(3) if KINDS[kind](random, scene) is not None}

    assert made == set(KINDS)
