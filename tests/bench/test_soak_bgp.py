"""The soak of routes, cut down to seconds."""

import shutil

import pytest

from bench.soak_bgp import main

pytestmark = pytest.mark.skipif(not shutil.which("bird", path="/usr/sbin:/usr/bin"), reason="needs bird2")


def test_a_few_seconds_of_flapping(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seconds", "4", "--hertz", "4"]) == 0
    lines = sorted(capsys.readouterr().out.splitlines())
    assert [line.partition(":")[0] for line in lines] == ["last-site", "may-leave"]
    assert all(line.endswith("right") and "updates at BIRD" in line for line in lines)
