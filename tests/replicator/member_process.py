"""One member in a process of its own, told what to do by lines of JSON on its standard input, answering in lines.

`python -m tests.replicator.member_process` reads its settings from the first line (see `start`).
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from anycastle.replicator.settings import LinkSettings
from tests.replicator.cluster import GROUP, Site
from tests.replicator.members import tls

ANSWER_SECONDS_MAX = 60.0


async def main() -> None:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    told = json.loads(await lines.readline())
    names = tuple(told["addresses"])
    peers = {name: (address, told["port"]) for name, address in told["addresses"].items()}
    own = peers.pop(told["name"])
    link = LinkSettings(member=told["name"], listen=own, peers=peers, tls=tls(Path(told["pki"]), told["name"]))
    site = Site(Path(told["folder"]), link, names, names, **told["group"])
    await site.start()
    try:
        while line := await lines.readline():
            print(json.dumps(await _answer(site, line.decode().strip())), flush=True)
    finally:
        await site.stop()


async def _answer(site: Site, asked: str) -> Any:
    match asked:
        case "reason":
            return site.reason()
        case "fence":
            refused = await site.fence()
            return "" if refused is None else refused.reason
        case "rest":
            waiting = [os.fsdecode(entry.path) for entry in site.ledger.unlanded(GROUP)][:3]
            return {"journals": site.ledger.detailed()[GROUP], "waiting": waiting}
        case _:
            raise AssertionError(asked)


class Remote:
    """A member in another process."""

    def __init__(self, process: asyncio.subprocess.Process, root: Path) -> None:
        self.root = root
        self._process = process

    async def ask(self, what: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(what.encode() + b"\n")
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            line = await self._process.stdout.readline()
        assert line, "the member ended"
        return json.loads(line)


@asynccontextmanager
async def start(command: Sequence[str], told: dict[str, Any]) -> AsyncIterator[Remote]:
    """`command` goes before the interpreter; `told`: name, addresses, port, pki, folder, group."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = await asyncio.create_subprocess_exec(
        *command, sys.executable, "-m", __name__, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    try:
        assert process.stdin is not None
        process.stdin.write(json.dumps(told).encode() + b"\n")
        yield Remote(process, Path(told["folder"]) / told["name"] / "root")
    finally:
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


if __name__ == "__main__":
    asyncio.run(main())
