"""A small cluster to report on, and the ports of a dashboard that shows it."""

import asyncio
from typing import Any

from anycastle.errors import AnycastleError
from anycastle.health.ask import Address
from anycastle.health.changes import Changes
from anycastle.health.drain import Drains
from anycastle.health.event import Event, Kind, Wanted
from anycastle.health.report import (
    ConflictReport,
    DrainReport,
    Facts,
    FlightReport,
    GroupReport,
    LagReport,
    LinkReport,
    ProbeReport,
    RouteReport,
    SessionReport,
    Snapshot,
    ZoneReport,
    report,
)
from anycastle.health.series import POINT_SECONDS, History, HistoryReport, Sample
from anycastle.health.view import ALL_GROUPS, GroupView, Health, SiteView, View

NOW = 1000.0
WALL = 1_700_000_000.0
COORDINATES = {"ams": (52.37, 4.9), "nyc": (40.71, -74.0), "sgp": (1.35, 103.8)}


def site(
    health: Health = Health.UP,
    reason: str = "3 of 3 observers, itself among them, see it up",
    *,
    since: float = 400.0,
    pending: dict[bytes, float] | None = None,
    current: bool = True,
    gated: str = "",
    drained: frozenset[str] = frozenset(),
    load: float = 0.0,
) -> SiteView:
    why = "3 of 3 leases" if current else "1 of 2 leases needed: nyc, sgp silent"
    groups = {"blogs": GroupView(current=current, current_reason=why, pending=pending or {}, gated=gated)}
    return SiteView(health=health, reason=reason, since=since, groups=groups, drained=drained, load=load)


def view(*, generation: int = 1, isolated: bool = False, **sites: SiteView) -> View:
    known = {name: site() for name in COORDINATES} | sites
    return View(member="ams", generation=generation, at=NOW, sites=known, isolated=isolated)


def flight(age_seconds: float = 1.5, *, seq: int = 7, path: str = "alice/htdocs/photo.jpg") -> FlightReport:
    return FlightReport(
        group="blogs",
        path=path,
        origin="ams",
        seq=seq,
        kind="file",
        size_bytes=20_000_000,
        age_seconds=age_seconds,
        fenced=True,
        waiting=("nyc", "sgp"),
        reason="3.1 of 19.1 MiB pulled from ams",
    )


def conflict(wall: float = WALL, path: str = "bob/wiki.txt") -> ConflictReport:
    kept = ".anycastle/conflicts/bob/wiki.txt~8@nyc"
    return ConflictReport(group="blogs", path=path, winner="9@ams", loser="8@nyc", kept=kept, wall=wall)


def facts(generation: int = 1, **more: Any) -> Facts:
    cells = [
        LagReport(origin=origin, site=name, known=120, landed=120, gaps=0, seconds=0.0)
        for origin in COORDINATES
        for name in COORDINATES
    ]
    cells[1] = LagReport(origin="ams", site="nyc", known=120, landed=119, gaps=4, seconds=2.5)
    route = RouteReport(prefix="198.51.100.0/24", wanted="normal", acknowledged="normal", reason="up and settled")
    late = RouteReport(
        prefix="203.0.113.0/24", wanted="withdrawn", acknowledged="unknown", reason="blogs lags by 12 s, at most 10 s"
    )
    given: dict[str, Any] = {
        "coordinates": COORDINATES,
        "links": [
            LinkReport(
                peer="nyc", state="up", reason="connected to 192.0.2.20", since_seconds=600.0, queued_bytes=2048
            ),
            LinkReport(peer="sgp", state="down", reason="no answer within 5 s", since_seconds=3.0),
        ],
        "sessions": [
            SessionReport(
                peer="192.0.2.254",
                asn=64499,
                state="up",
                reason="established",
                since_seconds=500.0,
                routes=(route, late),
            )
        ],
        "groups": [GroupReport(name="blogs", cells=tuple(cells), fenced={"ams": 120})],
        "flights": [flight()],
        "conflicts": [conflict()],
        "decisions": [Event(wall=WALL, kind=Kind.HEALTH, site="sgp", text="sgp is down: no answer")],
        "probes": [
            ProbeReport(
                site="ams",
                name="http health",
                health="up",
                reason="status 200",
                warning="the certificate ends in 3 days",
                gates=False,
                overdue_seconds=0.0,
            ),
            ProbeReport(
                site="sgp",
                name="database",
                health="down",
                reason="it lags by 12 s",
                warning="",
                gates=True,
                overdue_seconds=9.0,
            ),
        ],
        "zones": [ZoneReport(name="example.com", serial=2024010101, records=7)],
        "counters": {"dns": {"queries": 12, "noerror": 11}, "edge": {"requests_total": 3}},
    } | more
    return Facts(
        cluster="example", version="0.1.0", process=7, generation=generation, wall=WALL, started=900.0, **given
    )


class UnknownSite(AnycastleError):
    """A site that is not in the configuration."""


