"""A zone with secondaries: who may have it, how to ask for it, and how to read the stream that comes."""

import ipaddress
from pathlib import Path
from typing import Any

import dns.message
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TSIG
import dns.tsig

from anycastle.dns.decider import Decider
from anycastle.dns.respond import new_counters
from anycastle.dns.secondary import COUNTERS, respond_secondary
from anycastle.dns.settings import TransferSettings, TsigKey, ZoneFile
from anycastle.dns.tables import Tables
from anycastle.health.view import View
from tests.dns.world import NOW, make_tables, make_view

WALL = 1_700_000_000.0
SECRET = b"a secret that only the two of us know"
KEY = TsigKey(name="xfr", algorithm="hmac-sha256", secret=SECRET)
KEYRING = {dns.name.from_text("xfr"): dns.tsig.Key("xfr", SECRET, "hmac-sha256")}
SECONDARY = bytes((192, 0, 2, 7))
STRANGER = bytes((192, 0, 2, 8))
SERIAL = 2024010101


def zone_file(folder: Path, *, key: str | None = None, notify: tuple[tuple[str, int], ...] = ()) -> ZoneFile:
    """The zone of `tests.dns.world`, for the secondary alone."""
    networks = (ipaddress.ip_network("192.0.2.7/32"), ipaddress.ip_network("127.0.0.0/8"))
    return ZoneFile(
        origin="example.com",
        file=folder / "example.com",
        transfer=TransferSettings(to=networks, key=key),
        notify=notify,
    )


def tables_with(folder: Path, *, key: str | None = None, **changes: Any) -> Tables:
    return make_tables(folder, zones=(zone_file(folder, key=key),), keys=(KEY,), **changes)


class Asked:
    """What came of one request."""

    def __init__(self, wires: list[bytes] | None, counters: dict[str, int]) -> None:
        self.wires = wires or []
        self.silent = wires is None
        self.counters = counters


def ask_wire(
    tables: Tables, packet: bytes, *, source: bytes = SECONDARY, tcp: bool = True, view: View | None = None
) -> Asked:
    counters = new_counters() | dict.fromkeys(COUNTERS, 0)
    found = respond_secondary(
        packet,
        source=source,
        tcp=tcp,
        tables=tables,
        decider=Decider(tables.steering, view or make_view()),
        now=NOW,
        wall=lambda: WALL,
        counters=counters,
    )
    if found is None or isinstance(found, bytes):
        return Asked(None if found is None else [found], counters)
    return Asked(list(found), counters)


def query(rrtype: str, *, name: str = "example.com", serial: int | None = None) -> dns.message.QueryMessage:
    message = dns.message.make_query(name, rrtype)
    if serial is not None:
        numbers = f"{name}. 60 IN SOA ns1. hostmaster. {serial} 1 1 1 1"
        owner, ttl, rrclass, kind, *rest = numbers.split()
        found = message.find_rrset(
            message.authority, dns.name.from_text(owner), dns.rdataclass.IN, dns.rdatatype.SOA, create=True
        )
        found.add(dns.rdata.from_text(rrclass, kind, " ".join(rest), origin=dns.name.root, relativize=False), int(ttl))
    return message


def signed(message: dns.message.Message, *, at: float = WALL) -> tuple[bytes, bytes]:
    """The request as a secondary signs it at a time of day, and its MAC."""
    plain = message.to_wire()
    record = dns.rdtypes.ANY.TSIG.TSIG(
        dns.rdataclass.ANY, dns.rdatatype.TSIG, dns.name.from_text("hmac-sha256"), int(at), 300, b"", message.id, 0, b""
    )
    done, _ = dns.tsig.sign(plain, KEYRING[dns.name.from_text("xfr")], record, int(at))  # type: ignore[no-untyped-call]
    rdata = done.to_wire()
    count = int.from_bytes(plain[10:12], "big") + 1
    tail = b"\x03xfr\x00" + b"\x00\xfa\x00\xff\x00\x00\x00\x00" + len(rdata).to_bytes(2, "big") + rdata
    return plain[:10] + count.to_bytes(2, "big") + plain[12:] + tail, done.mac


def records(wires: list[bytes]) -> list[str]:
    """Every record of a stream, one line each, in the order it came."""
    found = []
    for wire in wires:
        message = dns.message.from_wire(wire, keyring=False, one_rr_per_rrset=True, xfr=True)
        found += [rrset.to_text() for rrset in message.answer]
    return found
