"""The calls of a client that start runs of ingestion in the service, and follow them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from clip_qdrant.collection.async_face import run_in_thread
from clip_qdrant.errors import ServiceError
from clip_qdrant.service.bodies.ingest import IngestBody, IngestRunBody
from clip_qdrant.service.client.calls import Calls, without_none

__all__ = ["RunCalls"]


class RunCalls(Calls):
    """Runs of ingestion."""

    def start_ingest(self, request: str | IngestBody) -> IngestRunBody:
        """Starts a run of ingestion in the service, from a location that it may read; gives it as it begins."""
        body = IngestBody(source=request) if isinstance(request, str) else request
        asked = {"collection": self.name, **body.model_dump(exclude_defaults=True)}
        return IngestRunBody.model_validate(self._transport.send("POST", "/v1/ingest", json=without_none(asked)))

    def follow_ingest(self, run: str) -> Iterator[IngestRunBody]:
        """The run of this id, whenever something has happened, until it has ended."""
        with self._transport.stream(f"/v1/ingest/{quote(run, safe='')}/events") as lines:
            for line in lines:
                if line.startswith("data:"):
                    yield IngestRunBody.model_validate_json(line.removeprefix("data:"))

    def ingest(self, request: str | IngestBody) -> IngestRunBody:
        """Starts a run, and waits for its end. Raises ServiceError if it fails."""
        run = self.start_ingest(request)
        while run.state == "running":  # a proxy may cut what is silent
            for told in self.follow_ingest(run.id):
                run = told
        if run.error is not None:
            raise ServiceError(f"run {run.id} from {run.source} into {run.collection!r} failed: {run.error}")
        return run

    def cancel_ingest(self, run: str) -> IngestRunBody:
        """Asks the run of this id to end. What it has in hand is stored."""
        path = f"/v1/ingest/{quote(run, safe='')}/cancel"
        return IngestRunBody.model_validate(self._transport.send("POST", path))

    def read_ingest_report(self, run: str) -> dict[str, Any]:
        """The whole report of the run of this id, with each object that is quarantined."""
        report: dict[str, Any] = self._transport.send("GET", f"/v1/ingest/{quote(run, safe='')}/report")
        return report

    # The same for async code, in a thread of asyncio's pool.
    aingest = run_in_thread(ingest)
