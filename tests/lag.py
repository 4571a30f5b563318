"""Two network namespaces with a line between them on which packets take their time: real kernels, real round trips.

Law: everything is held by descriptors and threads of this process, so nothing of it outlives the test. The line is a
TUN device at each end and a thread that hands packets over, each when it is due.
"""

import contextlib
import ctypes
import fcntl
import heapq
import itertools
import os
import select
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

CLIENT = "198.18.0.9"
"""In a network for benchmarks (RFC 2544), as all addresses here; the servers' stand in the same /24."""
NEEDED = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/dev/net/tun").exists(), reason="needs root and /dev/net/tun for a line of its own"
)

_CLONE_NEWNET = 0x40000000
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 1, 0x1000
_libc = ctypes.CDLL(None, use_errno=True)
Found = TypeVar("Found")


@dataclass(frozen=True)
class Line:
    """Descriptors of the two namespaces."""

    servers: int
    clients: int


def inside(namespace: int, work: Callable[[], Found]) -> Found:
    """What `work` gives in a thread of the namespace; what it starts there stays there."""
    found: list[Found] = []

    def run() -> None:
        _check(_libc.setns(namespace, _CLONE_NEWNET), "setns")
        found.append(work())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found, "the work failed; its own message is above"
    return found[0]


@contextlib.contextmanager
def entered(namespace: int) -> Iterator[None]:
    """This thread, and what it starts, is in the namespace meanwhile."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    _check(_libc.setns(namespace, _CLONE_NEWNET), "setns")
    try:
        yield
    finally:
        _check(_libc.setns(home, _CLONE_NEWNET), "setns")
        os.close(home)


@contextlib.contextmanager
def line(round_trip_seconds: dict[str, float], *, congestion: str = "") -> Iterator[Line]:
    """By server's address, how long a packet takes to it and back from CLIENT.

    `congestion`: TCP's congestion control at both ends instead of the machine's own; kernels let new namespaces have
    `reno`, which never paces, and few others.
    """
    one_way = {socket.inet_aton(server): seconds / 2 for server, seconds in round_trip_seconds.items()}
    servers, server_end = _namespace([*round_trip_seconds], f"{CLIENT}/32", congestion)
    clients, client_end = _namespace([CLIENT], "198.18.0.0/24", congestion)
    over, ending = os.pipe()
    relay = threading.Thread(target=_relay, args=(server_end, client_end, over, one_way))
    relay.start()
    try:
        yield Line(servers, clients)
    finally:
        os.close(ending)
        relay.join()
        for descriptor in (over, server_end, client_end, servers, clients):
            os.close(descriptor)


def _namespace(addresses: list[str], route: str, congestion: str) -> tuple[int, int]:
    """A new namespace with its end of the line: both descriptors."""
    found: list[int] = []

    def make() -> None:
        _check(_libc.unshare(_CLONE_NEWNET), "unshare")
        found.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))
        found.append(os.open("/dev/net/tun", os.O_RDWR))
        fcntl.ioctl(found[1], _TUNSETIFF, struct.pack("16sH14x", b"line", _IFF_TUN | _IFF_NO_PI))
        commands = [
            "link set lo up",
            *(f"address add {address}/32 dev line" for address in addresses),
            "link set line up",
            f"route add {route} dev line",
        ]
        for command in commands:
            subprocess.run(["ip", *command.split()], check=True)
        if congestion:
            subprocess.run(["sysctl", "-qw", f"net.ipv4.tcp_congestion_control={congestion}"], check=True)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    namespace, tun = found
    return namespace, tun


def _relay(server_end: int, client_end: int, over: int, one_way: dict[bytes, float]) -> None:
    waiting: list[tuple[float, int, int, bytes]] = []
    number = itertools.count()
    while True:
        patience = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        ready = select.select([server_end, client_end, over], [], [], patience)[0]
        if over in ready:
            return
        for end in ready:
            packet = os.read(end, 65536)
            if packet[0] >> 4 == 4:
                server = packet[12:16] if end == server_end else packet[16:20]
                due = time.monotonic() + one_way.get(server, 0.0)
                heapq.heappush(waiting, (due, next(number), client_end if end == server_end else server_end, packet))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, end, packet = heapq.heappop(waiting)
            os.write(end, packet)


def _check(status: int, call: str) -> None:
    if status != 0:
        raise OSError(ctypes.get_errno(), call)
