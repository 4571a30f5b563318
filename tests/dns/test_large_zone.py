"""A zone of 100,000 records, read from a file in a process of its own: what memory and time it takes."""

import json
import subprocess
import sys
from pathlib import Path

from bench.zones import write_zone

RECORDS = 100_000
MEMORY_BYTES_MAX = 300
"""For each record, at the height of loading; some 230 of a zone this small, 180 of a large one."""
HELD_BYTES_MAX = 80
LOAD_SECONDS_MAX = 30.0
"""One second on a free machine."""


def test_memory_of_a_record_is_bounded_while_loading_and_after(tmp_path: Path) -> None:
    write_zone(tmp_path / "zone", RECORDS)
    command = [sys.executable, "-m", "bench.zones", "--measure", str(tmp_path / "zone")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found = json.loads(done.stdout)
    assert found["records"] == RECORDS
    assert found["load_peak_bytes"] <= MEMORY_BYTES_MAX * RECORDS
    assert found["table_bytes"] <= HELD_BYTES_MAX * RECORDS
    assert found["worker_bytes"] <= MEMORY_BYTES_MAX * RECORDS
    assert found["load_seconds"] <= LOAD_SECONDS_MAX
