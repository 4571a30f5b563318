"""What the parts of a member count, gathered for metrics and tables.

Law: a count is a plain number on the object that counts; here it only gets its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anycastle.app import Member


def counters(member: Member) -> dict[str, dict[str, int]]:
    """Part -> what -> how often, for metrics and tables."""
    found = {
        "replicator": member.replica.counters()
        | {"messages_unknown": member.links.unknown_messages()}
        | {f"refused_{k}": n for k, n in member.links.refused.items()},
        "health": {
            "probe_rounds": member.prober.rounds,
            "probe_failures": member.prober.failures,
            "talk_refused": member.talk_refused,
            "observations_refused": member.judge.observations_refused,
            "events_lost": member.chronicle.timeline.lost,
        },
    }
    if member.edge is not None:
        found["edge"] = member.edge.counters() | member.round_trips.counters()
    if member.verdicts is not None:
        found.setdefault("edge", {}).update((f"verdict_{k}", n) for k, n in member.verdicts.answers.items())
    if member.dns is not None:
        found["dns"] = {what: n for what, n in member.dns.counters().items() if what != "tcp_connections"}
    if member.announcer is not None:
        found["bgp"] = {
            "announcements": member.announcer.announcements,
            "withdrawals": member.announcer.withdrawals,
        }
    return found


def levels(member: Member) -> dict[str, dict[str, int]]:
    """Part -> what -> how it stands now."""
    left = member.links.identity.seconds_left(wall=member.clock.wall())
    found = {
        "replicator": member.replica.levels() | {"certificate_left_seconds": int(left)}
    } | member.round_trips.levels()
    if member.edge is not None:
        found["edge"] |= member.edge.levels(wall=member.clock.wall())
    if member.announcer is not None:
        kinds = {hold.kind for hold in member.announcer.holds()}
        found["bgp"] = {f"routes_{kind}_bool": int(kind in kinds) for kind in ("frozen", "refused")}
    if member.dns is not None:
        found["dns"] |= {
            "tcp_open_connections": member.dns.counters().get("tcp_connections", 0),
            "zones_loaded": len(member.tables.zones) if member.tables else 0,
            "reload_refused_bool": int(bool(member.reload_refused)),
        }
    return found
