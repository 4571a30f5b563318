"""Why a session does not come up, as far as this end can see: what the kernel shows of its TCP connection.

Law: reading only, and nothing is sent to the router to find out. ExaBGP says nothing of a router that does not answer,
and a router with another TCP MD5 key, or one whose TTL check drops us, does not answer.
"""

import enum
import ipaddress
import struct
from pathlib import Path

from anycastle.bgp.settings import Address, Peer

TABLE_BYTES_MAX = 4 * 1024 * 1024


class Tcp(enum.Enum):
    """The connection to a router."""

    NONE = "none"
    ASKED = "asked"
    """Our SYN has no answer."""
    OPEN = "open"


_STATES = {"02": Tcp.ASKED, "01": Tcp.OPEN}  # <net/tcp_states.h>


def connection(peer: Peer, table: str) -> Tcp:
    """What /proc/net/tcp or tcp6 (`table`) has of it."""
    found = Tcp.NONE
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 4 or fields[3] not in _STATES:
            continue
        ours, theirs = _end(fields[1]), _end(fields[2])
        port = ours[1] if peer.passive else theirs[1]
        if (theirs[0], port) == (peer.address, peer.port):
            found = _STATES[fields[3]]
    return found


def _end(text: str) -> tuple[Address, int]:
    """`0100007F:00B3`: the address in words of the machine's own byte order."""
    address, _, port = text.partition(":")
    words = (int(address[at : at + 8], 16) for at in range(0, len(address), 8))
    return ipaddress.ip_address(b"".join(struct.pack("=I", word) for word in words)), int(port, 16)


def look(peer: Peer) -> Tcp:
    """The present state of the connection; NONE where the kernel does not say."""
    try:
        with Path("/proc/net/tcp" if peer.address.version == 4 else "/proc/net/tcp6").open("rb") as file:
            return connection(peer, file.read(TABLE_BYTES_MAX).decode("ascii", "replace"))
    except OSError:
        return Tcp.NONE


def explain(peer: Peer, tcp: Tcp) -> str:
    """One line for the operator; empty when this end knows no more than ExaBGP says."""
    if peer.passive and tcp is Tcp.NONE:
        return f"{peer.address} has not connected to {peer.local_address} port {peer.port}"
    match tcp:
        case Tcp.ASKED:
            return f"{peer.address} does not answer on TCP port {peer.port}: {'; or '.join(_silent(peer))}"
        case Tcp.OPEN:
            return f"TCP to {peer.address} is up, but it does not answer our OPEN: {_deaf(peer)}"
        case _:
            return ""


def _silent(peer: Peer) -> list[str]:
    if peer.md5 is None:
        causes = ["it expects a TCP MD5 key, and md5_file is not set"]
    else:
        causes = ["it has another TCP MD5 key than md5_file, or none"]
    if peer.ttl_security is not None:
        causes.append(f"it is more than ttl_security = {peer.ttl_security} hops away")
    if peer.multihop is not None:
        causes.append(f"it is more than multihop = {peer.multihop} hops away")
    return [*causes, "a filter is in between"]


def _deaf(peer: Peer) -> str:
    if peer.ttl_security is None:
        return "if it checks TTLs (GTSM), ttl_security is needed here"
    return "we are more hops away than its TTL check (GTSM) allows, or it is not configured for us"
