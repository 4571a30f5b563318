"""How far the loading of zones is: a bar on a terminal, else lines in the log.

Law: what loads within PATIENCE_SECONDS is not worth a word; what takes longer says so every few seconds, with its pace,
its share of the file and when it will be ready.
"""

import contextlib
import logging
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from anycastle.clock import Clock, SystemClock
from anycastle.dns.master import Loading
from anycastle.dns.master import Progress as Told

PATIENCE_SECONDS = 2.0
LINE_SECONDS = 5.0

_log = logging.getLogger("anycastle.loading")


@contextlib.contextmanager
def shown(*, terminal: bool | None = None) -> Iterator[Told]:
    """Whom to tell while zones are loaded; `terminal` None looks whether standard error is one."""
    if sys.stderr.isatty() if terminal is None else terminal:
        with _Bars() as bars:
            yield bars.told
    else:
        yield Lines(SystemClock()).told


class Lines:
    """Progress as lines of the log. Not for several threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._zone = ""
        self._began = self._next = 0.0

    def told(self, loading: Loading) -> None:
        """A step of a zone; the first one begins its time, so it is short by what came before."""
        now = self._clock.now()
        if loading.zone != self._zone:
            self._zone, self._began, self._next = loading.zone, now, now + PATIENCE_SECONDS
        seconds = now - self._began
        if loading.done:
            self._zone = ""
            if seconds >= PATIENCE_SECONDS:
                text = "event=zone-loaded zone=%s records=%d seconds=%.1f"
                _log.info(text, loading.zone, loading.records, seconds)
        elif now >= self._next:
            self._next = now + LINE_SECONDS
            share = loading.read_bytes / max(1, loading.size_bytes)
            _log.info(
                "event=zone-loading zone=%s records=%d records_per_second=%.0f share=%.0f%% eta_seconds=%.0f",
                *(loading.zone, loading.records, loading.records / seconds, 100 * share),
                seconds / share - seconds,
            )


class _Bars:
    """Progress on a terminal, one bar for each zone; gone when all are loaded."""

    def __init__(self) -> None:
        self._shown = Progress(
            TextColumn("zone {task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:.0f} %"),
            TextColumn("{task.fields[records]:,} records"),
            TextColumn("{task.fields[pace]:,.0f}/s"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "_Bars":
        self._shown.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._shown.stop()

    def told(self, loading: Loading) -> None:
        if loading.zone not in self._tasks:
            self._tasks[loading.zone] = self._shown.add_task(
                loading.zone, total=loading.size_bytes, records=0, pace=0.0
            )
        task = self._tasks[loading.zone]
        seconds = self._shown.tasks[task].elapsed or 0.0
        pace = loading.records / seconds if seconds else 0.0
        self._shown.update(task, completed=loading.read_bytes, records=loading.records, pace=pace)
