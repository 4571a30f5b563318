"""The gate in front of real software: 200 users at three sites while members are killed, hang and are cut off.

What is asserted of which door (nginx, built-in edge) is said in `gate_run`. `script/soak gate` runs it for longer.
"""

import itertools
import os
import shutil
from pathlib import Path

import pytest

from bench import soak_gate
from tests.anycastle.nginx_sites import NGINX, PHP_FPM
from tests.e2e.gate_faults import Kind, plan
from tests.e2e.gate_run import GAP_SECONDS_MAX, Load, run

SECONDS, SEED = 60.0, 34
SECONDS_CUT_OFF, SEED_CUT_OFF = 12.0, 29
pytestmark = [
    pytest.mark.skipif(
        os.geteuid() != 0 or not Path("/dev/net/tun").exists() or not (NGINX and PHP_FPM and shutil.which("ip")),
        reason="needs root, /dev/net/tun, nginx and php8.2-fpm (script/bootstrap)",
    ),
    pytest.mark.timeout(240),
]


def test_the_plan_is_the_same_for_a_seed_and_has_each_kind() -> None:
    faults = plan(SEED, SECONDS)
    assert faults == plan(SEED, SECONDS) != plan(SEED + 1, SECONDS)
    assert {fault.kind for fault in faults} == set(Kind)
    assert all(one.at + one.seconds < two.at for one, two in itertools.pairwise(faults)), "one at a time"


def test_nobody_sees_old_or_missing_content() -> None:
    outcome = run(Load(SEED, SECONDS))
    assert not outcome.wrong, outcome.story()
    assert not outcome.after, outcome.story()
    late = {kind: gap for kind, gap in outcome.gaps().items() if gap[0] > GAP_SECONDS_MAX}
    assert not late, f"{late}\n{outcome.story()}"
    served = sum(seen.served for seen in outcome.history)
    assert served > len(outcome.history) / 2, outcome.story()
    assert {seen.status for seen in outcome.history} <= {0, 200, 404, 502, 503, 504}, outcome.story()


def test_without_the_gate_they_do(capsys: pytest.CaptureFixture[str]) -> None:
    """The checker can fail: the same nginx asks nobody, and its site is cut off from the others, but not from users."""
    (fault,) = plan(SEED_CUT_OFF, SECONDS_CUT_OFF)
    assert fault.kind is Kind.ALONE
    minutes = str(SECONDS_CUT_OFF / 60)
    assert soak_gate.main(["--minutes", minutes, "--seed", str(SEED_CUT_OFF), "--without-gate"]) == 1
    told = capsys.readouterr().out
    assert f"nginx at {fault.site} reads " in told, told
    assert " is old: " in told or "missing, after " in told, told
    assert told.endswith("WRONG\n")
