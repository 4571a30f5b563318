"""What the server is claimed to do, one short test for each sentence of an RFC. Cookies: test_cookie.py; HTTPS:
test_service.py; TCP itself: test_stream.py; signatures and transfers: test_tsig.py, test_transfer.py."""

import struct
from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from anycastle.dns.settings import ZoneFile
from anycastle.dns.tables import Tables
from tests.dns.world import ZONE, ask, make_tables, make_view, raw, scope_of, show

SOA = "au example.com. 300 IN SOA ns1.example.com. hostmaster.example.com. 2024010101 7200 3600 1209600 300"


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    folder = tmp_path_factory.mktemp("rfc")
    (folder / "zone").write_text(ZONE % "x" + "odd IN TYPE65280 \\# 3 c00c01\n")
    return make_tables(folder, zones=(ZoneFile(origin="example.com", file=folder / "zone"),))


def query(name: str = "www.example.com", rrtype: str = "A", *options: dns.edns.Option, edns: int = 0) -> bytes:
    return dns.message.make_query(name, rrtype, use_edns=edns, options=list(options)).to_wire()


def said(tables: Tables, packet: bytes, *, tcp: bool = False) -> dns.message.Message:
    reply = raw(tables, packet, tcp=tcp)
    assert reply is not None
    return dns.message.from_wire(reply)


def errors(message: dns.message.Message) -> list[tuple[int, str | None]]:
    return [(int(option.code), option.text) for option in message.options if isinstance(option, dns.edns.EDEOption)]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        pytest.param(
            "www.example.com A", "NOERROR aa\nan www.example.com. 3600 IN A 192.0.2.80", id="rfc1034_4_3_2_3a"
        ),
        pytest.param("example.org A", "REFUSED", id="rfc1035_4_1_1_names_not_served_are_refused"),
        pytest.param("www.example.com MX", f"NOERROR aa\n{SOA}", id="rfc2308_2_2_nodata_has_the_soa"),
        pytest.param("no.example.com A", f"NXDOMAIN aa\n{SOA}", id="rfc2308_5_ttl_is_the_smaller_of_minimum_and_soa"),
        pytest.param(
            "odd.example.com TYPE65280",
            "NOERROR aa\nan odd.example.com. 3600 IN TYPE65280 \\# 3 c00c01",
            id="rfc3597_3_unknown_types_are_opaque",
        ),
        pytest.param(
            "x.wild.example.com A", "NOERROR aa\nan x.wild.example.com. 3600 IN A 192.0.2.99", id="rfc4592_3_3_2"
        ),
        pytest.param("x.wild.example.com TXT", f"NOERROR aa\n{SOA}", id="rfc4592_2_2_1_wildcard_without_the_type"),
        pytest.param("x.sub.wild.example.com A", f"NXDOMAIN aa\n{SOA}", id="rfc4592_2_2_1_a_name_below_blocks_it"),
        pytest.param("b.ent.example.com A", f"NOERROR aa\n{SOA}", id="rfc8020_2_empty_non_terminals_exist"),
        pytest.param(
            "x.old.example.com A",
            "NOERROR aa\nan old.example.com. 3600 IN DNAME new.example.com.\n"
            "an x.old.example.com. 3600 IN CNAME x.new.example.com.\nan x.new.example.com. 3600 IN A 192.0.2.11",
            id="rfc6672_3_1_a_cname_is_made_with_the_ttl_of_the_dname",
        ),
        pytest.param(
            "www.example.com ANY", 'NOERROR aa\nan www.example.com. 3600 IN HINFO "RFC8482" ""', id="rfc8482_4_2"
        ),
        pytest.param(
            "alias.example.com ANY",
            "NOERROR aa\nan alias.example.com. 3600 IN CNAME www.example.com.",
            id="rfc8482_4_2_nothing_is_made_up_beside_a_cname",
        ),
        pytest.param("www.example.com TYPE65000", f"NOERROR aa\n{SOA}", id="rfc8906_3_1_2_unknown_types_are_answered"),
    ],
)
def test_answers(tables: Tables, question: str, expected: str) -> None:
    assert show(ask(tables, question)) == expected


def test_rfc2181_5_2_one_ttl_for_an_rrset(tmp_path: Path) -> None:
    """'the TTLs of all RRs in an RRSet must be the same': the smallest, where a file differs."""
    (tmp_path / "zone").write_text(ZONE % "x" + "two 60 IN A 192.0.2.1\ntwo 30 IN A 192.0.2.2\n")
    tables = make_tables(tmp_path, zones=(ZoneFile(origin="example.com", file=tmp_path / "zone"),))
    assert show(ask(tables, "two.example.com A")).count(" 30 IN A ") == 2


def test_rfc2181_5_2_what_has_one_ttl_in_the_file_has_it_in_additional_records_too(tmp_path: Path) -> None:
    tables = tables_of(tmp_path, "@ 60 IN NS ns3\nns3 60 IN A 192.0.2.1\nns3 30 IN A 192.0.2.2\nd IN NS ns3\n")
    message = ask(tables, "d.example.com A")
    (glue,) = [rrset for rrset in message.additional if rrset.name.to_text() == "ns3.example.com."]
    assert (glue.ttl, len(glue)) == (30, 2)


