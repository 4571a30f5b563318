"""AXFR (RFC 5936) and IXFR (RFC 1995), sentence by sentence; dnspython reads what was sent."""

from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import pytest

from anycastle.dns.tables import build_tables
from tests.dns.secondaries import SERIAL, STRANGER, ask_wire, query, records, signed, tables_with, zone_file
from tests.dns.world import make_settings, make_tables, make_view


def rcode(wires: list[bytes]) -> str:
    return dns.rcode.to_text(dns.message.from_wire(wires[0], keyring=False, xfr=True).rcode())


def test_rfc5936_2_2_the_soa_is_first_and_last_and_nowhere_else(tmp_path: Path) -> None:
    lines = records(ask_wire(tables_with(tmp_path), query("AXFR").to_wire()).wires)
    assert " SOA " in lines[0]
    assert lines[-1] == lines[0]
    assert sum(" SOA " in line for line in lines) == 2


def test_rfc5936_3_every_record_once_with_glue_wildcards_and_dname(tmp_path: Path) -> None:
    lines = records(ask_wire(tables_with(tmp_path), query("AXFR").to_wire()).wires)[:-1]
    assert len(set(lines)) == len(lines)
    for line in (
        "ns.deleg.example.com. 3600 IN A 192.0.2.54",
        "ns.deleg.example.com. 3600 IN AAAA 2001:db8::54",
        "deleg.example.com. 3600 IN NS ns.deleg.example.com.",
        "*.wild.example.com. 3600 IN A 192.0.2.99",
        "old.example.com. 3600 IN DNAME new.example.com.",
        "host3.example.com. 3600 IN A 203.0.113.3",
    ):
        assert line in lines
    assert sum("many.example.com." in line for line in lines) == 40
    assert not any(line.startswith("ent.example.com.") for line in lines)


def test_a_steered_name_is_its_current_default_answer_with_the_smallest_ttl(tmp_path: Path) -> None:
    tables = tables_with(tmp_path)

    def steered(view: object = None) -> list[str]:
        lines = records(ask_wire(tables, query("AXFR").to_wire(), view=view).wires)  # type: ignore[arg-type]
        return [line for line in lines if line.startswith(("shop.", "*.blogs."))]

    assert steered() == [
        'shop.example.com. 3600 IN TXT "also here"',  # its static address is not served, so not transferred
        "shop.example.com. 5 IN A 192.0.2.10",
        "shop.example.com. 5 IN AAAA 2001:db8:1::10",
        "*.blogs.example.com. 5 IN A 192.0.2.10",
        "*.blogs.example.com. 5 IN AAAA 2001:db8:1::10",
    ]
    # sites without an address of a family have no record of it
    assert "shop.example.com. 5 IN A 192.0.2.20" in steered(make_view(down=("ams",)))
    assert not any(" AAAA " in line for line in steered(make_view(down=("ams",))))


def test_a_steered_name_with_servfail_has_no_address_in_a_transfer(tmp_path: Path) -> None:
    lines = records(ask_wire(tables_with(tmp_path), query("AXFR").to_wire(), view=make_view(down=("sgp",))).wires)
    assert not any(line.startswith("fails.") for line in lines)


def test_rfc5936_2_2_1_the_first_message_repeats_the_question_and_each_has_the_id_and_aa(tmp_path: Path) -> None:
    request = query("AXFR")
    request.use_edns(0)
    for wire in ask_wire(tables_with(tmp_path), request.to_wire()).wires:
        message = dns.message.from_wire(wire, xfr=True)
        assert message.id == request.id
        assert message.flags & dns.flags.AA
        assert message.question == request.question
        assert message.edns == 0


def test_names_are_compressed_and_no_pointer_goes_beyond_its_reach(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, zones=(zone_file(tmp_path),))
    wide = "".join(f'wide IN TXT "{n:0250}"\n' for n in range(300))
    names = "".join(f"n{n:05} IN MX 5 m{n:05}\n" for n in range(10_000))
    file = tmp_path / "example.com"
    file.write_text(file.read_text() + wide + names)
    wires = ask_wire(build_tables(settings), query("AXFR").to_wire()).wires
    assert len(wires) > 20
    assert max(map(len, wires)) <= 16_500
    found = records(wires)
    assert sum(" MX 5 m" in line for line in found) == 10_001  # and one of the wildcard
    assert sum("wide." in line for line in found) == 300
    assert sum(map(len, wires)) < sum(map(len, found)) * 0.7


@pytest.mark.parametrize("rrtype", ["AXFR", "IXFR"])
def test_who_is_not_a_secondary_is_refused(tmp_path: Path, rrtype: str) -> None:
    packet = query(rrtype, serial=1 if rrtype == "IXFR" else None).to_wire()
    asked = ask_wire(tables_with(tmp_path), packet, source=STRANGER)
    assert rcode(asked.wires) == "REFUSED"
    assert asked.counters["transfers_refused"] == 1
    assert rcode(ask_wire(make_tables(tmp_path), packet).wires) == "REFUSED"  # a zone that nobody may have
    assert rcode(ask_wire(tables_with(tmp_path), query("AXFR", name="example.org").to_wire()).wires) == "REFUSED"
    assert rcode(ask_wire(tables_with(tmp_path), query("AXFR", name="www.example.com").to_wire()).wires) == "REFUSED"


def test_with_a_key_configured_the_right_address_alone_is_refused_and_so_is_the_key_alone(tmp_path: Path) -> None:
    tables = tables_with(tmp_path, key="xfr")
    packet, _ = signed(query("AXFR"))
    assert rcode(ask_wire(tables, query("AXFR").to_wire()).wires) == "REFUSED"
    assert rcode(ask_wire(tables, packet, source=STRANGER).wires) == "REFUSED"
    assert rcode(ask_wire(tables, packet).wires) == "NOERROR"


def test_rfc5936_4_2_axfr_by_udp_is_refused(tmp_path: Path) -> None:
    assert rcode(ask_wire(tables_with(tmp_path), query("AXFR").to_wire(), tcp=False).wires) == "REFUSED"


@pytest.mark.parametrize("serial", [SERIAL, SERIAL + 1, (SERIAL + 2**31 - 1) % 2**32])
def test_rfc1995_2_who_has_this_version_or_a_newer_one_gets_the_soa_alone(tmp_path: Path, serial: int) -> None:
    (line,) = records(ask_wire(tables_with(tmp_path), query("IXFR", serial=serial).to_wire()).wires)
    assert f" SOA ns1.example.com. hostmaster.example.com. {SERIAL} " in line


@pytest.mark.parametrize("serial", [SERIAL - 1, 0, SERIAL + 2**31 + 1])
def test_rfc1995_4_who_has_an_older_version_gets_the_whole_zone(tmp_path: Path, serial: int) -> None:
    tables = tables_with(tmp_path)
    whole = records(ask_wire(tables, query("AXFR").to_wire()).wires)
    assert records(ask_wire(tables, query("IXFR", serial=serial).to_wire()).wires) == whole


def test_rfc1995_2_by_udp_the_soa_alone_says_ask_by_tcp(tmp_path: Path) -> None:
    asked = ask_wire(tables_with(tmp_path), query("IXFR", serial=1).to_wire(), tcp=False)
    assert len(records(asked.wires)) == 1


def test_rfc1995_3_an_ixfr_query_without_its_soa_is_formerr(tmp_path: Path) -> None:
    assert rcode(ask_wire(tables_with(tmp_path), query("IXFR").to_wire()).wires) == "FORMERR"
