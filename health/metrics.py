"""The snapshot as Prometheus samples, made when somebody scrapes.

Law: every name is `anycastle_<part>_<what>_<unit>` and fits NAME; a test looks at all of them. What grows without limit
(paths, clients) is never a label.
"""

import re
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from anycastle.health.report import Snapshot
from anycastle.health.view import Health

PARTS = ("app", "bgp", "dns", "edge", "health", "replicator")
UNITS = (
    *(
        "bool",
        "bytes",
        "connections",
        "entries",
        "generation",
        "networks",
        "paths",
        "per_second",
        "records",
        "requests",
    ),
    *("routes", "seconds", "serial", "total", "version"),
)
NAME = re.compile(rf"anycastle_({'|'.join(PARTS)})_[a-z0-9]+(_[a-z0-9]+)*_({'|'.join(UNITS)})")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Row = tuple[tuple[str, ...], float]


class Exporter:
    """A registry of its own: nothing of the interpreter or of other libraries slips in."""

    def __init__(self, status: Callable[[], Snapshot]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Collector(status))

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self._registry)


class _Collector(Collector):
    def __init__(self, status: Callable[[], Snapshot]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        return samples(self._status())

    def describe(self) -> list[Metric]:
        """Empty: registering must not ask for a snapshot before the application is up."""
        return []


def samples(snapshot: Snapshot) -> Iterator[Metric]:
    """All metric families of one snapshot."""
    yield from _member(snapshot)
    yield from _health(snapshot)
    yield from _replicator(snapshot)
    yield from _bgp(snapshot)
    yield from _dns(snapshot)
    yield from _counters(snapshot)
    yield from _levels(snapshot)


def _member(snapshot: Snapshot) -> Iterator[Metric]:
    yield _gauge("app_uptime_seconds", "Since this member started.", (), [((), snapshot.uptime_seconds)])
    yield _gauge("app_picture_generation", "Grows with each change shown.", (), [((), snapshot.generation)])
    yield _gauge("health_isolated_bool", "This member has lost everybody.", (), [((), float(snapshot.isolated))])


def _health(snapshot: Snapshot) -> Iterator[Metric]:
    sites = snapshot.sites
    states = [((site.name, state.value), float(site.health == state.value)) for site in sites for state in Health]
    yield _gauge("health_site_state_bool", "1 for the health a site is held to be in.", ("site", "state"), states)
    ages = [((site.name,), site.since_seconds) for site in sites]
    yield _gauge("health_site_unchanged_seconds", "Since the health last changed.", ("site",), ages)
    drained = [((site.name,), float("*" in site.drained)) for site in sites]
    yield _gauge("health_site_drained_bool", "The whole site is drained by an operator.", ("site",), drained)
    loads = [((site.name,), site.load) for site in sites]
    yield _gauge("edge_site_requests_per_second", "Load of a site's edge.", ("site",), loads)


def _replicator(snapshot: Snapshot) -> Iterator[Metric]:
    labels = ("site", "group")
    held = [((site.name, name), group) for site in snapshot.sites for name, group in site.groups.items()]
    current = [(key, float(group.current)) for key, group in held]
    yield _gauge("replicator_current_bool", "The site holds leases from a majority for the group.", labels, current)
    gated = [(key, float(bool(group.gated))) for key, group in held]
    yield _gauge("health_group_gated_bool", "A probe that the group requires keeps users from the site.", labels, gated)
    lag = [(key, group.lag_seconds) for key, group in held]
    yield _gauge("replicator_lag_seconds", "Age of the oldest change that has not landed.", labels, lag)

    axes = ("group", "origin", "site")
    cells = [((group.name, cell.origin, cell.site), cell) for group in snapshot.groups for cell in group.cells]
    known = [(key, float(cell.known)) for key, cell in cells]
    yield _gauge("replicator_known_entries", "Greatest seq known of the origin's journal.", axes, known)
    landed = [(key, float(cell.landed)) for key, cell in cells]
    yield _gauge("replicator_landed_entries", "Landed at the site up to here, but for the gaps.", axes, landed)
    gaps = [(key, float(cell.gaps)) for key, cell in cells]
    yield _gauge("replicator_gap_entries", "Not landed below the watermark.", axes, gaps)

    flights = [((), float(snapshot.flights_total))]
    yield _gauge("replicator_in_flight_entries", "Have not landed everywhere.", (), flights)
    conflicts = [((), float(snapshot.conflicts_total))]
    yield _gauge("replicator_conflict_entries", "Losing versions that are kept.", (), conflicts)
    troubles = [((each.group, each.what, each.cause), float(max(1, each.paths))) for each in snapshot.troubles]
    yield _gauge(
        "replicator_trouble_paths", "Paths that the system refuses; 1 for all.", ("group", "what", "cause"), troubles
    )
    up = [((link.peer,), float(link.state == "up")) for link in snapshot.links]
    yield _gauge("replicator_link_up_bool", "The link to the member works.", ("peer",), up)
    spoken = [((link.peer,), float(link.protocol)) for link in snapshot.links]
    text = "Version of the protocol on the link; 0 without one."
    yield _gauge("replicator_link_protocol_version", text, ("peer",), spoken)
    queued = [((link.peer,), float(link.queued_bytes)) for link in snapshot.links]
    yield _gauge("replicator_link_queued_bytes", "Waiting to be sent to the member.", ("peer",), queued)


def _bgp(snapshot: Snapshot) -> Iterator[Metric]:
    up = [((session.peer,), float(session.state == "up")) for session in snapshot.sessions]
    yield _gauge("bgp_session_up_bool", "The session with the router is established.", ("peer",), up)
    announced = [
        (
            (session.peer,),
            float(sum(route.acknowledged in ("normal", "degraded", "drained") for route in session.routes)),
        )
        for session in snapshot.sessions
    ]
    yield _gauge("bgp_announced_routes", "Announced and acknowledged in the present session.", ("peer",), announced)


def _dns(snapshot: Snapshot) -> Iterator[Metric]:
    serials = [((zone.name,), float(zone.serial)) for zone in snapshot.zones]
    yield _gauge("dns_zone_serial", "Of the SOA record that is served.", ("zone",), serials)
    records = [((zone.name,), float(zone.records)) for zone in snapshot.zones]
    yield _gauge("dns_zone_records", "In the zone, without those of steered names.", ("zone",), records)


def _counters(snapshot: Snapshot) -> Iterator[Metric]:
    for part, counts in sorted(snapshot.counters.items()):
        for what, count in sorted(counts.items()):
            name = f"anycastle_{part}_{what.removesuffix('_total')}_total"
            if NAME.fullmatch(name):  # a word that fits no name costs its sample, not the whole scrape
                family = CounterMetricFamily(name, what.replace("_", " ") + ".")
                family.add_metric([], count)
                yield family


def _levels(snapshot: Snapshot) -> Iterator[Metric]:
    for part, levels in sorted(snapshot.levels.items()):
        for what, level in sorted(levels.items()):
            if NAME.fullmatch(f"anycastle_{part}_{what}"):
                yield _gauge(f"{part}_{what}", what.replace("_", " ").capitalize() + " now.", (), [((), level)])


def _gauge(name: str, text: str, labels: tuple[str, ...], rows: Iterable[Row]) -> Metric:
    family = GaugeMetricFamily(f"anycastle_{name}", text, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family
