"""Service addresses on a loopback interface, added before their route is announced and removed after it has gone.

Law: `anycastle.bgp.addresses` decides, this carries it out through netlink. Ours are marked in the kernel (IFA_PROTO,
Linux 5.18), so that after a crash the next run knows them again; an address without the mark, or one that nobody
configured, is never removed. Nothing is touched before the first word on what is wanted.
"""

import asyncio
import contextlib
import ipaddress
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from anycastle.bgp.addresses import steps
from anycastle.bgp.route import BgpError
from anycastle.bgp.settings import Address, LoopbackSettings
from anycastle.clock import Clock

log = logging.getLogger("anycastle.bgp.loopback")

MARK = 97
"""IFA_PROTO of our addresses; `ip address show` says `proto 97`. The kernel uses 1 to 3, others are free."""
LOOK_SECONDS = 10.0
"""How often the interface is looked at when nothing changes: somebody may have removed an address."""
RETRY_SECONDS = 2.0
RELEASE_SECONDS_MAX = 1.5
"""At the end the delay is at most this: the program has to end."""
CAP_NET_ADMIN = 12  # <linux/capability.h>
IFA_F_NODAD = 0x02  # <linux/if_addr.h>: usable at once, nobody else on a loopback has it


def problem(settings: LoopbackSettings) -> str:
    """What is missing on this machine, for `anycastle check`; empty when nothing is."""
    if not Path(f"/sys/class/net/{settings.interface}").exists():
        return (
            f"bgp.loopback: there is no interface {settings.interface}, expected one such as lo, or a dummy interface"
        )
    if not capable():
        return (
            "bgp.manage_loopback needs CAP_NET_ADMIN, which this user has not: expected root, or "
            "AmbientCapabilities=CAP_NET_ADMIN in the systemd unit"
        )
    return ""


def capable() -> bool:
    """This process may change addresses."""
    with open("/proc/self/status", encoding="ascii") as file:
        (effective,) = (line.split()[1] for line in file if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> CAP_NET_ADMIN & 1)


class Loopback:
    """`want` says which addresses, `run` sees to it, `release` takes ours away at the end."""

    def __init__(
        self,
        settings: LoopbackSettings,
        managed: Iterable[Address],
        *,
        clock: Clock,
        on_change: Callable[[], None],
    ) -> None:
        """`managed` are all that may ever be ours; `on_change` is called when `lacks` may say something else."""
        self._settings = settings
        self._managed = frozenset(managed)
        self._clock = clock
        self._on_change = on_change
        self._wanted: frozenset[Address] | None = None
        self._present: dict[Address, bool] = {}
        self._free_since: dict[Address, float] = {}
        self._why = "not added yet"
        self._wake = asyncio.Event()
        self.added = 0
        self.removed = 0

    def want(self, addresses: frozenset[Address]) -> None:
        """From now on these; returns at once."""
        if addresses != self._wanted:
            self._wanted = addresses
            self._wake.set()

    def lacks(self, addresses: Iterable[Address]) -> str:
        """Why a route to these must not be announced; empty when all of them are there."""
        missing = sorted(str(address) for address in addresses if address not in self._present)
        if not missing:
            return ""
        return f"{', '.join(missing)} is not on {self._settings.interface}: {self._why}"

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._wake.clear()
            pause = LOOK_SECONDS
            if self._wanted is not None:
                pause = await self._try(self._wanted, self._settings.delay_seconds)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    async def release(self) -> None:
        """Routes are gone: wait for the traffic to follow, then take away what is ours."""
        if self._wanted is None:
            return
        if any(self._present.values()):
            await asyncio.sleep(min(self._settings.delay_seconds, RELEASE_SECONDS_MAX))
        await self._try(frozenset(), 0.0)

    async def _try(self, wanted: frozenset[Address], delay_seconds: float) -> float:
        """One pass; how long until the next, in seconds."""
        before = frozenset(self._present)
        try:
            async with self._interface() as interface:
                pause = await self._pass(interface, wanted, delay_seconds)
        except (BgpError, NetlinkError, OSError) as error:
            why = _plain(error)
            if why != self._why:
                log.error("addresses of %s cannot be changed: %s", self._settings.interface, why)
            self._why, pause = why, RETRY_SECONDS
        else:
            self._why = "it was removed"
        if frozenset(self._present) != before or pause == RETRY_SECONDS:
            self._on_change()
        return pause

    async def _pass(self, interface: "_Interface", wanted: frozenset[Address], delay_seconds: float) -> float:
        self._present = await self._look(interface)
        todo = steps(wanted, self._present, self._free_since, delay_seconds=delay_seconds, now=self._clock.now())
        self._free_since = dict(todo.free_since)
        for address in todo.add:
            await interface.add(address)
            self.added += 1
            log.info("added %s to %s", address, self._settings.interface)
        for address in todo.remove:
            await interface.remove(address)
            self.removed += 1
            log.info("removed %s from %s", address, self._settings.interface)
        if todo.add or todo.remove:
            self._present = await self._look(interface)
            for address in todo.add:
                if not self._present.get(address, True):
                    await interface.remove(address)
                    del self._present[address]
                    raise BgpError("the kernel does not keep who added an address (IFA_PROTO), expected Linux 5.18")
        return max(0.0, min(LOOK_SECONDS, todo.wake - self._clock.now()))

    async def _look(self, interface: "_Interface") -> dict[Address, bool]:
        return {a: marked and a in self._managed for a, marked in (await interface.addresses()).items()}

    @contextlib.asynccontextmanager
    async def _interface(self) -> AsyncIterator["_Interface"]:
        async with AsyncIPRoute() as netlink:
            found = await netlink.link_lookup(ifname=self._settings.interface)
            if not found:
                raise BgpError(f"there is no interface {self._settings.interface}")
            yield _Interface(netlink, found[0])


class _Interface:
    """One interface through netlink; raises NetlinkError and OSError."""

    def __init__(self, netlink: Any, index: int) -> None:
        self._netlink = netlink
        self._index = index

    async def addresses(self) -> dict[Address, bool]:
        """Each with whether it has our mark."""
        dump = await self._netlink.addr("dump", index=self._index)
        found = [(each.get_attr("IFA_ADDRESS"), each.get_attr("IFA_PROTO")) async for each in dump]
        return {ipaddress.ip_address(address): mark == MARK for address, mark in found}

    async def add(self, address: Address) -> None:
        await self._netlink.addr("add", **self._words(address), proto=MARK, flags=IFA_F_NODAD)

    async def remove(self, address: Address) -> None:
        await self._netlink.addr("del", **self._words(address))

    def _words(self, address: Address) -> dict[str, Any]:
        return {"index": self._index, "address": str(address), "prefixlen": address.max_prefixlen}


def _plain(error: Exception) -> str:
    code = error.code if isinstance(error, NetlinkError) else getattr(error, "errno", None)
    if not isinstance(code, int):
        return str(error)
    missing = " (it needs CAP_NET_ADMIN)" if code == 1 and not capable() else ""
    return os.strerror(code).lower() + missing
