"""The map for `fastest`: who goes ahead of whom, where it is laid, and scopes that never overlap."""

import dataclasses
import ipaddress
import math
import pickle

import msgspec
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from anycastle.dns.decider import Decider
from anycastle.dns.fastest import (
    CONNECTIONS_KEPT_MIN,
    CONNECTIONS_MIN,
    MARGIN_SECONDS,
    MARGIN_SHARE,
    NO_DETAIL,
    NOTHING,
    Fastest,
    Overlay,
    by_speed,
    lay,
    opened,
)
from anycastle.dns.geo import Geo, Source, build, spanning
from anycastle.dns.measured import HALF_LIFE_SECONDS, Number, client_network
from anycastle.dns.settings import Policy, SteeredName
from anycastle.dns.steer import Decision, Steering, decide
from anycastle.health.view import Health, View
from tests.dns.test_steer import LOADED
from tests.dns.worlds import BLOGS, GEO, NOW, state, steering, view

ORDER = ("ams", "nyc", "sgp")
FASTEST = dataclasses.replace(BLOGS, policy=Policy.FASTEST)
Numbers = dict[str, dict[bytes, Number]]


def number(milliseconds: float, connections: float = 100.0, at: float = NOW) -> Number:
    return math.log(milliseconds / 1000), connections, at


def numbers(**networks: dict[str, float | tuple[float, float]]) -> Numbers:
    """Network (its dots as `_`) -> site -> milliseconds, or those and connections."""
    found: Numbers = {name: {} for name in ORDER}
    for name, of_sites in networks.items():
        network = bytes(map(int, name.strip("n").split("_")))
        for site, told in of_sites.items():
            found[site][network] = number(*told) if isinstance(told, tuple) else number(told)
    return found


def laid(known: Numbers, geo: Geo = GEO) -> Fastest:
    overlay, detail = lay(geo, known, now=NOW)
    return opened(geo, msgspec.msgpack.decode(msgspec.msgpack.encode(overlay), type=Overlay), detail)


def order_of(where: Fastest | Geo, client: str) -> tuple[str, ...]:
    return where.places[where.find(ipaddress.ip_address(client).packed)[0]].order


# -- who goes ahead of whom ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "before", "expected"),
    [
        ({"ams": 20, "nyc": 80}, (), "ams nyc sgp"),
        ({"ams": 80, "nyc": 20}, (), "nyc ams sgp"),
        ({"ams": 20, "nyc": 18.1}, (), "ams nyc sgp"),  # 2 ms is the least that counts
        ({"ams": 20, "nyc": 18}, (), "nyc ams sgp"),
        ({"ams": 100, "nyc": 91}, (), "ams nyc sgp"),  # of 100 ms 10 % do
        ({"ams": 100, "nyc": 90}, (), "nyc ams sgp"),
        ({"ams": 0.3, "nyc": 0.1}, (), "ams nyc sgp"),
        ({"ams": 100, "nyc": 94}, ("nyc", "ams"), "nyc ams sgp"),  # half of it keeps it ahead
        ({"ams": 100, "nyc": 96}, ("nyc", "ams"), "ams nyc sgp"),
        ({"ams": 100, "nyc": 94}, ("ams", "nyc"), "ams nyc sgp"),
        ({"ams": 100, "nyc": 94}, ("sgp", "nyc"), "ams nyc sgp"),
        ({"ams": 20, "nyc": 19, "sgp": 17.9}, (), "sgp ams nyc"),  # clearly faster than the first, if not than the next
        ({"nyc": 80, "sgp": 10}, (), "ams sgp nyc"),  # nothing says that ams is slower
        ({"ams": 80, "sgp": 10}, (), "sgp ams nyc"),
        ({"ams": 10, "sgp": 80}, (), "ams nyc sgp"),
        ({"ams": 80, "nyc": 50, "sgp": 10}, (), "sgp nyc ams"),
        ({}, (), "ams nyc sgp"),
    ],
)
def test_the_closer_one_stands_first_unless_another_is_clearly_faster(
    times: dict[str, float], before: tuple[str, ...], expected: str
) -> None:
    in_seconds = {site: milliseconds / 1000 for site, milliseconds in times.items()}
    assert by_speed(ORDER, in_seconds, before) == tuple(expected.split())


TIMES = st.dictionaries(st.sampled_from("abcde"), st.floats(1e-4, 1.0))


