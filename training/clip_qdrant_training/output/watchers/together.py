"""Several watchers as one, some of which may fail.

from clip_qdrant_training.output.log import RunLog
from clip_qdrant_training.output.watchers.live_table import LiveTable
watcher = Together([RunLog("runs/first"), LiveTable(Console())])
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable

from clip_qdrant_training.progress import EpochReport, RunStart, StepReport, Watcher

__all__ = ["Display", "Together"]

logger = logging.getLogger(__name__)


class Display:
    """Base of the watchers that a run can do without: `Together` drops one that fails, and the run goes on."""


class Together:
    """Several watchers as one. A Display that fails is told of once and dropped; any other watcher's error is raised.

    All of them are ended, also where one of them fails to.
    """

    def __init__(self, watchers: Iterable[Watcher]) -> None:
        self._watchers = list(watchers)

    def started(self, run: RunStart) -> None:
        self._each(lambda watcher: watcher.started(run))

    def stepped(self, report: StepReport) -> None:
        self._each(lambda watcher: watcher.stepped(report))

    def epoch_ended(self, report: EpochReport) -> None:
        self._each(lambda watcher: watcher.epoch_ended(report))

    def ended(self) -> None:
        with contextlib.ExitStack() as stack:
            for watcher in reversed(self._watchers):  # a stack runs its last first
                stack.callback(self._try, watcher, lambda watcher: watcher.ended())

    def _each(self, call: Callable[[Watcher], None]) -> None:
        for watcher in list(self._watchers):
            self._try(watcher, call)

    def _try(self, watcher: Watcher, call: Callable[[Watcher], None]) -> None:
        try:
            call(watcher)
        except Exception:
            if not isinstance(watcher, Display):
                raise
            logger.warning("%s failed and is dropped: the run goes on", type(watcher).__name__, exc_info=True)
            self._watchers.remove(watcher)
            with contextlib.suppress(Exception):  # a terminal gets its cursor back, a file its end, if they still can
                watcher.ended()
