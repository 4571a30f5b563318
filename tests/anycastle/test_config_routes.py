"""Routes, peers and attributes in the configuration file."""

from pathlib import Path

import pytest

from anycastle.bgp.settings import Attributes, LoopbackSettings, Peer
from anycastle.config import ConfigError, load_config

EXAMPLE = Path(__file__).parents[2] / "examples" / "three-sites.toml"
PEER = "port = 1790, as = 64499"


def changed(tmp_path: Path, old: str, new: str) -> Path:
    """The example with one replacement."""
    text = EXAMPLE.read_text()
    assert old in text
    file = tmp_path / "a.toml"
    file.write_text(text.replace(old, new, 1))
    return file


def faults(file: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    return [f"{fault.key}: {fault.problem}" for fault in caught.value.faults]


def peer(tmp_path: Path, more: str) -> Peer:
    bgp = load_config(changed(tmp_path, PEER, f"{PEER}, {more}")).for_member("ams").bgp
    assert bgp is not None
    return bgp.peers[0]


def test_attributes_of_a_state_at_the_site_and_at_a_peer(tmp_path: Path) -> None:
    attributes = (
        'attributes = { normal = { med = 10, communities = ["64501:1"] }, drained = { prepend = 5, '
        'large_communities = ["4200000000:1:2"] } }'
    )
    found = peer(tmp_path, attributes).attributes
    assert found.normal == Attributes(med=10, communities=((64501, 1),))
    assert found.degraded == Attributes()
    assert found.drained == Attributes(prepend=5, large_communities=((4200000000, 1, 2),))
    file = changed(tmp_path, "local_as = 64501", "local_as = 64501, routes_max = 2, " + attributes)
    bgp = load_config(file).for_member("ams").bgp
    assert bgp is not None
    assert (bgp.attributes, bgp.routes_max) == (found, 2)


def test_how_a_session_is_made(tmp_path: Path) -> None:
    found = peer(tmp_path, "passive = true, ttl_security = 2")
    assert (found.passive, found.ttl_security, found.multihop) == (True, 2, None)
    assert peer(tmp_path, "multihop = 3").multihop == 3


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ("multihop = 3, ttl_security = 1", "peers[0]: expected one of multihop and ttl_security"),
        ("multihop = 0", "multihop: expected a whole number from 1 to 255"),
        ("ttl_security = 255", "ttl_security: expected a whole number from 1 to 254"),
        ("attributes = { normal = { local_preference = 1 } }", "expected none for a peer in another AS"),
        ("attributes = { normal = { prepend = 11 } }", "expected a whole number from 0 to 10"),
        (
            'attributes = { normal = { communities = ["graceful-shutdown"] } }',
            "expected an array, each value a community",
        ),
        ('attributes = { normal = { communities = ["64500:70000"] } }', "a community of two numbers up to 65535"),
        ('attributes = { normal = { communities = ["1:2", "1:2"] } }', "each once"),
        ('attributes = { normal = { large_communities = ["1:2"] } }', "a large community of three numbers"),
        ("attributes = { down = { med = 1 } }", "attributes.down: unknown key"),
    ],
)
def test_peers_that_are_refused(tmp_path: Path, more: str, problem: str) -> None:
    found = faults(changed(tmp_path, PEER, f"{PEER}, {more}"))
    assert len(found) == 1
    assert problem.removeprefix("expected an array, each value ") in found[0]


def test_prepending_within_one_as_is_refused(tmp_path: Path) -> None:
    found = faults(changed(tmp_path, PEER, "port = 1790, as = 64501, attributes = { degraded = { prepend = 1 } }"))
    assert found == [
        "sites.ams.bgp.peers[0].attributes.degraded.prepend: expected none for a peer in our own AS: "
        "it would take the path for a loop"
    ]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("allow_private = true", "allow_private = false", "198.51.100.0/24 overlaps 198.51.100.0/24, which is not"),
        ("203.0.113.53/32", "203.0.113.52/30", "203.0.113.52/30 is more specific than /24"),
        ("203.0.113.53/32", "198.51.100.0/24", "198.51.100.0/24 is that of routes[0]: expected it once"),
        ("198.51.100.0/24", "198.51.100.1/24", "expected a network without host bits"),
        ("local_as = 64501", "local_as = 64501, routes_max = 1", "announces 2 routes: expected at most routes_max = 1"),
        ("local_as = 64501", "local_as = 64501, routes_max = 10001", "expected a whole number from 1 to 10000"),
    ],
)
def test_routes_that_are_refused(tmp_path: Path, old: str, new: str, problem: str) -> None:
    found = faults(changed(tmp_path, old, new))
    assert len(found) == 1
    assert problem in found[0]


