"""ExaBGP's text: the configuration it is started with, the command lines it is told, the lines it answers.

Law: pure, and nothing but addresses, numbers and fixed words ever reaches a command line. ExaBGP finds its commands by
substring, so that a stray word in a line may shut it down (docs/bgp.md); `Command` refuses every line outside
a grammar of digits and known words. Checked against exabgp 5.0.15.
"""

import ipaddress
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from anycastle.bgp.route import BgpError, RouteState
from anycastle.bgp.settings import Address, BgpSettings, Peer, Prefix

PROCESS_NAME = "ctl"

_NUMBER = r"(?:0|[1-9][0-9]{0,9})"
_ADDRESS = r"[0-9a-f.:]{2,45}"
_ATTRIBUTES = (
    rf"(?: med {_NUMBER})?(?: local-preference {_NUMBER})?"
    rf"(?: as-path \[(?: {_NUMBER}){{1,8}} \])?(?: community \[ 65535:0 \])?"
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
    attributes = _attributes(state, settings.local_as, internal=peer.asn == settings.local_as)
    return Command(f"neighbor {peer.address} announce route {prefix} next-hop {_next_hop(peer)}{attributes}")


def withdraw(peer: Peer, prefix: Prefix) -> Command:
    """The line that takes `prefix` away from `peer`; an UPDATE goes out even when it was never announced."""
    return Command(f"neighbor {peer.address} withdraw route {prefix} next-hop {_next_hop(peer)}")


def carries(peer: Peer, prefix: Prefix) -> bool:
    """A session carries its own address family only: "next-hop self" of the other one is an error in ExaBGP."""
    return peer.address.version == prefix.version


def _next_hop(peer: Peer) -> str:
    return "self" if peer.next_hop is None else str(peer.next_hop)


def _attributes(state: RouteState, local_as: int, *, internal: bool) -> str:
    """States to attributes. Within one AS our own number in the path would be a loop, so LOCAL_PREF says it there.

    MED is compared only between routes from one neighbouring AS, the longer path by everybody; an as-path in a command
    replaces the whole path, so it holds our own number once more than it is prepended.
    """
    match state:
        case RouteState.NORMAL:
            return " med 100" + (" local-preference 100" if internal else "")
        case RouteState.DEGRADED:
            return " med 500" + _worse(local_as, 50, internal=internal)
        case RouteState.DRAINED:
            # GRACEFUL_SHUTDOWN (RFC 8326), in digits: its name in letters shuts ExaBGP down.
            return " med 1000" + _worse(local_as, 0, internal=internal) + " community [ 65535:0 ]"
        case RouteState.WITHDRAWN:
            raise BgpError("a withdrawn route has no attributes, expected withdraw()")
        case _:
            assert_never(state)


def _worse(local_as: int, local_preference: int, *, internal: bool) -> str:
    return f" local-preference {local_preference}" if internal else f" as-path [ {local_as} {local_as} {local_as} ]"


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
    password = "" if peer.md5 is None else f' md5-password "{peer.md5}";'
    family = "ipv4" if peer.address.version == 4 else "ipv6"
    return (
        f"neighbor {peer.address} {{ router-id {settings.router_id}; local-address {peer.local_address}; "
        f"local-as {settings.local_as}; peer-as {peer.asn}; hold-time {peer.hold_time_seconds}; connect {peer.port};"
        f"{password} family {{ {family} unicast; }} api {{ processes [ {PROCESS_NAME} ]; neighbor-changes; }} }}"
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
class Sessions:
    """The answer to SHOW_SESSIONS: the addresses of all peers, and which of them are up."""

    up: frozenset[Address]


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
            return Sessions(frozenset(_address(each["peer"]["address"]) for each in established))
        if value.get("type") != "state":
            return Ignored()
        neighbor = value["neighbor"]
        if neighbor["state"] not in _STATES:
            return Ignored()
        return SessionEvent(_address(neighbor["address"]["peer"]), neighbor["state"], str(neighbor.get("reason", "")))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return Malformed(f"{type(error).__name__}: {error}")


def _address(text: object) -> Address:
    if not isinstance(text, str):
        raise TypeError("an address must be text")
    return ipaddress.ip_address(text)
