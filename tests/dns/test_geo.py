"""Places and scopes: the map as a whole, against a dumb oracle and RFC 7871's ban on overlaps."""

import ipaddress
import pickle

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from anycastle.dns.geo import EMBEDDINGS, Geo, Source, Span, build, inner_address, spanning
from anycastle.dns.settings import Network

DEFAULT = ("ams", "nyc", "sgp")
ORDERS = (DEFAULT, ("nyc", "ams", "sgp"), ("sgp", "nyc", "ams"))


def packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def mapped(cidr: str, order: tuple[str, ...], why: str = "") -> Span:
    return spanning(ipaddress.ip_network(cidr), Source(order, why or f"networks.csv {cidr}"))


def found(geo: Geo, address: str) -> tuple[str, int]:
    """The closest site and the scope."""
    place, bits = geo.find(packed(address))
    return geo.places[place].order[0], bits


def test_without_a_map_nothing_of_the_client_matters() -> None:
    geo = build(DEFAULT, (), ())
    for address in ("192.0.2.1", "2001:db8::1", "2002:c000:201::1", "2001::1", "::ffff:192.0.2.1"):
        assert found(geo, address) == ("ams", 0)
    assert geo.places[0].why == "default: no map covers it"


def test_the_scope_of_a_default_answer_keeps_clear_of_mapped_networks() -> None:
    geo = build(DEFAULT, [mapped("10.1.0.0/16", ("nyc", "ams", "sgp"))], ())
    assert found(geo, "10.1.2.3") == ("nyc", 16)
    assert found(geo, "10.0.0.1") == ("ams", 16)
    assert found(geo, "11.0.0.1") == ("ams", 8)
    assert found(geo, "192.0.2.1") == ("ams", 1)


def test_equal_neighbours_are_one_network() -> None:
    far = ("sgp", "nyc", "ams")
    geo = build(DEFAULT, [mapped("10.0.0.0/9", far), mapped("10.128.0.0/9", far), mapped("11.0.0.0/8", far)], ())
    assert found(geo, "10.1.1.1") == ("sgp", 7)
    assert found(geo, "11.1.1.1") == ("sgp", 7)


def test_a_network_with_the_default_order_is_the_default_place() -> None:
    geo = build(DEFAULT, [mapped("10.0.0.0/8", DEFAULT)], ())
    assert geo.find(packed("10.1.1.1")) == (0, 0)
    assert geo.places[0].why == "default: no map covers it or networks.csv 10.0.0.0/8"


def test_explicit_networks_win_over_narrower_located_ones() -> None:
    geo = build(
        DEFAULT,
        [mapped("10.0.0.0/8", ("nyc", "ams", "sgp"))],
        [mapped("10.2.0.0/16", ("sgp", "nyc", "ams"), "country SG")],
    )
    assert found(geo, "10.2.0.1") == ("nyc", 8)
    assert geo.why(packed("10.2.0.1")) == "networks.csv 10.0.0.0/8"


def test_why_is_exact_where_the_sources_are_and_short_at_the_workers() -> None:
    far = ("sgp", "nyc", "ams")
    located = [mapped(f"10.{n}.0.0/16", far, f"country C{n} via Test") for n in range(0, 12, 2)]
    geo = build(DEFAULT, [mapped("10.0.1.0/24", far, "networks.csv:7 10.0.1.0/24")], located)
    assert geo.why(packed("10.0.1.9")) == "networks.csv:7 10.0.1.0/24"
    assert geo.why(packed("::ffff:10.0.1.9")) == "networks.csv:7 10.0.1.0/24"
    assert geo.why(packed("10.0.2.9")) == "country C0 via Test"
    workers = pickle.loads(pickle.dumps(geo))
    assert workers.source(packed("10.0.1.9")) is None
    assert workers.why(packed("10.0.2.9")) == (
        "networks.csv:7 10.0.1.0/24 or country C0 via Test or country C2 via Test or 4 more"
    )
    assert geo.why(packed("192.0.2.1")) == "default: no map covers it"


@pytest.mark.parametrize(
    ("address", "offset"),
    [
        ("::ffff:192.0.2.1", 96),  # v4-mapped
        ("64:ff9b::192.0.2.1", 96),  # NAT64
        ("2002:c000:0201::1", 16),  # 6to4
        ("2001:0:4136:e378:8000:63bf:3fff:fdfe", 96),  # Teredo, the example of RFC 4380 section 2.7 with 192.0.2.1
    ],
)
def test_an_embedded_ipv4_address_is_looked_up(address: str, offset: int) -> None:
    geo = build(DEFAULT, [mapped("192.0.2.0/24", ("sgp", "nyc", "ams"))], ())
    assert inner_address(packed(address)) == packed("192.0.2.1")
    assert found(geo, address) == ("sgp", offset + 24)
    assert geo.why(packed(address)) == "networks.csv 192.0.2.0/24"


def test_clients_are_hashed_by_networks_inside_one_leaf() -> None:
    geo = build(DEFAULT, [mapped("192.0.2.128/25", ("sgp", "nyc", "ams")), mapped("2001:db8::/33", ORDERS[1])], ())
    assert geo.find_client_network(packed("198.51.100.77")) == (24, bytes((24, 198, 51, 100, 0)))
    assert geo.find_client_network(packed("192.0.2.5"))[0] == 25
    bits, network = geo.find_client_network(packed("2001:db8:1:2::3"))
    assert (bits, network[1:]) == (48, packed("2001:db8:1::"))
    assert geo.find_client_network(packed("2002:c633:644d::9"))[0] == 16 + 24


