"""The short ways, plain and compiled, against the whole way and against each other: the same bytes on any input.

Negative answers are one template for all names that do not exist, so there only the compression may differ.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import dns.edns
import dns.message
import dns.rcode
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anycastle.dns import hot
from anycastle.dns.cookie import answer_cookie
from anycastle.dns.decider import Decider
from anycastle.dns.fastest import lay, opened
from anycastle.dns.limit import Limiter, Verdict
from anycastle.dns.reply import Answer
from anycastle.dns.respond import new_counters, respond, respond_truncated
from anycastle.dns.settings import NoneEligible, Policy, SteeredName, ZoneFile
from anycastle.dns.shelf import Shelf
from anycastle.dns.steer import Steering
from anycastle.dns.tables import Tables
from anycastle.dns.template import EVERYWHERE, Template, adopt, make_template
from anycastle.dns.touched import touched
from anycastle.dns.view_change import difference
from anycastle.health.view import GroupView, Health, SiteView, View
from tests.dns.world import NAMES as NAMES_STEERED
from tests.dns.world import NOW, RESOLVER, SITES, WALL, make_tables, make_view

SECRETS = (bytes(range(16)), bytes(range(16, 32)))
SPEEDS = ("ams", "sgp")
VIEWS = (make_view(), make_view(down=("nyc",)), make_view(down=("ams", "nyc", "sgp")))
Either = Shelf | hot.HotShelf


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    names = (*NAMES_STEERED, SteeredName(name="quick.example.com", policy=Policy.FASTEST))
    made = make_tables(tmp_path_factory.mktemp("shelf"), names=names)
    return dataclasses.replace(made, cookie_secrets=SECRETS, steering=measured(made.steering, "nyc"))


def measured(steering: Steering, best: str) -> Steering:
    """With one site far ahead in a /24 of IPv4, alone and inside a larger network of the map, and in a /48 of IPv6."""
    networks = (
        bytes((10, 1, 7)),
        bytes((10, 2, 7)),
        bytes((203, 0, 113)),
        bytes.fromhex("20010db80007"),
    )
    numbers = {
        site: dict.fromkeys(networks, (math.log(0.001 if site == best else 0.1), 100.0, NOW))
        for site in ("ams", "nyc", "sgp")
    }
    return dataclasses.replace(steering, fastest=opened(steering.geo, lay(steering.geo, numbers, now=NOW)[0]))


def plain_shelf(tables: Tables, per_second_max: float = 0, *, answers_max: int = 1000) -> Shelf:
    return Shelf(tables, Limiter(per_second_max), answers_max=answers_max)


def hot_shelf(tables: Tables, per_second_max: float = 0, *, answers_max: int = 1000) -> hot.HotShelf:
    return hot.HotShelf(tables, hot.HotLimiter(per_second_max), answers_max=answers_max)


KINDS = pytest.mark.parametrize("make", [plain_shelf, hot_shelf], ids=["plain", "compiled"])

# --- packets ----------------------------------------------------------------------------------------------------------

NAMES = st.one_of(
    st.sampled_from(
        [
            *("shop.example.com", "ShOp.eXample.com", "a.blogs.example.com", "b.blogs.example.com", "example.com"),
            *(
                "static.blogs.example.com",
                "fails.example.com",
                "www.example.com",
                "alias.example.com",
                "big.example.com",
            ),
            *(
                "tosteered.example.com",
                "x.wild.example.com",
                "y.sub.wild.example.com",
                "ent.example.com",
                "loop1.example.com",
            ),
            *(
                "old.example.com",
                "x.old.example.com",
                "deleg.example.com",
                "host.deleg.example.com",
                "many.example.com",
            ),
            *("nothing.example.com", "Nothing.at.all.example.com", "ns1.nothing.example.com", "hostmaster.example.com"),
            *("example.org", "com", ".", "quick.example.com", "quick.example.com", "QUICK.example.com"),
        ]
    ),
    st.from_regex(r"[a-zA-Z0-9-]{1,12}(\.[a-z]{1,5})?", fullmatch=True).map(lambda label: f"{label}.example.com"),
)
TYPES = st.sampled_from([1, 28, 1, 28, 15, 16, 2, 6, 5, 43, 65, 97, 255, 251, 252, 41, 4711])
SUBNETS = st.one_of(
    st.tuples(
        st.sampled_from(["10.1.7.0", "10.2.7.0", "10.2.8.0", "10.3.0.0", "11.0.0.0", "203.0.113.0"]), st.integers(0, 32)
    ),
    st.tuples(
        st.sampled_from(["2001:db8:2::", "2001:db8:7::", "2001:db8::", "2002:a02:700::", "::ffff:10.2.7.0"]),
        st.integers(0, 128),
    ),
).map(lambda pair: dns.edns.ECSOption(*pair))
COOKIES = st.one_of(
    st.binary(min_size=8, max_size=8),
    st.sampled_from([0, 1000, 2000, 4000, -200, -400]).map(
        lambda age: answer_cookie(b"12345678", RESOLVER, SECRETS, wall=WALL - age)
    ),
    st.just(answer_cookie(b"12345678", RESOLVER, SECRETS[1:], wall=WALL)),
    st.binary(min_size=16, max_size=40),
).map(lambda value: dns.edns.GenericOption(10, value))
OTHERS = st.sampled_from(
    [dns.edns.GenericOption(3, b""), dns.edns.GenericOption(12, bytes(9)), dns.edns.GenericOption(11, b"")]
)
OPTIONS = st.lists(SUBNETS | COOKIES | SUBNETS | COOKIES | OTHERS, max_size=3)


@st.composite
def queries(draw: st.DrawFn) -> bytes:
    name, rrtype = draw(NAMES), draw(TYPES)
    with_edns = draw(st.sampled_from([True, True, True, False]))
    message = dns.message.make_query(
        name, rrtype, use_edns=0 if with_edns else False, payload=draw(st.sampled_from([0, 512, 600, 1232, 4096]))
    )
    message.id = draw(st.integers(0, 65535))
    message.flags = draw(st.sampled_from([0, 0x0100, 0x0110, 0x0020, 0x0400]))
    if with_edns:
        options: list[dns.edns.Option] = list(draw(OPTIONS))
        message.use_edns(0, 0x8000 if draw(st.booleans()) else 0, message.payload, options=options)
    return message.to_wire()


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    packet = bytearray(draw(queries()))
    for _ in range(draw(st.integers(1, 3))):
        kind, at, byte = (
            draw(st.sampled_from(["set", "cut", "add"])),
            draw(st.integers(0, len(packet))),
            draw(st.integers(0, 255)),
        )
        if kind == "cut":
            del packet[at:]
        elif kind == "add" or at >= len(packet):
            packet.insert(at, byte)
        else:
            packet[at] = byte
    return bytes(packet)


# --- properties -------------------------------------------------------------------------------------------------------


def whole_way(
    tables: Tables, decider: Decider, packet: bytes, keeper: Either | None = None, *, now: float = NOW
) -> bytes | None:
    return respond(
        packet, source=RESOLVER, tcp=False, tables=tables, decider=decider, now=now, wall=WALL,
        counters=new_counters(), keeper=keeper,
    )  # fmt: skip


def same_message(one: bytes, other: bytes | None) -> bool:
    if one == other:
        return True
    if other is None or dns.message.from_wire(one).rcode() != dns.rcode.NXDOMAIN:
        return False
    return dns.message.from_wire(one).to_text() == dns.message.from_wire(other).to_text()


@KINDS
@given(packets=st.lists(st.tuples(queries() | broken(), st.sampled_from([None, None, *VIEWS, *SPEEDS])), max_size=25))
@settings(max_examples=150)
def test_what_it_answers_is_what_the_whole_way_answers(
    tables: Tables, make: Callable[[Tables], Either], packets: list[tuple[bytes, View | str | None]]
) -> None:
    shelf, world = make(tables), VIEWS[0]
    decider = Decider(tables.steering, world)
    for packet, change in packets:
        if isinstance(change, str):
            tables = dataclasses.replace(tables, steering=measured(tables.steering, change))
            decider.lay(tables.steering)
            shelf.forget(decider.take_forgotten())
            assert tables.steering.fastest is not None
            shelf.lay(tables.steering.fastest)
        elif change is not None:
            decider.change(change, touched(world, difference(world, change), tables.steering.sites))
            shelf.forget(decider.take_forgotten())
            world = change
        expected = whole_way(tables, Decider(tables.steering, world), packet)
        for _ in range(2):
            reply = shelf.take(packet, RESOLVER, now=NOW, wall=WALL)
            if not isinstance(reply, Verdict):
                assert reply is not None
                assert same_message(reply, expected)
            adopt(shelf, packet, tables, decider, now=NOW)
            adopted = shelf.answer(packet, RESOLVER, now=NOW, wall=WALL)
            assert adopted is None or same_message(adopted, expected)
            whole_way(tables, decider, packet, shelf)


@given(
    packets=st.lists(queries() | broken() | st.binary(max_size=60), max_size=25), rate=st.sampled_from([0.0, 2.0, 5.0])
)
@settings(max_examples=150)
def test_compiled_and_plain_do_the_same_to_the_byte(tables: Tables, packets: list[bytes], rate: float) -> None:
    plain, compiled = plain_shelf(tables, rate), hot_shelf(tables, rate)
    deciders = [Decider(tables.steering, VIEWS[0]) for _ in range(2)]
    for number, packet in enumerate([*packets, *packets]):
        source = RESOLVER if number % 3 else bytes(15) + b"\1"
        now, wall = NOW + number / 10, WALL + number * 100
        assert plain.take(packet, source, now=now, wall=wall) == compiled.take(packet, source, now=now, wall=wall)
        whole_way(tables, deciders[0], packet, plain)
        whole_way(tables, deciders[1], packet, compiled)
        assert len(plain) == len(compiled)
    counted = new_counters() | {"limited": 0, "send_failed": 0}, new_counters() | {"limited": 0, "send_failed": 0}
    plain.collect(counted[0])
    compiled.collect(counted[1])
    assert counted[0] == counted[1]


# --- while time goes on and the view changes in every way -------------------------------------------------------------

TENANTS = """\
$TTL 300
@ IN SOA ns1.example.com. hostmaster.web 1 7200 3600 1209600 60
  IN NS  ns1.example.com.
