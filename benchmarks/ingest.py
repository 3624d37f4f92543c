"""How near ingestion comes to what the cores can give, and how fast a run is that finds nothing to do.

    python benchmarks/ingest.py DATA_FOLDER [--images 1000] [--model bundled]

Measures the CPU seconds an image costs to read, to decode, to embed and to upsert, each alone, and on all cores, since
two threads of one core take longer each than one alone. All cores busy with nothing else would reach the bound, cores /
sum. Then runs `ingest` over the same images into a new embedded store, and once more. The ratio means something on an
otherwise idle machine only: "cores busy" of `embed alone` shows how much of it there was to have. DATA_FOLDER is any
folder with images (`images.py` makes some of 12 megapixels); it is only read.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.embedder import ClipEmbedder
from clip_qdrant.images.load import Limits, load_image
from clip_qdrant.records import ImageRecord, SourceInfo
from clip_qdrant.runtime import cpu_count
from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant_ingestion import FolderSource, Page, SourceObject, ingest


class FirstImages:
    """The first images of a folder, as a source."""

    def __init__(self, folder: Path, count: int) -> None:
        self._source = FolderSource(folder)
        self.name = self._source.name
        self.reads_at_once = self._source.reads_at_once
        self.images: list[SourceObject] = []
        for page in self._source.pages():
            self.images += page.objects[: count - len(self.images)]
            if len(self.images) == count:
                break

    def pages(self, folders: Collection[str] | None = None) -> Iterator[Page]:  # noqa: ARG002
        for start in range(0, len(self.images), 1000):
            yield Page(self.images[start : start + 1000])

    def look(self, item: SourceObject) -> SourceObject:
        return item

    def read(self, item: SourceObject, *, limits: Limits) -> bytes:
        return self._source.read(item, limits=limits)


def timed(run: Callable[[], None]) -> tuple[float, float]:
    """CPU seconds of all threads, and seconds by the clock."""
    cpu, clock = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - cpu, time.perf_counter() - clock


def shown(cpu: float, clock: float, count: int) -> tuple[str, str, str]:
    return f"{1000 * cpu / count:.2f}", f"{1000 * clock / count:.2f}", f"{cpu / clock:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int)
    options = parser.parse_args()

    source, size = FirstImages(options.folder, options.images), options.batch_size
    count = len(source.images)
    embedder = ClipEmbedder.load(options.model)
    embedder.embed_pixels(np.zeros((8, embedder.image_size, embedder.image_size, 3), np.uint8))  # opens the session
    pool = ThreadPoolExecutor(cpu_count())
    records: list[ImageRecord] = []
    pixels: list[np.ndarray] = []
    vectors: list[np.ndarray] = []

    def read() -> None:
        list(pool.map(lambda item: len(source.read(item, limits=Limits())), source.images))

    def decoded(item: SourceObject) -> tuple[ImageRecord, np.ndarray]:
        image = load_image(source.read(item, limits=Limits()), target=embedder.image_size)
        listed = SourceInfo(source.name, size=item.size, mtime=item.mtime)
        record = ImageRecord(
            item.uri, metadata=image.info.tags, image=image.info, taken_at=image.taken_at, source=listed
        )
        return record, embedder.preprocess(image.rgb)

    def read_and_decode() -> None:
        for record, rows in pool.map(decoded, source.images):
            records.append(record)
            pixels.append(rows)

    def embed() -> None:
        for start in range(0, count, size):
            vectors.append(embedder.embed_pixels(np.stack(pixels[start : start + size])))

    with tempfile.TemporaryDirectory() as folder, EdgeClient(folder) as client:
        alone = ImageCollection("alone", embedder, client)

        def upsert() -> None:
            for number, rows in enumerate(vectors):
                alone.writer.write(records[number * size : (number + 1) * size], rows)

        reading, both = timed(read), timed(read_and_decode)
        decoding = (both[0] - reading[0], both[1] - reading[1])
        stages = {"read": reading, "decode": decoding, "embed": timed(embed), "upsert": timed(upsert)}
        together = ImageCollection("together", embedder, client)
        reports = []
        cpu, clock = timed(lambda: reports.append(ingest(source, together, batch_size=size, workers=options.workers)))
        report = reports[0]
        assert report.added == together.count() == count, report
        again = ingest(source, together, batch_size=size, workers=options.workers)
        assert again.skipped == count, again

    cores = cpu_count()
    total = sum(stage_cpu for stage_cpu, _ in stages.values())
    bound, reached = cores * count / total, count / clock
    table = Table(title=f"{count} images, {embedder.runtime}, {cores} cores")
    for heading in ("stage", "CPU ms/image", "clock ms/image", "cores busy"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for name, (stage_cpu, stage_clock) in stages.items():
        table.add_row(f"{name} alone", *shown(stage_cpu, stage_clock, count))
    table.add_row("sum", f"{1000 * total / count:.2f}", end_section=True)
    table.add_row("ingest", *shown(cpu, clock, count))
    console = Console()
    console.print(table)
    console.print(f"bound {bound:.1f} images/s, ingest {reached:.1f} images/s, ratio {reached / bound:.3f}")
    busy = ", ".join(f"{name} {time.share:.0%}" for name, time in report.stages.items())
    console.print(f"busy shares: {busy}")
    console.print(f"run again, all unchanged: {count / again.seconds:,.0f} objects/s")


if __name__ == "__main__":
    main()
