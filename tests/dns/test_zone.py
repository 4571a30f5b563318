"""What zones answer, as tables in zone-file text; and what cannot be a zone."""

import struct
from pathlib import Path

import pytest

from anycastle.dns.errors import DnsError
from anycastle.dns.master import load_zone
from anycastle.dns.rrset import CNAME, DNAME, NS, SOA, A, make_rrset
from anycastle.dns.settings import SteeredName, ZoneFile
from anycastle.dns.tables import Tables, build_tables
from anycastle.dns.zone import ZoneError, is_below, look_up, negative_within, show_name
from anycastle.dns.zone_build import make_zone
from tests.dns.names import name_of
from tests.dns.world import ask, make_settings, make_tables, show

SOA_LINE = "au example.com. 300 IN SOA ns1.example.com. hostmaster.example.com. 2024010101 7200 3600 1209600 300"
REFERRAL = """\
NOERROR
au deleg.example.com. 3600 IN NS ns.deleg.example.com.
au deleg.example.com. 3600 IN NS ns1.example.com.
ad ns.deleg.example.com. 3600 IN A 192.0.2.54
ad ns.deleg.example.com. 3600 IN AAAA 2001:db8::54
ad ns1.example.com. 3600 IN A 192.0.2.53
ad ns1.example.com. 3600 IN AAAA 2001:db8::53"""


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return make_tables(tmp_path_factory.mktemp("zone"))


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        # exact names
        ("www.example.com A", "NOERROR aa\nan www.example.com. 3600 IN A 192.0.2.80"),
        ("WWW.Example.Com A", "NOERROR aa\nan WWW.Example.Com. 3600 IN A 192.0.2.80"),
        ("www.example.com TXT", 'NOERROR aa\nan www.example.com. 3600 IN TXT "hello" "world"'),
        ("www.example.com TYPE65000", f"NOERROR aa\n{SOA_LINE}"),
        (
            "example.com MX",
            "NOERROR aa\nan example.com. 3600 IN MX 10 mail.example.com.\nad mail.example.com. 3600 IN A 192.0.2.25",
        ),
        (
            "example.com NS",
            "NOERROR aa\nan example.com. 3600 IN NS ns1.example.com.\nan example.com. 3600 IN NS ns2.Example.NET.",
        ),
        ("host2.example.com A", "NOERROR aa\nan host2.example.com. 3600 IN A 203.0.113.2"),  # $GENERATE
        # not there
        ("nothing.example.com A", f"NXDOMAIN aa\n{SOA_LINE}"),
        ("b.ent.example.com A", f"NOERROR aa\n{SOA_LINE}"),  # empty non-terminal, RFC 8020
        ("ent.example.com ANY", 'NOERROR aa\nan ent.example.com. 3600 IN HINFO "RFC8482" ""'),
        ("example.org A", "REFUSED"),
        ("com A", "REFUSED"),
        (". NS", "REFUSED"),
        # CNAME
        (
            "alias.example.com A",
            "NOERROR aa\nan alias.example.com. 3600 IN CNAME www.example.com.\n"
            "an www.example.com. 3600 IN A 192.0.2.80",
        ),
        ("alias.example.com CNAME", "NOERROR aa\nan alias.example.com. 3600 IN CNAME www.example.com."),
        ("far.example.com A", "NOERROR aa\nan far.example.com. 3600 IN CNAME www.example.org."),
        (
            "dangling.example.com A",
            f"NXDOMAIN aa\nan dangling.example.com. 3600 IN CNAME nothing.here.example.com.\n{SOA_LINE}",
        ),
        (
            "loop1.example.com A",
            "NOERROR aa\nan loop1.example.com. 3600 IN CNAME loop2.example.com.\n"
            "an loop2.example.com. 3600 IN CNAME loop1.example.com.",
        ),
        ("tosteered.example.com A", "NOERROR aa\nan tosteered.example.com. 3600 IN CNAME a.blogs.example.com."),
        # wildcards, RFC 4592
        ("x.wild.example.com A", "NOERROR aa\nan x.wild.example.com. 3600 IN A 192.0.2.99"),
        ("x.y.wild.example.com A", "NOERROR aa\nan x.y.wild.example.com. 3600 IN A 192.0.2.99"),
        ("*.wild.example.com A", "NOERROR aa\nan *.wild.example.com. 3600 IN A 192.0.2.99"),
        ("x.wild.example.com TXT", f"NOERROR aa\n{SOA_LINE}"),
        ("wild.example.com A", f"NOERROR aa\n{SOA_LINE}"),
        ("sub.wild.example.com A", f"NOERROR aa\n{SOA_LINE}"),
        ("x.sub.wild.example.com A", f"NXDOMAIN aa\n{SOA_LINE}"),
        # delegations
        ("deleg.example.com A", REFERRAL),
        ("deleg.example.com NS", REFERRAL),
        ("x.y.deleg.example.com A", REFERRAL),
        ("ns.deleg.example.com A", REFERRAL),
        ("x.deleg.example.com DS", REFERRAL),
        (
            "deleg.example.com DS",
            "NOERROR aa\nan deleg.example.com. 3600 IN DS 12345 13 2 "
            "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        ),
        # DNAME, RFC 6672
        (
            "x.old.example.com A",
            "NOERROR aa\nan old.example.com. 3600 IN DNAME new.example.com.\n"
            "an x.old.example.com. 3600 IN CNAME x.new.example.com.\nan x.new.example.com. 3600 IN A 192.0.2.11",
        ),
        ("old.example.com A", f"NOERROR aa\n{SOA_LINE}"),
        # never everything at once, never a transfer
        ("www.example.com ANY", 'NOERROR aa\nan www.example.com. 3600 IN HINFO "RFC8482" ""'),
        ("example.com AXFR", "REFUSED"),
        ("example.com IXFR", "REFUSED"),
    ],
)
def test_answers(tables: Tables, question: str, expected: str) -> None:
    assert show(ask(tables, question, tcp=True)) == expected


