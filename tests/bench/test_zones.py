"""The benchmark of large zones, really run on a small one, with no word about how fast."""

import json
from pathlib import Path

from anycastle.dns.master import load_zone
from anycastle.dns.settings import ZoneFile
from bench.report import Row
from bench.zones import ORIGIN, measure, write_zone


def test_every_system_is_measured() -> None:
    rows = measure(2000)
    assert {row.system for row in rows} == {"anycastle", "dnspython"}
    assert all(isinstance(row, Row) and row.value is not None and row.value >= 0 for row in rows)
    assert {row.metric for row in rows if row.system == "anycastle"} > {"load", "table", "take up"}
    assert json.dumps([row.value for row in rows])


def test_the_zone_has_as_many_records_as_were_asked_for(tmp_path: Path) -> None:
    write_zone(tmp_path / "zone", 1000)
    assert load_zone(ZoneFile(origin=ORIGIN, file=tmp_path / "zone")).records == 1000
