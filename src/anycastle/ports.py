"""What the dashboard and the commands ask of a running member (health.dashboard.DashboardPorts), answered.

Law: answers are made when asked, from the same view and the same ledger that decide; nothing is computed twice.
"""

import asyncio
import contextlib
import dataclasses
import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any

from aiohttp import web

from anycastle import __version__
from anycastle.app import Member
from anycastle.bgp.announcer import Announcer
from anycastle.config import ConfigError, MemberConfig, load_config
from anycastle.counts import counters, levels
from anycastle.dns.difference import follow
from anycastle.dns.explain import explain
from anycastle.dns.geo_map import map_page
from anycastle.dns.settings import DnsSettings
from anycastle.dns.tables import Tables, build_tables
from anycastle.dns.zone import serial_of, show_name
from anycastle.errors import AnycastleError
from anycastle.health.ask import Address
from anycastle.health.event import Event, Wanted
from anycastle.health.event import Kind as EventKind
from anycastle.health.report import ConflictReport, DrainReport, Facts, Snapshot, ZoneReport, report
from anycastle.health.series import HistoryReport
from anycastle.health.view import ALL_GROUPS, View, show_path, withheld
from anycastle.loading import shown
from anycastle.replicator.content import Content
from anycastle.replicator.entry import PRIVATE_FOLDER, Entry, Kind
from anycastle.reports import (
    conflict_report,
    flight_reports,
    group_report,
    hold_reports,
    host_reports,
    link_reports,
    plan_report,
    probe_reports,
    scrub_report,
    session_reports,
    trouble_reports,
    writing_notes,
)
from anycastle.roster import next_step
from anycastle.takeover import REFUSED_WORDS, Successor, TakeoverError

log = logging.getLogger("anycastle.ports")

FLIGHTS_SHOWN_MAX = 200
BARRIER_SECONDS_MAX = 5.0
"""For a watcher that is blind; `wait` then goes by what is known."""


