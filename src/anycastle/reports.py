"""Turns what the parts know into the plain structs that the dashboard shows (health.report)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from pyroaring import BitMap

from anycastle.health.report import (
    ConflictReport,
    FlightReport,
    GroupReport,
    HoldReport,
    HostReport,
    LagReport,
    LinkReport,
    ProbeReport,
    RouteReport,
    SessionReport,
    TroubleReport,
)
from anycastle.health.view import show_path
from anycastle.replicator.content import Content
from anycastle.replicator.entry import PRIVATE_FOLDER
from anycastle.replicator.message import LandedUpto
from anycastle.replicator.observation import Conflict

if TYPE_CHECKING:
    from anycastle.app import Member
    from anycastle.bgp.route import Change, Plan


WRITTEN_SECONDS_MIN = 5.0
"""Beyond it a file that is still being written is worth a line: uploads take less, logs and databases more."""
DAMAGED_SHOWN_MAX = 100


def probe_reports(member: Member, *, now: float) -> tuple[ProbeReport, ...]:
    return tuple(
        ProbeReport(
            site=each.probe.site,
            name=each.probe.name,
            health=each.streak.health.value,
            reason=each.streak.reason,
            warning=each.streak.warning,
            gates=each.probe.gates_only,
            overdue_seconds=each.overdue_seconds,
        )
        for each in member.judge.watched(now=now)
    )


def link_reports(member: Member, *, now: float) -> tuple[LinkReport, ...]:
    connected = member.links.connected()
    return tuple(
        LinkReport(
            peer=peer,
            state="up" if peer in connected else "down",
            reason="" if peer in connected else member.links.refusal(peer) or "no link; it is dialled again and again",
            protocol=member.links.version(peer),
            since_seconds=now - member.link_since.get(peer, member.started),
            queued_bytes=member.links.queued_bytes(peer),
        )
        for peer in sorted(member.settings.link.peers)
    )


HOSTS_SHOWN = 20


def host_reports(member: Member) -> tuple[HostReport, ...]:
    """The customers that the edge works for most."""
    busiest = member.edge.hosts.busiest(HOSTS_SHOWN) if member.edge is not None else []
    return tuple(
        HostReport(host=host, requests=count.requests, writes=count.writes, refused=count.refused)
        for host, count in busiest
    )


def trouble_reports(member: Member, *, now: float) -> tuple[TroubleReport, ...]:
    return tuple(
        TroubleReport(
            group=trouble.found.group,
            what=trouble.found.what,
            cause=trouble.found.cause,
            paths=trouble.found.paths,
            text=trouble.text,
            since_seconds=max(0.0, now - trouble.since),
        )
        for trouble in member.replica.troubles()
    )


def scrub_report(content: Content, *, now: float) -> dict[str, Any]:
    """How far a group's pass is, and what is damaged and not repaired."""
    scrub = content.scrub
    current = scrub.current
    damaged = {show_path(path): reason for path, reason in itertools.islice(scrub.damaged.items(), DAMAGED_SHOWN_MAX)}
    found: dict[str, Any] = {"pass": None, "damaged_total": len(scrub.damaged), "damaged": damaged}
    if current is not None:
        found["pass"] = {
            "asked": current.asked,
            "over": current.ended is not None,
            "seconds": (current.ended if current.ended is not None else now) - current.began,
            "files": current.files,
            "files_total": current.files_total,
            "bytes": current.bytes,
            "bytes_total": current.bytes_total,
            "damaged": current.damaged,
            "repaired": current.repaired,
        }
    return found


def session_reports(member: Member, *, now: float) -> tuple[SessionReport, ...]:
    if member.announcer is None:
        return ()
    return tuple(
        SessionReport(
            peer=peer.peer,
            asn=peer.asn,
            state=peer.state,
            reason=peer.reason,
            since_seconds=max(0.0, now - peer.since),
            routes=tuple(
                RouteReport(
                    prefix=r.prefix,
                    wanted=r.wanted,
                    acknowledged=r.acknowledged,
                    reason=r.reason,
                    since_seconds=max(0.0, now - r.since),
                    acknowledged_seconds=None if r.acknowledged_since is None else max(0.0, now - r.acknowledged_since),
                    waits_for=r.waits_for,
                )
                for r in peer.routes
            ),
        )
        for peer in member.announcer.status()
    )


