"""A bad line between network namespaces: delay, loss and a rate, and it can be cut. What netem does, by hand.

Not every kernel has netem. Each host has a TUN device `line0`, and one thread here carries IP packets from one to the
other. Needs root.
"""

import contextlib
import ctypes
import fcntl
import heapq
import ipaddress
import itertools
import os
import random
import select
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

_TUNSETIFF = 0x400454CA
_IFF_TUN_NO_PI = 0x0001 | 0x1000
_CLONE_NEWNET = 0x40000000
MTU_BYTES = 1500
QUEUE_SECONDS_MAX = 0.4
"""What a line holds at its rate; the rest is dropped, as routers do."""


@dataclass
class Wire:
    """The lines of all hosts, in one."""

    prefix: str
    delay_seconds: float
    loss: float
    bytes_per_second: float
    cut: frozenset[tuple[str, str]] = frozenset()
    """(from, to): between these nothing is carried, one way each."""
    carried: int = 0
    lost: int = 0
    _tuns: dict[int, str] = field(default_factory=dict)
    _by_address: dict[bytes, tuple[str, int]] = field(default_factory=dict)
    _free_at: dict[str, float] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _chance: random.Random = field(default_factory=lambda: random.Random(1))

    def inside(self, host: str, *command: str) -> list[str]:
        """The command line that runs `command` on a host."""
        return ["ip", "netns", "exec", f"{self.prefix}-{host}", *command]

    def link(self, host: str, state: str) -> None:
        """`up` or `down`, as when somebody pulls the cable."""
        _ip("-n", f"{self.prefix}-{host}", "link", "set", "line0", state)

    def add(self, host: str, address: str) -> None:
        namespace = f"{self.prefix}-{host}"
        tun = _open_tun(namespace)
        self._tuns[tun] = host
        self._by_address[ipaddress.ip_address(address).packed] = (host, tun)
        _ip("-n", namespace, "address", "add", f"{address}/24", "dev", "line0")
        _ip("-n", namespace, "link", "set", "line0", "mtu", str(MTU_BYTES), "up")

    def carry(self) -> None:
        """Until `stop`."""
        waiting: list[tuple[float, int, int, bytes]] = []
        numbers = itertools.count()
        while not self._stop.is_set():
            now = time.monotonic()
            while waiting and waiting[0][0] <= now:
                _, _, tun, packet = heapq.heappop(waiting)
                with contextlib.suppress(OSError):  # the device is down
                    os.write(tun, packet)
            pause = min(waiting[0][0] - now, 0.1) if waiting else 0.1
            for tun in select.select(list(self._tuns), [], [], max(0.0, pause))[0]:
                try:
                    packet = os.read(tun, MTU_BYTES)
                except OSError:
                    continue
                if due := self._due(self._tuns[tun], packet):
                    heapq.heappush(waiting, (due[0], next(numbers), due[1], packet))

    def _due(self, host: str, packet: bytes) -> tuple[float, int] | None:
        """When and where it comes out."""
        there = self._by_address.get(packet[16:20]) if packet[0] >> 4 == 4 else None
        now = time.monotonic()
        begin = max(now, self._free_at.get(host, 0.0))
        dropped = there is None or (host, there[0]) in self.cut or self._chance.random() < self.loss
        if there is None or dropped or begin - now > QUEUE_SECONDS_MAX:
            self.lost += 1
            return None
        self.carried += 1
        self._free_at[host] = begin + len(packet) / self.bytes_per_second
        return self._free_at[host] + self.delay_seconds, there[1]

    def stop(self) -> None:
        self._stop.set()

    def close(self) -> None:
        for tun in self._tuns:
            os.close(tun)


@contextlib.contextmanager
def wired(hosts: Mapping[str, str], *, delay_seconds: float, loss: float, bits_per_second: float) -> Iterator[Wire]:
    """Hosts with an IPv4 address each, on one bad line. `delay_seconds` is for one way."""
    wire = Wire(f"anycastle{os.getpid()}w", delay_seconds, loss, bits_per_second / 8)
    with contextlib.ExitStack() as undo:
        for host, address in hosts.items():
            namespace = f"{wire.prefix}-{host}"
            _ip("netns", "add", namespace)
            undo.callback(_ip, "netns", "del", namespace)
            _ip("-n", namespace, "link", "set", "lo", "up")
            wire.add(host, address)
        undo.callback(wire.close)
        thread = threading.Thread(target=wire.carry)
        thread.start()
        undo.callback(thread.join)
        undo.callback(wire.stop)
        yield wire


def _open_tun(namespace: str) -> int:
    """In a thread of its own, for a thread is in one namespace."""
    opened: list[int] = []

    def work() -> None:
        with open(f"/run/netns/{namespace}", "rb") as place:
            if ctypes.CDLL(None, use_errno=True).setns(place.fileno(), _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", b"line0", _IFF_TUN_NO_PI))
        opened.append(tun)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert opened, "no TUN device"
    return opened[0]


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