def test_rfc2181_9_tc_only_when_required_data_does_not_fit(tmp_path: Path) -> None:
    """'not set merely because some extra information could have been included, but there was insufficient room'."""
    hosts = "".join(f"m IN MX {n} h{n}\n" + "".join(f"h{n} IN A 192.0.2.{m}\n" for m in range(12)) for n in range(8))
    tables = tables_of(tmp_path, hosts)
    for payload in (512, 1232):
        message = ask(tables, "m.example.com MX", payload=payload)
        assert not message.flags & dns.flags.TC
        assert len(message.answer[0]) == 8
        assert 0 < len(message.additional) < 8
    assert len(ask(tables, "m.example.com MX", tcp=True).additional) == 8


def test_rfc2181_9_an_answer_with_tc_holds_no_part_of_a_set(tmp_path: Path) -> None:
    tables = tables_of(tmp_path, "".join(f"w IN A 198.51.100.{n}\n" for n in range(100)))
    message = ask(tables, "w.example.com A")
    assert message.flags & dns.flags.TC
    assert not message.answer
    assert len(ask(tables, "w.example.com A", tcp=True).answer[0]) == 100


def test_rfc1035_3_3_9_and_rfc2782_addresses_of_targets_are_added_where_they_are_ours(tmp_path: Path) -> None:
    records = "m IN MX 1 mail\nm IN MX 2 www.example.org.\n_s._tcp IN SRV 1 1 80 www\nn IN MX 1 ns.deleg\n"
    tables = tables_of(tmp_path, records)
    assert additional(tables, "m.example.com MX") == ["mail.example.com. 3600 IN A 192.0.2.25"]
    assert additional(tables, "_s._tcp.example.com SRV") == ["www.example.com. 3600 IN A 192.0.2.80"]
    assert additional(tables, "n.example.com MX") == []  # glue is not ours to tell


def test_rfc9460_4_1_addresses_of_service_targets_are_added(tmp_path: Path) -> None:
    records = "h IN HTTPS 1 . alpn=h2\nh IN A 192.0.2.81\ns IN SVCB 1 h alpn=h2\na IN HTTPS 0 h\ngone IN HTTPS 0 .\n"
    tables = tables_of(tmp_path, records)
    for question in ("h.example.com HTTPS", "s.example.com SVCB", "a.example.com HTTPS"):
        assert additional(tables, question) == ["h.example.com. 3600 IN A 192.0.2.81"]
    assert additional(tables, "gone.example.com HTTPS") == []


def test_addresses_of_steered_targets_are_never_added(tmp_path: Path) -> None:
    """They follow a decision, and the scope of the answer could not speak for it."""
    records = "m IN MX 1 shop\n_s._tcp IN SRV 1 1 80 a.blogs\ns IN SVCB 1 shop alpn=h2\n"
    tables = tables_of(tmp_path, records)
    for question in ("m.example.com MX", "_s._tcp.example.com SRV", "s.example.com SVCB"):
        assert additional(tables, question) == []


def tables_of(folder: Path, records: str) -> Tables:
    """The zone of `tests.dns.world` with more records."""
    (folder / "zone").write_text(ZONE % "x" + records)
    return make_tables(folder, zones=(ZoneFile(origin="example.com", file=folder / "zone"),))


def additional(tables: Tables, question: str) -> list[str]:
    return [line for rrset in ask(tables, question).additional for line in rrset.to_text().splitlines()]


def test_rfc4343_4_1_case_is_ignored_and_the_question_comes_back_as_it_came(tables: Tables) -> None:
    packet = query("wWw.ExAmPlE.cOm")
    reply = raw(tables, packet)
    assert reply is not None
    assert b"\x03wWw\x07ExAmPlE\x03cOm\x00" in reply
    assert said(tables, packet).answer


def test_rfc5001_2_1_nsid_only_when_asked(tables: Tables) -> None:
    """'MUST NOT include an NSID option in the response' to a query without one."""
    assert not said(tables, query()).options
    (option,) = said(tables, query("www.example.com", "A", dns.edns.GenericOption(3, b""))).options
    assert (int(option.otype), option.to_wire()) == (3, b"ams")


def test_rfc6891_6_1_1_opt_comes_back_only_if_it_came_and_two_are_formerr(tables: Tables) -> None:
    assert said(tables, query(edns=-1)).edns == -1
    assert said(tables, query()).edns == 0
    twice = bytearray(query() + query()[-11:])
    twice[11] = 2
    assert said(tables, bytes(twice)).rcode() == dns.rcode.FORMERR


def test_rfc6891_6_1_3_other_versions_are_badvers_with_ours(tables: Tables) -> None:
    message = said(tables, query(edns=1))
    assert (message.rcode(), message.edns) == (dns.rcode.BADVERS, 0)


