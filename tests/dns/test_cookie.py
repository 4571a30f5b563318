"""DNS cookies, sentence by sentence of RFC 7873 and RFC 9018, with the latter's own examples."""

import ipaddress
import struct
from pathlib import Path

import dns.edns
import dns.message
import dns.rcode
import pytest

from anycastle.dns.cookie import answer_cookie, is_valid, is_well_formed, siphash24
from anycastle.dns.decider import Decider
from anycastle.dns.respond import has_valid_cookie, new_counters, respond, respond_truncated
from anycastle.dns.tables import Tables
from tests.dns.world import NOW, RESOLVER, WALL, make_tables, make_view

SECRET = bytes.fromhex("e5e973e5a6b2a43f48e7dc849e37bfcf")
OLD, NEW = bytes.fromhex("dd3bdf9344b678b185a6f5cb60fca715"), bytes.fromhex("445536bcd2513298075a5d379663c962")
CLIENT = b"\x24\x64\xc4\xab\xcf\x10\xc9\x57"
MADE = 0x5CF79F11


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return make_tables(tmp_path_factory.mktemp("cookie"), cookie_secrets=(SECRET,))


def raw(tables: Tables, packet: bytes) -> bytes:
    reply = respond(
        packet,
        source=RESOLVER,
        tcp=False,
        tables=tables,
        decider=Decider(tables.steering, make_view()),
        now=NOW,
        wall=WALL,
        counters=new_counters(),
    )
    assert reply is not None
    return reply


def query_with(*cookies: bytes) -> bytes:
    options = [dns.edns.GenericOption(dns.edns.OptionType.COOKIE, cookie) for cookie in cookies]
    return dns.message.make_query("www.example.com", "A", use_edns=0, options=options).to_wire()


def cookie_of(reply: bytes) -> bytes | None:
    for option in dns.message.from_wire(reply).options:
        if isinstance(option, dns.edns.CookieOption):
            return bytes(option.to_wire() or b"")
    return None


def test_siphash_of_its_authors() -> None:
    """The vectors beside the paper: key 00..0f, data of 15 bytes and of none."""
    assert siphash24(bytes(range(16)), bytes(range(15))) == bytes.fromhex("e545be4961ca29a1")
    assert siphash24(bytes(range(16)), b"") == bytes.fromhex("310e0edd47db6f72")


@pytest.mark.parametrize(
    ("asked", "source", "secrets", "wall", "answered"),
    [
        pytest.param(
            *("2464c4abcf10c957", "198.51.100.100", (SECRET,), MADE),
            "2464c4abcf10c957010000005cf79f111f8130c3eee29480",
            id="A.1 learning a new server cookie",
        ),
        pytest.param(
            *("2464c4abcf10c957010000005cf79f111f8130c3eee29480", "198.51.100.100", (SECRET,), 0x5CF7A871),
            "2464c4abcf10c957010000005cf7a871d4a564a1442aca77",
            id="A.2 the same client again, 40 minutes later",
        ),
        pytest.param(
            *("fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5", "203.0.113.203", (SECRET,), 0x5CF7A9AC),
            "fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e",
            id="A.3 another client, reserved bits not zero",
        ),
        pytest.param(
            *("22681ab97d52c298010000005cf7c57926556bd0934c72f8", "2001:db8:220:1:59de:d0f4:8769:82b8"),
            *((NEW, OLD), 0x5CF7C609),
            "22681ab97d52c298010000005cf7c609a6bb79d16625507a",
            id="A.4 IPv6 with a rolled over secret",
        ),
    ],
)
def test_rfc9018_appendix_a(asked: str, source: str, secrets: tuple[bytes, ...], wall: int, answered: str) -> None:
    address = ipaddress.ip_address(source).packed
    cookie = bytes.fromhex(asked)
    assert answer_cookie(cookie, address, secrets, wall=wall).hex() == answered


