"""Answers a question about pictures: the nearest images and their captions become the prompt of a multimodal model.

python examples/rag.py "Which birds are there?"                 # offline: a stub shows what a model would be asked
python examples/rag.py "Which birds are there?" --base-url http://localhost:11434/v1 --model gemma3
OPENAI_API_KEY=… python examples/rag.py "…" --folder ~/Pictures --base-url https://api.openai.com/v1 --model gpt-4o-mini
"""

import argparse
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx

from clip_qdrant import ClipEmbedder, Hit, ImageCollection, connect
from clip_qdrant.content import sample_gallery
from clip_qdrant.pages.thumbnails import make_thumbnail
from clip_qdrant_ingestion import FolderSource, ingest

SYSTEM = "Answer from the numbered images and captions alone. Name the images that you rely on by number, as in [2]."


def retrieve(question: str, folder: Path, limit: int) -> list[Hit]:
    with closing(connect("./qdrant-data")) as client:
        images = ImageCollection("rag", ClipEmbedder.load(), client)
        ingest(FolderSource(folder), images)
        # By words of captions too; what is alike by chance is left out, so the model is not led astray by it.
        return list(images.search(question, text=True, min_relevance="auto", limit=limit))


def build_messages(question: str, hits: list[Hit]) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for number, hit in enumerate(hits, 1):
        parts.append({"type": "text", "text": f"[{number}] {hit.caption or 'no caption'}"})
        if hit.path is not None and (picture := make_thumbnail(hit.path, side=512)):  # a data: URL, no more than needed
            parts.append({"type": "image_url", "image_url": {"url": picture}})
    parts.append({"type": "text", "text": f"Question: {question}"})
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": parts}]


def ask(messages: list[dict[str, Any]], base_url: str, model: str) -> str:
    key = os.environ.get("OPENAI_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    body = {"model": model, "messages": messages}
    answer = httpx.post(f"{base_url.rstrip('/')}/chat/completions", json=body, headers=headers, timeout=120)
    answer.raise_for_status()
    return str(answer.json()["choices"][0]["message"]["content"])


def answer_offline(messages: list[dict[str, Any]]) -> str:
    asked = "\n".join(part.get("text", "    (an image)") for part in messages[1]["content"])
    return f"No model was asked: this is a stub (--base-url and --model name a real one). It would be asked:\n{asked}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("question")
    parser.add_argument("--folder", type=Path, default=sample_gallery())
    parser.add_argument("--limit", type=int, default=4)
    parser.add_argument("--base-url", help="of an OpenAI-compatible endpoint")
    parser.add_argument("--model", default="gpt-4o-mini")
    given = parser.parse_args()
    hits = retrieve(given.question, given.folder, given.limit)
    messages = build_messages(given.question, hits)
    if not hits:
        print("No image is about that.")
    else:
        print(ask(messages, given.base_url, given.model) if given.base_url else answer_offline(messages))
        for number, hit in enumerate(hits, 1):
            print(f"[{number}] {hit.uri}")


if __name__ == "__main__":
    main()
