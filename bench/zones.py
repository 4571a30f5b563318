"""`script/bench zones [--quick] [--json]`: what a large zone costs to load, to hold and to hand to a worker.

Law: every number is of a process of its own, which does nothing else; memory is what that process grew by, time is its
processor time. Beside ours stands dnspython's `zone.from_file`, which reads such a file too. An answer of the loaded
zone is checked.
"""

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.report import Row, as_json, machine, table

FULL_RECORDS, QUICK_RECORDS = 1_000_000, 100_000
PEER_RECORDS = 100_000
"""dnspython takes ten times as long and twenty times the memory: its numbers for each record are of fewer records."""
ORIGIN = "example.com"
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="script/bench zones", description="What a large zone costs.")
    parser.add_argument("--quick", action="store_true", help="the same work cut down to fit a minute")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.measure is not None:
        print(json.dumps(_measure_peer(given.measure) if given.peer else _measure(given.measure)))
        return 0
    rows = measure(QUICK_RECORDS if given.quick else FULL_RECORDS)
    print(as_json("zones", machine(), rows) if given.json else f"{machine()}\n\n{table(rows)}")
    return 0


def write_zone(file: Path, records: int) -> None:
    """Three in four are addresses, the others mail exchangers, as plain as large zones are."""
    with file.open("w") as out:
        out.write("$TTL 3600\n@ IN SOA ns1 hostmaster 1 7200 3600 1209600 300\n IN NS ns1\nns1 IN A 192.0.2.1\n")
        for number in range(records - 3):
            if number % 4:
                out.write(f"host{number} IN A 10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}\n")
            else:
                out.write(f"host{number} 300 IN MX 10 mail{number % 1000}.example.net.\n")


def measure(records: int) -> list[Row]:
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-zones-") as text:
        for system, count in (("anycastle", records), ("dnspython", min(records, PEER_RECORDS))):
            file = Path(text) / system
            write_zone(file, count)
            command = [sys.executable, "-m", "bench.zones", "--measure", str(file)]
            command += ["--peer"] if system != "anycastle" else []
            found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
            case = f"{count:,} records"
            rows += [
                Row(system, case, "load", "CPU s", found["load_seconds"]),
                Row(system, case, "load each", "CPU µs", 1e6 * found["load_seconds"] / count),
                Row(system, case, "load at most", "B/record", found["load_peak_bytes"] / count),
                Row(system, case, "held", "B/record", found["held_bytes"] / count),
            ]
            if "table_bytes" in found:
                rows += [
                    Row(system, case, "table", "B/record", found["table_bytes"] / count),
                    Row(system, case, "hand over", "CPU ms", 1e3 * found["pack_seconds"]),
                    Row(system, case, "take up", "CPU ms", 1e3 * found["take_seconds"]),
                    Row(system, case, "worker at most", "B/record", found["worker_bytes"] / count),
                ]
    return rows


def _measure(file: Path) -> dict[str, float]:
    """In this process, which must be fresh; the worker's part in a child of it."""
    from anycastle.dns.frame import Kind, encode_frame
    from anycastle.dns.master import load_zone
    from anycastle.dns.rrset import A
    from anycastle.dns.settings import ZoneFile
    from anycastle.dns.zone import look_up

    before, began = _resident_bytes(), time.process_time()
    zone = load_zone(ZoneFile(origin=ORIGIN, file=file))
    found: dict[str, float] = {"records": zone.records, "load_seconds": time.process_time() - began}
    found |= {"load_peak_bytes": _peak_bytes() - before, "held_bytes": _resident_bytes() - before}
    found["table_bytes"] = zone.nodes.size_bytes()
    assert getattr(look_up(zone, b"\x05host1\x07example\x03com\x00", A), "answer", ())
    began = time.process_time()
    payload = pickle.dumps(zone, pickle.HIGHEST_PROTOCOL)
    found["pack_seconds"] = time.process_time() - began
    child = [sys.executable, "-c", "import bench.zones; bench.zones._take_up()"]
    done = subprocess.run(child, input=encode_frame(Kind.TABLES, payload), capture_output=True, check=True)
    return found | json.loads(done.stdout)


def _take_up() -> None:
    """As a worker does; timed from the last piece of the frame on: for so long it answers nothing."""
    from anycastle.dns.frame import FrameBuffer
    from anycastle.dns.worker import CONTROL_READ_BYTES
    from anycastle.dns.zone import Zone

    before = _resident_bytes()
    frames = FrameBuffer()
    kind_payload = []
    while not kind_payload:
        data = os.read(0, CONTROL_READ_BYTES)
        began = time.process_time()
        kind_payload = list(frames.feed(data))
    zone = pickle.loads(kind_payload.pop()[1])
    assert isinstance(zone, Zone)
    print(json.dumps({"take_seconds": time.process_time() - began, "worker_bytes": _peak_bytes() - before}))


def _measure_peer(file: Path) -> dict[str, float]:
    import dns.zone

    before, began = _resident_bytes(), time.process_time()
    zone = dns.zone.from_file(str(file), ORIGIN, relativize=False)
    found = {"records": float(len(zone.nodes)), "load_seconds": time.process_time() - began}
    return found | {"load_peak_bytes": _peak_bytes() - before, "held_bytes": _resident_bytes() - before}


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def _peak_bytes() -> int:
    """Not from getrusage, which counts what the parent had before this program began."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    sys.exit(main())
