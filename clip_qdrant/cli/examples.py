"""Command lines that `--help` shows, by command; those of the program as a whole under ""."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["EXAMPLES", "show_examples"]

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "": (
        "clip-qdrant ingest ~/Pictures",
        'clip-qdrant search "a dog on a beach" --html results.html',
        "clip-qdrant train captions.csv --freeze-encoders --output mine.pt",
    ),
    "ingest": (
        "clip-qdrant ingest ~/Pictures --delete --dry-run",
        "clip-qdrant ingest s3://bucket/photos --path-pattern '{album}/{year}/*'",
        "clip-qdrant ingest products.csv --uri-column image_url",
    ),
    "ingest-report": ("clip-qdrant ingest-report --failed --reason truncated",),
    "search": (
        """clip-qdrant search "a dog" --where "year >= 2022 and album = 'pets'\"""",
        "clip-qdrant search --image query.jpg --not people --html like-it.html",
        'clip-qdrant search "a dog" --columns score,taken,path',
        "clip-qdrant search --where \"album = 'pets'\" --order-by -taken_at",
    ),
    "facet": ("clip-qdrant facet image.format", 'clip-qdrant facet album --where "year >= 2022"'),
    "mcp": ("clip-qdrant mcp --collection photos", "clip-qdrant mcp --http 127.0.0.1:8090"),
    "serve": ("clip-qdrant serve", "clip-qdrant serve --host 0.0.0.0 --key-file keys.toml --audit-log audit.jsonl"),
    "info": ("clip-qdrant info", "clip-qdrant info --json"),
    "models": ("clip-qdrant models", "clip-qdrant models --json"),
    "cache": ("clip-qdrant cache", "clip-qdrant cache prune --older-than 90 --dry-run"),
    "calibrate": ("clip-qdrant calibrate --collection photos",),
    "repair": ("clip-qdrant repair", "clip-qdrant repair --collection photos --json"),
    "optimize": ("clip-qdrant optimize", "clip-qdrant optimize --collection photos --json"),
    "drop": ("clip-qdrant drop photos",),
    "export": (
        "clip-qdrant export hf:openai/clip-vit-base-patch32 vit-b-32.pt --precision int8",
        "clip-qdrant export best.pt mine.pt",
    ),
    "train": (
        "clip-qdrant train train.jsonl --val dev.jsonl --check",
        "clip-qdrant train train.jsonl --val dev.jsonl --freeze-encoders --epochs 5 --output mine.pt",
    ),
    "evaluate": ("clip-qdrant evaluate bundled mine.pt dev.jsonl --report compare.html",),
    "demo": ("clip-qdrant demo",),
}


def show_examples(command: str) -> str:
    """The examples of a command as the end of its help: paragraphs, of which typer makes a line each."""
    return "\n\n".join(("Examples:", *EXAMPLES[command]))
