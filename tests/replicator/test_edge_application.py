"""The software behind the edge, as it is: what it does badly must not cost its users more than it did."""

import subprocess
import sys

from tests.netns import segment

REQUESTS = 40


def test_an_application_that_writes_head_and_body_by_themselves_is_not_slower_for_it() -> None:
    """Each acknowledgement that is kept back costs 40 ms; counted by the kernel, in a network where nobody else is."""
    with segment({"edge": ()}) as hosts:
        command = hosts.inside("edge", sys.executable, "-m", "tests.replicator.edge_acks", str(REQUESTS))
        said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert int(said) < REQUESTS / 4
