"""EdgeClient is called as QdrantClient is: the same arguments, in the same order, with the same defaults."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.client_base import QdrantBase

from clip_qdrant.errors import InvalidRequest, UnsupportedByEdge
from clip_qdrant.store.edge.client import EdgeClient

METHODS = [name for name in vars(QdrantBase) if not name.startswith("_")]
# All of them are about several machines, or about snapshots.
REFUSED = {
    "cluster_collection_update",
    "cluster_status",
    "cluster_telemetry",
    "collection_cluster_info",
    "create_full_snapshot",
    "create_shard_key",
    "create_shard_snapshot",
    "create_snapshot",
    "delete_full_snapshot",
    "delete_shard_key",
    "delete_shard_snapshot",
    "delete_snapshot",
    "get_optimizations",
    "list_shard_keys",
    "recover_current_peer",
    "recover_shard_snapshot",
    "recover_snapshot",
    "remove_peer",
}


def parameters(owner: type, name: str) -> list[tuple[str, Any, Any]]:
    found = inspect.signature(getattr(owner, name)).parameters.values()
    return [(one.name, one.kind, one.default) for one in found]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_takes_what_that_of_the_client_takes(name: str) -> None:
    assert parameters(EdgeClient, name) == parameters(QdrantClient, name)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_refused_names_the_server(edge_client: EdgeClient, name: str) -> None:
    with pytest.raises(UnsupportedByEdge, match="run a Qdrant server"):
        getattr(edge_client, name)("c", "x")


def test_no_other_method_is_refused() -> None:
    assert {name for name in METHODS if getattr(EdgeClient, name).__doc__ == "Raises UnsupportedByEdge."} == REFUSED


@pytest.mark.parametrize(
    "use",
    [
        lambda c: c.count("c", shard_key_selector="x"),
        lambda c: c.upsert("c", [], shard_key_selector="x"),
        lambda c: c.scroll("c", shard_key_selector="x"),
        lambda c: c.create_collection("c", sharding_method="custom"),
        lambda c: c.create_collection("c", replication_factor=2),
    ],
)
def test_an_option_that_asks_for_what_is_not_done_is_refused(edge_client: EdgeClient, use: Any) -> None:
    with pytest.raises(UnsupportedByEdge, match="the option"):
        use(edge_client)


def test_an_option_that_no_client_has_is_told_as_a_mistake(edge_client: EdgeClient) -> None:
    edge_client.create_collection("c", vectors_config=models.VectorParams(size=2, distance=models.Distance.DOT))
    for use in (
        lambda: edge_client.retrieve("c", [], limitt=1),
        lambda: edge_client.query_points("c", [1, 2], limitt=1),
    ):
        with pytest.raises(InvalidRequest, match="there is no option 'limitt'"):
            use()