@given(st.permutations("abcde"), TIMES, st.permutations("abcde"), st.booleans())
def test_nobody_is_clearly_faster_than_the_first_measured_one(
    closest: list[str], times: dict[str, float], before: list[str], fresh: bool
) -> None:
    order = by_speed(tuple(closest), times, () if fresh else tuple(before))
    assert sorted(order) == sorted(closest)
    plain = [site for site in closest if site not in times]
    assert [site for site in order if site not in times] == plain
    measured = [site for site in closest if site in times]
    if not measured:
        return
    ahead = closest[: closest.index(measured[0])]
    assert list(order[: len(ahead)]) == ahead  # nothing says that these are slower
    first = order[len(ahead)]
    assert first in times
    for other in measured:
        margin = max(MARGIN_SECONDS, MARGIN_SHARE * times[first])
        assert times[other] > times[first] - margin
    if first != measured[0]:  # moved off the closest for a reason
        near = times[measured[0]]
        assert times[first] <= near - max(MARGIN_SECONDS, MARGIN_SHARE * near) / 2


# -- where it is laid ---------------------------------------------------------------------------------------------


def test_a_measured_network_has_its_own_order_and_its_neighbours_keep_theirs() -> None:
    where = laid(numbers(n10_3_7={"sgp": 90.0, "ams": 12.0}))
    assert order_of(where, "10.3.7.200") == ("ams", "sgp", "nyc")
    assert order_of(where, "10.3.6.1") == order_of(where, "10.3.8.1") == ("sgp", "nyc", "ams")
    assert where.find(bytes((10, 3, 7, 9)))[1] == 24
    assert where.find(bytes((10, 3, 6, 9)))[1] == 24
    assert where.find(bytes((10, 3, 200, 9)))[1] == 17
    for carried in ("::ffff:10.3.7.1", "64:ff9b::a03:701", "2002:a03:701::1"):
        assert order_of(where, carried) == ("ams", "sgp", "nyc")
    assert where.find(ipaddress.ip_address("2002:a03:701::1").packed)[1] == 40


def test_an_unmeasured_closest_site_keeps_its_clients() -> None:
    where = laid(numbers(n10_3_7={"nyc": 90.0, "ams": 12.0}))
    assert order_of(where, "10.3.7.1") == ("sgp", "ams", "nyc")  # ams goes ahead of nyc, not of sgp


@pytest.mark.parametrize(
    "told",
    [
        {"sgp": 90.0},
        {"ams": 12.0},
        {"sgp": (90.0, CONNECTIONS_MIN - 1), "ams": 12.0},
        {"sgp": 90.0, "ams": (12.0, CONNECTIONS_MIN - 1)},
        {"sgp": 13.0, "ams": 12.0},
    ],
    ids=str,
)
def test_too_little_or_no_difference_leaves_the_map_as_it_is(told: dict[str, float | tuple[float, float]]) -> None:
    overlay, _ = lay(GEO, numbers(n10_3_7=told), now=NOW)
    assert overlay == NOTHING


def test_a_measured_network_stays_so_until_half_is_forgotten() -> None:
    known = numbers(n10_3_7={"sgp": (90.0, CONNECTIONS_MIN), "ams": (12.0, CONNECTIONS_MIN)})
    overlay, detail = lay(GEO, known, now=NOW)
    assert overlay != NOTHING
    later = NOW + 0.9 * HALF_LIFE_SECONDS
    assert lay(GEO, known, detail, now=later)[0] == overlay
    assert lay(GEO, known, NO_DETAIL, now=later)[0] == NOTHING
    assert CONNECTIONS_KEPT_MIN == CONNECTIONS_MIN / 2
    assert lay(GEO, known, detail, now=NOW + 1.1 * HALF_LIFE_SECONDS)[0] == NOTHING


SPACE_4 = st.sampled_from([bytes((10, third, fourth)) for third in (0, 1, 2, 3, 255) for fourth in (0, 1, 2, 7, 255)])
EDGES_4 = st.sampled_from([bytes(3), b"\0\0\1", b"\xff\xff\xff", b"\xff\xff\xfe"])
SPACE_6 = st.sampled_from(
    [
        ipaddress.ip_address(text).packed[:6]
        for text in (
            "::",
            "64:ff9b::",
            "64:ff9b:1::",
            "2001::",
            "2001:db8::",
            "2001:db8:1::",
            "2002:a03:701::",
            "ffff:ffff:ffff::",
        )
    ]
)
ORDERS = st.permutations(ORDER).map(tuple)
KNOWN = st.dictionaries(
    SPACE_4 | EDGES_4 | SPACE_6,
    st.dictionaries(st.sampled_from(ORDER), st.floats(1.0, 300.0), min_size=1),
    max_size=12,
)
MAPS = st.dictionaries(
    st.sampled_from(
        ["0.0.0.0/1", "10.0.0.0/8", "10.3.0.0/16", "10.3.7.0/25", "10.2.0.0/23", "2001:db8::/32", "2000::/3"]
    ),
    ORDERS,
    max_size=5,
)
ADDRESSES = st.one_of(
    st.tuples(SPACE_4 | EDGES_4, st.binary(min_size=1, max_size=1)).map(b"".join),
    st.tuples(SPACE_6, st.binary(min_size=10, max_size=10)).map(b"".join),
    st.tuples(st.just(bytes(10) + b"\xff\xff"), SPACE_4, st.just(b"\1")).map(b"".join),
    st.tuples(st.just(b"\x00\x64\xff\x9b" + bytes(8)), SPACE_4, st.just(b"\1")).map(b"".join),
    st.tuples(st.just(b"\x20\x02"), SPACE_4, st.binary(min_size=11, max_size=11)).map(b"".join),
    st.binary(min_size=4, max_size=4),
    st.binary(min_size=16, max_size=16),
)