class Ports:
    """One member's answers."""

    def __init__(self, member: Member, environment: Mapping[str, str]) -> None:
        """`environment`: what another process that takes over needs beside our own."""
        self._member = member
        self._environment = environment
        self.successor: Successor | None = None
        """Who is about to take over."""

    # -- reading --------------------------------------------------------------------------------------------------

    def status(self) -> Snapshot:
        member, now = self._member, self._member.clock.now()
        groups = member.replica.contents
        flights = [
            flight for content in groups.values() for flight in flight_reports(content, FLIGHTS_SHOWN_MAX, now=now)
        ]
        reports = tuple(group_report(member, content, now=now) for content in groups.values())
        facts = Facts(
            cluster=member.settings.cluster,
            version=__version__,
            process=os.getpid(),
            generation=member.changes.generation,
            wall=member.clock.wall(),
            started=member.started,
            coordinates=member.settings.coordinates,
            links=link_reports(member, now=now),
            sessions=session_reports(member, now=now),
            holds=hold_reports(member),
            groups=reports,
            flights=flights,
            flights_total=sum(len(content.flight) for content in groups.values()),
            conflicts=self.conflicts(),
            drains=tuple(
                DrainReport(site=o.site, group=o.group, by=o.by) for o in member.drains.overrides() if o.drained
            ),
            decisions=tuple(member.chronicle.tail),
            events_total=member.chronicle.timeline.recorded,
            probes=probe_reports(member, now=now),
            zones=self._zones(),
            hosts=host_reports(member),
            troubles=trouble_reports(member, now=now),
            notes=(*self._notes(now), *writing_notes(reports)),
            counters=counters(member),
            levels=levels(member),
        )
        return report(self._view(), facts, now=now)

    async def where(self, group: str, path: bytes) -> Mapping[str, Any]:
        """Which sites have which version of a path, and why one is withheld."""
        member, now = self._member, self._member.clock.now()
        content = self._content(group)
        newest = member.ledger.newest(group, path)
        prefix = content.prefix_of(path)
        view = self._view()
        sites = {
            site: {
                "landed": self._landed(site, newest),
                "withheld": withheld(view, site, group, prefix, grace_seconds=0.0, now=now),
            }
            for site in member.settings.replica.sites
        }
        known = _known(newest)
        fenced = newest is None or member.replica.controller.fenced(group, newest.origin) >= newest.seq
        verdict = content.verdict(path, prefix, member.settings.replica.distance, now=now)
        return {
            "group": group,
            "path": show_path(path),
            "sites": sites,
            "fenced": fenced,
            "fence_waits_for": "" if fenced or newest is None else self._waits_for(newest, now),
            "verdict_here": f"{type(verdict).__name__.lower()}: {verdict.reason}",
            "newest": known,
            "summary": _where_summary(known, sites),
        }

    def explain(self, name: str, client: Address | None, type: str) -> Mapping[str, Any]:
        """What a client would get, and why, by the code that answers."""
        member = self._member
        if member.tables is None:
            raise AnycastleError(f"{member.settings.member} runs no nameserver: ask a site with dns.listen")
        asked = str(client) if client else "127.0.0.1"
        found = explain(member.tables, self._view(), name, type, asked, now=member.clock.now())
        answers = ", ".join(found["answers"]) or "no records"
        chosen = ", ".join(found.get("chosen") or ()) or "nobody in particular"
        return {**found, "summary": f"{name} {found['type']} for {asked}: {found['rcode']}, {answers} ({chosen})"}

    def map(self, name: str, after: str, limit: int) -> Mapping[str, Any]:
        """A page of the map: each network, its order of sites, and where it is sent now."""
        member = self._member
        if member.tables is None:
            raise AnycastleError(f"{member.settings.member} runs no nameserver: ask a site with dns.listen")
        return map_page(member.tables.steering, self._view(), name, after, limit, now=member.clock.now())

    def conflicts(self) -> list[ConflictReport]:
        return [conflict_report(*each) for each in reversed(self._member.ledger.conflicts_by_id().items())]

    def series(self, points: int) -> HistoryReport:
        return self._member.chronicle.history.report(points)

    async def timeline(self, site: str, place: str, name: str, limit: int) -> list[Event]:
        """Of a name: what happened to its content, and what moved its users."""
        if place and name:
            raise AnycastleError("path and name are given: expected one of them")
        wanted = Wanted(site=site, place=self._content_of(name) if name else place, sites_too=bool(name))
        try:
            return await asyncio.to_thread(self._member.chronicle.timeline.newest, limit, wanted)
        except OSError as error:
            raise AnycastleError(f"the timeline cannot be read: {error.strerror}") from error

    def _content_of(self, name: str) -> str:
        """`GROUP:PREFIX` that a steered name stands for."""
        tables = self._member.tables
        match = tables.steering.match(tuple(name.encode().split(b"."))) if tables is not None else None
        if match is None or match.rule.group is None:
            raise AnycastleError(f"{name} stands for no content here: expected a name that [[names]] steers by content")
        return f"{match.rule.group}:{show_path(match.prefix)}"

    async def wait(self, group: str, path: bytes, sites: tuple[str, ...], timeout_seconds: float) -> Mapping[str, Any]:
        """Until the newest version known has landed at the sites; what is written meanwhile is not waited for."""
        member = self._member
        content = self._content(group)
        wanted = sites or member.settings.replica.sites
        if unknown := set(wanted) - set(member.settings.replica.sites):
            raise AnycastleError(f"no such site: {', '.join(sorted(unknown))}")
        deadline = member.clock.now() + timeout_seconds
        with contextlib.suppress(AnycastleError, TimeoutError):  # what was written here just now is to be known first
            async with asyncio.timeout(min(timeout_seconds, BARRIER_SECONDS_MAX)):
                await content.settle.barrier()
        newest = None
        while True:
            newest = newest or member.ledger.newest(group, path)
            missing = [site for site in wanted if newest is None or not self._has_passed(site, newest)]
            left = deadline - member.clock.now()
            if not missing or left <= 0:
                why = {site: self._why_missing(site, newest) for site in missing}
                return {"landed": not missing, "missing": missing, "why": why, "newest": _known(newest)}
            await member.replica.moved(min(left, 1.0))

    async def changed(self, seen: int) -> int:
        return await self._member.changes.after(seen)

    # -- changing -------------------------------------------------------------------------------------------------

    def drain(self, site: str, group: str, drained: bool) -> Mapping[str, Any]:
        """An operator's override; survives restarts and reaches every member."""
        member = self._member
        if site not in member.settings.replica.sites:
            raise AnycastleError(f"no such site: {site}; sites: {', '.join(member.settings.replica.sites)}")
        if group != ALL_GROUPS and group not in member.settings.replica.group_names:
            raise AnycastleError(f"no such group: {group}; groups: {', '.join(member.settings.replica.group_names)}")
        member.drains.set(site, group, drained)
        member.keep_drains()
        member.tell_now()
        log.info("event=%s site=%s group=%s", "drain" if drained else "undrain", site, group)
        return {"site": site, "group": group, "drained": sorted(member.drains.drained(site))}

    def plan(self) -> Mapping[str, Any]:
        """What routers would be told next, what is held back and why; and the view, for a dry run of a changed one."""
        plan = self._announcer().plan()
        return {**plan_report(plan), "view": self._view()}

    def freeze(self, reason: str) -> Mapping[str, Any]:
        """The routes of this member stay as they are, over restarts too; drains still count."""
        self._member.keep_freeze(self._announcer().freeze(reason))
        log.info("event=freeze reason=%r", reason)
        return {"frozen": True, "reason": reason}

    def thaw(self) -> Mapping[str, Any]:
        announcer = self._announcer()
        self._member.keep_freeze(None)
        announcer.thaw()
        log.info("event=thaw")
        return {"frozen": False, "reason": ""}

    def accept(self) -> Mapping[str, Any]:
        """Let happen, once, what is refused as too many changes at once."""
        accepted = self._announcer().accept()
        if accepted:
            log.info("event=accept text=%r", accepted)
        return {"accepted": accepted}

    def scrub(self, group: str | None) -> Mapping[str, Any]:
        """All files of a group, or of all groups, are read again at full speed."""
        contents = self._member.replica.contents.values() if group is None else (self._content(group),)
        for content in contents:
            content.scrub.ask()
            log.info("event=scrub group=%s", content.settings.name)
        return self.scrubbing()

    def scrubbing(self) -> Mapping[str, Any]:
        member, now = self._member, self._member.clock.now()
        return {
            "member": member.settings.member,
            "groups": {name: scrub_report(content, now=now) for name, content in member.replica.contents.items()},
        }

    async def resync(self, group: str) -> Mapping[str, Any]:
        """Begin to compare what is here with what the others have; `status` says when it is over."""
        member = self._member
        groups = tuple(member.replica.contents) if group == ALL_GROUPS else (group,)
        for name in groups:
            self._content(name)
        await member.replica.resync(groups)
        log.info("event=resync groups=%s", ",".join(groups))
        member.note()
        return {"member": member.settings.member, "groups": list(groups)}

    async def conflict(self, id: int, keep: str) -> Mapping[str, Any]:
        """Where the version that lost is kept; with `keep` the end of the conflict: `current` or `theirs` stays."""
        member = self._member
        found = member.ledger.conflicts_by_id().get(id)
        if found is None:
            raise AnycastleError(f"no conflict {id} here; `anycastle conflicts` lists those of this site")
        content = self._content(found.group)
        kept = content.settings.root / PRIVATE_FOLDER.decode() / "conflicts" / os.fsdecode(found.kept)
        if keep:
            if keep == "theirs" and not found.kept:
                raise AnycastleError(f"conflict {id} had no bytes to keep: expected --keep current")
            await content.end_conflict(id, found, put_back=keep == "theirs")
            log.info("event=conflict-ended id=%d group=%s path=%r kept=%s", id, found.group, found.path, keep)
        return {"id": id, "group": found.group, "path": show_path(found.path), "file": str(kept) if found.kept else ""}

    async def reload(self) -> Mapping[str, Any]:
        """Zones, steered names and geography anew, all or nothing; says what else changed and needs a restart."""
        member = self._member
        try:
            told = await self._reload()
        except AnycastleError as error:
            first = str(error).partition("\n")[0]
            member.reload_refused = f"the last reload was refused, and what was loaded before is in force: {first}"
            member.changes.bump()
            raise
        member.reload_refused = ""
        own, wall = member.settings.member, member.clock.wall()
        text = "zones, names and geography were read anew"
        member.chronicle.tell(Event(wall=wall, kind=EventKind.RELOAD, site=own, text=text))
        return told

    async def _reload(self) -> Mapping[str, Any]:
        member = self._member
        warnings: tuple[str, ...] = ()
        config = await asyncio.to_thread(load_config, member.config.file)
        settings = config.for_member(member.settings.member)
        tables = await asyncio.to_thread(_build, settings.dns) if settings.dns else None
        restart = list(needs_restart(member.settings, settings))
        if member.dns is not None and tables is not None:
            if member.tables is not None:
                tables = await asyncio.to_thread(follow, member.tables, tables)
            warnings = tuple(tables.unraised.values())
            await member.dns.replace(tables)
            member.tables = tables
        member.round_trips.use(config.names)
        for warning in warnings:
            log.warning("event=reload-warning text=%r", warning)
        log.info("event=reload needs_restart=%s", ",".join(restart) or "-")
        return {"reloaded": ["zones", "names", "geo"], "needs_restart": restart, "warnings": list(warnings)}

    async def reload_or_log(self) -> str:
        """For SIGHUP, where nobody waits for the answer. The first line of a refusal, or empty."""
        try:
            await self.reload()
        except ConfigError as error:
            for fault in error.faults:
                log.error("event=reload-refused reason=%s", fault)
            return str(error.faults[0])
        except AnycastleError as error:
            log.error("event=reload-refused reason=%s", error)
            return str(error).partition("\n")[0]
        return ""

    async def restart(self) -> Mapping[str, Any]:
        """Start the next process, and give way to it once it has read all that it needs."""
        member = self._member
        if self.successor is not None:
            raise AnycastleError(f"process {self.successor.process} is about to take over already")
        if not member.ready.is_set():
            raise AnycastleError(f"{member.settings.member} is starting: expected one that serves")
        member.restart_refused = ""
        self.successor = successor = Successor.start(member.sockets(), self._environment)
        log.info("event=restart process=%d", successor.process)
        try:
            await successor.prepared()
        except TakeoverError as error:
            log.error("event=restart-refused reason=%r", str(error))
            member.restart_refused = f"{REFUSED_WORDS}{error}"
            member.changes.bump()
            successor.release()
            self.successor = None
            raise TakeoverError(f"the new process cannot start, and this one serves on: {error}") from None
        except BaseException:  # who asked has gone
            successor.kill()
            successor.release()
            self.successor = None
            raise
        member.give_way()
        return {"from": os.getpid(), "to": successor.process}

    def _zones(self) -> tuple[ZoneReport, ...]:
        tables = self._member.tables
        return tuple(
            ZoneReport(name=show_name(origin), serial=serial_of(zone), records=zone.records)
            for origin, zone in (tables.zones.items() if tables is not None else ())
        )

    def _notes(self, now: float) -> tuple[str, ...]:
        replica = self._member.settings.replica
        step = next_step(replica.members, replica.members_previous, self._member.member_standing(now))
        watched = [
            f"{name}: changes are seen by {content.settle.sight.watched_by}"
            for name, content in self._member.replica.contents.items()
            if not content.settle.sight.watched_by.startswith("fanotify")
        ]
        scans = [
            f"{name}: scanning, {told}"
            for name, content in self._member.replica.contents.items()
            if (told := content.settle.survey.told())
        ]
        unraised = self._member.tables.unraised.values() if self._member.tables is not None else ()
        held = [f"routes are {hold.kind}: {hold.reason}" for hold in hold_reports(self._member)]
        member, wall = self._member, self._member.clock.wall()
        ends = (*member.links.identity.faults(wall=wall), *(member.edge.faults(wall=wall) if member.edge else ()))
        notes = (
            self._member.reload_refused,
            self._member.restart_refused,
            self._member.chronicle.timeline.fault,
            *held,
            *unraised,
            step,
            *ends,
            *watched,
            *scans,
        )
        return tuple(note for note in notes if note)

    # -- small things ---------------------------------------------------------------------------------------------

    def _view(self) -> View:
        if self._member.view is None:
            starting = f"{self._member.settings.member} is starting: the first round of probes is not over"
            raise web.HTTPServiceUnavailable(text=starting, headers={"Retry-After": "1"})
        return self._member.view

    def _announcer(self) -> Announcer:
        if self._member.announcer is None:
            raise AnycastleError(f"{self._member.settings.member} announces no routes: ask a site with bgp")
        return self._member.announcer

    def _content(self, group: str) -> Content:
        try:
            return self._member.replica.contents[group]
        except KeyError:
            known = ", ".join(self._member.replica.contents) or "none"
            raise AnycastleError(f"no group {group!r} here; groups: {known}") from None

    def _landed(self, site: str, newest: Entry | None) -> bool:
        """The site has landed the newest version known here."""
        if newest is None:
            return False
        if site == self._member.settings.member:
            local = self._member.ledger.local(newest.group, newest.path)
            return local is not None and local.version == newest.version
        return site in self._member.replica.controller.landed_sites(newest.group, newest.origin, newest.seq)

    def _has_passed(self, site: str, entry: Entry) -> bool:
        """The site has landed this entry, or one that replaced it."""
        if site == self._member.settings.member:
            local = self._member.ledger.local(entry.group, entry.path)
            return local is not None and local.version >= entry.version
        return self._landed(site, entry)

    def _why_missing(self, site: str, entry: Entry | None) -> str:
        member = self._member
        if entry is None:
            return "nobody has announced it"
        if site == member.settings.member:
            return self._content(entry.group).landing.failed.get(entry.path, "it is on its way")
        if site not in member.links.connected():
            return "no link"
        return "it has not said yet that it landed"

    def _waits_for(self, newest: Entry, now: float) -> str:
        return self._member.replica.controller.waiting_for(newest.group, newest.origin, newest.seq, now=now)


