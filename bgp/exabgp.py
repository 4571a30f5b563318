"""ExaBGP's text: the configuration it is started with, the command lines it is told, the lines it answers.

Law: pure, and nothing but addresses, numbers and fixed words ever reaches a command line. ExaBGP finds its commands by
substring, so that a stray word in a line may shut it down (docs/bgp.md); `Command` refuses every line outside
a grammar of digits and known words. Checked against exabgp 5.0.15.
"""

import contextlib
import ipaddress
import json
import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, assert_never

from anycastle.bgp.route import BgpError, RouteState
from anycastle.bgp.settings import (
    COMMUNITIES_MAX,
    PREPEND_MAX,
    Address,
    Attributes,
    BgpSettings,
    Community,
    Peer,
    Prefix,
)

PROCESS_NAME = "ctl"
GRACEFUL_SHUTDOWN: Community = (65535, 0)
"""RFC 8326. Only ever written in digits: its name in letters shuts ExaBGP down."""

_NUMBER = r"(?:0|[1-9][0-9]{0,9})"
_ADDRESS = r"[0-9a-f.:]{2,45}"
_ATTRIBUTES = (
    rf"(?: med {_NUMBER})?(?: local-preference {_NUMBER})?"
    rf"(?: as-path \[(?: {_NUMBER}){{1,{PREPEND_MAX + 1}}} \])?"
    rf"(?: community \[(?: {_NUMBER}:{_NUMBER}){{1,{COMMUNITIES_MAX + 1}}} \])?"
    rf"(?: large-community \[(?: {_NUMBER}:{_NUMBER}:{_NUMBER}){{1,{COMMUNITIES_MAX}}} \])?"
)
_GRAMMAR = re.compile(
    rf"show neighbor summary json"
    rf"|neighbor {_ADDRESS} announce route {_ADDRESS}/[0-9]{{1,3}} next-hop (?:self|{_ADDRESS}){_ATTRIBUTES}"
    rf"|neighbor {_ADDRESS} withdraw route {_ADDRESS}/[0-9]{{1,3}} next-hop (?:self|{_ADDRESS})"
)


@dataclass(frozen=True, slots=True)
class Command:
    """One line for ExaBGP, without its newline; raises `BgpError` when the text is outside the grammar."""

    text: str

    def __post_init__(self) -> None:
        if not _GRAMMAR.fullmatch(self.text):
            raise BgpError(
                f"{self.text!r} is not a line ExaBGP may be told, expected addresses, numbers and known words"
            )


SHOW_SESSIONS = Command("show neighbor summary json")


def announce(settings: BgpSettings, peer: Peer, prefix: Prefix, state: RouteState) -> Command:
    """The line that makes `peer` receive `prefix` with the attributes of `state`, whatever it had before."""
    text = _text(attributes(settings, peer, state), settings.local_as, internal=_internal(settings, peer))
    return Command(f"neighbor {peer.address} announce route {prefix} next-hop {_next_hop(peer)}{text}")


def withdraw(peer: Peer, prefix: Prefix) -> Command:
    """The line that takes `prefix` away from `peer`; an UPDATE goes out even when it was never announced."""
    return Command(f"neighbor {peer.address} withdraw route {prefix} next-hop {_next_hop(peer)}")


def carries(peer: Peer, prefix: Prefix) -> bool:
    """A session carries its own address family only: "next-hop self" of the other one is an error in ExaBGP."""
    return peer.address.version == prefix.version


def _next_hop(peer: Peer) -> str:
    return "self" if peer.next_hop is None else str(peer.next_hop)


def attributes(settings: BgpSettings, peer: Peer, state: RouteState) -> Attributes:
    """What `peer` is told in `state`: its own policy, else the site's, else the usual one, each value by itself.

    A drained route always carries GRACEFUL_SHUTDOWN. Raises `BgpError` for WITHDRAWN, which is told nothing.
    """
    usual, site, own = _of_state(settings, peer, state)
    found = _over(own, _over(site, usual))
    if state is not RouteState.DRAINED:
        return found
    communities = found.communities or ()
    return replace(found, communities=(GRACEFUL_SHUTDOWN, *(c for c in communities if c != GRACEFUL_SHUTDOWN)))