def test_dname_whose_target_would_be_too_long() -> None:
    labels = (b"a" * 63, b"a" * 63, b"a" * 63, b"a" * 40)
    long_target = name_of((b"b" * 63,))
    zone = make_zone(b"\x01z\x00", [*_apex(b"\x01z\x00"), make_rrset(b"\x01d\x01z\x00", DNAME, 1, ((long_target,),))])
    found = look_up(zone, name_of((*labels, b"d", b"z")), A)
    assert show_name(found.answer[0].owner) == "d.z"  # type: ignore[union-attr]
    assert found.rcode == 6  # type: ignore[union-attr]


def test_long_chain_ends() -> None:
    origin = b"\x01z\x00"
    chain = [
        make_rrset(name_of((b"c%d" % n, b"z")), CNAME, 1, ((b"", name_of((b"c%d" % (n + 1), b"z"))),))
        for n in range(50)
    ]
    found = look_up(make_zone(origin, [*_apex(origin), *chain]), name_of((b"c0", b"z")), A)
    assert 8 <= len(found.answer) <= 10  # type: ignore[union-attr]


def test_deepest_zone_answers_and_ds_is_the_parents(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    (tmp_path / "child").write_text("@ 60 IN SOA ns h 1 2 3 4 5\n@ 60 IN NS ns\nns 60 IN A 192.0.2.54\n")
    child = ZoneFile(origin="deleg.example.com", file=tmp_path / "child")
    tables = make_tables(tmp_path, zones=(*settings.zones, child))
    assert show(ask(tables, "ns.deleg.example.com A")) == "NOERROR aa\nan ns.deleg.example.com. 60 IN A 192.0.2.54"
    assert "IN DS" in show(ask(tables, "deleg.example.com DS"))
    assert show(ask(tables, "deleg.example.com SOA")).startswith("NOERROR aa\nan deleg.example.com. 60 IN SOA")


def test_negative_ttl_is_the_smaller_of_two() -> None:
    origin = b"\x01z\x00"
    assert make_zone(origin, _apex(origin, ttl=10, minimum=20)).nodata.authority[0].ttl == 10
    zone = make_zone(origin, _apex(origin, ttl=20, minimum=10))
    assert zone.nodata.authority[0].ttl == 10
    assert negative_within(zone, 5).authority[0].ttl == 5
    assert negative_within(zone, 50).authority[0].ttl == 10


def test_is_below_respects_labels() -> None:
    assert is_below(b"\x01a\x02bc\x00", b"\x02bc\x00")
    assert is_below(b"\x02bc\x00", b"\x02bc\x00")
    assert is_below(b"\x02bc\x00", b"\x00")
    assert not is_below(b"\x03abc\x00", b"\x02bc\x00")
    assert not is_below(b"\x02bc\x00", b"\x01a\x02bc\x00")


def _apex(origin: bytes, ttl: int = 60, minimum: int = 5) -> list:  # type: ignore[type-arg]
    numbers = struct.pack("!IIIII", 1, 2, 3, 4, minimum)
    return [
        make_rrset(origin, SOA, ttl, ((b"", origin, b"", origin, numbers),)),
        make_rrset(origin, NS, ttl, ((b"", b"\x02ns" + origin),)),
    ]


APEX = "@ 60 IN SOA ns h 1 2 3 4 5\n@ 60 IN NS ns\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("@ 60 IN SOA ns h 1 2 3 4 5\n", "expected NS records at z"),
        ("@ 60 IN NS ns\n", "expected one SOA record at z"),
        (APEX + "a 60 IN A 192.0.2.256\n", "zone:3: Text input is malformed: 'a 60 IN A 192.0.2.256'"),
        (APEX + "\n; comment\na 60 IN NOSUCH x\n", "zone:5: unknown rdatatype"),
        (APEX + "a 60 IN TXT (\n  one\n  two\n", "zone:3: "),
        (APEX + "a.example. 60 IN A 192.0.2.1\n", "zone:3: a.example. is outside of the zone z."),
        (APEX + "a 60 IN A 192.0.2.1\na 60 IN CNAME b\n", "zone:4: "),
        (APEX + "$INCLUDE missing\n", "missing: cannot read"),
        (APEX + "$INCLUDE zone\n", "a file that includes itself"),
        (APEX + 15 * "$INCLUDE loop\n", "loop: $INCLUDE of a file that includes itself"),
        (
            APEX + "$GENERATE 1-9999999999 g$ 60 A 192.0.2.1\n",
            "zone:3: $GENERATE 1-9999999999: expected at most 1048576",
        ),
        (APEX + "$GENERATE x g$ 60 A 192.0.2.1\n", "zone:3: "),
        (APEX + "$GENERATE 1-2/0 g$ 60 A 192.0.2.1\n", "zone:3: "),
        (APEX + "$INCLUDE inner\n", "inner:2: "),
        (APEX + "$NONSENSE 1\n", "zone:3: $NONSENSE is not a directive"),
        (APEX + "$TTL x\n", "zone:3: "),
        (APEX + "$GENERATE 1-2 $.other. A 192.0.2.1\n", "zone:3: "),
        (APEX + "a 60 IN SOA ns h 1 2 3 4 5\n", "zone:3: "),
        (APEX + "*.a 60 IN NS ns\n", "at a wildcard have no meaning"),
        (APEX + "a 60 IN DNAME b\nx.a 60 IN A 192.0.2.1\n", "below the DNAME record at a.z"),
    ],
)
def test_faults_of_zone_files(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "zone").write_text(text)
    (tmp_path / "inner").write_text("ok 60 IN A 192.0.2.1\nbad 60 IN A x\n")
    (tmp_path / "loop").write_text("$INCLUDE ./loop\n")
    with pytest.raises(ZoneError) as caught:
        load_zone(ZoneFile(origin="z", file=tmp_path / "zone"))
    assert said in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_zone_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "zone").write_bytes(b"\xff\xfe")
    with pytest.raises(ZoneError, match="expected text in UTF-8"):
        load_zone(ZoneFile(origin="z", file=tmp_path / "zone"))


