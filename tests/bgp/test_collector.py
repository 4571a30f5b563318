"""The demo's collector against our own speaker: two independent ends of a real session."""

import asyncio
import ipaddress
from pathlib import Path

from anycastle.bgp.settings import BgpSettings, Peer
from anycastle.bgp.speaker import Speaker
from anycastle.clock import SystemClock
from examples.demo.collector import Attributes, Collector
from tests.bgp.router import OWN_AS, ROUTER_AS, eventually, prefix, settings, want
from tests.ports import free_port

A, B = prefix("a"), prefix("b")


def site(run_dir: Path, local: str, port: int) -> BgpSettings:
    address = ipaddress.ip_address("127.0.0.9")
    return settings(
        run_dir, (Peer(address=address, asn=ROUTER_AS, local_address=ipaddress.ip_address(local), port=port),)
    )


async def test_two_sites_are_told_apart_and_leave_one_by_one(tmp_path: Path) -> None:
    port = free_port("127.0.0.9")
    peers = {"127.0.0.1": OWN_AS, "127.0.0.2": OWN_AS}
    collector = Collector(tmp_path / "collector", "127.0.0.9", port, asn=ROUTER_AS, peers=peers)
    first = Speaker(site(tmp_path / "one", "127.0.0.1", port), clock=SystemClock())
    second = Speaker(site(tmp_path / "two", "127.0.0.2", port), clock=SystemClock())
    normal = (100, (OWN_AS,), ())
    drained = (1000, (OWN_AS,) * 3, ("65535:0",))
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(first.run())
            group.create_task(second.run())
            first.set_routes(want(a="normal", b="normal"))
            second.set_routes(want(a="drained"))
            await eventually(
                lambda: (
                    collector.table()
                    == {
                        ("127.0.0.1", A): Attributes(*normal, "127.0.0.1"),
                        ("127.0.0.1", B): Attributes(*normal, "127.0.0.1"),
                        ("127.0.0.2", A): Attributes(*drained, "127.0.0.2"),
                    }
                )
            )
            assert collector.sessions() == set(peers)
            first.set_routes(want(b="normal"))
            await second.close(withdraw=False)
            await eventually(lambda: collector.table().keys() == {("127.0.0.1", B)})
            await eventually(lambda: collector.sessions() == {"127.0.0.1"})
            await first.close()
            await eventually(lambda: collector.table() == {})
    finally:
        collector.close()
