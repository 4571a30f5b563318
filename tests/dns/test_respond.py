"""Bytes to bytes: steering, client subnets, EDNS, the ladder's answers, and that nothing ever raises."""

import dataclasses
import struct
from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import dns.rdataclass
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anycastle.dns.decider import Decider
from anycastle.dns.errors import DnsError
from anycastle.dns.explain import explain
from anycastle.dns.respond import COUNTERS, new_counters, respond, respond_truncated
from anycastle.dns.tables import Tables
from tests.dns.world import NOW, RESOLVER, WALL, ask, make_tables, make_view, raw, scope_of, show

SOA_TAIL = "IN SOA ns1.example.com. hostmaster.example.com. 2024010101 7200 3600 1209600 300"


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return make_tables(tmp_path_factory.mktemp("respond"))


@pytest.mark.parametrize(
    ("question", "subnet", "expected", "scope"),
    [
        # 10.1.0.0/16 has the order of everything beside it, so its leaf in the merged tree is wider
        ("shop.example.com A", "10.1.7.0/24", "NOERROR aa\nan shop.example.com. 60 IN A 192.0.2.10", 15),
        ("shop.example.com A", "10.2.7.0/24", "NOERROR aa\nan shop.example.com. 60 IN A 192.0.2.20", 16),
        ("shop.example.com A", "10.3.0.0/16", "NOERROR aa\nan shop.example.com. 60 IN A 192.0.2.30", 16),
        ("shop.example.com AAAA", "10.1.7.0/24", "NOERROR aa\nan shop.example.com. 60 IN AAAA 2001:db8:1::10", 15),
        # the chosen site has no IPv6: NODATA for as long as the decision lasts, and for these clients only
        ("shop.example.com AAAA", "10.2.7.0/24", f"NOERROR aa\nau example.com. 60 {SOA_TAIL}", 16),
        ("shop.example.com A", "2001:db8:2::/48", "NOERROR aa\nan shop.example.com. 60 IN A 192.0.2.20", 48),
        ("x.blogs.example.com A", "10.2.7.0/24", "NOERROR aa\nan x.blogs.example.com. 60 IN A 192.0.2.20", 16),
        # other types at a steered name come from the zone
        ("shop.example.com TXT", "10.2.7.0/24", 'NOERROR aa\nan shop.example.com. 3600 IN TXT "also here"', 0),
        ("shop.example.com MX", "10.2.7.0/24", f"NOERROR aa\nau example.com. 300 {SOA_TAIL}", 0),
        # an exact static name wins over a steered wildcard, and blocks it below itself
        (
            "static.blogs.example.com A",
            "10.2.7.0/24",
            "NOERROR aa\nan static.blogs.example.com. 3600 IN A 192.0.2.77",
            0,
        ),
        ("x.static.blogs.example.com A", "10.2.7.0/24", f"NXDOMAIN aa\nau example.com. 300 {SOA_TAIL}", 0),
        ("nothing.example.com A", "10.2.7.0/24", f"NXDOMAIN aa\nau example.com. 300 {SOA_TAIL}", 0),
        ("example.org A", "10.2.7.0/24", "REFUSED", 0),
        # no client subnet: the resolver's own address decides, and nothing is said of a scope
        ("shop.example.com A", None, "NOERROR aa\nan shop.example.com. 60 IN A 192.0.2.10", None),
        # SOURCE 0 asks not to be looked at more closely; it is answered all the same
        ("shop.example.com A", "0.0.0.0/0", "NOERROR aa\nan shop.example.com. 60 IN A 192.0.2.10", 0),
    ],
)
def test_steered_answers(tables: Tables, question: str, subnet: str | None, expected: str, scope: int | None) -> None:
    message = ask(tables, question, subnet=subnet)
    assert show(message) == expected
    assert scope_of(message) == scope


def test_default_answer_has_a_scope_that_keeps_out_of_the_mapped_networks(tables: Tables) -> None:
    """11.0.0.0 is in no map; an answer for it with scope 0 would be given to clients of 10.2.0.0/16 as well."""
    scope = scope_of(ask(tables, "shop.example.com A", subnet="11.0.0.0/24"))
    assert scope is not None
    assert 8 <= scope <= 24


def test_health_moves_the_answer(tables: Tables) -> None:
    message = ask(tables, "shop.example.com A", subnet="10.2.7.0/24", view=make_view(down=("nyc",)))
    assert [rdata.to_text() for rdata in message.answer[0]] == ["192.0.2.10"]


def test_servfail_policy(tables: Tables) -> None:
    message = ask(tables, "fails.example.com A", subnet="10.2.7.0/24", view=make_view(down=("sgp",)))
    assert show(message) == "SERVFAIL"
    assert scope_of(message) == 0


def test_client_subnet_comes_back_exactly(tables: Tables) -> None:
    message = ask(tables, "shop.example.com A", subnet="10.2.192.0/18")
    (option,) = message.options
    assert option == dns.edns.ECSOption("10.2.192.0", 18, 16)