def test_include_is_relative_to_the_file_and_restores_the_origin(tmp_path: Path) -> None:
    (tmp_path / "zone").write_text(APEX + "$INCLUDE sub/one sub\nafter 60 IN A 192.0.2.3\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "one").write_text("$TTL 7\na IN A 192.0.2.1\n$INCLUDE two\n")
    (tmp_path / "sub" / "two").write_text("b IN A 192.0.2.2\n")
    zone = load_zone(ZoneFile(origin="z", file=tmp_path / "zone"))
    assert {show_name(name) for name in zone.nodes} == {"z", "sub.z", "a.sub.z", "b.sub.z", "after.z"}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("elsewhere.org",), "expected a name in one of the zones served here: example.com"),
        (("alias.example.com",), "cannot have a CNAME"),
        (("x.deleg.example.com",), "delegated to others by NS records at deleg.example.com"),
        (("x.old.example.com",), "below the DNAME"),
        (("bücher.example.com",), "expected plain ASCII"),
        (("a" * 64 + ".example.com",), "is not a domain name"),
    ],
)
def test_steered_names_that_cannot_be(tmp_path: Path, names: tuple[str, ...], said: str) -> None:
    with pytest.raises(DnsError, match=said):
        make_tables(tmp_path, names=tuple(SteeredName(name=name) for name in names))


def test_zones_that_contradict_each_other(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    (tmp_path / "child").write_text(APEX)
    child = ZoneFile(origin="sub.example.com", file=tmp_path / "child")
    with pytest.raises(DnsError, match=r"expected NS records at sub\.example\.com"):
        make_tables(tmp_path, zones=(*settings.zones, child))
    with pytest.raises(DnsError, match="more than once"):
        build_tables(make_settings(tmp_path, zones=(*settings.zones, *settings.zones)))
