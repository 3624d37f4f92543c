"""Runs of ingestion: started, followed by server-sent events, cancelled; and their reports."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Path
from fastapi.responses import JSONResponse, StreamingResponse

from clip_qdrant.errors import Forbidden, NotServed
from clip_qdrant.service.bodies.ingest import IngestBody, IngestReport, IngestRunBody, IngestRunsAnswer
from clip_qdrant.service.examples import INGEST
from clip_qdrant.service.ingest.runs import IngestRun
from clip_qdrant.service.security.access import Access, needs
from clip_qdrant.service.threads import run_blocking
from clip_qdrant.url_secrets import mask_secrets

__all__ = ["router"]

router = APIRouter(tags=["ingest"])

_BETWEEN_LOOKS = 0.2  # seconds
_SILENCE = 15.0  # seconds after which a comment says that the connection is alive; proxies cut what is silent


async def find_access(access: Annotated[Access, Depends(needs("write"))]) -> Access:
    """A dependency: the access of a caller who may ingest. Raises Unauthorized, Forbidden."""
    if access.key.tenant is not None:
        raise Forbidden("the key of a tenant cannot ingest: the images of a source belong to no tenant")
    return access


_Access = Annotated[Access, Depends(find_access)]
_Id = Annotated[str, Path(description="The id of a run.", max_length=64)]


@router.post("/v1/ingest", summary="Start a run", status_code=202, response_model=IngestRunBody)
async def start(body: Annotated[IngestBody, Body(openapi_examples=INGEST)], access: _Access) -> JSONResponse:
    """Brings a collection to the state of a source, which lies at or below one of the places that the service may read.
    The answer comes at once: the run goes on, and its address is in `Location`.
    """

    def begin() -> IngestRun:
        run = access.service.ingestion.start(body, access.open(body.collection, create=True).name)
        access.audit("ingest", run.collection, {"source": run.source, "run": run.id, "delete": body.delete})
        return run

    run = await run_blocking(begin)
    return JSONResponse(_tell(run), status_code=202, headers={"Location": f"/v1/ingest/{run.id}"})


@router.get("/v1/ingest", summary="List runs", response_model=IngestRunsAnswer)
async def list_runs(access: _Access) -> JSONResponse:
    """The last runs since the service started, the newest first."""
    runs = [run for run in access.service.ingestion.runs.list() if access.may_use(run.collection)]
    return JSONResponse({"runs": [_tell(run) for run in runs]})


@router.get("/v1/ingest/{run_id}", summary="Look at a run", response_model=IngestRunBody)
async def look(run_id: _Id, access: _Access) -> JSONResponse:
    """Where a run stands."""
    return JSONResponse(_tell(_find(run_id, access)))


@router.get("/v1/ingest/{run_id}/report", summary="Read the report of a run", response_model=IngestReport)
async def read_report(run_id: _Id, access: _Access) -> JSONResponse:
    """The whole report of a run that has ended, with each object that is quarantined."""
    run = _find(run_id, access)
    if run.report is None:
        why = "it goes on" if run.state == "running" else f"it failed: {run.error}"
        raise NotServed(f"run {run_id} has no report: {mask_secrets(why)}")
    return await run_blocking(lambda: JSONResponse(_mask(run.report.document() if run.report else {})))


@router.get(
    "/v1/ingest/{run_id}/events",
    summary="Follow a run",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "`progress` whenever something happened, and `end` at the end; the data of both is the run.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        }
    },
)
async def follow(run_id: _Id, access: _Access) -> StreamingResponse:
    """The run as server-sent events, from where it stands to its end."""
    run = _find(run_id, access)
    headers = {"X-Accel-Buffering": "no"}  # nginx would wait for more of it
    return StreamingResponse(_stream(run, access), media_type="text/event-stream", headers=headers)


@router.post("/v1/ingest/{run_id}/cancel", summary="Cancel a run", status_code=202, response_model=IngestRunBody)
async def cancel(run_id: _Id, access: _Access) -> JSONResponse:
    """Asks a run to end. It stores the batches in hand; another run goes on from there."""
    run = _find(run_id, access)
    run.stop.set()
    await run_blocking(access.audit, "cancel ingest", run.collection, {"run": run.id})
    return JSONResponse(_tell(run), status_code=202)


def _find(run_id: str, access: Access) -> IngestRun:
    run = access.service.ingestion.runs.get(run_id)
    if run is None or not access.may_use(run.collection):
        raise NotServed(f"there is no run {run_id!r}: the service remembers those since it started")
    return run


async def _stream(run: IngestRun, access: Access) -> AsyncIterator[str]:
    told, silent = None, 0.0
    while run.state == "running" and access.service.state != "draining":
        if run.progress is not told or silent >= _SILENCE:
            yield _event("progress", run) if run.progress is not told else ": still running\n\n"
            told, silent = run.progress, 0.0
        await asyncio.sleep(_BETWEEN_LOOKS)
        silent += _BETWEEN_LOOKS
    yield _event("end" if run.state != "running" else "progress", run)


def _event(name: str, run: IngestRun) -> str:
    return f"event: {name}\ndata: {json.dumps(_tell(run))}\n\n"


def _tell(run: IngestRun) -> dict[str, Any]:
    """The JSON of `IngestRunBody`."""
    from clip_qdrant_ingestion.run.report import Progress

    state, progress = run.state, run.progress or Progress()
    rate = round(progress.images_per_second, 2)
    told = {
        "id": run.id,
        "collection": run.collection,
        "source": _mask(run.source),
        "state": state,
        "started_at": _tell_time(run.started_at),
        "progress": {**asdict(progress), "done": progress.done, "images_per_second": rate},
    }
    if run.ended_at is not None:
        told["ended_at"] = _tell_time(run.ended_at)
    if run.report is not None:
        told["report"] = _mask(run.report.summary())
    if run.error is not None:
        told["error"] = _mask(str(run.error))
    return told


def _tell_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _mask(document: Any) -> Any:
    """The document without secrets in its texts."""
    if isinstance(document, str):  # names of files may be no Unicode
        return mask_secrets(document).encode("utf-8", "replace").decode()
    if isinstance(document, dict):
        return {name: _mask(value) for name, value in document.items()}
    if isinstance(document, list | tuple):
        return [_mask(value) for value in document]
    return document
