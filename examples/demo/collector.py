"""A route collector for the demo: a second ExaBGP, listening, that says which routes really arrived from whom.

Law: pip only, no root: one address, one high port, several passive neighbours. It never announces anything. What
`table()` says comes from UPDATE messages received over TCP, not from what any sender believes.

    collector = Collector(folder, "127.0.0.9", 1790, asn=64499, peers={"127.0.0.1": 64500, "127.0.0.2": 64500})
    collector.table()      # {("127.0.0.1", "198.51.100.0/24"): Attributes(med=100, …)}
    collector.close()
"""

import ipaddress
import json
import os
import pwd
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TERM_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Attributes:
    """One route as it was received."""

    med: int | None
    as_path: tuple[int, ...]
    communities: tuple[str, ...]
    """As "65535:0"."""
    next_hop: str


class Collector:
    """Runs from construction to `close`; `table` and `sessions` may be called at any time, from one thread."""

    def __init__(self, folder: Path, address: str, port: int, *, asn: int, peers: Mapping[str, int]) -> None:
        """Listens on `address`:`port` as `asn`; `peers` are the senders' addresses with their AS numbers."""
        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        self._events_path = folder / "events"
        self._events_path.write_bytes(b"")
        self._offset = 0
        self._rest = b""
        self._routes: dict[tuple[str, str], Attributes] = {}
        self._up: set[str] = set()
        configuration = folder / "collector.conf"
        child = f"{sys.executable} -I {Path(__file__).resolve()} {self._events_path}"
        lines = [f"process log {{ run {child}; encoder json; respawn true; }}"]
        lines += [_neighbor(address, port, asn, peer, peer_as) for peer, peer_as in peers.items()]
        configuration.write_text("\n".join(lines) + "\n")
        self._log = open(folder / "collector.log", "wb")  # noqa: SIM115 - closed in close()
        self._process = subprocess.Popen(
            [*_tied_to_us(), Path(sys.executable).with_name("exabgp"), "server", configuration],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=_environment(),
            start_new_session=True,
        )

    def table(self) -> dict[tuple[str, str], Attributes]:
        """(peer, prefix) -> attributes, of all sessions that are up."""
        self._read()
        return dict(self._routes)

    def sessions(self) -> frozenset[str]:
        """The peers whose session is up."""
        self._read()
        return frozenset(self._up)

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(TERM_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _read(self) -> None:
        with open(self._events_path, "rb") as file:
            file.seek(self._offset)
            data = file.read()
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(json.loads(line))

    def _take(self, event: dict[str, Any]) -> None:
        if event.get("type") not in ("state", "update"):
            return
        neighbor = event["neighbor"]
        peer = neighbor["address"]["peer"]
        if event["type"] == "state":
            self._session(peer, neighbor["state"])
            return
        update = neighbor["message"].get("update", {})
        for routes in update.get("withdraw", {}).values():
            for route in routes:
                self._routes.pop((peer, route["nlri"]), None)
        for next_hops in update.get("announce", {}).values():
            for next_hop, routes in next_hops.items():
                for route in routes:
                    if "nlri" in route:  # else it marks the end of the table
                        self._routes[peer, route["nlri"]] = _attributes(update.get("attribute", {}), next_hop)

    def _session(self, peer: str, state: str) -> None:
        if state == "up":
            self._up.add(peer)
            return
        self._up.discard(peer)
        self._routes = {key: value for key, value in self._routes.items() if key[0] != peer}


def _attributes(said: dict[str, Any], next_hop: str) -> Attributes:
    path = said.get("as-path", {})
    return Attributes(
        med=said.get("med"),
        as_path=tuple(number for part in path.values() for number in part["value"]),
        communities=tuple(f"{high}:{low}" for high, low in said.get("community", [])),
        next_hop=next_hop,
    )


def _neighbor(address: str, port: int, asn: int, peer: str, peer_as: int) -> str:
    here, there = ipaddress.ip_address(address), ipaddress.ip_address(peer)
    family = f"ipv{there.version}"
    return (
        f"neighbor {there} {{ router-id 127.0.0.254; local-address {here}; local-as {asn}; peer-as {peer_as}; "
        f"hold-time 9; passive true; listen {port}; family {{ {family} unicast; }} "
        "api { processes [ log ]; neighbor-changes; receive { parsed; update; } } }"
    )


def _tied_to_us() -> list[str | Path]:
    """The announcer's own launcher: ExaBGP ends with us, however we end."""
    from anycastle.bgp import launch  # here, because ExaBGP's child runs this file too and needs none of it

    return [sys.executable, "-I", Path(launch.__file__).resolve(), str(os.getpid())]


def _environment() -> dict[str, str]:
    user = pwd.getpwuid(os.geteuid()).pw_name
    settings = {"api_cli": "false", "daemon_user": user, "log_level": "WARNING", "log_statistics": "false"}
    return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"} | {f"exabgp_{key}": value for key, value in settings.items()}


def _child(events: str) -> None:
    """Run by ExaBGP: what it says goes to the file, whole lines at once, so that it never waits for us."""
    with open(events, "ab", buffering=0) as file:
        for line in sys.stdin.buffer:
            file.write(line)


if __name__ == "__main__":
    _child(sys.argv[1])
