"""What is said while zones are loaded: lines of the log for a long load, none for a short one; a bar on a terminal."""

import logging
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from anycastle.dns.master import Loading, load_zone
from anycastle.dns.settings import ZoneFile
from anycastle.loading import Lines, shown


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def now(self) -> float:
        return self.seconds

    def wall(self) -> float:
        return self.seconds


def step(records: int, *, done: bool = False) -> Loading:
    return Loading("z", records, records, 1000, done)


def test_a_long_load_tells_pace_share_and_eta(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    lines = Lines(clock)
    with caplog.at_level(logging.INFO):
        lines.told(step(0))
        for records, seconds in ((100, 1.0), (250, 2.5), (300, 3.0), (900, 9.0)):
            clock.seconds = 100.0 + seconds
            lines.told(step(records))
        clock.seconds = 110.0
        lines.told(step(1000, done=True))
    assert [record.message for record in caplog.records] == [
        "event=zone-loading zone=z records=250 records_per_second=100 share=25% eta_seconds=8",
        "event=zone-loading zone=z records=900 records_per_second=100 share=90% eta_seconds=1",
        "event=zone-loaded zone=z records=1000 seconds=10.0",
    ]


def test_a_short_load_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    lines = Lines(Clock())
    with caplog.at_level(logging.INFO):
        lines.told(step(500))
        lines.told(step(1000, done=True))
    assert not caplog.records


def large(file: Path, records: int) -> ZoneFile:
    hosts = "".join(f"h{n} A 192.0.2.1\n" for n in range(records - 2))
    file.write_text(f"$TTL 60\n@ SOA ns h 1 2 3 4 5\n@ NS ns\n{hosts}")
    return ZoneFile(origin="z", file=file)


def test_a_real_load_tells_how_far_it_is(tmp_path: Path) -> None:
    told: list[Loading] = []
    zone_file = large(tmp_path / "zone", 12_000)
    load_zone(zone_file, progress=told.append)
    size = zone_file.file.stat().st_size
    assert [(each.records, each.done) for each in told] == [(4999, False), (9999, False), (12_000, True)]
    assert 0 < told[0].read_bytes < told[1].read_bytes < told[2].read_bytes == size


BAR = """
import sys
from pathlib import Path
from anycastle.dns.master import load_zone
from anycastle.dns.settings import ZoneFile
from anycastle.loading import shown
with shown() as progress:
    load_zone(ZoneFile(origin="z", file=Path(sys.argv[1])), progress=progress)
"""


def test_on_a_terminal_there_is_a_bar(tmp_path: Path) -> None:
    zone_file = large(tmp_path / "zone", 60_000)
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", BAR, str(zone_file.file)], stderr=theirs, env=os.environ | {"TERM": "xterm"}
    ) as process:
        os.close(theirs)
        seen = b""
        try:
            while data := os.read(ours, 65536):
                seen += data
        except OSError:  # how a terminal says that nobody writes any more
            pass
        assert process.wait(60) == 0, seen
    os.close(ours)
    assert b"zone z" in seen
    assert b"records" in seen


def test_elsewhere_there_is_none(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with shown() as progress:
        load_zone(large(tmp_path / "zone", 6000), progress=progress)
    assert capfd.readouterr().err == ""