def needs_restart(running: MemberConfig, wanted: MemberConfig) -> Iterator[str]:
    """What differs and only a start takes up, in the configuration file's words."""

    def of(settings: MemberConfig) -> dict[str, object]:
        replica, dns = settings.replica, settings.dns
        return {
            "cluster.name": settings.cluster,
            "cluster.members": (replica.members, replica.members_previous),
            "cluster.lease": replica.lease,
            "cluster.tls": settings.link.tls,
            "sites": replica.sites,
            "groups": (replica.groups, replica.group_names),
            "coordinates": (settings.coordinates, replica.distance),
            "state_dir": settings.state_dir,
            "link": dataclasses.replace(settings.link, tls=running.link.tls),
            "dns": dns
            and (
                *(dns.listen, dns.workers, dns.responses_per_second_max),
                *(dns.tcp_connections_max, dns.tcp_connections_per_client_max),
            ),
            "edge": (settings.edge, settings.verdict),
            "probes": settings.health,
            "bgp": settings.bgp,
            "dashboard": settings.dashboard,
            "log": settings.log,
        }

    before, after = of(running), of(wanted)
    return (name for name, value in after.items() if value != before[name])


def _known(newest: Entry | None) -> dict[str, Any] | None:
    if newest is None:
        return None
    return {
        "version": str(newest.version),
        "kind": newest.kind.name.lower(),
        "size": newest.size,
        "digest": newest.digest.hex(),
        "deleted": newest.kind is Kind.ABSENT,
    }


def _where_summary(known: dict[str, Any] | None, sites: dict[str, dict[str, Any]]) -> str:
    if known is None:
        return "nobody ever announced this path"
    have = [site for site, state in sites.items() if state["landed"]]
    lack = [site for site, state in sites.items() if not state["landed"]]
    what = f"version {known['version']} ({known['kind']}, {known['size']} bytes)"
    return f"{what} has landed at {', '.join(have) or 'no site'}" + (f"; not at {', '.join(lack)}" if lack else "")


def _build(settings: DnsSettings) -> Tables:
    with shown(terminal=False) as progress:
        return build_tables(settings, progress)
