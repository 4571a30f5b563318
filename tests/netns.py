"""Hosts of their own on one segment: network namespaces with a veth each into a bridge, gone when the test is over.

Law: nothing of it can reach the machine's own network: there is no route out of the segment. Needs root.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence

_HUB = "hub"


class Segment:
    """The hosts by name."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def inside(self, host: str, *command: str) -> list[str]:
        """The command line that runs `command` on a host."""
        return ["ip", "netns", "exec", self.namespace(host), *command]

    def namespace(self, host: str) -> str:
        return f"{self._prefix}-{host}"


@contextlib.contextmanager
def segment(hosts: Mapping[str, Sequence[str]]) -> Iterator[Segment]:
    """Hosts with their addresses (`192.0.2.1/24`, `2001:db8::1/64`), all reachable when this returns."""
    made = Segment(f"anycastle{os.getpid()}")
    hub = made.namespace(_HUB)
    namespaces = (hub, *map(made.namespace, hosts))
    with contextlib.ExitStack() as undo:
        for namespace in namespaces:
            _ip("netns", "add", namespace)
            undo.callback(_ip, "netns", "del", namespace)
            # Addresses are of use at once: no duplicates are looked for, on the bridge neither.
            _ip("netns", "exec", namespace, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
            _ip("-n", namespace, "link", "set", "lo", "up")
        _ip("-n", hub, "link", "add", "bridge", "type", "bridge", "forward_delay", "0")
        _ip("-n", hub, "link", "set", "bridge", "up")
        for number, (host, addresses) in enumerate(hosts.items()):
            own = made.namespace(host)
            _ip("link", "add", "eth0", "netns", own, "type", "veth", "peer", "name", f"port{number}", "netns", hub)
            _ip("-n", hub, "link", "set", f"port{number}", "master", "bridge", "up")
            for address in addresses:
                _ip("-n", own, "address", "add", address, "dev", "eth0", "nodad")
            _ip("-n", own, "link", "set", "eth0", "up")
        yield made


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