def test_rfc7828_3_3_2_keepalive_over_tcp_when_asked_in_units_of_100_ms(tables: Tables) -> None:
    asked = query("www.example.com", "A", dns.edns.GenericOption(11, b""))
    (option,) = said(tables, asked, tcp=True).options
    assert (int(option.otype), option.to_wire()) == (11, struct.pack("!H", 50))
    assert not said(tables, query(), tcp=True).options


def test_rfc7828_3_3_1_keepalive_over_udp_is_ignored(tables: Tables) -> None:
    assert not said(tables, query("www.example.com", "A", dns.edns.GenericOption(11, b""))).options


def test_rfc7871_7_2_1_family_source_and_address_come_back_and_7_4_negative_answers_have_scope_0(
    tables: Tables,
) -> None:
    assert scope_of(ask(tables, "shop.example.com A", subnet="10.2.7.0/24")) == 16
    assert scope_of(ask(tables, "nothing.example.com A", subnet="10.2.7.0/24")) == 0


@pytest.mark.parametrize("option", ["000318000a0207", "0001210000000000", "000118100a0207", "0001170a0207", "0001"])
def test_rfc7871_7_1_2_malformed_subnets_are_formerr(tables: Tables, option: str) -> None:
    asked = query("shop.example.com", "A", dns.edns.GenericOption(8, bytes.fromhex(option)))
    assert said(tables, asked).rcode() == dns.rcode.FORMERR


def test_rfc8906_3_1_4_other_opcodes_are_notimp_never_silence(tables: Tables) -> None:
    packet = bytearray(query())
    packet[2] |= 2 << 3
    reply = raw(tables, bytes(packet))
    assert reply is not None
    assert reply[3] & 15 == dns.rcode.NOTIMP


def test_rfc8914_4_errors_say_why_and_normal_answers_say_nothing(tables: Tables) -> None:
    assert errors(ask(tables, "example.org A")) == [(20, None)]
    assert errors(ask(tables, "example.com AXFR")) == [(18, None)]
    down = make_view(down=("ams", "nyc", "sgp"))
    assert errors(ask(tables, "fails.example.com A", view=down)) == [(0, "no site is eligible; by policy: servfail")]
    assert errors(ask(tables, "shop.example.com A", view=down)) == [(0, "no site is eligible; by policy: closest")]
    for normal in ("www.example.com A", "shop.example.com A", "nothing.example.com A"):
        assert errors(ask(tables, normal)) == []
    assert ask(tables, "example.org A", edns=False).edns == -1  # RFC 8914 section 3: only with EDNS


def test_rfc9471_3_1_all_in_domain_glue_is_there_or_tc_is_set(tables: Tables) -> None:
    glue = show(ask(tables, "x.deleg.example.com A"))
    assert "ad ns.deleg.example.com. 3600 IN A 192.0.2.54" in glue
    assert "ad ns.deleg.example.com. 3600 IN AAAA 2001:db8::54" in glue


@pytest.mark.parametrize("payload", [512, 1232])
def test_rfc9471_3_1_in_domain_glue_that_does_not_fit_is_tc_and_by_tcp_it_is_all_there(
    tmp_path: Path, payload: int
) -> None:
    """With ever more servers: first all glue is there, then TC is set; nothing between."""
    truncated, whole = set(), set()
    sizes = range(8, 22) if payload == 512 else range(20, 50)
    records = "".join(
        f"d{count} IN NS ns{n}.d{count}\nns{n}.d{count} IN A 192.0.2.{n}\n" for count in sizes for n in range(count)
    )
    tables = tables_of(tmp_path, records)
    for count in sizes:
        message = ask(tables, f"x.d{count}.example.com A", payload=payload)
        if message.flags & dns.flags.TC:
            truncated.add(count)
        else:
            whole.add(count)
            assert len(message.additional) == count
        assert len(ask(tables, f"x.d{count}.example.com A", tcp=True).additional) == count
    assert truncated
    assert whole
    assert max(whole) < min(truncated)


def test_rfc9471_3_2_addresses_of_sibling_servers_are_optional(tmp_path: Path) -> None:
    servers = "".join(f"d IN NS ns{n}.other\nns{n}.other IN A 192.0.2.{n}\n" for n in range(14))
    message = ask(tables_of(tmp_path, servers), "x.d.example.com A", payload=512)
    assert not message.flags & dns.flags.TC
    assert len(message.authority[0]) == 14
    assert 0 < len(message.additional) < 14


@pytest.mark.parametrize("count", [0, 2])
def test_rfc9619_4_other_than_one_question_is_formerr(tables: Tables, count: int) -> None:
    packet = bytearray(query(edns=-1))
    packet[5] = count
    assert said_code(raw(tables, bytes(packet))) == dns.rcode.FORMERR


def said_code(reply: bytes | None) -> int:
    assert reply is not None
    return reply[3] & 15


def test_a_response_is_never_answered(tables: Tables) -> None:
    packet = bytearray(query())
    packet[2] |= dns.flags.QR >> 8
    assert raw(tables, bytes(packet)) is None
