"""Bytes in, bytes out: one packet to its answer, or to silence.

Law: no packet makes `respond` raise; a fault of ours becomes SERVFAIL and a count. One query is answered from one
view, so A and AAAA of a moment cannot disagree. The scope of a client subnet is what the decision depended on; 0 where
the client made no difference (static and negative answers, RFC 7871 section 7.4). CNAMEs are never chained into a
steered name, because one scope cannot speak for both.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from msgspec import structs

from anycastle.dns.cookie import answer_cookie, is_valid
from anycastle.dns.decider import Choice, Decider
from anycastle.dns.edns import OTHER_ERROR, PROHIBITED, ExtendedError
from anycastle.dns.reply import Answer, render, reply_bytes_max
from anycastle.dns.rrset import ANY, CLASS_CH, CLASS_IN, TXT, A, RRset, make_rrset
from anycastle.dns.service import steered_service
from anycastle.dns.settings import Address
from anycastle.dns.steer import Decision, Match
from anycastle.dns.tables import Tables
from anycastle.dns.template import NOT_OURS, Keeper, keep_static, keep_steered
from anycastle.dns.wire import QR, CookieQuery, Fault, Query, Rcode, Silence, labels_of, parse_query
from anycastle.dns.zone import Steered, Zone, look_up, negative_within

COUNTERS = (
    "queries",
    "queries_tcp",
    "steered",
    "truncated",
    "dropped_silent",
    "dropped_early",
    "faults",
    *(f"rcode_{rcode.name.lower()}" for rcode in Rcode),
)
"""Every name in the counters, so that readers may add them up without asking which exist."""

REFUSED_TYPES = frozenset({41, 249, 250, 251, 252, 253, 254})
"""OPT, TKEY, TSIG, IXFR, AXFR, MAILB, MAILA: not data, and no transfer leaves by this path."""

_RCODE_COUNTERS = {rcode: f"rcode_{rcode.name.lower()}" for rcode in Rcode}
_REFUSED = Answer(rcode=Rcode.REFUSED, authoritative=False)
_REFUSED_TRANSFER = Answer(rcode=Rcode.REFUSED, authoritative=False, error=ExtendedError(PROHIBITED))
_TRANSFER_TYPES = frozenset({251, 252})
_COOKIE_ONLY = Answer(authoritative=False)
_IDENTITY_NAMES = frozenset({b"\x02id\x06server\x00", b"\x08hostname\x04bind\x00"})
_VERSION_NAMES = frozenset({b"\x07version\x06server\x00", b"\x07version\x04bind\x00"})
_VERSION_TEXT = b"anycastle"
"""No number: it would help nobody but an attacker."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is answered to a query, and why."""

    answer: Answer
    scope_bits: int = 0
    rrclass: int = CLASS_IN
    match: Match | None = None
    choice: Choice | None = None
    """Of a steered name."""
    zone: Zone | None = None
    """Whose records these are."""

    @property
    def decision(self) -> Decision | None:
        return self.choice.decision if self.choice is not None else None


def new_counters() -> dict[str, int]:
    return dict.fromkeys(COUNTERS, 0)


def respond(
    packet: bytes,
    *,
    source: bytes,
    tcp: bool,
    tables: Tables,
    decider: Decider | None,
    now: float,
    wall: float,
    counters: dict[str, int],
    keeper: Keeper | None = None,
) -> bytes | None:
    """The answer to a packet from the address `source` (4 or 16 bytes), or None for silence. Never raises.

    `wall` is Unix time in seconds: cookies are of use at other sites too, so their age cannot be told by `now`.

    `decider` is of the steering in `tables` and of the view to answer from; None while there is no view. `keeper` gets
    what can be given to others who ask.
    """
    counters["queries"] += 1
    counters["queries_tcp"] += tcp
    if decider is None:  # nothing is said from unknown health (design section 6, "Startup")
        counters["dropped_early"] += 1
        return None
    try:
        return _respond(packet, source, tcp, tables, decider, now, wall, counters, keeper)
    except Exception:
        counters["faults"] += 1
        counters["rcode_servfail"] += 1
        return _failed(packet)


def _respond(
    packet: bytes,
    source: bytes,
    tcp: bool,
    tables: Tables,
    decider: Decider,
    now: float,
    wall: float,
    counters: dict[str, int],
    keeper: Keeper | None,
) -> bytes | None:
    query = parse_query(packet)
    if isinstance(query, Silence):
        counters["dropped_silent"] += 1
        return None
    if isinstance(query, Fault):
        outcome = Outcome(Answer(rcode=query.rcode, authoritative=False))
    elif isinstance(query, CookieQuery):
        outcome = Outcome(_COOKIE_ONLY)
    else:
        outcome = answer_query(query, source, tables, decider, now)
        counters["steered"] += outcome.choice is not None
        if keeper is not None:
            keeper.forget(decider.take_forgotten())
            _keep(keeper, query, outcome)
    reply = render(
        query,
        outcome.answer,
        bytes_max=reply_bytes_max(query, tcp=tcp, payload_bytes_max=tables.udp_payload_bytes_max),
        payload_bytes=tables.udp_payload_bytes_max,
        server_id=tables.server_id,
        scope_bits=outcome.scope_bits,
        rrclass=outcome.rrclass,
        cookie=_cookie_for(query, source, tables, wall),
        keepalive_seconds=tables.tcp_idle_seconds if tcp else None,
    )
    counters[_RCODE_COUNTERS[outcome.answer.rcode]] += 1
    counters["truncated"] += reply[2] >> 1 & 1
    return reply