@pytest.mark.parametrize(("text", "expected"), [('"50 %"', 1), ('"1 %"', 1), ("5", 5), ('"100 %"', 2)])
def test_how_many_may_change_at_once(tmp_path: Path, text: str, expected: int) -> None:
    file = changed(tmp_path, "local_as = 64501", f"local_as = 64501, changes_max = {text}")
    bgp = load_config(file).for_member("ams").bgp
    assert bgp is not None
    assert bgp.changes_max == expected


@pytest.mark.parametrize("text", ['"101 %"', "0", "true", '"5"', "0.5"])
def test_other_limits_of_changes_are_refused(tmp_path: Path, text: str) -> None:
    (found,) = faults(changed(tmp_path, "local_as = 64501", f"local_as = 64501, changes_max = {text}"))
    assert 'changes_max: expected a number of routes from 1 to 10000, or a share of them such as "50 %"' in found


def test_one_prefix_may_have_other_rules_at_another_site(tmp_path: Path) -> None:
    more = '[[routes]]\nprefix = "198.51.100.0/24"\nallow_private = true\ngroup = "photos"\nsites = ["nyc"]\n\n[geo]'
    file = changed(tmp_path, "[geo]", more)
    file.write_text(file.read_text().replace('group = "photos"\nlag', 'group = "photos"\nsites = ["ams"]\nlag', 1))
    assert len(load_config(file).routes) == 3


def test_a_route_within_another_is_a_warning(tmp_path: Path) -> None:
    config = load_config(changed(tmp_path, "203.0.113.53/32", "198.51.100.53/32"))
    assert [warning.problem for warning in config.warnings if "routes" in warning.key] == [
        "lies within 198.51.100.0/24: where 198.51.100.53/32 is withdrawn, 198.51.100.0/24 draws its users"
    ]


def test_the_loopback_is_managed_where_the_site_says_so(tmp_path: Path) -> None:
    more = 'local_as = 64501, manage_loopback = true, loopback = "dummy0", loopback_delay = "3s"'
    file = changed(tmp_path, "local_as = 64501", more)
    assert faults(file) == [
        "routes[0]: needs a key 'service_addresses', such as: service_addresses = [\"198.51.100.1\"]; "
        "manage_loopback adds them with the route ([] for none)"
    ]
    address = 'prefix = "198.51.100.0/24"\nservice_addresses = ["198.51.100.7"]'
    file.write_text(file.read_text().replace('prefix = "198.51.100.0/24"', address))
    bgp = load_config(file).for_member("ams").bgp
    assert bgp is not None
    assert bgp.loopback == LoopbackSettings(interface="dummy0", delay_seconds=3.0)
    assert [[str(each) for each in rule.addresses] for rule in bgp.rules] == [["198.51.100.7"], ["203.0.113.53"]]
    file.write_text(file.read_text().replace('"198.51.100.7"', '"198.51.101.7"').replace("dummy0", "../lo"))
    found = "; ".join(faults(file))
    assert "service_addresses: expected addresses within 198.51.100.0/24, found 198.51.101.7" in found
    assert 'loopback: expected the name of an interface such as "lo"' in found


def test_what_becomes_of_a_route_while_the_member_hangs(tmp_path: Path) -> None:
    def kept(old: str, new: str) -> list[bool]:
        bgp = load_config(changed(tmp_path, old, new)).for_member("ams").bgp
        assert bgp is not None
        return [rule.kept_while_hung for rule in bgp.rules]

    assert kept("minimum_sites = 1", "minimum_sites = 1") == [False, True]
    assert kept("minimum_sites = 1", 'minimum_sites = 1\non_controller_loss = "keep"') == [True, True]
    assert kept("nameserver = true", 'nameserver = true\non_controller_loss = "withdraw"') == [False, False]