class Ports:
    """Implements DashboardPorts on an invented cluster; `sites` may be replaced while it is looked at."""

    def __init__(self) -> None:
        self.changes = Changes()
        self.drains = Drains("ams")
        self.sites: dict[str, SiteView] = {}
        self.isolated = False
        self.notes: tuple[str, ...] = ()
        self.reloads = 0
        self.asked: list[object] = []
        self.events: list[Event] = []
        self.history = History()
        self.sampled_at = NOW

    def change(self, **sites: SiteView) -> None:
        self.sites |= sites
        self.changes.bump()

    def tell(self, kind: Kind, text: str, *, site: str = "", place: str = "") -> None:
        self.events.insert(0, Event(wall=WALL + len(self.events), kind=kind, site=site, place=place, text=text))
        self.changes.bump()

    def sample(self, sample: Sample, *, points: int = 1) -> None:
        """The same that often."""
        for _ in range(points):
            self.sampled_at += POINT_SECONDS
            self.history.take(sample, now=self.sampled_at, wall=WALL + self.sampled_at)
        self.changes.bump()

    def series(self, points: int) -> HistoryReport:
        return self.history.report(points)

    async def timeline(self, site: str, place: str, name: str, limit: int) -> list[Event]:
        if name:
            place = f"blogs:{name.partition('.')[0]}/"
        wanted = Wanted(site=site, place=place, sites_too=bool(name))
        return [event for event in self.events if wanted.matches(event)][:limit]

    def status(self) -> Snapshot:
        drains = [DrainReport(site=o.site, group=o.group, by=o.by) for o in self.drains.overrides() if o.drained]
        seen = view(isolated=self.isolated, **self.sites)
        return report(
            seen,
            facts(self.changes.generation, drains=drains, notes=self.notes, events_total=len(self.events)),
            now=NOW,
        )

    async def where(self, group: str, path: bytes) -> dict[str, Any]:
        if group != "blogs":
            raise UnknownSite(f"group {group} is not configured: expected blogs")
        self.asked.append(path)
        rows = [
            {"site": "ams", "version": "9@ams", "landed": True, "since_seconds": 4.0},
            {"site": "nyc", "version": "8@nyc", "landed": False, "since_seconds": None},
        ]
        return {
            "summary": f"{group}:{path.decode(errors='backslashreplace')} has landed at 1 of 2 sites",
            "sites": rows,
        }

    def explain(self, name: str, client: Address | None, type: str) -> dict[str, Any]:
        reasons = {"nyc": {"rank": 1, "why": "closest, 120 km"}, "ams": {"rank": 2, "why": "5900 km"}}
        return {
            "summary": f"{client} asking for {name} {type} gets nyc",
            "ttl_seconds": 60,
            "scope": "192.0.2.0/24",
            "sites": reasons,
        }

    def map(self, name: str, after: str, limit: int) -> dict[str, Any]:
        self.asked.append((name, after, limit))
        return {"name": name, "networks": [], "next": None}

    def conflicts(self) -> list[ConflictReport]:
        return [conflict()]

    async def wait(self, group: str, path: bytes, sites: tuple[str, ...], timeout_seconds: float) -> dict[str, Any]:
        self.asked.append((group, path, sites, timeout_seconds))
        await asyncio.sleep(timeout_seconds)
        return {"landed": False, "summary": "not landed in time"}

    def scrub(self, group: str | None) -> dict[str, Any]:
        if group not in (None, "blogs"):
            raise AnycastleError(f"no group {group!r} here; groups: blogs")
        return self.scrubbing()

    def scrubbing(self) -> dict[str, Any]:
        return {"groups": {"blogs": None}}

    def drain(self, site: str, group: str, drained: bool) -> dict[str, Any]:
        if site not in COORDINATES:
            raise UnknownSite(f"site {site} is not configured: expected one of {', '.join(COORDINATES)}")
        self.drains.set(site, group, drained)
        self.change(**{site: globals()["site"](drained=frozenset({group}) if drained else frozenset())})
        return {"site": site, "group": "all" if group == ALL_GROUPS else group, "drained": drained}

    def plan(self) -> dict[str, Any]:
        return {"changes": [], "held": []}

    def freeze(self, reason: str) -> dict[str, Any]:
        self.asked.append(("freeze", reason))
        return {"frozen": True, "reason": reason}

    def thaw(self) -> dict[str, Any]:
        self.asked.append("thaw")
        return {"frozen": False, "reason": ""}

    def accept(self) -> dict[str, Any]:
        self.asked.append("accept")
        return {"accepted": ""}

    async def resync(self, group: str) -> dict[str, Any]:
        return {"member": "ams", "groups": [group]}

    async def conflict(self, id: int, keep: str) -> dict[str, Any]:
        return {"id": id, "keep": keep}

    async def restart(self) -> dict[str, Any]:
        return {"from": 1, "to": 2}

    async def reload(self) -> dict[str, Any]:
        self.reloads += 1
        return {"summary": "reloaded"}

    async def changed(self, seen: int) -> int:
        return await self.changes.after(seen)
