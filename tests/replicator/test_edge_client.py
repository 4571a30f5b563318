"""What is believed of who asks."""

from ipaddress import ip_network

import pytest
from multidict import CIMultiDict

from anycastle.replicator.edge_client import Proxies, network_of, with_client

PROXIES = Proxies((ip_network("127.0.0.0/8"), ip_network("2001:db8:1::/48"), ip_network("198.51.100.7")))  # type: ignore[arg-type]
CLAIMS = (
    ("X-Forwarded-For", "203.0.113.9"),
    ("X-FORWARDED-PROTO", "https"),
    ("X-Forwarded-Host", "elsewhere"),
    ("X-Forwarded-Port", "443"),
    ("Forwarded", "for=203.0.113.9"),
    ("X-Real-IP", "203.0.113.9"),
    ("True-Client-IP", "203.0.113.9"),
)


def headers(*pairs: tuple[str, str]) -> CIMultiDict[str]:
    return CIMultiDict(pairs)


def test_a_client_says_nothing_of_itself() -> None:
    told = with_client(headers(("Host", "h"), *CLAIMS, ("X_Y", "z")), remote="192.0.2.1", scheme="http", trusted=False)
    assert dict(told) == {
        "Host": "h",
        "X-Forwarded-For": "192.0.2.1",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Host": "h",
        "Forwarded": "for=192.0.2.1;host=h;proto=http",
    }


def test_a_trusted_proxy_is_believed_and_added_to() -> None:
    told = with_client(
        headers(("Host", 'h:"8\\0'), *CLAIMS, ("X-Forwarded-For", "b")),
        remote="2001:db8:1::5",
        scheme="http",
        trusted=True,
    )
    assert told.getall("X-Forwarded-For") == ["203.0.113.9, b, 2001:db8:1::5"]
    assert told["Forwarded"] == r'for=203.0.113.9, for="[2001:db8:1::5]";host="h:\"8\\0";proto=http'
    assert (told["X-Forwarded-Proto"], told["X-Forwarded-Host"], told["X-Real-IP"]) == (
        "https",
        "elsewhere",
        "203.0.113.9",
    )


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        ("127.8.8.8", True),
        ("::ffff:127.0.0.1", True),
        ("2001:db8:1:ffff::1%eth0", True),
        ("198.51.100.7", True),
        ("198.51.100.8", False),
        ("::1", False),
        ("unknown", False),
        ("", False),
    ],
)
def test_trusts(address: str, trusted: bool) -> None:
    assert PROXIES.trusts(address) is trusted


def test_the_client_is_the_last_that_is_no_proxy() -> None:
    chain = headers(("X-Forwarded-For", "192.0.2.66, 203.0.113.9"), ("X-Forwarded-For", "198.51.100.7"))
    assert PROXIES.client(chain, "127.0.0.1") == "203.0.113.9"
    assert PROXIES.client(chain, "192.0.2.1") == "192.0.2.1"
    assert PROXIES.client(headers(), "127.0.0.1") == "127.0.0.1"


def test_one_client_is_an_address_or_a_64() -> None:
    assert network_of("192.0.2.1") == network_of("::ffff:192.0.2.1") == "192.0.2.1"
    assert network_of("2001:db8::1") == network_of("2001:db8::2%3") == "2001:db8::/64"
    assert network_of("2001:db8:0:1::1") != network_of("2001:db8::1")
