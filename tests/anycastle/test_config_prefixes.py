"""Which prefixes are hardly meant."""

import ipaddress

import pytest

from anycastle.config_prefixes import overlaps, problem


@pytest.mark.parametrize(
    ("prefix", "allowed", "expected"),
    [
        ("192.0.43.0/24", {}, ""),
        ("2a00:1450::/32", {}, ""),
        ("192.0.43.0/25", {}, "more specific than /24"),
        ("192.0.43.0/25", {"allow_long_prefix": True}, ""),
        ("2a00:1450:1:2::/64", {}, "more specific than /48"),
        ("192.0.43.53/32", {"nameserver": True}, ""),
        ("2a00:1450::53/128", {"nameserver": True}, ""),
        ("192.0.43.52/30", {"nameserver": True}, "more specific than /24"),
        ("192.0.43.53/32", {}, "allow_long_prefix = true says it is meant"),
        ("10.1.0.0/16", {}, "overlaps 10.0.0.0/8"),
        ("10.1.0.0/16", {"allow_private": True}, ""),
        ("198.51.100.0/24", {}, "allow_private = true says it is meant"),
        ("198.0.0.0/8", {}, "overlaps 198.18.0.0/15"),
        ("2001:db8:1::/48", {}, "overlaps 2001:db8::/32"),
        ("fd00::/48", {"allow_private": True}, ""),
        ("10.0.0.53/32", {"allow_private": True, "nameserver": True}, ""),
        ("127.0.0.0/24", {"allow_private": True, "allow_long_prefix": True}, "nothing allows it"),
        ("224.0.0.0/24", {"allow_private": True}, "nothing allows it"),
        ("::/1", {"allow_private": True}, "nothing allows it"),
        ("fe80::/64", {"allow_private": True, "allow_long_prefix": True}, "nothing allows it"),
    ],
)
def test_what_is_refused_and_what_allows_it(prefix: str, allowed: dict[str, bool], expected: str) -> None:
    flags = {"nameserver": False, "allow_private": False, "allow_long_prefix": False} | allowed
    found = problem(ipaddress.ip_network(prefix), **flags)
    assert expected in found
    assert bool(found) is bool(expected)


def test_each_prefix_is_named_with_the_nearest_one_around_it() -> None:
    names = ("10.1.2.0/24", "10.0.0.0/8", "10.1.0.0/16", "192.0.2.0/24", "2001:db8::/32", "2001:db8:1::/48")
    found = {(str(inner), str(outer)) for inner, outer in overlaps(map(ipaddress.ip_network, names))}
    assert found == {
        ("10.1.2.0/24", "10.1.0.0/16"),
        ("10.1.0.0/16", "10.0.0.0/8"),
        ("2001:db8:1::/48", "2001:db8::/32"),
    }
