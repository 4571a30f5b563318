"""What the log looks like, and that no kind of line floods it."""

import json
import logging
from collections.abc import Iterator

import pytest

from anycastle import log as logs
from anycastle.log import JsonFormatter, Limit, TextFormatter, pairs
from tests.anycastle.members import prepared


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def wall(self) -> float:
        return self.seconds


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def handler() -> Iterator[tuple[logging.Logger, Kept]]:
    logger, kept = logging.getLogger("anycastle.test"), Kept()
    logger.setLevel(logging.INFO)
    logger.addHandler(kept)
    logger.propagate = False
    yield logger, kept
    logger.removeHandler(kept)
    logger.propagate = True


@pytest.mark.parametrize(
    ("message", "found"),
    [
        (
            "event=view text='nyc is \\'down\\': x=1' site=nyc",
            {"event": "view", "text": "nyc is 'down': x=1", "site": "nyc"},
        ),
        ("event=ready", {"event": "ready"}),
        ("a=1 then words b=2", {"a": "1"}),
        ("words first a=1", {}),
        (
            'event=change order=\'{"site": "ams"}\' who="it\'s"',
            {"event": "change", "order": '{"site": "ams"}', "who": "it's"},
        ),
        ("empty= b='unclosed", {"empty": "", "b": "'unclosed"}),
        ("bad='\\x'", {"bad": "'\\x'"}),
    ],
)
def test_pairs_of_a_message(message: str, found: dict[str, str]) -> None:
    assert pairs(message) == found


def test_json_is_one_line_with_fields(handler: tuple[logging.Logger, Kept]) -> None:
    logger, kept = handler
    kept.setFormatter(JsonFormatter())
    logger.info("event=%s text=%r level=%s", "view", "a\nb", "hidden")
    try:
        raise ValueError("x")
    except ValueError:
        logger.exception("it broke\nhere")
    first, second = (json.loads(line) for line in kept.lines)
    assert not any("\n" in line for line in kept.lines)
    assert (first["event"], first["text"], first["level"], first["logger"]) == (
        "view",
        "a\nb",
        "INFO",
        "anycastle.test",
    )
    assert first["at"].endswith("+00:00")
    assert second["message"] == "it broke\nhere"
    assert "ValueError: x" in second["traceback"]


def test_of_one_kind_so_many_a_minute(handler: tuple[logging.Logger, Kept]) -> None:
    logger, kept = handler
    clock = Clock()
    kept.setFormatter(TextFormatter())
    kept.addFilter(Limit(3, clock))
    for second in range(100):
        clock.seconds = float(second)
        logger.warning("event=api-refused from=192.0.2.%d", second)
        if second % 50 == 0:
            logger.warning("event=other")
    said = [line.partition(" event=")[2] for line in kept.lines]
    refused = [line for line in said if line.startswith("api-refused")]
    assert refused == [
        *(f"api-refused from=192.0.2.{n}" for n in range(3)),
        "api-refused from=192.0.2.60 left_out=57",
        *(f"api-refused from=192.0.2.{n}" for n in (61, 62)),
    ]
    assert said.count("other") == 2, "another kind is none the worse"


def test_what_is_kept_of_kinds_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "KINDS_MAX", 10)
    limit = Limit(1, Clock())
    for line in range(100):
        assert limit.filter(logging.LogRecord("a", logging.INFO, "file", line, "x", (), None))
    assert len(limit.kinds) == 10


def test_a_member_that_logs_json() -> None:
    with prepared("ams", more='[log]\nformat = "json"\nlines_per_minute = 50\n') as made:
        made.start_applications()
        made.start("ams")
        made.ready()
        assert made.stop("ams")[0] == 0
        lines = [json.loads(line) for line in made.log("ams").splitlines()]
        assert {"ready", "stopping"} <= {line.get("event") for line in lines}
        assert all({"at", "level", "logger", "message"} <= set(line) for line in lines)
