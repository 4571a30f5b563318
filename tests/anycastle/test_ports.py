"""What the dashboard is answered: here the decisions of `ports` that need no running member."""

from pathlib import Path

import pytest

from anycastle.config import load_config
from anycastle.ports import needs_restart

EXAMPLE = Path(__file__).parents[2] / "examples" / "three-sites.toml"


def differing(tmp_path: Path, old: str, new: str) -> list[str]:
    """What needs a restart of ams after one replacement in the example."""
    text = EXAMPLE.read_text()
    assert old in text
    file = tmp_path / "a.toml"
    file.write_text(text)
    running = load_config(file).for_member("ams")
    file.write_text(text.replace(old, new, 1))
    return sorted(needs_restart(running, load_config(file).for_member("ams")))


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('name = "demo"', 'name = "other"', ["cluster.name"]),
        ('["ams", "nyc", "sgp"]', '["nyc", "ams", "sgp"]', ["cluster.members"]),
        ("lease = { term", 'members_previous = ["ams", "nyc"]\nlease = { term', ["cluster.members"]),
        ('term = "3s"', 'term = "4s"', ["cluster.lease"]),
        ('authority = "pki/ca.pem"', 'authority = "pki/new.pem"', ["cluster.tls"]),
        ("copies = 1", "copies = 2", ["groups"]),
        ('root = "content/{site}"', 'root = "other/{site}"', ["groups"]),
        ('state_dir = "state/{site}"', 'state_dir = "kept/{site}"', ["bgp", "state_dir"]),
        ('link_listen = "127.0.1.1:7401"', 'link_listen = "127.0.1.1:7402"', ["link"]),
        ('link = "127.0.1.2:7400"', 'link = "127.0.1.2:7403"', ["link"]),
        ("workers = 1", "workers = 2", ["dns"]),
        ("workers = 1", "tcp_connections = 99", ["dns"]),
        ("workers = 1", "tcp_connections_per_client = 3", ["dns"]),
        ('listen = ["127.0.1.1:8080"]', 'listen = ["127.0.1.1:8081"]', ["edge"]),
        ('interval = "300ms"', 'interval = "400ms"', ["probes"]),
        ("local_as = 64501", "local_as = 64509", ["bgp"]),
        ('hold_down = "2s"', 'hold_down = "3s"', ["bgp"]),
        ('dashboard = { listen = "127.0.1.1:9080" }', "", ["dashboard"]),
        ("[geo]", '[log]\nformat = "json"\n\n[geo]', ["log"]),
        ("[geo]", "[log]\nlines_per_minute = 7\n\n[geo]", ["log"]),
        ("coordinates = [40.71, -74.01]", "coordinates = [0.0, 100.0]", ["coordinates"]),
        ('steer = "closest"', 'steer = "failover"', []),
        ('addresses = ["127.0.1.1"]', 'addresses = ["127.0.1.9"]', []),
        ('networks = "networks.csv"', "", []),
        ("[[zones]]", '[[zones]]\nfile = "x"\n\n[[zones]]', []),
        ('dashboard = { listen = "127.0.1.2:9080" }', "", []),
    ],
)
def test_what_only_a_start_takes_up_is_named_in_the_words_of_the_file(
    tmp_path: Path, old: str, new: str, named: list[str]
) -> None:
    assert differing(tmp_path, old, new) == named