def hold_reports(member: Member) -> tuple[HoldReport, ...]:
    holds = member.announcer.holds() if member.announcer is not None else ()
    return tuple(HoldReport(kind=hold.kind, reason=hold.reason, seconds=hold.seconds) for hold in holds)


def plan_report(plan: Plan) -> dict[str, list[dict[str, str]]]:
    """A plan in plain values: what is changed, what is held."""

    def lines(changes: tuple[Change, ...]) -> list[dict[str, str]]:
        return [
            {"change": c.kind.value, "prefix": str(c.prefix), "state": c.state.value, "reason": c.reason}
            for c in changes
        ]

    return {"changes": lines(plan.changes), "held": lines(plan.held)}


def group_report(member: Member, content: Content, *, now: float) -> GroupReport:
    """The lag matrix: every origin with a journal × every site."""
    group, controller = content.settings.name, member.replica.controller
    heads = member.ledger.detailed().get(group, {})
    own = member.ledger.landed_upto(group)
    cells = []
    for origin, head in sorted(heads.items()):
        if not head:
            continue
        for site in member.settings.replica.sites:
            said = own if site == member.settings.member else controller.peer_landed(site, group)
            cells.append(_cell(content, origin, site, head, said.get(origin, LandedUpto(0)), now=now))
    written = content.settle.still_written
    since = content.settle.written_since(written[0]) if written else None
    return GroupReport(
        name=group,
        cells=tuple(cells),
        fenced={origin: controller.fenced(group, origin) for origin in heads},
        still_written=len(written),
        still_written_oldest=show_path(written[0]) if written else "",
        still_written_seconds=max(0.0, now - since) if since is not None else 0.0,
    )


def writing_notes(reports: Iterable[GroupReport]) -> Iterator[str]:
    """A line for each group with files that do not come to rest."""
    for each in reports:
        if each.still_written_seconds >= WRITTEN_SECONDS_MIN:
            yield (
                f"{each.name}: {each.still_written} files are still being written, and announced when they come to "
                f"rest; {each.still_written_oldest} for {each.still_written_seconds:.0f} s"
            )


def _cell(content: Content, origin: str, site: str, head: int, landed: LandedUpto, *, now: float) -> LagReport:
    since = content.flight.since(site, origin)
    return LagReport(
        origin=origin,
        site=site,
        known=head,
        landed=landed.watermark,
        gaps=len(BitMap.deserialize(landed.gaps)) if landed.gaps else 0,
        seconds=max(0.0, now - since) if since is not None else 0.0,
    )


def flight_reports(content: Content, limit: int, *, now: float) -> Iterator[FlightReport]:
    """The entries longest on their way."""
    group = content.settings.name
    for (origin, seq), flying in content.flight.oldest(limit):
        entries = content.ledger.entries(group, origin, seq - 1, 1)
        if not entries:
            continue
        entry = entries[0]
        fenced = content.controller.fenced(group, origin) >= seq
        waiting = content.flight.missing_sites((origin, seq))
        yield FlightReport(
            group=group,
            path=show_path(flying.path),
            origin=origin,
            seq=seq,
            kind=entry.kind.name.lower(),
            size_bytes=entry.size,
            age_seconds=max(0.0, now - flying.since),
            fenced=fenced,
            waiting=waiting,
            reason=content.landing.failed.get(flying.path, "") if fenced else "not fenced yet",
        )


def conflict_report(number: int, conflict: Conflict) -> ConflictReport:
    kept = PRIVATE_FOLDER + b"/conflicts/" + conflict.kept if conflict.kept else b""
    return ConflictReport(
        id=number,
        group=conflict.group,
        path=show_path(conflict.path),
        winner=str(conflict.winner),
        loser=str(conflict.loser),
        kept=show_path(kept),
        wall=conflict.at,
    )