def test_a_and_aaaa_come_from_one_site(tables: Tables) -> None:
    site4 = ask(tables, "shop.example.com A", subnet="10.1.0.0/24").answer[0][0].to_text()
    site6 = ask(tables, "shop.example.com AAAA", subnet="10.1.0.0/24").answer[0][0].to_text()
    assert (site4, site6) == ("192.0.2.10", "2001:db8:1::10")


def test_nsid_only_when_asked(tables: Tables) -> None:
    query = dns.message.make_query("www.example.com", "A", use_edns=0, options=[dns.edns.NSIDOption(b"")])
    reply = raw(tables, query.to_wire())
    assert reply is not None
    assert dns.message.from_wire(reply).options == (dns.edns.NSIDOption(b"ams"),)
    assert ask(tables, "www.example.com A").options == ()


def test_opt_only_when_it_came(tables: Tables) -> None:
    assert ask(tables, "www.example.com A", edns=False).edns == -1
    message = ask(tables, "www.example.com A")
    assert (message.edns, message.payload) == (0, 1232)


@pytest.mark.parametrize(
    ("edns", "payload", "tcp", "truncated"),
    [
        (False, 0, False, True),
        (True, 512, False, True),
        (True, 1232, False, False),
        (True, 65535, False, False),
        (False, 0, True, False),
    ],
)
def test_truncation(tables: Tables, edns: bool, payload: int, tcp: bool, truncated: bool) -> None:
    """Forty addresses make about 670 bytes."""
    message = ask(tables, "many.example.com A", edns=edns, payload=payload, tcp=tcp)
    assert bool(message.flags & dns.flags.TC) is truncated
    assert bool(message.answer) is not truncated
    assert message.edns == (0 if edns else -1)


def test_chaos_names(tables: Tables) -> None:
    query = dns.message.make_query("ID.server", "TXT", rdclass=dns.rdataclass.CH)
    reply = raw(tables, query.to_wire())
    assert reply is not None
    assert show(dns.message.from_wire(reply)) == 'NOERROR aa\nan ID.server. 0 CH TXT "ams"'
    for name, rdclass in (("other.server", "CH"), ("www.example.com", "HS"), ("www.example.com", "ANY")):
        reply = raw(tables, dns.message.make_query(name, "TXT", rdclass=rdclass).to_wire())
        assert reply is not None
        assert show(dns.message.from_wire(reply)) == "REFUSED"


def test_error_answers_are_shaped_for_their_readers(tables: Tables) -> None:
    query = dns.message.make_query("www.example.com", "A", use_edns=0)
    bad_version = bytearray(query.to_wire())
    bad_version[-5] = 1  # the version in the OPT record's TTL
    reply = raw(tables, bytes(bad_version))
    assert reply is not None
    message = dns.message.from_wire(reply)
    assert (message.rcode(), message.edns) == (dns.rcode.BADVERS, 0)
    reply = raw(tables, struct.pack("!HHHHHH", 9, 0x2800, 1, 0, 0, 0))
    assert reply == struct.pack("!HHHHHH", 9, 0x8000 | 0x2800 | 4, 0, 0, 0, 0)


def test_silence(tables: Tables) -> None:
    counters = new_counters()
    assert raw(tables, b"\x00" * 11, counters) is None
    assert raw(tables, struct.pack("!HHHHHH", 9, 0x8000, 1, 0, 0, 0), counters) is None
    assert counters["dropped_silent"] == 2


def test_nothing_is_said_before_the_first_view(tables: Tables) -> None:
    counters = new_counters()
    query = dns.message.make_query("www.example.com", "A").to_wire()
    assert (
        respond(query, source=RESOLVER, tcp=False, tables=tables, decider=None, now=NOW, wall=WALL, counters=counters)
        is None
    )
    assert counters["dropped_early"] == 1


def test_a_fault_of_ours_is_servfail_and_a_count(tables: Tables) -> None:
    broken = dataclasses.replace(tables, zones=None)  # type: ignore[arg-type]
    counters = new_counters()
    query = dns.message.make_query("www.example.com", "A")
    reply = raw(broken, query.to_wire(), counters)
    assert reply is not None
    message = dns.message.from_wire(reply)
    assert (message.id, message.rcode()) == (query.id, dns.rcode.SERVFAIL)
    assert (counters["faults"], counters["rcode_servfail"]) == (1, 1)


def test_counters(tables: Tables) -> None:
    counters = new_counters()
    for name in ("www.example.com", "shop.example.com", "nothing.example.com", "example.org"):
        raw(tables, dns.message.make_query(name, "A").to_wire(), counters, tcp=True)
    raw(tables, dns.message.make_query("many.example.com", "A").to_wire(), counters)
    said = {name: count for name, count in counters.items() if count}
    assert said == {
        "queries": 5,
        "queries_tcp": 4,
        "steered": 1,
        "truncated": 1,
        "rcode_noerror": 3,
        "rcode_nxdomain": 1,
        "rcode_refused": 1,
    }
    assert set(counters) == set(COUNTERS)


