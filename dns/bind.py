"""The sockets of all workers, bound by the control process before anything else begins.

Law: all or none. A bind without SO_REUSEPORT comes first, because one with it would quietly share the port with
somebody else's server, and each would get a part of the queries. Only whole addresses are bound, never a wildcard: an
answer must leave from the address that was asked (RFC 2181 section 4). Sockets of the process before are used as they
are, all of them: what waits in one would be lost with it.
"""

import contextlib
import ipaddress
import os
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from anycastle.dns.errors import DnsError

TCP_BACKLOG = 256
UDP_QUEUE_BYTES = 1 << 20
"""The kernel takes it twice and counts 832 bytes for a query, so a socket holds some 2,500 (with most network cards a
third of it); `net.core.rmem_max` may grant less. It is all that limits how old a query is when it is answered, so it is
not larger: whoever answers 10,000 a second is at most 0.25 s behind, and resolvers ask again after 0.4 to 0.8 s."""
EPHEMERAL_TRIES_MAX = 16
_KINDS = (socket.SOCK_DGRAM, socket.SOCK_STREAM)

# Linux: what the kernel says of a socket's memory; absent from the socket module.
_SO_MEMINFO, _MEMINFO, _MEMINFO_DROPS = 55, struct.Struct("=9I"), 8
# Linux: never fragment, and never believe an ICMP message about the path (RFC 9715); absent from the socket module.
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_OMIT = 10, 23, 5


Inherited = Callable[[socket.SocketKind, tuple[str, int]], tuple[socket.socket, ...]]
"""(kind, address) -> the sockets of the process before on that address, which are ours from then on."""


def none_inherited(kind: socket.SocketKind, address: tuple[str, int]) -> tuple[socket.socket, ...]:
    """There was no process before."""
    return ()


@dataclass(frozen=True, slots=True)
class WorkerSockets:
    """What one worker reads."""

    udp: tuple[socket.socket, ...]
    tcp: tuple[socket.socket, ...]

    def close(self) -> None:
        for sock in (*self.udp, *self.tcp):
            sock.close()

    def udp_dropped(self) -> int:
        """Queries that the kernel threw away because the queue was full (and broken packets); modulo 2^32 a socket."""
        told = (udp.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size) for udp in self.udp)
        return sum(_MEMINFO.unpack(each)[_MEMINFO_DROPS] for each in told)


def bind_all(
    listen: Sequence[tuple[str, int]], workers: int, inherited: Inherited = none_inherited
) -> tuple[tuple[tuple[str, int], ...], tuple[WorkerSockets, ...]]:
    """The addresses with their real ports (0 chooses one), and the sockets of each worker. Raises DnsError."""
    for address, port in listen:
        _check_address(address, port)
    with contextlib.ExitStack() as undo:
        kept = [[[undo.enter_context(each) for each in inherited(kind, pair)] for kind in _KINDS] for pair in listen]
        addresses = tuple(
            pair if all(found) else (pair[0], _probe(*pair)) for pair, found in zip(listen, kept, strict=True)
        )
        for pair, found in zip(addresses, kept, strict=True):
            for kind, sockets in zip(_KINDS, found, strict=True):
                sockets += [undo.enter_context(_open(*pair, kind)) for _ in range(len(sockets), workers)]
        undo.pop_all()
    return addresses, tuple(
        WorkerSockets(*(tuple(each for found in kept for each in found[kind][number::workers]) for kind in (0, 1)))
        for number in range(workers)
    )


def check_free(listen: Sequence[tuple[str, int]]) -> None:
    """They are bound when there is something to answer; a port that is taken must show before anything starts.

    Raises DnsError.
    """
    _, sockets = bind_all(listen, 1)
    for each in sockets:
        each.close()


def _check_address(address: str, port: int) -> None:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        raise DnsError(f"cannot listen for DNS on {address!r}: expected an IP address") from None
    if parsed.is_unspecified:
        raise DnsError(
            f"cannot listen for DNS on {_show(address, port)}: expected each address by itself, "
            "because an answer must leave from the address that was asked"
        )


def _probe(address: str, port: int) -> int:
    """The port, found to be free for both UDP and TCP. Raises DnsError."""
    tries = 1 if port else EPHEMERAL_TRIES_MAX
    for attempt in range(1, tries + 1):
        with _socket(address, socket.SOCK_DGRAM) as udp, _socket(address, socket.SOCK_STREAM) as tcp:
            # Connections of a former run may linger; this does not share the port with a live listener.
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                protocol = "UDP"
                udp.bind((address, port))
                chosen = int(udp.getsockname()[1])
                protocol = "TCP"
                tcp.bind((address, chosen))
                tcp.listen(1)
            except OSError as error:
                if attempt == tries:
                    raise _cannot(address, port, protocol, error) from None
            else:
                return chosen
    raise AssertionError("the last try returns or raises")


def _open(address: str, port: int, kind: socket.SocketKind) -> socket.socket:
    """One bound socket. Raises DnsError."""
    sock = _socket(address, kind)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if kind is socket.SOCK_DGRAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UDP_QUEUE_BYTES)
            if sock.family == socket.AF_INET:
                sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_OMIT)
            else:
                sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_OMIT)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        if kind is socket.SOCK_STREAM:
            sock.listen(TCP_BACKLOG)
    except OSError as error:
        sock.close()
        raise _cannot(address, port, "UDP" if kind is socket.SOCK_DGRAM else "TCP", error) from None
    sock.setblocking(False)
    return sock


def _socket(address: str, kind: socket.SocketKind) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        sock = socket.socket(family, kind)
    except OSError as error:
        raise DnsError(f"cannot open a socket for {address}: {error.strerror}") from None
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return sock


def _cannot(address: str, port: int, protocol: str, error: OSError) -> DnsError:
    reason = os.strerror(error.errno or 0)
    return DnsError(f"cannot listen for DNS on {_show(address, port)} ({protocol}): {reason}")


def _show(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
