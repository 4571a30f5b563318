"""The one picture that dashboard, API, tables of the command line and metrics all show: typed, JSON-able, bounded.

Laws: `app` fills in the inputs and this module only arranges them; everything is plain values (ages in seconds, never
times of this machine's clock; paths as text for people); every list has a limit and says how many there were.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from anycastle.health.event import Event
from anycastle.health.view import View, show_path, withheld

FLIGHTS_MAX = 200
CONFLICTS_MAX = 200
DECISIONS_MAX = 100
PROBES_MAX = 200
PENDING_MAX = 20
"""Each list is sent whole on every change, so these are what a person can read, not what there is."""

Shown = TypeVar("Shown")


class LagReport(msgspec.Struct, frozen=True, kw_only=True):
    """One cell of the matrix: how much of one origin's journal has landed at one site."""

    origin: str
    site: str
    known: int
    """The greatest seq of the origin that anybody here has heard of."""
    landed: int
    """The site's watermark: everything up to it has landed, but for the gaps."""
    gaps: int
    """How many entries up to the watermark have not landed."""
    seconds: float
    """Since when the oldest entry that has not landed there is known; 0.0 when all has landed."""


class GroupReport(msgspec.Struct, frozen=True, kw_only=True):
    """Replication of one group, as this member knows it."""

    name: str
    cells: tuple[LagReport, ...]
    """Every origin × site that this member has heard of."""
    fenced: dict[str, int] = {}
    """Origin -> how far its journal is fenced."""
    still_written: int = 0
    """Files here that somebody writes: announced when they come to rest."""
    still_written_oldest: str = ""
    """The one written for longest, for people."""
    still_written_seconds: float = 0.0


class LinkReport(msgspec.Struct, frozen=True, kw_only=True):
    """The link to one other member."""

    peer: str
    state: str
    """`up`, `connecting` or `down`."""
    reason: str
    since_seconds: float
    queued_bytes: int = 0
    protocol: int = 0
    """The version that is spoken on it; 0 when it is not up."""


class RouteReport(msgspec.Struct, frozen=True, kw_only=True):
    """One prefix at one router."""

    prefix: str
    wanted: str
    """`normal`, `degraded`, `drained` or `withdrawn`."""
    acknowledged: str
    """What the speaker acknowledged in the present session; `unknown` before it did."""
    reason: str
    """Why it is wanted so."""
    since_seconds: float = 0.0
    """For how long it is wanted so."""
    acknowledged_seconds: float | None = None
    """For how long it is acknowledged so; none while unknown."""
    waits_for: str = ""
    """Why what is acknowledged is not what is wanted; empty when it is."""


class SessionReport(msgspec.Struct, frozen=True, kw_only=True):
    """One BGP session of this site and the routes on it."""

    peer: str
    asn: int
    state: str
    """`up`, `connected`, `down`, or `unknown` while the speaker cannot be asked."""
    reason: str
    since_seconds: float
    routes: tuple[RouteReport, ...]


class HoldReport(msgspec.Struct, frozen=True, kw_only=True):
    """Why decisions about routes do not reach the routers of this site."""

    kind: str
    """`frozen` by an operator, or `refused` as too many changes at once."""
    reason: str
    seconds: float
    """For how long already."""


class FlightReport(msgspec.Struct, frozen=True, kw_only=True):
    """One entry that has not landed everywhere yet."""

    group: str
    path: str
    """For people: `show_path`."""
    origin: str
    seq: int
    kind: str
    """`file`, `folder`, `symlink` or `absent`."""
    size_bytes: int
    age_seconds: float
    fenced: bool
    waiting: tuple[str, ...]
    """Sites where it has not landed."""
    reason: str = ""
    """What it waits for, for people."""


class ConflictReport(msgspec.Struct, frozen=True, kw_only=True):
    """Two versions with one parent: who won, and where the other is kept."""

    id: int = 0
    """What an operator names it by, at the site where it is kept."""
    group: str
    path: str
    winner: str
    loser: str
    kept: str
    """Relative to the group's root."""
    wall: float
    """Seconds since the epoch."""


