"""A site of its own, for tests in network namespaces: an announcer, and a service that says which site answered.

    python -m tests.bgp.site SETTINGS SERVICE-ADDRESS

SETTINGS is a pickled BgpSettings. Each line of standard input is a view (JSON); its end stops the site in order. A
datagram to port 7 of the service address comes back with the site's name in front. Twice a second its standard output
gets a line: the status of all routers as JSON.
"""

import asyncio
import pickle
import sys
from pathlib import Path
from typing import cast

import msgspec

from anycastle.bgp.announcer import Announcer
from anycastle.bgp.settings import BgpSettings
from anycastle.clock import SystemClock
from anycastle.health.view import View

ECHO_PORT = 7


class Echo(asyncio.DatagramProtocol):
    def __init__(self, name: str) -> None:
        self._name = name.encode()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self._transport.sendto(self._name + b" " + data, address)


async def say(announcer: Announcer) -> None:
    while True:
        print(msgspec.json.encode(announcer.status()).decode(), flush=True)
        await asyncio.sleep(0.5)


async def main(settings: BgpSettings, service: str) -> None:
    loop = asyncio.get_running_loop()
    echo, _ = await loop.create_datagram_endpoint(lambda: Echo(settings.member), local_addr=(service, ECHO_PORT))
    lines = asyncio.StreamReader(limit=1024 * 1024)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    announcer = Announcer(settings, SystemClock())
    async with asyncio.TaskGroup() as group:
        group.create_task(announcer.run())
        saying = group.create_task(say(announcer))
        while line := await lines.readline():
            announcer.update(msgspec.json.decode(line, type=View), "")
        saying.cancel()
        await announcer.close()
    echo.close()


if __name__ == "__main__":
    asyncio.run(main(pickle.loads(Path(sys.argv[1]).read_bytes()), sys.argv[2]))