def _of_state(settings: BgpSettings, peer: Peer, state: RouteState) -> tuple[Attributes, Attributes, Attributes]:
    """The three layers. MED is compared only between routes from one neighbouring AS, the longer path by everybody."""
    match state:
        case RouteState.NORMAL:
            usual = Attributes(med=100, local_preference=100, prepend=0)
            return usual, settings.attributes.normal, peer.attributes.normal
        case RouteState.DEGRADED:
            usual = Attributes(med=500, local_preference=50, prepend=2)
            return usual, settings.attributes.degraded, peer.attributes.degraded
        case RouteState.DRAINED:
            usual = Attributes(med=1000, local_preference=0, prepend=2)
            return usual, settings.attributes.drained, peer.attributes.drained
        case RouteState.WITHDRAWN:
            raise BgpError("a withdrawn route has no attributes, expected withdraw()")
        case _:
            assert_never(state)


def _over(upper: Attributes, lower: Attributes) -> Attributes:
    said = {each.name: value for each in fields(upper) if (value := getattr(upper, each.name)) is not None}
    return replace(lower, **said)


def _internal(settings: BgpSettings, peer: Peer) -> bool:
    return peer.asn == settings.local_as


def _text(told: Attributes, local_as: int, *, internal: bool) -> str:
    """Within one AS our own number in the path would be a loop, so LOCAL_PREF says there what the path says outside.

    An as-path in a command replaces the whole path, so it holds our own number once more than it is prepended.
    """
    parts = [f" med {told.med}"]
    if internal:
        parts.append(f" local-preference {told.local_preference}")
    elif told.prepend:
        parts.append(f" as-path [{f' {local_as}' * (1 + told.prepend)} ]")
    for word, values in (("community", told.communities), ("large-community", told.large_communities)):
        if values:
            parts.append(f" {word} [{''.join(' ' + ':'.join(map(str, value)) for value in values)} ]")
    return "".join(parts)


# ---- configuration -------------------------------------------------------------------------------------------------

_PLAIN_PATH = re.compile(r"/[A-Za-z0-9_./@+,=-]*")
_PLAIN_KEY = re.compile(r"[!#-&(-\[\]-~]{1,80}")
"""A TCP MD5 key that ExaBGP's reader keeps: printable ASCII, no space, quote or backslash, at most 80 (Linux)."""


def configuration(settings: BgpSettings, child: tuple[str | Path, ...]) -> str:
    """The configuration file: one process, one neighbour for each peer. `child` is the bridge's command line."""
    command = " ".join(_plain(part) for part in child)
    addresses = [peer.address for peer in settings.peers]
    if len(set(addresses)) != len(addresses):
        raise BgpError(f"two of {len(addresses)} BGP peers have the same address, expected each address once")
    _check_listeners(settings.peers)
    lines = [f"process {PROCESS_NAME} {{ run {command}; encoder json; respawn true; }}"]
    lines += [_neighbor(settings, peer) for peer in settings.peers]
    return "\n".join(lines) + "\n"


def _neighbor(settings: BgpSettings, peer: Peer) -> str:
    for name, address in (
        ("address", peer.address),
        ("local address", peer.local_address),
        ("next hop", peer.next_hop),
    ):
        if address is not None:
            _fits(peer, name, address)
    if peer.md5 is not None and not _PLAIN_KEY.fullmatch(peer.md5):
        raise BgpError(
            f"the MD5 key of BGP peer {peer.address} has a character ExaBGP cannot read, expected 1 to 80 "
            "printable ASCII characters without spaces, quotes and backslashes"
        )
    if peer.multihop is not None and peer.ttl_security is not None:
        raise BgpError(f"BGP peer {peer.address} has multihop and ttl_security, expected one of them")
    password = "" if peer.md5 is None else f' md5-password "{peer.md5}";'
    family = "ipv4" if peer.address.version == 4 else "ipv6"
    return (
        f"neighbor {peer.address} {{ router-id {settings.router_id}; local-address {peer.local_address}; "
        f"local-as {settings.local_as}; peer-as {peer.asn}; hold-time {peer.hold_time_seconds};"
        f"{_connection(peer)}{password} family {{ {family} unicast; }} "
        f"api {{ processes [ {PROCESS_NAME} ]; neighbor-changes; }} }}"
    )


