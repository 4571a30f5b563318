"""The benchmark of routes, really run in small, with no word about how fast."""

import shutil

import pytest

from bench.bgp import Plan, measure
from bench.bgp_failures import HEALTHCHECK, HEALTHCHECKER
from bench.report import OURS

pytestmark = pytest.mark.skipif(not shutil.which("bird", path="/usr/sbin:/usr/bin"), reason="needs bird2")


def test_every_case_is_measured() -> None:
    rows = measure(Plan(changes=2, routes=(20,), peer_changes=2, default_changes=0))
    assert {(row.system, row.case) for row in rows} == {
        (OURS, "decision to router"),
        (OURS, "20 routes"),
        *((system, "failure to router, fastest") for system in (OURS, HEALTHCHECK, HEALTHCHECKER)),
    }
    assert all(row.value is None if row.metric.endswith("p99") else row.value > 0 for row in rows)
    assert {row.metric for row in rows if row.case == "20 routes"} == {"announce", "withdraw", "ExaBGP"}
