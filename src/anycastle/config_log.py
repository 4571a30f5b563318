"""`[log]`: how a member's log looks, and how much of one kind it takes."""

import enum
from dataclasses import dataclass

from anycastle import config_values as v
from anycastle.config_read import Table


class LogFormat(enum.Enum):
    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """Of every member."""

    format: LogFormat = LogFormat.TEXT
    lines_per_minute_max: int = 120
    """Of one kind: lines that the same place of the program writes."""


def read_log(table: Table) -> LogSettings:
    settings = LogSettings(
        format=table.take("format", v.one_of(LogFormat), LogFormat.TEXT),
        lines_per_minute_max=table.take("lines_per_minute", v.whole(1, 100_000), 120),
    )
    table.done(("format", "lines_per_minute"))
    return settings