@pytest.mark.parametrize(
    ("age", "valid", "renewed"),
    [(0, True, False), (1800, True, False), (1801, True, True), (3600, True, True), (3601, False, True),
     (-300, True, False), (-301, False, True)],
)  # fmt: skip
def test_rfc9018_4_3_an_hour_past_to_five_minutes_ahead_and_renewed_after_half_an_hour(
    age: int, valid: bool, renewed: bool
) -> None:
    """'valid … not more than 1 hour in the past and not more than 5 minutes in the future'."""
    cookie = answer_cookie(CLIENT, RESOLVER, (SECRET,), wall=MADE)
    assert is_valid(cookie, RESOLVER, (SECRET,), wall=MADE + age) is valid
    again = answer_cookie(cookie, RESOLVER, (SECRET,), wall=MADE + age)
    assert (again != cookie) is renewed
    assert is_valid(again, RESOLVER, (SECRET,), wall=MADE + age)


def test_rfc9018_4_3_time_is_serial_arithmetic() -> None:
    """'All comparisons involving these fields MUST use serial number arithmetic': also across the year 2106."""
    cookie = answer_cookie(CLIENT, RESOLVER, (SECRET,), wall=(1 << 32) - 10)
    assert is_valid(cookie, RESOLVER, (SECRET,), wall=(1 << 32) + 10)
    assert not is_valid(cookie, RESOLVER, (SECRET,), wall=(1 << 32) + 4000)


def test_rfc9018_4_4_a_cookie_is_of_one_address_one_client_and_one_secret() -> None:
    """The hash is over client cookie, version, reserved, timestamp and client address."""
    cookie = answer_cookie(CLIENT, RESOLVER, (SECRET,), wall=MADE)
    assert is_valid(cookie, RESOLVER, (SECRET,), wall=MADE)
    assert not is_valid(cookie, bytes((10, 1, 0, 2)), (SECRET,), wall=MADE)
    assert not is_valid(cookie, RESOLVER, (OLD, NEW), wall=MADE)
    for place in range(len(cookie)):
        changed = cookie[:place] + bytes((cookie[place] ^ 1,)) + cookie[place + 1 :]
        assert not is_valid(changed, RESOLVER, (SECRET,), wall=MADE), place


def test_rfc9018_5_all_secrets_verify_and_the_first_signs() -> None:
    """A rollover in three steps over the members; at each, every member takes the cookies of every other."""
    steps = [((OLD,), (OLD, NEW)), ((OLD, NEW), (NEW, OLD)), ((NEW, OLD), (NEW, OLD))]
    for before, after in steps:
        for signing, verifying in ((before, after), (after, before)):
            cookie = answer_cookie(CLIENT, RESOLVER, signing, wall=MADE)
            assert is_valid(cookie, RESOLVER, verifying, wall=MADE)
    old = answer_cookie(CLIENT, RESOLVER, (OLD,), wall=MADE)
    assert answer_cookie(old, RESOLVER, (NEW, OLD), wall=MADE) == answer_cookie(CLIENT, RESOLVER, (NEW,), wall=MADE)


def test_rfc7873_5_2_1_no_cookie_option_no_cookie_back(tables: Tables) -> None:
    assert cookie_of(raw(tables, query_with())) is None


@pytest.mark.parametrize("length", [0, 1, 7, 9, 15, 41, 100])
def test_rfc7873_5_2_2_a_malformed_cookie_is_formerr(tables: Tables, length: int) -> None:
    """'too short …, or too long, or not a legal length' is FORMERR."""
    assert not is_well_formed(bytes(length))
    reply = dns.message.from_wire(raw(tables, query_with(bytes(length))))
    assert reply.rcode() == dns.rcode.FORMERR
    assert reply.edns == 0


def test_rfc7873_5_2_3_only_a_client_cookie_is_answered_with_both(tables: Tables) -> None:
    reply = raw(tables, query_with(CLIENT))
    cookie = cookie_of(reply)
    assert cookie is not None
    assert cookie[:8] == CLIENT
    assert len(cookie) == 24
    assert is_valid(cookie, RESOLVER, (SECRET,), wall=WALL)
    assert dns.message.from_wire(reply).answer


