"""The access log: a line for each request, in the form that log analysers know ("combined"), and what we add to it.

    client - - [time] "GET /a.jpg HTTP/1.1" 200 4096 "referer" "user agent" host site verdict seconds

Laws: nobody waits for the log: lines go to a thread through a queue of `LINES_MAX`, and what does not fit is counted
and left out; what a client sent cannot end a line or a quoted text. A file that was renamed (logrotate) is opened anew.
"""

import contextlib
import logging
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from logging.handlers import QueueHandler, WatchedFileHandler
from pathlib import Path
from threading import Thread

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from multidict import CIMultiDict

from anycastle.errors import AnycastleError
from anycastle.replicator.edge_client import Proxies
from anycastle.replicator.edge_exchange import VERDICT

LINES_MAX = 10_000
FIELD_CHARS_MAX = 1000
LAST_SECONDS = 2.0
"""At the end, for what is not written yet."""


class AccessLogError(AnycastleError):
    """The file cannot be written to."""


class _Queue(QueueHandler):
    """Counts instead of waiting."""

    def __init__(self, lines: "queue.Queue[logging.LogRecord | None]") -> None:
        super().__init__(lines)
        self.lost = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.lost += 1


class AccessLog:
    """One edge's; without a file it costs nothing."""

    def __init__(self, file: Path | None, site: str, proxies: Proxies) -> None:
        self.logger: logging.Logger | None = None
        """What aiohttp is given; None while there is none."""
        self._file, self._site, self._proxies = file, site, proxies
        self._lines: queue.Queue[logging.LogRecord | None] = queue.Queue(LINES_MAX)
        self._handler = _Queue(self._lines)

    @property
    def lost(self) -> int:
        """Lines left out, for the disk was too slow."""
        return self._handler.lost

    @contextmanager
    def open(self) -> Iterator[None]:
        """The time in which lines are written. Raises AccessLogError."""
        if self._file is None:
            yield
            return
        try:
            written = WatchedFileHandler(self._file, encoding="ascii", errors="backslashreplace")
        except OSError as error:
            raise AccessLogError(f"edge.access_log {self._file} cannot be written: {error.strerror}") from error
        logger = logging.Logger("anycastle.access", logging.INFO)
        logger.addHandler(self._handler)
        thread = Thread(target=self._write, args=(written,), name="access-log", daemon=True)
        thread.start()
        self.logger = logger
        try:
            yield
        finally:
            self.logger = None
            with contextlib.suppress(queue.Full):
                self._lines.put(None, timeout=LAST_SECONDS)
            thread.join(LAST_SECONDS)

    def _write(self, written: WatchedFileHandler) -> None:
        while (record := self._lines.get()) is not None:
            written.handle(record)
        written.close()

    def line_class(self) -> type[AbstractAccessLogger]:
        """For `aiohttp.web.Server`, which makes one of it for each connection."""
        site, proxies = self._site, self._proxies

        class Line(AbstractAccessLogger):
            """What aiohttp calls when an answer has left."""

            def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
                self.logger.info(line(request, response, time, site=site, proxies=proxies))

        return Line


def line(request: web.BaseRequest, response: web.StreamResponse, seconds: float, *, site: str, proxies: Proxies) -> str:
    """One request, without the end of the line."""
    headers = CIMultiDict(request.headers)
    client = proxies.client(headers, request.remote or "-")
    now = datetime.now().astimezone().strftime("%d/%b/%Y:%H:%M:%S %z")
    asked = f"{request.method} {request.raw_path} HTTP/{request.version.major}.{request.version.minor}"
    said = _quoted(headers.get("Referer", "-")), _quoted(headers.get("User-Agent", "-"))
    verdict = request.get(VERDICT, "-")
    host = _quoted(headers.get("Host", "-"))
    return (
        f"{_plain(client)} - - [{now}] {_quoted(asked)} {response.status} {response.body_length} "
        f"{said[0]} {said[1]} {host} {site} {_quoted(verdict)} {seconds:.3f}"
    )


def _quoted(text: str) -> str:
    return f'"{_plain(text)}"'


def _plain(text: str) -> str:
    escaped = (char if " " <= char <= "~" and char not in '"\\' else f"\\x{ord(char):02x}" for char in text)
    return "".join(escaped)[:FIELD_CHARS_MAX]
