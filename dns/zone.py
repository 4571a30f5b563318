"""Zones: immutable tables, and what they answer (RFC 1034 section 4.3.2, 2308, 4592, 6672, 8020, 8482, 9471).

Law: every name that exists has a node, empty non-terminals and steered names too, so that the closest encloser
decides everything and one table is enough:

    the name has a node         below or at a cut   referral (only DS at the cut itself is answered by us)
                                steered, A or AAAA  Steered: the caller decides
                                has the type        the records
                                has a CNAME         the chain, as far as it stays in the zone and is not steered
                                otherwise           NODATA
    it has none; its encloser   below or at a cut   referral
                                has a DNAME         DNAME and the CNAME made from it
                                has a child `*`     as if that node were the name's own
                                otherwise           NXDOMAIN
"""

import msgspec

from anycastle.dns.errors import DnsError
from anycastle.dns.node_table import Node, NodeTable
from anycastle.dns.reply import Answer
from anycastle.dns.rrset import AAAA, ANY, CNAME, DNAME, DS, HINFO, MX, NS, SOA, SRV, A, RRset, make_rrset, name_end
from anycastle.dns.service import SERVICE_TYPES
from anycastle.dns.wire import NAME_BYTES_MAX, Rcode, labels_of, parent_of

CHAIN_MAX = 8
"""CNAMEs followed inside one zone; resolvers give up at about this length too."""
ANY_TTL_SECONDS = 3600
"""RFC 8482 section 4.2 leaves it to us; long, because the answer never changes."""

TARGETS_MAX = 16
"""Targets whose addresses are added; more would hardly fit beside the records."""

_STAR = b"\x01*"
_TARGET_AT = {MX: 2, SRV: 6, **dict.fromkeys(SERVICE_TYPES, 2)}
"""Where the target's name begins in the types that have additional addresses."""
_STEERED_TYPES = (A, AAAA)


class ZoneError(DnsError):
    """A zone, or a steered name in it, cannot be served as written."""


class Steered(msgspec.Struct, frozen=True, gc=False):
    """The name exists and its addresses are decided per query."""

    service: RRset | None = None
    """The SVCB or HTTPS records that were asked for, without hints."""


class Zone(msgspec.Struct, frozen=True, gc=False):
    """One zone. Names are in wire form and lower case."""

    origin: bytes
    nodes: NodeTable
    records: int
    """As many as a transfer would send, without those of steered names."""
    nodata: Answer
    nxdomain: Answer


_STEERED = Steered()


def look_up(zone: Zone, name: bytes, rrtype: int) -> Answer | Steered:
    """What the zone says of a name at or below its origin."""
    chain: list[RRset] = []
    seen = {name}
    while True:
        node, encloser = _find(zone, name)
        if node is not None and node.cut and not (rrtype == DS and node.cut == name):
            return Answer(answer=tuple(chain)) if chain else _referral(zone, node.cut)
        if node is None:
            dname = zone.nodes[encloser].rrsets.get(DNAME)
            if dname is None:
                return _negative(zone.nxdomain, chain)
            alias = _synthesise(dname, encloser, name)
            if alias is None:
                return Answer(rcode=Rcode.YXDOMAIN, answer=(*chain, dname))
            chain += (dname, alias)
        elif rrtype == ANY:
            return _answer_any(node, name, chain)
        elif node.steered and rrtype in _STEERED_TYPES:
            return Answer(answer=tuple(chain)) if chain else _STEERED
        elif (rrset := node.rrsets.get(rrtype)) is not None:
            if rrtype in node.services and not chain:
                return Steered(rrset)
            return Answer(answer=(*chain, _owned(rrset, name)), optional=_addresses(zone, rrset, name))
        elif (alias := node.rrsets.get(CNAME)) is not None:
            chain.append(_owned(alias, name))
        else:
            return _negative(zone.nodata, chain)
        name = chain[-1].rdatas[0][1].lower()
        if name in seen or len(seen) > CHAIN_MAX or not is_below(name, zone.origin):
            return Answer(answer=tuple(chain))
        seen.add(name)


def negative_within(zone: Zone, ttl_max: int) -> Answer:
    """NODATA that is forgotten after `ttl_max` seconds at the latest, because the decision behind it is (RFC 2308)."""
    soa = zone.nodata.authority[0]
    if soa.ttl <= ttl_max:
        return zone.nodata
    return Answer(authority=(RRset(soa.owner, soa.rrtype, ttl_max, soa.rdatas),))


