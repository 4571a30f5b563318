"""Which customers' hosts an edge works for most: requests, those that write, and those that were refused. Pure.

Law: at most `hosts_max` hosts are counted; when there are more, the less busy half is counted as one, under no name, so
that ten thousand customers, or a flood of invented names below a wildcard, cost neither memory nor time.
"""

from dataclasses import dataclass

HOSTS_MAX = 1000


@dataclass(slots=True)
class HostCount:
    """Since the member started, or since the host was last among the less busy."""

    requests: int = 0
    writes: int = 0
    refused: int = 0


class HostCounts:
    """Of one edge."""

    def __init__(self, hosts_max: int = HOSTS_MAX) -> None:
        assert hosts_max >= 2
        self._hosts_max = hosts_max
        self._counts: dict[str, HostCount] = {}
        self.others = HostCount()

    def __len__(self) -> int:
        return len(self._counts)

    def count(self, host: str, *, write: bool, refused: bool) -> None:
        found = self._counts.get(host)
        if found is None:
            if len(self._counts) >= self._hosts_max:
                self._forget()
            found = self._counts[host] = HostCount()
        found.requests += 1
        found.writes += write
        found.refused += refused

    def busiest(self, count: int) -> list[tuple[str, HostCount]]:
        """The first is the busiest. O(hosts): called when somebody looks."""
        return sorted(self._counts.items(), key=lambda each: -each[1].requests)[:count]

    def _forget(self) -> None:
        kept = self.busiest(self._hosts_max // 2)
        names = {host for host, _ in kept}
        for host, gone in self._counts.items():
            if host not in names:
                self.others.requests += gone.requests
                self.others.writes += gone.writes
                self.others.refused += gone.refused
        self._counts = dict(kept)
