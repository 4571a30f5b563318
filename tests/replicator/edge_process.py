"""One site's edge in a process of its own, so that it can be stopped: links, a gate that serves all, an application.

`python -m tests.replicator.edge_process` reads its link settings from the first line of its input, and says `ready`.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from anycastle.replicator.settings import LinkSettings
from tests.replicator.edge_site import site
from tests.replicator.members import Member, listening, tls


async def main() -> None:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    told = json.loads(await lines.readline())
    name, peers = told["name"], {member: (host, port) for member, (host, port) in told["addresses"].items()}
    own = peers.pop(name)
    member = Member(LinkSettings(member=name, listen=own, peers=peers, tls=tls(Path(told["pki"]), name)))
    async with site(name) as here:
        here.application.special["/endless"] = _endless
        member.links.edge_handler = here.edge.handle_forwarded
        async with listening(member):
            print("ready", flush=True)
            while await lines.readline():
                pass


async def _endless(request: web.BaseRequest) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    while True:
        await answer.write(b"x" * 10_000)
        await asyncio.sleep(0.001)


class Apart:
    """A site that can be stopped in the middle of anything."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    def stop(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def apart(pki: Path, settings: LinkSettings) -> AsyncIterator[Apart]:
    addresses = {**settings.peers, settings.member: settings.listen}
    told = {"name": settings.member, "pki": str(pki), "addresses": addresses}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(told).encode() + b"\n")
        assert (await process.stdout.readline()).strip() == b"ready"
        yield Apart(process)
    finally:
        process.kill()
        await process.wait()


if __name__ == "__main__":
    asyncio.run(main())