def _connection(peer: Peer) -> str:
    """Who connects, and how far packets may travel: GTSM sends 255 and believes what has lost no more than its hops."""
    text = f" passive true; listen {peer.port};" if peer.passive else f" connect {peer.port};"
    if peer.multihop is not None:
        text += f" outgoing-ttl {peer.multihop};"
    if peer.ttl_security is not None:
        text += f" outgoing-ttl 255; incoming-ttl {256 - peer.ttl_security};"
    return text


def _check_listeners(peers: tuple[Peer, ...]) -> None:
    """ExaBGP listens once for all that connect to one address, and the TTL that it believes is the listener's."""
    wanted: dict[tuple[Address, int], int | None] = {}
    for peer in peers:
        if peer.passive and wanted.setdefault((peer.local_address, peer.port), peer.ttl_security) != peer.ttl_security:
            raise BgpError(
                f"passive BGP peers at {peer.local_address} port {peer.port} differ in ttl_security, expected the same"
            )


def _fits(peer: Peer, name: str, address: Address) -> None:
    if address.version != peer.address.version:
        raise BgpError(f"BGP peer {peer.address} has the {name} {address}, expected one of IPv{peer.address.version}")
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        raise BgpError(f"BGP peer {peer.address} has the {name} {address}, expected one without a zone")


def _plain(part: str | Path) -> str:
    text = str(part)
    if not _PLAIN_PATH.fullmatch(text) and not re.fullmatch(r"[a-zA-Z0-9.-]+", text):
        raise BgpError(f"{text!r} cannot stand in ExaBGP's configuration, expected a path without spaces and quotes")
    return text


# ---- answers -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to the oldest unanswered command; `done` means queued for the peer, not sent."""

    done: bool


@dataclass(frozen=True, slots=True)
class SessionEvent:
    """One session changed; one outage may yield several "down"."""

    peer: Address
    state: str
    """connected, up or down."""
    reason: str


@dataclass(frozen=True, slots=True)
class Neighbor:
    """A neighbour that ExaBGP has."""

    address: Address
    asn: int
    local_address: Address
    local_as: int


@dataclass(frozen=True, slots=True)
class Sessions:
    """The answer to SHOW_SESSIONS: which sessions are up, and all neighbours whose numbers and addresses are fixed."""

    up: frozenset[Address]
    neighbors: tuple[Neighbor, ...] = ()


@dataclass(frozen=True, slots=True)
class Ignored:
    """A line we have no use for: an event of another kind, a notice."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """A line that should have made sense and did not."""

    why: str


Answer = Reply | SessionEvent | Sessions | Ignored | Malformed

_STATES = frozenset({"connected", "up", "down"})


def parse(line: str) -> Answer:
    """One line of ExaBGP's output, typed; never raises."""
    text = line.strip()
    if text in ("done", "error"):
        return Reply(text == "done")
    if not text.startswith(("{", "[")):
        return Ignored()
    try:
        value = json.loads(text)
        if isinstance(value, list):
            # Its "state" says down in the first second of a session, whose length is then 0 whole seconds.
            established = (each for each in value if each["fsm"] == "ESTABLISHED")
            return Sessions(frozenset(_address(each["peer"]["address"]) for each in established), _neighbors(value))
        if value.get("type") != "state":
            return Ignored()
        neighbor = value["neighbor"]
        if neighbor["state"] not in _STATES:
            return Ignored()
        return SessionEvent(_address(neighbor["address"]["peer"]), neighbor["state"], str(neighbor.get("reason", "")))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return Malformed(f"{type(error).__name__}: {error}")


def _neighbors(value: list[dict[str, Any]]) -> tuple[Neighbor, ...]:
    """Those of whom all is known: a session whose own address or AS is left to the router is not ours to name."""
    found = []
    for each in value:
        here, there = each.get("local", {}), each["peer"]
        with contextlib.suppress(ValueError, TypeError):
            addresses = _address(there["address"]), _address(here.get("address"))
            if isinstance(here.get("as"), int) and isinstance(there.get("as"), int):
                found.append(Neighbor(addresses[0], there["as"], addresses[1], here["as"]))
    return tuple(found)


def _address(text: object) -> Address:
    if not isinstance(text, str):
        raise TypeError("an address must be text")
    return ipaddress.ip_address(text)
