"""A plain streaming proxy with aiohttp, to compare with: `python -m bench.edge_proxy PORT URL`, until SIGTERM."""

import asyncio
import sys
from collections.abc import Sequence

import aiohttp
from aiohttp import web

CHUNK_BYTES = 64 * 1024


async def serve(port: int, origin: str) -> None:
    """The least that a proxy does: the request as it is, the answer chunk by chunk."""
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(auto_decompress=False, timeout=timeout) as session:

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            body = request.content if request.body_exists else None
            async with session.request(
                request.method, origin + request.raw_path, headers=request.headers, data=body, allow_redirects=False
            ) as upstream:
                answer = web.StreamResponse(status=upstream.status, headers=upstream.headers)
                await answer.prepare(request)
                async for chunk in upstream.content.iter_chunked(CHUNK_BYTES):
                    await answer.write(chunk)
                await answer.write_eof()
            return answer

        runner = web.ServerRunner(web.Server(handle, access_log=None))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.get_running_loop().create_future()


def main(arguments: Sequence[str]) -> None:
    """The process."""
    asyncio.run(serve(int(arguments[0]), arguments[1]))


if __name__ == "__main__":
    main(sys.argv[1:])
