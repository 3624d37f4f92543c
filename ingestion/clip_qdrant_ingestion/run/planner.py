"""Planner: lists a source, asks the collection what it holds, and makes a task of each object that needs work.

It keeps 16 bytes of every object it has seen, by which the run finds at its end what is stored and no longer listed.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import MetadataError
from clip_qdrant.fields.schema import Schema
from clip_qdrant.images.metadata.tag_fields import TAG_FIELDS
from clip_qdrant.records import ImageRecord
from clip_qdrant_ingestion.options import IngestOptions
from clip_qdrant_ingestion.packed_texts import TextSet
from clip_qdrant_ingestion.run.decisions import Action, Task, decide, keep_consistent, make_record
from clip_qdrant_ingestion.run.faults import quarantine
from clip_qdrant_ingestion.run.outcomes import Outcomes
from clip_qdrant_ingestion.run.report import Duplicate, Quarantined
from clip_qdrant_ingestion.run.stages import DuplicateFinder, ObjectOutcome, metadata_types
from clip_qdrant_ingestion.sources.protocol import Description, Page, Source, SourceObject
from clip_qdrant_ingestion.sources.text_values import type_texts

if TYPE_CHECKING:
    from clip_qdrant_ingestion.state.put_away import PutAway

__all__ = ["Planner"]


class Planner:
    """Gives tasks in the order of the source; objects that need nothing go to the outcomes at once.

    `seen` has all objects listed so far, `listed` says that there are no more, and `complete` that these are all there
    are where it looked: nothing was hidden by a problem. `listed_any` says whether there was any, be it one for another
    worker; `passed_over` counts files of other kinds. `creates` lets it create the collection, and the fields that are
    new. `duplicates` finds near-duplicates among what is stored and unchanged: they are marked, or left out as new ones
    are, without being read.
    """

    def __init__(
        self,
        source: Source,
        collection: ImageCollection,
        outcomes: Outcomes,
        *,
        options: IngestOptions,
        put_away: PutAway | None = None,
        creates: bool = True,
        duplicates: DuplicateFinder | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._source, self._collection, self._outcomes, self._tell = source, collection, outcomes, outcomes.tell
        self._options, self._put_away, self._creates, self._stopped = options, put_away, creates, stopped
        self._fingerprint = collection.embedder.fingerprint
        self._duplicates = duplicates
        self.seen = TextSet()
        self.passed_over: Counter[str] = Counter()
        self.listed = self.complete = self.listed_any = False
        collection.writer.expect(TAG_FIELDS)

    def tasks(
        self, folders: Collection[str] | None = None, *, only: Collection[str] | None = None
    ) -> Iterator[list[Task]]:
        """The objects that need work, a page at a time. `only` these uris are looked at, whatever was put away."""
        hidden = False
        for page in self._source.pages(folders):
            if self._stopped():
                return
            if only is None:
                hidden = self._count_problems(page) or hidden
                self.passed_over.update(page.passed_over)
                self.listed_any = self.listed_any or bool(page.objects or page.elsewhere)
                self.seen.add_all([item.uri for item in page.objects])
                yield self._plan(page.objects)
            else:
                yield self._plan([item for item in page.objects if item.uri in only], again=True)
        if only is None:
            self.listed, self.complete = True, not hidden

    def _count_problems(self, page: Page) -> bool:
        for problem in page.problems:
            self._outcomes.count_problem(Quarantined(problem.uri, problem.reason, problem.detail).bounded())
        return any(problem.hides_objects for problem in page.problems)

    def _plan(self, items: Sequence[SourceObject], *, again: bool = False) -> list[Task]:
        if not items:
            return []
        stored = self._collection.writer.read_payloads([item.uri for item in items])
        tasks: list[Task] = []
        left_out: list[Duplicate] = []
        for item, said in self._describe(items):
            with self._quarantine_errors(item):
                there = stored.get(item.uri)
                faults = [*said.left_out]
                record = make_record(item, said, there, source=self._source.name)
                record = self._collection.writer.check(record, left_out=faults)
                action = decide(record, there, fingerprint=self._fingerprint, fit=self._fit)
                if there is not None and action is not Action.LOAD and (first := self._find_first(item.uri, there)):
                    self._outcomes.note_duplicate(item.uri)
                    if self._options.dedupe == "skip":
                        left_out.append(Duplicate(item.uri, first, item.etag, item.size, item.mtime))
                        continue
                    there, action = {**there, "duplicate_of": first}, Action.REWRITE
                if action is Action.SKIP:
                    self._tell(ObjectOutcome(item.uri, "skipped", left_out=tuple(faults)))
                else:
                    tasks.append(Task(item, record, there, action, tuple(faults)))
        self._leave_out(left_out)
        return self._keep_consistent(tasks if again else self._pass_over(tasks))

    def _find_first(self, uri: str, stored: Mapping[str, Any]) -> str | None:
        """The image that a stored one nearly equals, if it is not marked with it yet."""
        phash = (stored.get("image") or {}).get("phash")
        if self._duplicates is None or not phash or "duplicate_of" in stored:
            return None
        return self._duplicates.find_first(uri, phash)

    def _leave_out(self, rows: Sequence[Duplicate]) -> None:
        """Takes stored images out that nearly equal another: as if they had been left out when they were new."""
        if not rows:
            return
        self._collection.delete(uris=[row.uri for row in rows])
        for row in rows:
            self._tell(ObjectOutcome(row.uri, row))

    def _fit(self, record: ImageRecord) -> ImageRecord:
        return self._collection.writer.check(record, left_out=[])

    def _describe(self, items: Sequence[SourceObject]) -> Iterator[tuple[SourceObject, Description]]:
        """The objects with what is said about them, its texts turned into values."""
        said = [item.said for item in items]
        if any(item.said.texts or item.said.written for item in items):
            said = type_texts([item.said for item in items], metadata_types(self._collection))
        return zip(items, said, strict=True)

    def _pass_over(self, tasks: list[Task]) -> list[Task]:
        known = self._find_put_away([task.item for task in tasks if task.action is Action.LOAD])
        if not known:
            return tasks
        firsts = [one.first for one in known.values() if isinstance(one, Duplicate)]
        there = self._collection.writer.read_payloads(firsts) if firsts else {}
        left = []
        for task in tasks:
            one = known.get(task.item.uri)
            if isinstance(one, Quarantined) or (one is not None and one.first in there):
                self._outcomes.count_put_away(one)
            else:
                left.append(task)
        return left

    def _find_put_away(self, items: Sequence[SourceObject]) -> dict[str, Quarantined | Duplicate]:
        """What earlier runs put away and this one passes over; images that were left out only if it leaves such out."""
        if self._put_away is None or self._options.retry_failed or not items:
            return {}
        found = self._put_away.known(items)
        if self._options.dedupe == "skip":
            return found
        return {uri: one for uri, one in found.items() if isinstance(one, Quarantined)}

    def _keep_consistent(self, tasks: list[Task]) -> list[Task]:
        """The tasks with metadata that fit together, after the collection was made fit to hold them."""
        if not any(task.record.metadata for task in tasks):
            return tasks
        tasks = keep_consistent(tasks, Schema(metadata_types(self._collection), expected=TAG_FIELDS))
        # Another writer may have brought in other fields meanwhile; then each write finds out for itself.
        with contextlib.suppress(MetadataError):
            if self._creates:
                self._collection.writer.prepare([task.record for task in tasks])
        return tasks

    @contextlib.contextmanager
    def _quarantine_errors(self, item: SourceObject) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001  `quarantine` raises what is not of one image
            self._tell(ObjectOutcome(item.uri, quarantine(item, error)))