*.web IN HTTPS 1 . alpn=h2
"""
GRACE_SECONDS = 0.7
"""5000.0 + 0.7 - 5000.0 is less than 0.7: the moment of change must not be reckoned in two ways."""
CONTENT: tuple[tuple[str, str], ...] = (
    ("*.folder.example.com", "{1}/"),
    ("*.deep.example.com", "a/{1}/"),
    ("whole.example.com", ""),
    ("fixed.example.com", "a/b/"),
)
POLICIES = (Policy.CLOSEST, Policy.CHEAPEST, Policy.FAILOVER, Policy.WEIGHTED)
PREFIXES = (b"", b"a/", b"a/b/", b"a/b/c/", b"b/", b"ab/")
MOVED_NAMES = (
    *("a.folder.example.com", "b.folder.example.com", "ab.folder.example.com", "b.deep.example.com"),
    *("whole.example.com", "fixed.example.com", "health.example.com", "nodata.example.com", "servfail.example.com"),
    *("a.tenants.example", "hostmaster.web.tenants.example", "x.web.tenants.example", "long-one.web.tenants.example"),
)


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> dict[Policy, Tables]:
    """The same names by each policy, with grace and load marks."""
    folder = tmp_path_factory.mktemp("moving")
    (folder / "tenants.example").write_text(TENANTS)
    sites = tuple(dataclasses.replace(site, soft_load=10.0, hard_load=20.0) for site in SITES)
    made = {}
    for policy in POLICIES:
        names = (
            *(
                SteeredName(name=name, group="blogs", content=content, policy=policy, grace_seconds=GRACE_SECONDS)
                for name, content in CONTENT
            ),
            SteeredName(name="health.example.com", policy=policy),
            SteeredName(name="nodata.example.com", group="blogs", policy=policy, none=NoneEligible.NODATA),
            SteeredName(name="servfail.example.com", sites=("nyc",), policy=policy, none=NoneEligible.SERVFAIL),
            SteeredName(name="*.web.tenants.example", policy=policy, none=NoneEligible.ALL),
        )
        zones = (
            ZoneFile(origin="example.com", file=folder / "example.com"),
            ZoneFile(origin="tenants.example", file=folder / "tenants.example"),
        )
        made[policy] = make_tables(folder, names=names, sites=sites, zones=zones)
    return made


@st.composite
def site_views(draw: st.DrawFn, now: float) -> SiteView:
    since = st.sampled_from([now, now, now - 0.1, now - GRACE_SECONDS, now - 100.0, now + 0.1])
    return SiteView(
        health=draw(st.sampled_from([Health.UP, Health.UP, Health.UP, Health.DOWN, Health.UNKNOWN])),
        reason=draw(st.sampled_from(["", "asked to be"])),
        since=draw(since),
        groups=draw(
            st.dictionaries(
                st.sampled_from(["blogs", "blogs", "other"]),
                st.builds(
                    GroupView,
                    current=st.sampled_from([True, True, False]),
                    current_reason=st.just(""),
                    pending=st.dictionaries(st.sampled_from(PREFIXES), since, max_size=3),
                    gated=st.sampled_from(["", "", "requires database: connection refused"]),
                ),
            )
        ),
        drained=draw(st.sampled_from([frozenset[str](), frozenset[str](), frozenset({"blogs"}), frozenset({"*"})])),
        load=draw(st.sampled_from([0.0, 0.0, 0.0, 5.0, 12.0, 12.1, 20.0])),
    )


@st.composite
def changed_views(draw: st.DrawFn, view: View, now: float) -> View:
    sites = dict(view.sites)
    for name in draw(st.lists(st.sampled_from([site.name for site in SITES]), max_size=2, unique=True)):
        match draw(st.sampled_from(["pending", "pending", "whole", "lost"])):
            case "pending" if name in sites and "blogs" in sites[name].groups:
                blogs = sites[name].groups["blogs"]
                pending = dict(blogs.pending)
                prefix = draw(st.sampled_from(PREFIXES))
                if pending.pop(prefix, None) is None:
                    pending[prefix] = now
                groups = sites[name].groups | {"blogs": msgspec.structs.replace(blogs, pending=pending)}
                sites[name] = msgspec.structs.replace(sites[name], groups=groups)
            case "lost":
                sites.pop(name, None)
            case _:
                sites[name] = draw(site_views(now))
    return View(
        member="ams",
        generation=view.generation + 1,
        at=now,
        sites=sites,
        isolated=draw(st.sampled_from([False, False, False, True])),
    )


@KINDS
@given(data=st.data(), policy=st.sampled_from(POLICIES))
@settings(max_examples=150)
def test_what_was_kept_is_never_given_when_time_or_the_view_has_changed_it(
    policies: dict[Policy, Tables], make: Callable[[Tables], Either], data: st.DataObject, policy: Policy
) -> None:
    tables, world, now = policies[policy], make_view(), NOW
    shelf, decider = make(tables), Decider(tables.steering, world)
    asked = st.lists(st.tuples(st.sampled_from(MOVED_NAMES), st.sampled_from(["A", "AAAA", "HTTPS"])), max_size=6)
    subnets = st.sampled_from([None, "10.1.7.0/24", "10.2.7.0/24", "10.3.0.0/16", "11.0.0.0/8"])
    for _ in range(data.draw(st.integers(1, 6))):
        now += data.draw(st.sampled_from([0.0, 0.1, 0.2, GRACE_SECONDS, 19.9, 120.0, 1000.0]))
        if data.draw(st.booleans()):
            change = data.draw(changed_views(world, now))
            decider.change(change, touched(world, difference(world, change), tables.steering.sites))
            shelf.forget(decider.take_forgotten())
            world = change
        for name, rrtype in data.draw(asked):
            packet = query(name, rrtype, subnet=data.draw(subnets))
            expected = whole_way(tables, Decider(tables.steering, world), packet, now=now)
            assert expected is not None
            for _ in range(2):
                reply = shelf.take(packet, RESOLVER, now=now, wall=WALL)
                if not isinstance(reply, Verdict):
                    assert reply is not None
                    assert same_message(reply, expected)
                adopt(shelf, packet, tables, decider, now=now)
                adopted = shelf.answer(packet, RESOLVER, now=now, wall=WALL)
                assert adopted is None or same_message(adopted, expected)
                assert whole_way(tables, decider, packet, shelf, now=now) == expected


@KINDS
def test_the_first_who_asks_for_a_name_gets_the_answer_of_others_of_its_kind(
    tables: Tables, make: Callable[[Tables], Either]
) -> None:
    shelf, decider = make(tables), Decider(tables.steering, VIEWS[0])
    packets = [query(f"{label}.blogs.example.com", subnet="10.2.7.0/24") for label in "abc"]
    assert not adopt(shelf, packets[0], tables, decider, now=NOW)
    whole_way(tables, decider, packets[0], shelf)
    for packet in packets[1:]:
        assert adopt(shelf, packet, tables, decider, now=NOW)
        assert shelf.answer(packet, RESOLVER, now=NOW, wall=WALL) == whole_way(tables, decider, packet)
    other_place = query("d.blogs.example.com", subnet="10.3.0.0/16")
    assert adopt(shelf, other_place, tables, decider, now=NOW)
    assert shelf.answer(other_place, RESOLVER, now=NOW, wall=WALL) is None
    for name in ("static.blogs.example.com", "x.static.blogs.example.com", "www.example.com", "nothing.example.com"):
        assert not adopt(shelf, query(name), tables, decider, now=NOW)
    for noise in (b"", bytes(12), packets[0][:20], b"\xff" * 40):
        assert not adopt(shelf, noise, tables, decider, now=NOW)


@KINDS
def test_names_that_share_their_content_do_not_share_what_has_a_name_in_it(
    policies: dict[Policy, Tables], make: Callable[[Tables], Either]
) -> None:
    tables = policies[Policy.CLOSEST]
    shelf, decider = make(tables), Decider(tables.steering, make_view())
    for label in ("hostmaster", "x", "long-one", "hostmistress", "exactlyten"):  # the first is in the SOA record too
        packet = query(f"{label}.web.tenants.example", "AAAA", subnet="10.2.7.0/24")
        expected = whole_way(tables, decider, packet, shelf)
        assert shelf.take(packet, RESOLVER, now=NOW, wall=WALL) == expected


@KINDS
def test_an_answer_kept_at_the_very_moment_of_a_change_is_the_new_one(
    policies: dict[Policy, Tables], make: Callable[[Tables], Either]
) -> None:
    tables, world = policies[Policy.CLOSEST], make_view()
    blogs = GroupView(current=True, current_reason="", pending={b"a/": NOW})
    ams = msgspec.structs.replace(world.sites["ams"], groups={"blogs": blogs})
    world = msgspec.structs.replace(world, sites=dict(world.sites) | {"ams": ams})
    shelf, decider = make(tables), Decider(tables.steering, world)
    packet = query("a.folder.example.com", subnet="10.1.7.0/24")
    for now in (NOW, NOW + GRACE_SECONDS):
        whole_way(tables, decider, packet, shelf, now=now)
    reply = shelf.take(packet, RESOLVER, now=NOW + 10, wall=WALL)
    assert reply == whole_way(tables, Decider(tables.steering, world), packet, now=NOW + 10)


# --- what is kept, and for how long -----------------------------------------------------------------------------------


def query(name: str, rrtype: str = "A", subnet: str | None = None, **facts: int) -> bytes:
    address, _, bits = (subnet or "").partition("/")
    options: list[dns.edns.Option] | None = [dns.edns.ECSOption(address, int(bits))] if subnet else None
    return dns.message.make_query(name, rrtype, use_edns=0, options=options, **facts).to_wire()


@KINDS
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (query("www.example.com"), query("WWW.example.COM", subnet="10.2.7.0/24")),
        (query("www.example.com", "AAAA"), query("www.example.com", "AAAA")),
        (query("a.blogs.example.com", subnet="10.2.7.0/24"), query("a.blogs.example.com", subnet="10.2.200.0/25")),
        (query("a.blogs.example.com", subnet="10.1.7.0/24"), query("a.blogs.example.com", subnet="11.7.7.0/24")),
        (query("no.example.com"), query("quite.another.example.com", "TXT")),
        (query("no.wild.example.com"), query("no.wild.example.com", subnet="10.2.7.0/24")),
        (query("deleg.example.com"), query("deleg.example.com")),
        (query("quick.example.com", subnet="10.1.7.0/24"), query("quick.example.com", subnet="203.0.113.7/32")),
        (query("quick.example.com", subnet="2001:db8:7::/48"), query("quick.example.com", subnet="203.0.113.0/25")),
    ],
    ids=lambda packet: dns.message.from_wire(packet).question[0].to_text(),
)
def test_the_second_who_asks_is_answered_at_once(
    tables: Tables, make: Callable[[Tables], Either], first: bytes, second: bytes
) -> None:
    shelf, decider = make(tables), Decider(tables.steering, VIEWS[0])
    assert shelf.take(first, RESOLVER, now=NOW, wall=WALL) is Verdict.PASS
    whole_way(tables, decider, first, shelf)
    for packet in (first, second):
        reply = shelf.take(packet, RESOLVER, now=NOW, wall=WALL)
        assert isinstance(reply, bytes)
        assert same_message(reply, whole_way(tables, decider, packet))


@KINDS
def test_names_of_others_are_refused_at_once(tables: Tables, make: Callable[[Tables], Either]) -> None:
    reply = make(tables).take(query("example.org"), RESOLVER, now=NOW, wall=WALL)
    assert isinstance(reply, bytes)
    assert dns.message.from_wire(reply).rcode() == dns.rcode.REFUSED


@KINDS
def test_an_answer_ends_when_time_may_change_it(tables: Tables, make: Callable[[Tables], Either]) -> None:
    shelf, packet = make(tables), query("www.example.com")
    question = packet[12:-11]
    template = make_template(question, Answer())
    assert template is not None
    answers: Any = shelf.answers(NOW + 1)
    shelf.add(answers, EVERYWHERE, template)
    shelf.keep(question, answers)
    assert isinstance(shelf.take(packet, RESOLVER, now=NOW + 0.9, wall=WALL), bytes)
    assert shelf.take(packet, RESOLVER, now=NOW + 1, wall=WALL) is Verdict.PASS
    shelf.forget([question, b"not there"])
    assert len(shelf) == 0


@KINDS
def test_memory_is_bounded(tables: Tables, make: Callable[..., Either]) -> None:
    shelf, template = make(tables, answers_max=10), make_template(b"", Answer())
    assert isinstance(template, Template)
    for number in range(25):
        answers: Any = shelf.answers(1.0)
        shelf.add(answers, number, template)
        shelf.keep(b"%d" % number, answers)
        shelf.keep_negative(b"%d" % number, template)
        assert len(shelf) <= 10
        assert answers.has(number)
        assert not answers.has(EVERYWHERE)
    shelf.clear()
    assert len(shelf) == 0


@KINDS
def test_who_asks_too_fast_is_told_to_use_tcp_or_nothing_but_not_with_a_cookie(
    tables: Tables, make: Callable[..., Either]
) -> None:
    shelf, packet = make(tables, 1.0), query("www.example.com")
    taken = [shelf.take(packet, RESOLVER, now=NOW, wall=WALL) for _ in range(4)]
    slipped = respond_truncated(packet, RESOLVER, tables, wall=WALL)
    assert taken == [Verdict.PASS, slipped, None, slipped]
    cookie = dns.edns.GenericOption(10, answer_cookie(b"12345678", RESOLVER, SECRETS, wall=WALL))
    proved = dns.message.make_query("www.example.com", "A", use_edns=0, options=[cookie]).to_wire()
    assert shelf.take(proved, RESOLVER, now=NOW, wall=WALL) is Verdict.PASS
    assert shelf.take(b"junk", RESOLVER, now=NOW, wall=WALL) is Verdict.SLIP
    counters = new_counters() | {"limited": 0, "send_failed": 0}
    shelf.collect(counters)
    assert counters["limited"] == 3
