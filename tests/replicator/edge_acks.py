"""An edge before an application that writes head and body of an answer by themselves, in a network of its own.

`python -m tests.replicator.edge_acks REQUESTS` says how many acknowledgements the kernel kept back meanwhile.
"""

import asyncio
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import aiohttp

from tests.replicator.edge_site import ALICE, site
from tests.replicator.members import HOST


class Handler(BaseHTTPRequestHandler):
    """As Python's own server does."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"photo")

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


def kept_back() -> int:
    """So far, in this network."""
    names, values = (
        line.split() for line in Path("/proc/self/net/netstat").read_text().splitlines() if line.startswith("TcpExt:")
    )
    return int(dict(zip(names, values, strict=True))["DelayedACKs"])


async def main(requests: int) -> None:
    server = ThreadingHTTPServer((HOST, 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    async with site(origin=f"http://{HOST}:{server.server_port}") as made, aiohttp.ClientSession() as client:
        before = kept_back()
        for _ in range(requests):
            async with client.get(made.url(), headers={"Host": ALICE}) as answer:
                assert await answer.read() == b"photo"
        print(kept_back() - before)
    server.shutdown()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
