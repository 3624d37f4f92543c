"""Image search inside an app of your own. (`clip-qdrant serve` is a whole service, without a line of code.)

uvicorn --app-dir examples fastapi_app:app
curl -F image=@cat.jpg -F caption="a cat asleep" localhost:8000/photos
curl "localhost:8000/photos?text=a+cat"
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, File, Form, Request
from fastapi.responses import JSONResponse

from clip_qdrant import ClipEmbedder, ClipQdrantError, ImageCollection, connect


@asynccontextmanager
async def open_photos(app: FastAPI) -> AsyncIterator[None]:
    client = connect("./qdrant-data")
    app.state.photos = ImageCollection("photos", ClipEmbedder.load(), client)
    yield
    client.close()


app = FastAPI(lifespan=open_photos)


@app.post("/photos")
async def add(
    request: Request, image: Annotated[bytes, File()], caption: Annotated[str, Form()] = ""
) -> dict[str, int]:
    done = await request.app.state.photos.aadd([image], captions=[caption])
    return {"added": done.added, "unchanged": done.unchanged}


@app.get("/photos")
async def search(request: Request, text: str, where: str | None = None, limit: int = 10) -> list[dict[str, Any]]:
    hits = await request.app.state.photos.asearch(text, where=where, limit=limit)
    return list(hits.to_dicts())


@app.exception_handler(ClipQdrantError)
async def refuse(_request: Request, error: ClipQdrantError) -> JSONResponse:
    return JSONResponse({"error": str(error)}, status_code=422)  # says what is wrong, and what to do
