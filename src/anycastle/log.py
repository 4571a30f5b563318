"""The log on standard error: `key=value` lines for people, or a JSON object a line; both without floods.

Laws: a record is one line, whatever is in it (but for a traceback as text); of one kind (the same place of the program)
so many lines a minute are written, and the next one says how many were left out; what is kept to know that is bounded.
"""

import ast
import json
import logging
import re
import sys
from datetime import UTC, datetime

from anycastle.clock import Clock
from anycastle.config_log import LogFormat, LogSettings

KINDS_MAX = 1000
WINDOW_SECONDS = 60.0
_PAIR = re.compile(r"""(\w+)=('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\S*)(?:\s+|$)""")
_LEFT_OUT = "left_out"


class Limit(logging.Filter):
    """So many records of a kind in a window; those that come first are the ones to see."""

    def __init__(self, lines_max: int, clock: Clock) -> None:
        super().__init__()
        self._lines_max = lines_max
        self._clock = clock
        self.kinds: dict[tuple[str, int, object], tuple[float, int, int]] = {}
        """Kind -> when its window began, records written in it, records left out since the last one written."""

    def filter(self, record: logging.LogRecord) -> bool:
        kind, now = (record.pathname, record.lineno, record.levelno), self._clock.now()
        began, written, left_out = self.kinds.get(kind, (now, 0, 0))
        if now - began >= WINDOW_SECONDS:
            began, written = now, 0
        if written >= self._lines_max:
            self.kinds[kind] = began, written, left_out + 1
            return False
        if left_out:
            setattr(record, _LEFT_OUT, left_out)
        if len(self.kinds) >= KINDS_MAX and kind not in self.kinds:
            del self.kinds[next(iter(self.kinds))]
        self.kinds[kind] = began, written + 1, 0
        return True


class TextFormatter(logging.Formatter):
    """`TIME level=INFO logger=anycastle.app event=view text='…'`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s level=%(levelname)s logger=%(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        left_out = getattr(record, _LEFT_OUT, 0)
        return super().formatMessage(record).replace("\n", "\\n") + (f" left_out={left_out}" if left_out else "")


class JsonFormatter(logging.Formatter):
    """One object: `at`, `level`, `logger`, `message`, and each `key=value` of the message as a field of its own."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        fields = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": message,
        }
        found = pairs(message)
        if record.exc_info:
            found["traceback"] = self.formatException(record.exc_info)
        if left_out := getattr(record, _LEFT_OUT, 0):
            found[_LEFT_OUT] = left_out
        return json.dumps({**found, **fields}, ensure_ascii=True)


def pairs(message: str) -> dict[str, object]:
    """The `key=value` that a message consists of, from its beginning on; quoted values without their quotes."""
    found: dict[str, object] = {}
    at = 0
    while matched := _PAIR.match(message, at):
        value = matched[2]
        try:
            found[matched[1]] = ast.literal_eval(value) if value[:1] in ("'", '"') else value
        except (SyntaxError, ValueError):
            found[matched[1]] = value
        at = matched.end()
    return found


def log_to_stderr(settings: LogSettings, clock: Clock) -> None:
    """From now on, for this process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.format is LogFormat.JSON else TextFormatter())
    handler.addFilter(Limit(settings.lines_per_minute_max, clock))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