def test_truncated_for_a_limited_client(tables: Tables) -> None:
    query = dns.message.make_query("www.example.com", "A", use_edns=0)
    reply = respond_truncated(query.to_wire(), RESOLVER, tables, wall=WALL)
    assert reply is not None
    message = dns.message.from_wire(reply)
    assert query.is_response(message)
    assert message.flags & dns.flags.TC
    assert not message.answer
    assert respond_truncated(b"junk", RESOLVER, tables, wall=WALL) is None


packets = st.one_of(
    st.binary(max_size=200),
    st.tuples(
        st.sampled_from(["www", "x.wild", "shop", "x.blogs", "x.deleg", "x.old", "alias", "nothing", "*.blogs", "@"]),
        st.integers(0, 65535),
        st.booleans(),
        st.binary(max_size=40),
        st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=3),
    ).map(lambda parts: damaged(*parts)),
)


def damaged(name: str, rrtype: int, edns: bool, options: bytes, changes: list[tuple[int, int]]) -> bytes:
    """A query below example.com with bytes of it replaced."""
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split("."))
    packet = bytearray(struct.pack("!HHHHHH", 1, 0, 1, 0, 0, edns))
    packet += labels + b"\x07example\x03com\x00" + struct.pack("!HH", rrtype, 1)
    if edns:
        packet += struct.pack("!BHHIH", 0, 41, 1232, 0, len(options)) + options
    for place, byte in changes:
        packet[place % len(packet)] = byte
    return bytes(packet)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=400)
@given(packets, st.booleans(), st.sampled_from([bytes(4), RESOLVER, bytes(16), b"\x20\x02" + bytes(14)]))
def test_no_packet_makes_it_fail(tables: Tables, packet: bytes, tcp: bool, source: bytes) -> None:
    counters = new_counters()
    reply = respond(
        packet,
        source=source,
        tcp=tcp,
        tables=tables,
        decider=Decider(tables.steering, make_view()),
        now=NOW,
        wall=WALL,
        counters=counters,
    )
    assert counters["faults"] == 0
    if reply is None:
        assert len(packet) < 12 or packet[2] & 0x80
        return
    assert reply[:2] == packet[:2]
    assert reply[2] & 0x80
    assert len(reply) <= (65535 if tcp else 1232)
    # dnspython knows rules about record types in a question that are none of ours; all else must read well.
    dns.message.from_wire(reply)


def test_explain_says_what_is_answered_and_why(tables: Tables) -> None:
    view = make_view(down=("nyc",))
    said = explain(tables, view, "x.blogs.example.com", "a", "10.2.7.9", now=NOW)
    message = ask(tables, "x.blogs.example.com A", subnet="10.2.7.9/32", view=view)
    assert said["answers"] == message.answer[0].to_text().splitlines()
    assert said["answers"] == [f"x.blogs.example.com. {said['ttl']} IN A 192.0.2.10"]
    assert said["scope"] == scope_of(message) == 16
    assert (said["rcode"], said["steered_by"], said["chosen"]) == ("NOERROR", "*.blogs.example.com", ["ams"])
    by_site = {site["site"]: site for site in said["sites"]}
    assert set(by_site) == {"ams", "nyc", "sgp"}
    assert (by_site["ams"]["eligible"], by_site["ams"]["rank"]) == (True, 1)
    assert (by_site["nyc"]["eligible"], by_site["nyc"]["rank"]) == (False, None)
    assert "down: asked to be" in by_site["nyc"]["reason"]
    assert said["place"].startswith("networks.csv:")
    inputs = {key: by_site["ams"][key] for key in ("kilometres", "cost", "weight", "load", "soft_load", "hard_load")}
    assert inputs == {"kilometres": None, "cost": 1, "weight": 1, "load": 0, "soft_load": None, "hard_load": None}


def test_explain_of_static_and_foreign_names(tables: Tables) -> None:
    static = explain(tables, make_view(), "www.example.com", "A", "10.2.0.0/16", now=NOW)
    assert (static["answers"], static["sites"]) == (["www.example.com. 3600 IN A 192.0.2.80"], [])
    foreign = explain(tables, make_view(), "example.org", "A", "2001:db8::1", now=NOW)
    assert (foreign["rcode"], foreign["answers"]) == ("REFUSED", [])


@pytest.mark.parametrize(
    ("name", "rrtype", "client", "said"),
    [
        ("a..b", "A", "10.0.0.1", "not a domain name"),
        ("a.b", "NOSUCH", "10.0.0.1", "not a record type"),
        ("a.b", "A", "10.0.0.256", "expected an IP address"),
        ("a.b", "A", "10.0.0.1/24", "expected an IP address"),
    ],
)
def test_explain_refuses_nonsense(tables: Tables, name: str, rrtype: str, client: str, said: str) -> None:
    with pytest.raises(DnsError, match=said):
        explain(tables, make_view(), name, rrtype, client, now=NOW)


def test_tables_cross_to_a_worker_unharmed(tables: Tables, tmp_path: Path) -> None:
    import pickle

    copy = pickle.loads(pickle.dumps(tables))
    for question in ("www.example.com A", "x.deleg.example.com A", "x.blogs.example.com A"):
        ours, theirs = ask(tables, question, subnet="10.2.7.0/24"), ask(copy, question, subnet="10.2.7.0/24")
        assert show(ours) == show(theirs)