def is_below(name: bytes, ancestor: bytes) -> bool:
    """Whether `name` is `ancestor` or below it; both in wire form and lower case."""
    position = 0
    while len(name) - position > len(ancestor):
        position += name[position] + 1
    return name[position:] == ancestor


def _find(zone: Zone, name: bytes) -> tuple[Node | None, bytes]:
    """The node that speaks for a name, its own or the wildcard's; and the closest encloser (RFC 4592 section 3.3.1)."""
    node = zone.nodes.get(name)
    if node is not None:
        return node, name
    encloser = parent_of(name)
    while (node := zone.nodes.get(encloser)) is None:
        encloser = parent_of(encloser)
    return (node if node.cut else zone.nodes.get(_STAR + encloser)), encloser


def _addresses(zone: Zone, rrset: RRset, owner: bytes) -> tuple[RRset, ...]:
    """A and AAAA of the names that MX, SRV, SVCB and HTTPS records lead to, as far as this zone has them as data.

    RFC 1035 section 3.3.9, RFC 2782, RFC 9460 section 4.1. Not of steered names: their addresses are decided when they
    are asked for, and the scope of this answer would have to speak for both.
    """
    place = _TARGET_AT.get(rrset.rrtype)
    if place is None:
        return ()
    found: dict[bytes, tuple[RRset, ...]] = {}
    for rdata in rrset.rdatas[:TARGETS_MAX]:
        wire = b"".join(rdata)
        target = wire[place : name_end(wire, place)].lower()
        if target == b"\0" and rrset.rrtype in SERVICE_TYPES and wire[:place] != b"\0\0":
            target = owner
        node = zone.nodes.get(target)
        if node is not None and not node.cut and not node.steered:
            found[target] = tuple(node.rrsets[kind] for kind in _STEERED_TYPES if kind in node.rrsets)
    return tuple(each for addresses in found.values() for each in addresses)


def _owned(rrset: RRset, name: bytes) -> RRset:
    return rrset.under(name) if rrset.owner[:2] == _STAR else rrset


def _negative(negative: Answer, chain: list[RRset]) -> Answer:
    """The RCODE is that of the chain's last name (RFC 6604)."""
    if not chain:
        return negative
    return Answer(rcode=negative.rcode, answer=tuple(chain), authority=negative.authority)


def _answer_any(node: Node, name: bytes, chain: list[RRset]) -> Answer:
    """One record set made up for it, but only where there is no CNAME (RFC 8482 section 4.2)."""
    alias = node.rrsets.get(CNAME)
    if alias is not None:
        return Answer(answer=(*chain, _owned(alias, name)))
    hinfo = make_rrset(name, HINFO, ANY_TTL_SECONDS, ((b"\x07RFC8482\x00",),))
    return Answer(answer=(*chain, hinfo))


def _synthesise(dname: RRset, encloser: bytes, name: bytes) -> RRset | None:
    """The CNAME that a DNAME stands for (RFC 6672 section 3.1); None when its target would be too long."""
    target = name[: len(name) - len(encloser)] + dname.rdatas[0][0]
    if len(target) > NAME_BYTES_MAX:
        return None
    return RRset(name, CNAME, dname.ttl, ((b"", target),))


def _referral(zone: Zone, cut: bytes) -> Answer:
    """Glue below the cut is needed to go on (RFC 9471); addresses of servers elsewhere in the zone only help."""
    delegation = zone.nodes[cut].rrsets[NS]
    required: list[RRset] = []
    optional: list[RRset] = []
    for _, target in delegation.rdatas:
        server = target.lower()
        node = zone.nodes.get(server)
        glue = [node.rrsets[kind] for kind in (A, AAAA) if kind in node.rrsets] if node is not None else []
        (required if is_below(server, cut) else optional).extend(glue)
    return Answer(authoritative=False, authority=(delegation,), required=tuple(required), optional=tuple(optional))


def soa_of(zone: Zone) -> RRset:
    return zone.nodes[zone.origin].rrsets[SOA]


def serial_of(zone: Zone) -> int:
    return int.from_bytes(soa_of(zone).rdatas[0][4][:4], "big")


def show_name(name: bytes) -> str:
    """A wire name for people, without the last dot; `\\DDD` for what is not plain ASCII."""
    labels = labels_of(name)
    return ".".join("".join(_show_byte(byte) for byte in label) for label in labels) or "."


def _show_byte(byte: int) -> str:
    if byte in b'."\\();@$':
        return "\\" + chr(byte)
    return chr(byte) if 0x20 < byte < 0x7F else f"\\{byte:03d}"
