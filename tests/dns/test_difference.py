"""Differences between versions of a zone, and how IXFR answers with them (RFC 1995)."""

import tempfile
from pathlib import Path

import dns.message
import dns.rdatatype
import dns.xfr
import dns.zone
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anycastle.dns import difference
from anycastle.dns.difference import chain_from, follow
from anycastle.dns.settings import SteeredName
from anycastle.dns.tables import Tables, build_tables
from tests.dns.names import name_of
from tests.dns.secondaries import KEY, SERIAL, ask_wire, query, records, zone_file
from tests.dns.world import NAMES, make_settings

ORIGIN = name_of((b"example", b"com"))


class History:
    """A zone file that is edited and reloaded."""

    def __init__(self, folder: Path) -> None:
        self.settings = make_settings(folder, zones=(zone_file(folder),), keys=(KEY,))
        self.file = folder / "example.com"
        self.text = self.file.read_text()
        self.serial = SERIAL
        self.tables = build_tables(self.settings)

    def reload(self, more: str, *, raised: int = 1) -> Tables:
        self.serial += raised
        self.file.write_text(self.text.replace(str(SERIAL), str(self.serial)) + more)
        self.tables = follow(self.tables, build_tables(self.settings))
        return self.tables

    def ixfr(self, serial: int, *, tcp: bool = True) -> list[str]:
        return records(ask_wire(self.tables, query("IXFR", serial=serial).to_wire(), tcp=tcp).wires)


def short(lines: list[str]) -> list[str]:
    """Serials for SOA records, else owner and data."""
    return [line.split()[6] if " SOA " in line else f"{line.split()[0]} {line.split()[-1]}" for line in lines]