def test_it_may_be_pickled() -> None:
    geo = build(DEFAULT, [mapped("10.0.0.0/8", ORDERS[1])], [mapped("2001:db8::/32", ORDERS[2], "country SG")])
    assert pickle.loads(pickle.dumps(geo)) == geo


# --- properties -------------------------------------------------------------------------------------------------------

# Few bits to choose from, next to each other and to the embeddings, so that networks nest and touch often.
BASES_4 = [
    packed("10.0.0.0"),
    packed("10.0.128.0"),
    packed("11.255.255.0"),
    packed("0.0.0.0"),
    packed("255.255.255.255"),
]
BASES_6 = [
    packed(a)
    for a in (
        "2001:db8::",
        "2001:db8:8000::",
        "2000::",
        "2001::",
        "2002::",
        "2002:a00::",
        "::",
        "64:ff9b::",
        "64:ff9b:1::",
    )
]


@st.composite
def networks(draw: st.DrawFn) -> Network:
    base = draw(st.sampled_from(BASES_4 + BASES_6))
    bits = draw(st.integers(0, len(base) * 8))
    return ipaddress.ip_network((base, bits), strict=False)


@st.composite
def addresses(draw: st.DrawFn) -> bytes:
    base = draw(st.sampled_from(BASES_4 + BASES_6))
    flipped = 0
    for _ in range(draw(st.integers(0, 3))):
        flipped ^= 1 << draw(st.integers(0, len(base) * 8 - 1))
    return (int.from_bytes(base) ^ flipped).to_bytes(len(base))


@st.composite
def maps(draw: st.DrawFn) -> dict[Network, tuple[str, ...]]:
    return draw(st.dictionaries(networks(), st.sampled_from(ORDERS), max_size=8))


def made(explicit: dict[Network, tuple[str, ...]], located: dict[Network, tuple[str, ...]]) -> Geo:
    return build(
        DEFAULT,
        [spanning(n, Source(o, f"line {n}")) for n, o in explicit.items()],
        [spanning(n, Source(o, "db")) for n, o in located.items()],
    )


def oracle(layers: list[dict[Network, tuple[str, ...]]], address: bytes) -> tuple[str, ...]:
    client = ipaddress.ip_address(inner_address(address))
    for layer in layers:
        matches = [network for network in layer if client in network]
        if matches:
            return layer[max(matches, key=lambda network: network.prefixlen)]
    return DEFAULT


@given(maps(), maps(), st.lists(addresses(), min_size=1, max_size=20))
def test_the_longest_match_of_the_first_layer_wins(
    explicit: dict[Network, tuple[str, ...]], located: dict[Network, tuple[str, ...]], clients: list[bytes]
) -> None:
    geo = made(explicit, located)
    for client in clients:
        assert geo.places[geo.find(client)[0]].order == oracle([explicit, located], client)


@given(maps(), maps(), addresses(), st.lists(st.integers(0, 127), max_size=4), addresses(), st.booleans())
@example({}, {}, packed("::1"), [], packed("::ffff:0:0"), True)
@example(
    {ipaddress.ip_network("10.0.0.0/8"): ORDERS[1]}, {}, packed("2000::"), [96], packed("2002:a00::"), True
)  # a default answer beside 6to4
def test_scopes_never_overlap(
    explicit: dict[Network, tuple[str, ...]],
    located: dict[Network, tuple[str, ...]],
    one: bytes,
    flips: list[int],
    other: bytes,
    hashed: bool,
) -> None:
    """Whoever lies in the scope of an answer gets the same place with the same scope, on the network to hash, too."""
    geo = made(explicit, located)
    place, bits = geo.find(one)
    network_bits, network = geo.find_client_network(one)
    scope = network_bits if hashed else bits
    width = len(one) * 8
    number = int.from_bytes(one)
    for flip in flips:
        number ^= 1 << (flip % width)
    neighbours = [other] if len(other) == len(one) else []
    inside = (int.from_bytes(one) >> (width - scope) << (width - scope)) | (number & ((1 << (width - scope)) - 1))
    neighbours.append(inside.to_bytes(len(one)))
    for neighbour in neighbours:
        if int.from_bytes(neighbour) >> (width - scope) == int.from_bytes(one) >> (width - scope):
            assert geo.find(neighbour) == (place, bits)
            assert not hashed or geo.find_client_network(neighbour) == (network_bits, network)


@given(maps(), st.lists(addresses(), max_size=20))
def test_every_address_has_a_place_and_a_scope_within_its_width(
    explicit: dict[Network, tuple[str, ...]], clients: list[bytes]
) -> None:
    geo = made(explicit, {})
    for client in [*clients, bytes(4), b"\xff" * 4, bytes(16), b"\xff" * 16]:
        place, bits = geo.find(client)
        assert 0 <= place < len(geo.places)
        assert 0 <= bits <= geo.find_client_network(client)[0] <= len(client) * 8


def test_embeddings_are_apart() -> None:
    for one in EMBEDDINGS:
        assert not any(one.network.overlaps(other.network) for other in EMBEDDINGS if other is not one)
