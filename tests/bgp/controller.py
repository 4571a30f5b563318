"""A controller process of its own, for the tests that stop or kill one.

    controller.py RUN_DIR PEER PORT CONTENT NAMESERVER

Prints ExaBGP's process id once both prefixes are acknowledged.
"""

import asyncio
import ipaddress
import sys
from pathlib import Path

from anycastle.bgp.route import RouteState, Wanted, parse_prefix
from anycastle.bgp.settings import BgpSettings, Peer, RouteRule
from anycastle.bgp.speaker import Speaker
from anycastle.clock import SystemClock


async def main(run_dir: str, address: str, port: str, content: str, nameserver: str) -> None:
    local = ipaddress.ip_address("127.0.0.1")
    settings = BgpSettings(
        member="ams",
        router_id=ipaddress.IPv4Address("127.0.0.1"),
        local_as=64500,
        peers=(Peer(address=ipaddress.ip_address(address), asn=64499, local_address=local, port=int(port)),),
        rules=(
            RouteRule(prefix=parse_prefix(content), group="blogs"),
            RouteRule(prefix=parse_prefix(nameserver), group=None, nameserver=True, kept_while_hung=True),
        ),
        run_dir=Path(run_dir),
    )
    said = asyncio.Event()

    def changed() -> None:
        if speaker is not None and speaker.announced() == {content, nameserver} and not said.is_set():
            said.set()
            print(speaker.exabgp_pid, flush=True)

    speaker: Speaker | None = None
    speaker = Speaker(settings, clock=SystemClock(), dead_man_seconds=2.0, on_change=changed)
    routes = [Wanted(prefix=rule.prefix, state=RouteState.NORMAL, reason="") for rule in settings.rules]
    speaker.set_routes(tuple(routes))
    await speaker.run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