def _keep(keeper: Keeper, query: Query, outcome: Outcome) -> None:
    if outcome.choice is not None:
        keep_steered(keeper, query, outcome.answer, outcome.choice)
    elif outcome.zone is not None:
        keep_static(keeper, query, outcome.answer, outcome.zone)


def respond_truncated(packet: bytes, source: bytes, tables: Tables, *, wall: float) -> bytes | None:
    """What a limited client gets instead: no data and TC, "ask again by TCP". None for what is not even a query.

    It has a cookie, if the client uses them: with that, the client is not limited any more.
    """
    query = parse_query(packet)
    if not isinstance(query, Query):
        return None
    cookie = _cookie_for(query, source, tables, wall)
    reply = bytearray(render(query, Answer(), bytes_max=512, payload_bytes=tables.udp_payload_bytes_max, cookie=cookie))
    reply[2] |= 0x02
    return bytes(reply)


def has_valid_cookie(packet: bytes, source: bytes, tables: Tables, *, wall: float) -> bool:
    """Whether the sender has proved to be at the address it sends from (RFC 7873 section 5.2.5)."""
    query = parse_query(packet)
    if not isinstance(query, Query | CookieQuery) or query.edns is None:
        return False
    return is_valid(query.edns.cookie, source, tables.cookie_secrets, wall=wall)


def _cookie_for(query: Query | CookieQuery | Fault, source: bytes, tables: Tables, wall: float) -> bytes:
    if query.edns is None or not query.edns.cookie:
        return b""
    return answer_cookie(query.edns.cookie, source, tables.cookie_secrets, wall=wall)


def answer_query(query: Query, source: bytes, tables: Tables, decider: Decider, now: float) -> Outcome:
    """What a well-formed query is told. `explain` shows the very same outcome."""
    if query.rrclass != CLASS_IN:
        return _answer_chaos(query, tables)
    if query.rrtype in REFUSED_TYPES:
        return Outcome(_REFUSED_TRANSFER if query.rrtype in _TRANSFER_TYPES else _REFUSED)
    zone = tables.zone_of(query.name, query.rrtype)
    if zone is None:
        return Outcome(NOT_OURS)
    found = look_up(zone, query.name, query.rrtype)
    if isinstance(found, Answer):
        return Outcome(found, zone=zone)
    return _answer_steered(query, found, source, zone, decider, now)


def _answer_steered(query: Query, found: Steered, source: bytes, zone: Zone, decider: Decider, now: float) -> Outcome:
    match = decider.steering.match(labels_of(query.name))
    if match is None:
        return Outcome(zone.nodata, zone=zone)
    client, source_bits = _client_of(query, source)
    choice = decider.decide(match, client, source_bits, now=now)
    decision = choice.decision
    subnet = query.edns.subnet if query.edns is not None else None
    scope_bits = choice.scope_bits if subnet is not None and subnet.source_bits else 0
    error = _error_of(decision)
    if decision.rcode:
        failure = Answer(rcode=Rcode.SERVFAIL, authoritative=False, error=error)
        return Outcome(failure, 0, CLASS_IN, match, choice)
    if found.service is not None:
        hints = () if decision.none_used is not None else decision.addresses
        records = steered_service(found.service, query.name, hints, decision.ttl)
        return Outcome(Answer(answer=(records,), error=error), scope_bits, CLASS_IN, match, choice)
    version = 4 if query.rrtype == A else 6
    addresses = [address for address in decision.addresses if address.version == version]
    if addresses:
        answer = Answer(answer=(_address_rrset(query, decision.ttl, addresses),), error=error)
    else:
        # The site has no address of this family. Which site it is depends on the client, so the scope stays: with 0
        # a resolver that heeds it would hide the family from clients of other sites.
        answer = structs.replace(negative_within(zone, decision.ttl), error=error)
    return Outcome(answer, scope_bits, CLASS_IN, match, choice)


def _error_of(decision: Decision) -> ExtendedError | None:
    """Said when the answer is not what steering is meant for (RFC 8914)."""
    if decision.none_used is None:
        return None
    return ExtendedError(OTHER_ERROR, f"no site is eligible; by policy: {decision.none_used.value}")


def _client_of(query: Query, source: bytes) -> tuple[bytes, int]:
    """On whose behalf is asked: the client subnet; or the resolver, if there is none or it tells nothing."""
    subnet = query.edns.subnet if query.edns is not None else None
    if subnet is not None and subnet.source_bits:
        return subnet.padded(), subnet.source_bits
    return source, 8 * len(source)


def _address_rrset(query: Query, ttl: int, addresses: Iterable[Address]) -> RRset:
    return make_rrset(query.name, query.rrtype, ttl, tuple((address.packed,) for address in addresses))


def _answer_chaos(query: Query, tables: Tables) -> Outcome:
    """`id.server` and `version.server` (RFC 4892), for people who ask which server they reached."""
    if query.rrclass != CLASS_CH or query.rrtype not in (TXT, ANY):
        return Outcome(_REFUSED)
    if query.name in _IDENTITY_NAMES:
        text = tables.server_id[:255]
    elif query.name in _VERSION_NAMES:
        text = _VERSION_TEXT
    else:
        return Outcome(_REFUSED)
    rrset = make_rrset(query.name, TXT, 0, ((bytes((len(text),)) + text,),), CLASS_CH)
    return Outcome(Answer(answer=(rrset,)), 0, CLASS_CH)


def _failed(packet: bytes) -> bytes | None:
    """SERVFAIL made of next to nothing: whatever failed must not be needed for it."""
    if len(packet) < 12 or packet[2] & (QR >> 8):
        return None
    return packet[:2] + bytes((0x80 | packet[2] & 0x79, Rcode.SERVFAIL)) + bytes(8)
