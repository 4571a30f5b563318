"""What the machine must have; what is done to it is tested in namespaces (`test_namespaces.py`)."""

import os
import subprocess
import sys

import pytest

from anycastle.bgp.loopback import problem
from anycastle.bgp.settings import LoopbackSettings


def test_an_interface_that_is_not_there() -> None:
    assert problem(LoopbackSettings(interface="nowhere7")).startswith("bgp.loopback: there is no interface nowhere7")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give its rights away")
@pytest.mark.parametrize(
    ("away", "said"),
    [((), ""), (("setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"), "AmbientCap")],
)
def test_the_right_to_change_addresses(away: tuple[str, ...], said: str) -> None:
    look = "from anycastle.bgp.loopback import *; print(problem(LoopbackSettings()))"
    found = subprocess.run(
        [*away, sys.executable, "-c", look], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert (said in found) if said else not found
