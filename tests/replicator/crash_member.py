"""A real member in a process of its own, for tests that end it by SIGKILL; and the process that forks such members.

Forked from one that has everything imported, a member starts within milliseconds. It is told what to do over a Unix
socket, one JSON object a line, and answers each in one.
"""

import asyncio
import ctypes
import dataclasses
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from anycastle.replicator import fault_point
from anycastle.replicator.settings import Lease
from tests.replicator.cluster import GROUP, Site
from tests.replicator.members import link_settings

PR_SET_PDEATHSIG = 1
LEASE = Lease(term_seconds=0.4, renewal_seconds=0.1)


def zygote() -> None:
    """Forks a member for each line, and prints its process id. Must have no threads."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                os.dup2(os.open("/dev/null", os.O_RDWR), 1)
                asyncio.run(Member(json.loads(line)).run())
            finally:
                os._exit(1)
        print(pid, flush=True)


class Member:
    """What runs in the child."""

    def __init__(self, told: dict[str, Any]) -> None:
        names = tuple(told["names"])
        folder = Path(told["folder"])
        ports = {name: ("127.0.0.1", port) for name, port in told["ports"].items()}
        link = link_settings(folder / "pki", names)[told["name"]]
        link = dataclasses.replace(
            link, listen=ports[link.member], peers={name: ports[name] for name in names if name != link.member}
        )
        self.site = Site(folder, link, names, names)
        self.site.settings = dataclasses.replace(self.site.settings, lease=LEASE)
        self.socket = told["socket"]

    async def run(self) -> None:
        await self.site.start()
        server = await asyncio.start_unix_server(self._serve, self.socket)
        await server.serve_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            answer = await self._do(json.loads(line))
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()

    async def _do(self, order: dict[str, Any]) -> Any:
        match order:
            case {"arm": name, "times": times}:
                fault_point.arm(fault_point.Point[name] if name else None, times)
                return True
            case {"may_write": _}:
                return self.site.replica.gate.may_write(GROUP) is None
            case {"fence": _}:
                return await self.site.fence() is None
            case _:
                ledger = self.site.ledger
                return {
                    "reason": self.site.reason(),
                    "detailed": ledger.detailed()[GROUP],
                    "unlanded": sum(1 for _ in ledger.unlanded(GROUP)),
                }


if __name__ == "__main__":
    zygote()