def world(lines: dict[str, tuple[str, ...]], known: dict[bytes, dict[str, float]]) -> Fastest:
    spans = [spanning(ipaddress.ip_network(text), Source(order, text)) for text, order in lines.items()]
    by_site: Numbers = {site: {} for site in ORDER}
    for network, of_sites in known.items():
        for site, milliseconds in of_sites.items():
            by_site[site][network] = number(milliseconds)
    return laid(by_site, build(ORDER, spans))


def dumb_order(where: Fastest, known: dict[bytes, dict[str, float]], address: bytes) -> tuple[str, ...]:
    """One address by itself."""
    network = client_network(address)
    told = known.get(network or b"", {})
    closest = where.geo.places[where.geo.find(address)[0]].order
    if network is None:
        told = known.get(address[:6], {})  # a network of which a part stands for IPv4; nobody connects from there
    if len(told) < 2:
        return closest
    # A network is one, so it goes by the closeness of its first address.
    first = (network or address[:6]).ljust(len(address) if network is None or len(network) == 6 else 4, b"\0")
    base = where.geo.places[where.geo.find(first)[0]].order
    order = by_speed(base, {site: milliseconds / 1000 for site, milliseconds in told.items()}, ())
    return closest if order == base else order


@given(MAPS, KNOWN, ADDRESSES)
def test_every_address_has_the_order_it_has_by_itself(
    lines: dict[str, tuple[str, ...]], known: dict[bytes, dict[str, float]], address: bytes
) -> None:
    where = world(lines, known)
    assert where.places[where.find(address)[0]].order == dumb_order(where, known, address)


def prefix(address: bytes, bits: int) -> tuple[int, int]:
    return bits, int.from_bytes(address) >> (8 * len(address) - bits)


@given(MAPS, KNOWN, ADDRESSES, ADDRESSES, st.integers(0, 128))
@example({}, {bytes((10, 3, 7)): {"ams": 90.0, "nyc": 9.0}}, bytes(16), b"\x20\x02\x0a\x03\x07" + bytes(11), 0)
def test_scopes_never_overlap_and_within_one_all_have_the_same_order(
    lines: dict[str, tuple[str, ...]], known: dict[bytes, dict[str, float]], one: bytes, other: bytes, shared: int
) -> None:
    assume(len(one) == len(other))
    keep = max(0, 8 * len(one) - shared)  # often a close neighbour: that is where overlaps are
    other = ((int.from_bytes(one) >> keep << keep) | (int.from_bytes(other) & ((1 << keep) - 1))).to_bytes(len(one))
    where = world(lines, known)
    for look in (where.find, lambda address: where.find_client_network(address)[::-1]):
        (_, one_bits), (_, other_bits) = look(one), look(other)
        assert isinstance(one_bits, int)
        assert isinstance(other_bits, int)
        least = min(one_bits, other_bits)
        if prefix(one, least) == prefix(other, least):
            assert one_bits == other_bits
            assert look(one)[0] == look(other)[0]
    assert where.find_client_network(one)[0] >= max(where.find(one)[1], where.geo.find_client_network(one)[0])


