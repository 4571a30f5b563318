"""What is gathered for the timeline, and that it is not gathered in vain."""

from types import SimpleNamespace
from typing import Any

from anycastle.bgp.status import PeerStatus, RouteStatus
from anycastle.happenings import RouteWatch


def session(acknowledged: str) -> PeerStatus:
    route = RouteStatus(
        prefix="198.51.100.0/24",
        wanted="normal",
        since=1.0,
        acknowledged=acknowledged,
        acknowledged_since=2.0,
        reason="well",
        waits_for="",
    )
    return PeerStatus(
        peer="192.0.2.1",
        asn=64499,
        state="up",
        since=1.0,
        reason="established",
        routes_wanted=1,
        routes_acknowledged=1,
        routes=(route,),
    )


class Announcer:
    asked = 0
    acknowledged = "unknown"

    def status(self) -> tuple[PeerStatus, ...]:
        self.asked += 1
        return (session(self.acknowledged),)


def test_routes_are_looked_at_only_when_something_moved() -> None:
    announcer, watch = Announcer(), RouteWatch()
    member: Any = SimpleNamespace(announcer=announcer, settings=SimpleNamespace(member="ams"))
    first = watch.conditions(member)
    assert [each.text for each in first.values()] == ["the BGP session with 192.0.2.1 is up"]
    assert watch.conditions(member) == first
    assert announcer.asked == 1
    announcer.acknowledged = "normal"
    watch.moved = True
    assert [each.text for each in watch.conditions(member).values()] == [
        "the BGP session with 192.0.2.1 is up",
        "192.0.2.1 has 198.51.100.0/24 as normal: well",
    ]
    assert announcer.asked == 2


def test_who_announces_nothing_has_none() -> None:
    member: Any = SimpleNamespace(announcer=None)
    assert RouteWatch().conditions(member) == {}