class TroubleReport(msgspec.Struct, frozen=True, kw_only=True):
    """Something that the machine of this member refuses to do."""

    group: str
    """Empty for what concerns all."""
    what: str
    """`landing`, `reading`, `scrubbing`, `writing`, `watching` or `recording`."""
    cause: str
    """The system's name for it (`ENOSPC`), or empty."""
    paths: int
    text: str
    since_seconds: float


class DrainReport(msgspec.Struct, frozen=True, kw_only=True):
    """One operator's override in force."""

    site: str
    group: str
    by: str


class ZoneReport(msgspec.Struct, frozen=True, kw_only=True):
    """One zone that is served."""

    name: str
    serial: int
    records: int
    """Without those of steered names."""


class HostReport(msgspec.Struct, frozen=True, kw_only=True):
    """One customer's host at this site's edge; how often, since it became one of the busy ones."""

    host: str
    requests: int
    writes: int
    refused: int


class ProbeReport(msgspec.Struct, frozen=True, kw_only=True):
    """One probe that this member makes."""

    site: str
    name: str
    health: str
    """`up`, `down` or `unknown`: what its last results come to."""
    reason: str
    warning: str
    """What an operator should see to, though it is healthy."""
    gates: bool
    """It says nothing of the site's health, and keeps users from the groups that require it."""
    overdue_seconds: float
    """For how long a result has been late; 0.0 while it reports in time."""


class GroupAtSite(msgspec.Struct, frozen=True, kw_only=True):
    """One group at one site."""

    current: bool
    current_reason: str
    lag_seconds: float
    withheld: str
    """Why steering gives nobody this site for the whole group; empty when eligible."""
    gated: str
    """Which probe that the group requires says no, and why; empty when none does."""
    pending: tuple[str, ...]
    """Content prefixes with changes that have not landed, the longest waiting first; at most PENDING_MAX."""
    pending_total: int


class SiteReport(msgspec.Struct, frozen=True, kw_only=True):
    """One site."""

    name: str
    coordinates: tuple[float, float] | None
    """Latitude, longitude in degrees."""
    health: str
    """`up`, `down` or `unknown`."""
    reason: str
    since_seconds: float
    withheld: str
    """Why steering gives nobody this site whatever the content; empty when eligible."""
    drained: tuple[str, ...]
    """Groups, or `*` for all."""
    load: float
    """Requests per second at its edge."""
    announced: tuple[str, ...]
    groups: dict[str, GroupAtSite]


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is shown, of one moment."""

    cluster: str
    member: str
    version: str
    generation: int
    """Of the picture, not of the view: grows with anything shown here."""
    wall: float
    """Seconds since the epoch."""
    uptime_seconds: float
    isolated: bool
    sites: tuple[SiteReport, ...]
    links: tuple[LinkReport, ...]
    sessions: tuple[SessionReport, ...]
    groups: tuple[GroupReport, ...]
    flights: tuple[FlightReport, ...]
    """The oldest first."""
    flights_total: int
    conflicts: tuple[ConflictReport, ...]
    """The newest first."""
    conflicts_total: int
    drains: tuple[DrainReport, ...]
    decisions: tuple[Event, ...]
    """What was thought of sites since the start, landings too; the newest first."""
    events_total: int = 0
    """Of the timeline, since the start: whoever shows it asks anew when this moves."""
    probes: tuple[ProbeReport, ...] = ()
    """Those that this member makes."""
    probes_total: int = 0
    counters: dict[str, dict[str, int]]
    levels: dict[str, dict[str, int]] = {}
    zones: tuple[ZoneReport, ...] = ()
    hosts: tuple[HostReport, ...] = ()
    """Those that this site's edge works for most, the busiest first."""
    holds: tuple[HoldReport, ...] = ()
    troubles: tuple[TroubleReport, ...] = ()
    """The oldest first; each stands among the notes too."""
    notes: tuple[str, ...] = ()
    """What an operator should know or do, in sentences."""
    process: int = 0
    """The member's id on its machine; another one after a restart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What `app` knows besides the view."""

    cluster: str
    version: str
    process: int
    generation: int
    wall: float
    started: float
    """Seconds of BOOTTIME."""
    coordinates: dict[str, tuple[float, float]] = field(default_factory=dict)
    links: Sequence[LinkReport] = ()
    sessions: Sequence[SessionReport] = ()
    holds: Sequence[HoldReport] = ()
    groups: Sequence[GroupReport] = ()
    flights: Iterable[FlightReport] = ()
    flights_total: int | None = None
    """When `flights` is itself only a part; None means that it is all."""
    conflicts: Sequence[ConflictReport] = ()
    drains: Sequence[DrainReport] = ()
    zones: Sequence[ZoneReport] = ()
    hosts: Sequence[HostReport] = ()
    troubles: Sequence[TroubleReport] = ()
    notes: Sequence[str] = ()
    decisions: Iterable[Event] = ()
    events_total: int = 0
    probes: Sequence[ProbeReport] = ()
    counters: dict[str, dict[str, int]] = field(default_factory=dict)
    """Part (`dns`, `bgp`, `replicator`, `edge`, `health`) -> what was counted, in words joined by `_` -> how often."""
    levels: dict[str, dict[str, int]] = field(default_factory=dict)
    """Part -> what, with its unit last -> how it stands now (`flight_entries`)."""