@given(MAPS, KNOWN)
def test_the_leaves_cover_both_spaces_once_and_say_what_find_says(
    lines: dict[str, tuple[str, ...]], known: dict[bytes, dict[str, float]]
) -> None:
    where = world(lines, known)
    for version, width in ((4, 32), (6, 128)):
        address = count = 0
        while address < 1 << width:
            place, bits = where.leaf(version, address)
            assert address % (1 << (width - bits)) == 0
            if place >= 0:
                assert where.find(address.to_bytes(width // 8)) == (place, bits)
            address += 1 << (width - bits)
            count += 1
        assert address == 1 << width
        assert count < 3000


# -- what it does to answers --------------------------------------------------------------------------------------


def asked(where: Fastest | None, rule: SteeredName = FASTEST, client: str = "10.3.7.1", **sites: object) -> Decision:
    table = dataclasses.replace(steering(rule), fastest=where)
    match = table.match((b"alice", b"blogs", b"example", b"com"))
    assert match is not None
    return decide(table, match, ipaddress.ip_address(client).packed, 32, view(**sites), now=NOW)  # type: ignore[arg-type]


MEASURED = laid(numbers(n10_3_7={"sgp": (80.1, 31.0), "ams": (12.3, 240.0), "nyc": (50.0, 3.0)}))


def test_fastest_goes_by_numbers_and_says_them() -> None:
    decision = asked(MEASURED)
    assert (decision.sites, decision.scope_bits) == (("ams",), 24)
    assert [reason.text for reason in decision.reasons] == [
        "measured 12.3 ms from 240 connections",
        "measured 80.1 ms from 31 connections",
        "by closeness (networks.csv:1 10.3.0.0/16): measured 50.0 ms from 3 connections, which is too little to go by",
    ]


def test_where_too_little_is_measured_it_goes_by_closeness_and_says_why() -> None:
    where = laid(numbers(n10_3_7={"sgp": (80.1, 31.0)}))
    decision = asked(where)
    assert (decision.sites, decision.scope_bits) == (("sgp",), 16)
    assert decision.reasons[0].text == (
        "by closeness (networks.csv:1 10.3.0.0/16), as fewer than two sites have 20 connections from 10.3.7.0/24; "
        "this one: measured 80.1 ms from 31 connections"
    )
    assert decision.reasons[1].text.endswith("this one: not measured")


def test_a_site_that_is_withheld_gives_way_to_the_next_by_speed() -> None:
    assert asked(MEASURED, ams=state(Health.DOWN)).sites == ("sgp",)


@pytest.mark.parametrize("policy", [policy for policy in Policy if policy is not Policy.FASTEST])
def test_no_other_policy_knows_of_it(policy: Policy) -> None:
    rule = dataclasses.replace(BLOGS, policy=policy)
    assert asked(MEASURED, rule) == asked(None, rule)


def test_of_an_unknown_client_nothing_is_measured() -> None:
    table = dataclasses.replace(steering(FASTEST), fastest=MEASURED)
    match = table.match((b"alice", b"blogs", b"example", b"com"))
    assert match is not None
    decision = decide(table, match, bytes((10, 3, 7, 1)), 0, view(), now=NOW)
    assert (decision.sites, decision.scope_bits) == (("ams",), 0)
    assert "nothing is measured" in decision.reasons[0].text


QUERIES = st.lists(st.tuples(st.sampled_from([b"alice", b"bob"]), ADDRESSES, st.none() | KNOWN), max_size=8)


@given(QUERIES, st.sampled_from([view(), view(ams=state(load=150.0)), view(sgp=state(Health.DOWN))]))
def test_the_decider_gives_what_decide_gives_through_all_maps(
    queries: list[tuple[bytes, bytes, dict[bytes, dict[str, float]] | None]], seen: View
) -> None:
    geo = world({"10.3.0.0/16": ("sgp", "nyc", "ams")}, {}).geo
    table = Steering.build((FASTEST,), LOADED, geo)
    decider = Decider(table, seen)
    for label, client, known in queries:
        if known is not None:
            laid_now = world({"10.3.0.0/16": ("sgp", "nyc", "ams")}, known)
            table = dataclasses.replace(table, fastest=dataclasses.replace(laid_now, geo=geo, detail=None))
            decider.lay(table)
        match = table.match((label, b"blogs", b"example", b"com"))
        assert match is not None
        bits = 8 * len(client)
        for _ in range(2):  # the second time much of it is remembered
            choice = decider.decide(match, client, bits, now=NOW)
            expected = decide(table, match, client, bits, seen, now=NOW)
            assert choice.scope_bits == expected.scope_bits
            assert dataclasses.replace(choice.decision, scope_bits=0, reasons=()) == dataclasses.replace(
                expected, scope_bits=0, reasons=()
            )
            assert choice.by_speed is (table.fastest is not None)


def test_another_map_touches_names_that_go_by_speed_only() -> None:
    closest = SteeredName(name="www.example.com")
    table = dataclasses.replace(steering(FASTEST, closest), fastest=None)
    decider = Decider(table, view())
    for labels in ((b"alice", b"blogs", b"example", b"com"), (b"www", b"example", b"com")):
        match = table.match(labels)
        assert match is not None
        choice = decider.decide(match, bytes((10, 3, 7, 1)), 32, now=NOW)
        assert (choice.decision.sites, choice.place is None) == (("sgp",), False)
        choice.name.questions.add(labels[0])
    decider.lay(dataclasses.replace(table, fastest=MEASURED))
    assert decider.take_forgotten() == [b"alice"]
    assert decider.remembered == 1
    assert asked(MEASURED).sites == ("ams",)


def test_what_crosses_to_a_worker_answers_alike() -> None:
    where = pickle.loads(pickle.dumps(dataclasses.replace(MEASURED, detail=None)))
    assert where.find(bytes((10, 3, 7, 1))) == MEASURED.find(bytes((10, 3, 7, 1)))
