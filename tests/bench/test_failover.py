"""What `script/bench failover` tells members and peers is what they take."""

import shutil
import subprocess
from pathlib import Path

import pytest

from bench import failover
from bench.failover_sites import ADDRESSES, DEFAULT, FAST, SITES, Hosts, Profile, session
from tests.anycastle.members import anycastle
from tests.netns import Segment


@pytest.mark.parametrize("profile", [FAST, DEFAULT])
def test_members_take_their_configuration(tmp_path: Path, profile: Profile) -> None:
    Hosts(tmp_path, Segment("none")).configure(profile)
    for site in SITES:
        (tmp_path / "content" / site).mkdir(parents=True)
        done = anycastle("check", "--config", tmp_path / "a.toml", "--site", site)
        assert done.status == 0, done.err


def test_the_router_knows_every_site() -> None:
    for number, site in enumerate(SITES, 1):
        assert f"protocol bgp {site} " in session(site, number)
        assert f"neighbor {ADDRESSES[site]} as {number};" in session(site, number)


def test_a_wish_that_never_comes_true_has_no_number() -> None:
    assert failover._wait(lambda: False, 0.0, 0.0) is None


@pytest.mark.skipif(not shutil.which("birdc", path="/usr/sbin:/usr/bin"), reason="needs bird2 (script/bootstrap)")
def test_the_router_takes_its_configuration(tmp_path: Path) -> None:
    file = tmp_path / "bird.conf"
    file.write_text("router id 192.0.2.4;\nprotocol device {}\n" + "\n".join(session(site, 64500) for site in SITES))
    bird = shutil.which("bird", path="/usr/sbin:/usr/bin")
    assert bird is not None
    done = subprocess.run([bird, "-p", "-c", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