def report(view: View, facts: Facts, *, now: float) -> Snapshot:
    """Arrange everything. O(all of it): called when somebody looks, not when something changes."""
    flights = sorted(facts.flights, key=lambda flight: (-flight.age_seconds, flight.origin, flight.seq))
    return Snapshot(
        cluster=facts.cluster,
        member=view.member,
        version=facts.version,
        generation=facts.generation,
        wall=facts.wall,
        uptime_seconds=max(0.0, now - facts.started),
        isolated=view.isolated,
        sites=tuple(_site(view, name, facts.coordinates.get(name), now) for name in view.sites),
        links=tuple(facts.links),
        sessions=tuple(facts.sessions),
        holds=tuple(facts.holds),
        groups=tuple(facts.groups),
        flights=tuple(flights[:FLIGHTS_MAX]),
        flights_total=len(flights) if facts.flights_total is None else facts.flights_total,
        conflicts=_newest(facts.conflicts, CONFLICTS_MAX, lambda conflict: conflict.wall),
        conflicts_total=len(facts.conflicts),
        drains=tuple(facts.drains),
        decisions=_newest(facts.decisions, DECISIONS_MAX, lambda decision: decision.wall),
        events_total=facts.events_total,
        probes=tuple(facts.probes[:PROBES_MAX]),
        probes_total=len(facts.probes),
        counters=facts.counters,
        levels=facts.levels,
        zones=tuple(facts.zones),
        hosts=tuple(facts.hosts),
        troubles=tuple(facts.troubles),
        process=facts.process,
        notes=(*facts.notes, *(trouble.text for trouble in facts.troubles)),
    )


def _newest(items: Iterable[Shown], limit: int, wall: Callable[[Shown], float]) -> tuple[Shown, ...]:
    return tuple(sorted(items, key=wall, reverse=True)[:limit])


def _site(view: View, name: str, coordinates: tuple[float, float] | None, now: float) -> SiteReport:
    state = view.sites[name]
    return SiteReport(
        name=name,
        coordinates=coordinates,
        health=state.health.value,
        reason=state.reason,
        since_seconds=max(0.0, now - state.since),
        withheld=withheld(view, name, None, b"", grace_seconds=0.0, now=now),
        drained=tuple(sorted(state.drained)),
        load=state.load,
        announced=tuple(sorted(state.announced)),
        groups={group: _group(view, name, group, now) for group in sorted(state.groups)},
    )


def _group(view: View, site: str, group: str, now: float) -> GroupAtSite:
    state = view.sites[site].groups[group]
    oldest_first = sorted(state.pending, key=lambda prefix: (state.pending[prefix], prefix))
    return GroupAtSite(
        current=state.current,
        current_reason=state.current_reason,
        gated=state.gated,
        lag_seconds=state.lag_seconds(now),
        # Content that is pending below some prefix withholds that prefix, not the group: grace for all of it here.
        withheld=withheld(view, site, group, b"", grace_seconds=float("inf"), now=now),
        pending=tuple(show_path(prefix) or "(whole group)" for prefix in oldest_first[:PENDING_MAX]),
        pending_total=len(state.pending),
    )
