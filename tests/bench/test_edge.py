"""All edges really measured, with no word about how fast; and what wrk's words mean."""

import os
from pathlib import Path

import pytest

from bench import edge
from bench.edge import Plan, fenced_uploads, measure
from bench.edge_load import parse_wrk
from bench.edge_systems import NEEDS
from bench.packages import find
from bench.process import BenchError
from tests import lag

TINY = Plan(rounds=1, warm_seconds=0, seconds=1, connections=4, uploads=3, delays_seconds=(0.01,))
NEEDED = pytest.mark.skipif(
    os.geteuid() != 0 or not all(find(command) for command, _ in NEEDS), reason="needs root, nginx, php8.2-fpm and wrk"
)
WRK = """Running 1s test @ http://127.0.0.1:1/
  1 threads and 4 connections
  Latency Distribution
     50%  700.00us
     75%    1.00ms
     99%    1.25s
  2500 requests in 1.00s, 1.00MB read
Requests/sec:   2499.50
Transfer/sec:      1.00MB
"""


@NEEDED
def test_every_edge_is_measured() -> None:
    rows = measure(TINY)
    assert not [row.remark for row in rows if row.remark]
    values = {(row.system, row.case, row.metric): row.value for row in rows}
    for system in (edge.GATED, edge.EDGE, edge.PROXY, edge.ALONE):
        for case in edge.CASES:
            assert all(values[system, case, metric] for metric in ("requests", "CPU per request", "p50", "p99"))
    assert values["verdict socket", "one client", "requests"]
    assert (f"{edge.GATED}, added", "10 KB file", "p50") in values


@NEEDED
@lag.NEEDED
def test_uploads_wait_for_the_other_site() -> None:
    trips = [row.value for row in fenced_uploads(TINY) if row.metric == "round trips"]
    assert len(trips) == 4
    assert all(each is not None and each >= 1 for each in trips), "sooner than the other member could know"


def test_what_wrk_says() -> None:
    load = parse_wrk(WRK)
    assert (load.per_second, load.requests, load.p50_seconds, load.p99_seconds) == (2499.5, 2500, 0.0007, 1.25)


@pytest.mark.parametrize("line", ["  Non-2xx or 3xx responses: 7\n", "  Socket errors: connect 0, read 3\n"])
def test_answers_that_are_no_success_are_no_measurement(line: str) -> None:
    with pytest.raises(BenchError, match=line.split()[0]):
        parse_wrk(WRK + line)
    with pytest.raises(BenchError, match="no statistics"):
        parse_wrk("unable to connect")


def test_the_page_is_unmodified_software(tmp_path: Path) -> None:
    from bench.edge_systems import PAGE, Place, write_config

    assert "nycastle" not in PAGE
    assert write_config(tmp_path, {"ams": Place("ams", "127.0.0.1", 1, 2, 3, 4)}).exists()
