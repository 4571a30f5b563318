"""What a client would be told, and why: for people, on the command line and the dashboard.

Law: nothing is computed a second time. A real query goes through `parse_query`, `answer_query` and `respond`, and what
they return is shown; dnspython reads the answer, as a stranger would.
"""

import ipaddress
import struct
from typing import Any

import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from anycastle.dns.closeness import kilometres
from anycastle.dns.decider import Decider
from anycastle.dns.edns import OPT, OPTION_CLIENT_SUBNET
from anycastle.dns.errors import DnsError
from anycastle.dns.geo import Source
from anycastle.dns.respond import Outcome, answer_query, new_counters, respond
from anycastle.dns.rrset import CLASS_IN
from anycastle.dns.settings import SteeredSite
from anycastle.dns.steer import Steering
from anycastle.dns.tables import Tables
from anycastle.dns.wire import Query, parse_query
from anycastle.health.view import View

_PAYLOAD_BYTES = 4096


def explain(tables: Tables, view: View, name: str, type: str, client: str, *, now: float) -> dict[str, Any]:
    """The answer to `name` and `type` for a client (an address, or a network as a resolver would send it).

    Keys: name, type, client, rcode, authoritative; answers, authority, additional (lines of zone-file text); ttl (of
    the first answer, or None); scope (bits); steered_by (the rule's name, or None); chosen (sites); none_used (the
    policy used because no site was eligible, or None); ttl_reason; place (which map, or line of it, gave the client its
    order of sites); sites (one mapping for each candidate, the best first: site, eligible, rank, reason, and what ranks
    are made of: kilometres or None, round_trip_milliseconds and connections or None, cost, weight, load, soft_load,
    hard_load). Raises DnsError when the question makes no sense.
    """
    packet, source = _make_query(name, type, client)
    query = parse_query(packet)
    assert isinstance(query, Query), f"a query of our own is well-formed: {query}"
    decider = Decider(tables.steering, view)
    # One view and one moment for both, so this is the outcome that was rendered.
    outcome = answer_query(query, source, tables, decider, now)
    reply = respond(
        packet, source=source, tcp=True, tables=tables, decider=decider, now=now, wall=0.0, counters=new_counters()
    )
    assert reply is not None, "a well-formed query is never met with silence"
    message = dns.message.from_wire(reply)
    answers = _lines(message.answer)
    return {
        "name": name,
        "type": type.upper(),
        "client": client,
        "rcode": dns.rcode.to_text(message.rcode()),
        "authoritative": bool(message.flags & 0x0400),
        "answers": answers,
        "authority": _lines(message.authority),
        "additional": _lines(message.additional),
        "ttl": message.answer[0].ttl if message.answer else None,
        "scope": _scope(message),
        **_why(outcome, tables.steering, view, source),
    }


def _why(outcome: Outcome, steering: Steering, view: View, client: bytes) -> dict[str, Any]:
    decision = outcome.decision
    if decision is None or outcome.match is None:
        nothing: dict[str, Any] = {"steered_by": None, "chosen": [], "none_used": None, "place": None, "sites": []}
        return {**nothing, "ttl_reason": "static record"}
    place = steering.geo.source(client)
    return {
        "steered_by": outcome.match.rule.name,
        "chosen": list(decision.sites),
        "none_used": decision.none_used.value if decision.none_used is not None else None,
        "ttl_reason": decision.ttl_reason,
        "place": steering.map_of(outcome.match.rule).why(client),
        "sites": [
            {
                "site": reason.site,
                "eligible": reason.eligible,
                "rank": reason.rank,
                **_inputs(steering.sites[reason.site], place, view),
                **_measured(steering, reason.site, client),
                "reason": reason.text,
            }
            for reason in decision.reasons
        ],
    }


def _inputs(site: SteeredSite, place: Source | None, view: View) -> dict[str, Any]:
    """What ranks are made of. A distance is the operator's own, else worked out from where the client is."""
    distance = dict(place.kilometres).get(site.name) if place is not None else None
    if distance is None and place is not None and place.point is not None and site.coordinates is not None:
        distance = kilometres(place.point, site.coordinates)
    state = view.sites.get(site.name)
    return {
        "kilometres": round(distance) if distance is not None else None,
        "cost": site.cost,
        "weight": site.weight,
        "load": round(state.load, 1) if state is not None else None,
        "soft_load": site.soft_load,
        "hard_load": site.hard_load,
    }


def _measured(steering: Steering, site: str, client: bytes) -> dict[str, Any]:
    """What the map for `fastest` goes by, shown for every policy: who thinks of changing to it wants to see it."""
    reading = steering.fastest.reading(client, site) if steering.fastest is not None else None
    return {
        "round_trip_milliseconds": round(reading.milliseconds, 3) if reading is not None else None,
        "connections": round(reading.connections, 1) if reading is not None else None,
    }


def _make_query(name: str, type: str, client: str) -> tuple[bytes, bytes]:
    """The query of a resolver that passes on the whole client network; and the client's address."""
    try:
        question = dns.name.from_text(name).to_wire() or b""
    except (dns.exception.DNSException, UnicodeError) as error:
        raise DnsError(f"{name!r} is not a domain name: {error}") from None
    try:
        rrtype = dns.rdatatype.from_text(type)
    except (dns.exception.DNSException, ValueError):
        raise DnsError(f"{type!r} is not a record type: expected one such as A, AAAA or MX") from None
    try:
        network = ipaddress.ip_network(client)
    except ValueError as error:
        raise DnsError(f"client {client!r}: expected an IP address or a network: {error}") from None
    address = network.network_address.packed
    prefix = address[: (network.prefixlen + 7) // 8]
    subnet = struct.pack("!HBB", 1 if network.version == 4 else 2, network.prefixlen, 0) + prefix
    option = struct.pack("!HH", OPTION_CLIENT_SUBNET, len(subnet)) + subnet
    opt = struct.pack("!BHHIH", 0, OPT, _PAYLOAD_BYTES, 0, len(option)) + option
    header = struct.pack("!HHHHHH", 0, 0, 1, 0, 0, 1)
    return header + question + struct.pack("!HH", rrtype, CLASS_IN) + opt, address


def _lines(rrsets: list[dns.rrset.RRset]) -> list[str]:
    return [line for rrset in rrsets for line in rrset.to_text().splitlines()]


def _scope(message: dns.message.Message) -> int | None:
    for option in message.options:
        if int(option.otype) == OPTION_CLIENT_SUBNET:
            return int(getattr(option, "scopelen", 0))
    return None