def test_rfc1995_4_a_difference_is_new_soa_old_soa_what_goes_new_soa_what_comes_new_soa(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.reload("added 60 IN A 192.0.2.1\nmany 3600 IN A 198.51.100.99\n")
    old, new = str(SERIAL), str(SERIAL + 1)
    added = ["added.example.com. 192.0.2.1", "many.example.com. 198.51.100.99"]
    found = short(history.ixfr(SERIAL))
    assert (found[:3], sorted(found[3:5]), found[5:]) == ([new, old, new], added, [new])
    history.reload("added 30 IN A 192.0.2.1\n")
    assert set(short(history.ixfr(SERIAL + 1))[2:4]) == set(added)  # another TTL is another record
    assert history.ixfr(SERIAL + 1)[-2] == "added.example.com. 30 IN A 192.0.2.1"


def test_rfc1995_4_several_versions_are_sent_one_after_the_other(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.reload("one 60 IN A 192.0.2.1\n")
    history.reload("two 60 IN A 192.0.2.2\n")
    one, two = "one.example.com. 192.0.2.1", "two.example.com. 192.0.2.2"
    first, second, third = (str(SERIAL + n) for n in range(3))
    assert short(history.ixfr(SERIAL)) == [third, first, second, one, second, one, third, two, third]
    assert short(history.ixfr(SERIAL + 1)) == [third, second, one, third, two, third]


def test_rfc1995_4_an_unknown_version_gets_the_whole_zone(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.reload("one 60 IN A 192.0.2.1\n", raised=2)
    whole = records(ask_wire(history.tables, query("AXFR").to_wire()).wires)
    assert history.ixfr(SERIAL + 1) == history.ixfr(SERIAL - 1) == whole


def test_rfc1995_2_by_udp_a_difference_that_fits_else_the_soa_alone(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.reload("one 60 IN A 192.0.2.1\n")
    assert history.ixfr(SERIAL, tcp=False) == history.ixfr(SERIAL)
    history.reload("".join(f"n{n} 60 IN A 192.0.2.1\n" for n in range(40)))
    assert short(history.ixfr(SERIAL, tcp=False)) == [str(SERIAL + 2)]


def test_rfc1982_serials_go_round(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.reload("", raised=2**31 - 1)
    history.reload("one 60 IN A 192.0.2.1\n", raised=2**32 - 5 - SERIAL - 2**31 + 1)
    before = history.serial
    history.text = history.text.replace(str(SERIAL), "7")
    history.reload("two 60 IN A 192.0.2.1\n", raised=0)
    assert short(history.ixfr(before))[:2] == ["7", str(before)]


def test_a_difference_larger_than_the_zone_is_not_kept(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.reload("".join(f"n{n} 60 IN A 192.0.2.1\n" for n in range(1000)))
    history.reload("")
    assert history.tables.histories[ORIGIN] == ()


def test_history_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(difference, "VERSIONS_MAX", 3)
    history = History(tmp_path)
    for number in range(5):
        history.reload(f"n{number} 60 IN A 192.0.2.1\n")
    kept = history.tables.histories[ORIGIN]
    assert len(kept) == 3
    assert chain_from(kept, SERIAL) == ()
    assert chain_from(kept, SERIAL + 2) == kept


def test_a_change_of_steered_names_ends_the_history(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.reload("one 60 IN A 192.0.2.1\n")
    history.settings = make_settings(
        tmp_path, zones=(zone_file(tmp_path),), keys=(KEY,), names=(*NAMES, SteeredName(name="new.example.com"))
    )
    history.reload("two 60 IN A 192.0.2.1\n")
    assert history.tables.histories == {}


def test_a_change_without_a_raised_serial_is_named_until_it_rises(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.reload("one 60 IN A 192.0.2.1\n")
    assert history.reload("one 60 IN A 192.0.2.1\n", raised=0).unraised == {}
    assert len(history.tables.histories[ORIGIN]) == 1
    said = f"zone example.com changed, but its serial did not rise ({SERIAL + 1}, now {SERIAL + 1}): "
    for _ in range(2):
        (found,) = history.reload("two 60 IN A 192.0.2.1\n", raised=0).unraised.values()
        assert found == said + "secondaries keep what they have"
    assert not history.tables.histories.get(ORIGIN)
    assert history.reload("two 60 IN A 192.0.2.1\n").unraised == {}


LINES = st.sampled_from(
    [
        *("a 60 IN A 192.0.2.1", "a 60 IN A 192.0.2.2", "a 30 IN TXT x", "b 60 IN MX 1 a", "B 60 IN MX 1 A"),
        *("c.d 5 IN AAAA ::1", "*.w 60 IN A 192.0.2.1", "shop 60 IN A 192.0.2.3", "shop 60 IN TXT y"),
        *("e 60 IN NS ns.e", "ns.e 60 IN A 192.0.2.9"),
    ]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sets(LINES, max_size=6), min_size=2, max_size=4))
def test_whoever_applies_the_differences_has_the_zone(versions: list[set[str]]) -> None:
    """dnspython as the secondary: from each version to the last one."""
    with tempfile.TemporaryDirectory() as folder:
        history = History(Path(folder))
        held = []
        for lines in versions:
            history.reload("\n".join(sorted(lines)) + "\n")
            held.append((history.serial, ask_wire(history.tables, query("AXFR").to_wire()).wires))
        expected = transferred(held[-1][1])
        for serial, wires in held[:-1]:
            zone = transferred(wires)
            with dns.xfr.Inbound(zone, dns.rdatatype.IXFR, serial) as inbound:
                for wire in ask_wire(history.tables, query("IXFR", serial=serial).to_wire()).wires:
                    inbound.process_message(dns.message.from_wire(wire, xfr=True, one_rr_per_rrset=True))
            assert zone == expected


def transferred(wires: list[bytes]) -> dns.zone.Zone:
    zone = dns.zone.Zone("example.com.", relativize=False)
    with dns.xfr.Inbound(zone, dns.rdatatype.AXFR) as inbound:
        for wire in wires:
            inbound.process_message(dns.message.from_wire(wire, xfr=True, one_rr_per_rrset=True))
    return zone
