"""Two of our sites as the benchmark starts them: `python -m bench.replicate_anycastle FOLDER ONE OTHER`, until SIGTERM.

Law: the product's own replica, ledger and links, one process for each site, linked by mutual TLS over loopback, with
the settings that a member has when its configuration says nothing about them.
"""

import asyncio
import logging
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from anycastle.clock import SystemClock
from anycastle.replicator import pki
from anycastle.replicator.ledger import Ledger
from anycastle.replicator.message import OLDEST, PROTOCOL, Hello
from anycastle.replicator.peer import Links
from anycastle.replicator.replica import Replica
from anycastle.replicator.settings import GroupSettings, Lease, LinkSettings, ReplicaSettings, Tls
from bench.replicate_systems import free_ports

GROUP = "bench"
NAMES = ("ams", "nyc")
STOP_SECONDS_MAX = 5.0


async def serve(folder: Path, name: str, root: Path, addresses: dict[str, tuple[str, int]]) -> None:
    """One site, until SIGTERM."""
    clock = SystemClock()
    state = folder / name
    state.mkdir(exist_ok=True)
    settings = _replica_settings(name, root, state)
    with ExitStack() as undo:
        ledger = Ledger.open(state / "ledger.sqlite", member=name, groups=(GROUP,))
        undo.callback(ledger.close)
        replica = Replica(settings, ledger, clock=clock, on_change=lambda: None, on_gossip=lambda member, payload: None)
        undo.callback(replica.close)
        links = Links(
            _link_settings(folder, name, addresses),
            Hello(name, OLDEST, ledger.incarnation, NAMES, (), newest=PROTOCOL),
            compatible=lambda hello: "",
            on_event=replica.feed,
            bodies=replica.body,
            clock=clock,
        )
        end = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
        async with asyncio.TaskGroup() as tasks:
            parts = [tasks.create_task(links.run()), tasks.create_task(replica.run(links))]
            await end.wait()
            for part in parts:
                part.cancel()


def _replica_settings(name: str, root: Path, state: Path) -> ReplicaSettings:
    group = GroupSettings(
        name=GROUP, root=root, hosts=("*",), document_root="", application="http://127.0.0.1:9", prefix_depth=1
    )
    return ReplicaSettings(
        member=name,
        members=NAMES,
        sites=NAMES,
        distance=tuple(other for other in NAMES if other != name),
        groups=(group,),
        group_names=(GROUP,),
        lease=Lease(),
        state_dir=state,
    )


def _link_settings(folder: Path, name: str, addresses: dict[str, tuple[str, int]]) -> LinkSettings:
    keys = folder / "pki"
    return LinkSettings(
        member=name,
        listen=addresses[name],
        peers={other: address for other, address in addresses.items() if other != name},
        tls=Tls(authority=keys / "ca.pem", certificate=keys / f"{name}.pem", key=keys / f"{name}.key"),
    )


def pair(folder: Path, one: str, other: str) -> None:
    """Both sites, each a process."""
    if not (folder / "pki").exists():  # else it is a restart
        pki.init(folder / "pki")
        for name in NAMES:
            pki.issue(folder / "pki", name)
    ports = [str(port) for port in free_ports(2)]
    started = [
        subprocess.Popen([sys.executable, "-m", __spec__.name, str(folder), root, *ports, name])
        for name, root in zip(NAMES, (one, other), strict=True)
    ]

    def stop(*_: object) -> None:
        for process in started:
            process.terminate()

    signal.signal(signal.SIGTERM, stop)
    ended = [process.wait() for process in started]
    sys.exit(max(ended))


def main(arguments: Sequence[str]) -> None:
    """The process."""
    if len(arguments) == 3:
        pair(Path(arguments[0]), *arguments[1:])
    else:
        folder, root, one, other, name = arguments
        logging.basicConfig(level=logging.INFO)
        addresses = {member: ("127.0.0.1", int(port)) for member, port in zip(NAMES, (one, other), strict=True)}
        asyncio.run(serve(Path(folder), name, Path(root), addresses))


if __name__ == "__main__":
    main(sys.argv[1:])