@pytest.mark.parametrize("server", [bytes(8), bytes(16), b"\x01" + bytes(15), bytes(32)])
def test_rfc7873_5_2_4_an_invalid_server_cookie_is_answered_as_if_there_were_none(
    tables: Tables, server: bytes
) -> None:
    """'process the request and provide a normal response', one of the three choices; BADCOOKIE is not enforced."""
    reply = raw(tables, query_with(CLIENT + server))
    assert dns.message.from_wire(reply).rcode() == dns.rcode.NOERROR
    assert dns.message.from_wire(reply).answer
    cookie = cookie_of(reply)
    assert cookie is not None
    assert is_valid(cookie, RESOLVER, (SECRET,), wall=WALL)


def test_rfc7873_5_2_5_a_correct_server_cookie_comes_back(tables: Tables) -> None:
    cookie = answer_cookie(CLIENT, RESOLVER, (SECRET,), wall=WALL)
    assert has_valid_cookie(query_with(cookie), RESOLVER, tables, wall=WALL)
    assert not has_valid_cookie(query_with(CLIENT), RESOLVER, tables, wall=WALL)
    assert not has_valid_cookie(b"junk", RESOLVER, tables, wall=WALL)
    assert cookie_of(raw(tables, query_with(cookie))) == cookie


def test_rfc7873_5_2_only_the_first_of_several_cookies_counts(tables: Tables) -> None:
    other = bytes(range(8))
    cookie = cookie_of(raw(tables, query_with(CLIENT, other)))
    assert cookie is not None
    assert cookie[:8] == CLIENT


def test_rfc7873_5_4_no_question_but_a_cookie_is_noerror_with_a_cookie(tables: Tables) -> None:
    """'QDCOUNT zero' asks for a server cookie alone."""
    option = struct.pack("!HH", 10, 8) + CLIENT
    opt = struct.pack("!BHHIH", 0, 41, 1232, 0, len(option)) + option
    reply = raw(tables, struct.pack("!HHHHHH", 77, 0, 0, 0, 0, 1) + opt)
    message = dns.message.from_wire(reply)
    assert (message.id, message.rcode(), message.question) == (77, dns.rcode.NOERROR, [])
    cookie = cookie_of(reply)
    assert cookie is not None
    assert is_valid(cookie, RESOLVER, (SECRET,), wall=WALL)
    empty = struct.pack("!BHHIH", 0, 41, 1232, 0, 0)
    for additional in (empty, b"", opt + b"\0", struct.pack("!BHHIH", 0, 1, 1, 0, 4) + bytes(4)):
        count = 1 if additional else 0
        refused = raw(tables, struct.pack("!HHHHHH", 77, 0, 0, 0, 0, count) + additional)
        assert refused[3] & 15 == dns.rcode.FORMERR
    other_version = struct.pack("!BHHIH", 0, 41, 1232, 1 << 16, 0)
    bad = dns.message.from_wire(raw(tables, struct.pack("!HHHHHH", 77, 0, 0, 0, 0, 1) + other_version))
    assert bad.rcode() == dns.rcode.BADVERS


def test_a_limited_client_gets_its_cookie_with_the_truncated_answer(tables: Tables) -> None:
    reply = respond_truncated(query_with(CLIENT), RESOLVER, tables, wall=WALL)
    assert reply is not None
    cookie = cookie_of(reply)
    assert cookie is not None
    assert is_valid(cookie, RESOLVER, (SECRET,), wall=WALL)


def test_without_a_file_the_secret_is_random_and_ours_alone(tmp_path: Path) -> None:
    ours, theirs = make_tables(tmp_path), make_tables(tmp_path)
    assert len(ours.cookie_secrets) == 1
    assert ours.cookie_secrets != theirs.cookie_secrets
    assert ours.cookie_secrets[0].hex() not in repr(ours)
