"""Views in, a real router's table out."""

import asyncio
import dataclasses
import ipaddress
from pathlib import Path

import pytest

from anycastle.bgp.announcer import Announcer
from anycastle.bgp.restrain import decode_freeze
from anycastle.bgp.route import BgpError, ChangeKind
from anycastle.bgp.settings import RouteRule
from anycastle.clock import SystemClock
from anycastle.health.view import ALL_GROUPS, GroupView, Health, SiteView, View
from tests.bgp.router import DRAINED, NORMAL, Bird, eventually, peer, settings

CONTENT, NAMESERVER = "198.51.100.0/24", "203.0.113.53/32"
RULES = (
    RouteRule(
        prefix=ipaddress.ip_network(CONTENT),
        group="blogs",
        hold_down_seconds=0.2,
        drain_seconds=0.6,
        lag_max_seconds=1.0,
    ),
    RouteRule(prefix=ipaddress.ip_network(NAMESERVER), group=None, nameserver=True, hold_down_seconds=0.0),
)


def view(
    health: Health = Health.UP,
    *,
    current: bool = True,
    since: float | None = None,
    drained: frozenset[str] = frozenset(),
) -> View:
    pending = {} if since is None else {b"alice/": since}
    blogs = GroupView(current=current, current_reason="2 of 3 leases", pending=pending)
    own = SiteView(health=health, reason="probe", since=0.0, groups={"blogs": blogs}, drained=drained)
    other = SiteView(
        health=Health.UP,
        reason="probe",
        since=0.0,
        groups={"blogs": GroupView(current=True, current_reason="3 of 3 leases", pending={})},
        announced=frozenset({CONTENT}),
    )
    return View(member="ams", generation=1, at=0.0, sites={"ams": own, "nyc": other})


async def test_from_views_to_the_router(bird: Bird, tmp_path: Path) -> None:
    clock = SystemClock()
    announcer = Announcer(settings(tmp_path / "run", (peer(bird),), RULES), clock)
    both, one = {CONTENT: NORMAL, NAMESERVER: NORMAL}, {NAMESERVER: NORMAL}
    async with asyncio.TaskGroup() as group:
        group.create_task(announcer.run())
        await eventually(lambda: announcer.status()[0].state == "up")
        assert bird.table() == {}  # nothing before the first view
        announcer.update(view(Health.UNKNOWN), "")
        await eventually(lambda: bird.table() == one)
        announcer.update(view(), "")
        await eventually(lambda: bird.table() == both and announcer.announced() == both.keys())
        assert announcer.announced_in_order() == tuple(sorted(both))
        announcer.update(view(current=False), "")
        await eventually(lambda: bird.table() == one)
        announcer.update(view(), "")
        await eventually(lambda: bird.table() == both)
        await eventually(lambda: announcer.announced() == both.keys())
        # Time alone withdraws: the lag grows with no new view.
        announcer.update(view(since=clock.now()), "")
        assert announcer.announced() == both.keys()
        await eventually(lambda: bird.table() == one)
        assert "blogs lags: by more than 1 s" in announcer.decisions()[0].reason
        announcer.update(view(), "the worker is gone")
        await eventually(lambda: bird.table() == {CONTENT: NORMAL})
        announcer.update(view(drained=frozenset({ALL_GROUPS})), "")
        await eventually(lambda: bird.table() == {CONTENT: DRAINED})
        await eventually(lambda: bird.table() == {})
        announcer.update(view(), "")
        await eventually(lambda: bird.table() == both)
        # The two counters tell the story: 1 + 1 + 1 + 1 + 2 announcements at most, never one a tick.
        assert announcer.withdrawals == 4
        assert announcer.announcements == 6
        await announcer.close()
    assert bird.table() == {}


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    announcer = Announcer(settings(tmp_path / "run", (), RULES), SystemClock())
    with pytest.raises(BgpError, match="nothing is known"):
        announcer.plan()
    announcer.update(view(), "")
    told = announcer.decisions()
    announcer.freeze("works on the backbone")
    announcer.update(view(current=False), "the worker is gone")
    for _ in range(2):
        plan = announcer.plan()
        assert plan.changes == ()
        assert [(c.kind, str(c.prefix)) for c in plan.held] == [
            (ChangeKind.WITHDRAW, CONTENT),
            (ChangeKind.WITHDRAW, NAMESERVER),
        ]
        assert plan.held[1].reason == (
            "frozen by an operator (works on the backbone); would be withdrawn: local DNS: the worker is gone"
        )
    assert [d.state for d in announcer.decisions()] == [d.state for d in told]
    assert not (tmp_path / "run").exists()


def test_a_freeze_holds_over_a_restart_until_the_thaw(tmp_path: Path) -> None:
    clock = SystemClock()
    before = Announcer(settings(tmp_path / "run", (), RULES), clock)
    with pytest.raises(BgpError, match="nothing is announced yet"):
        before.freeze("too early")
    before.update(view(), "")
    for reason in ("", "two\nlines", "x" * 201):
        with pytest.raises(BgpError, match="a reason in one line"):
            before.freeze(reason)
    kept = decode_freeze(before.freeze("works").encode())
    after = Announcer(settings(tmp_path / "run", (), RULES), clock, freeze=kept)
    after.update(view(Health.UNKNOWN), "not heard of yet")
    assert [d.state.value for d in after.decisions()] == ["normal", "normal"]
    (hold,) = after.holds()
    assert (hold.kind, hold.reason) == ("frozen", "works")
    assert 0 <= hold.seconds < 5
    after.update(view(drained=frozenset({ALL_GROUPS})), "")
    assert [d.state.value for d in after.decisions()] == ["drained", "drained"]
    after.thaw()
    after.update(view(Health.DOWN), "unwell")
    assert [d.state.value for d in after.decisions()] == ["withdrawn", "withdrawn"]
    assert after.holds() == ()


def test_too_much_at_once_waits_for_the_operators_word(tmp_path: Path) -> None:
    rules = tuple(
        dataclasses.replace(RULES[0], prefix=ipaddress.ip_network(f"198.51.{n}.0/24"), minimum_sites=0)
        for n in range(4)
    )
    announcer = Announcer(settings(tmp_path / "run", (), rules, changes_max=2), SystemClock())
    announcer.update(view(), "")
    announcer.update(view(Health.DOWN), "")
    assert {d.state.value for d in announcer.decisions()} == {"normal"}
    (hold,) = announcer.holds()
    assert hold.kind == "refused"
    assert "4 of 4 routes would get worse within 60 s, changes_max allows 2; `anycastle routes --accept`" in hold.reason
    assert [c.kind for c in announcer.plan().held] == [ChangeKind.WITHDRAW] * 4
    assert announcer.accept() == hold.reason
    assert {d.state.value for d in announcer.decisions()} == {"withdrawn"}
    assert announcer.holds() == ()
    assert announcer.accept() == ""


@pytest.mark.parametrize(
    ("rules", "more", "message"),
    [
        (RULES, {"routes_max": 1}, "2 routes wanted, at most 1 allowed"),
        ((RULES[0], RULES[0]), {}, "wanted 2 times"),
        ((dataclasses.replace(RULES[0], prefix=ipaddress.ip_network("0.0.0.0/0")),), {}, "default route"),
    ],
)
def test_rules_that_are_refused_at_the_start(
    rules: tuple[RouteRule, ...], more: dict[str, int], message: str, tmp_path: Path
) -> None:
    with pytest.raises(BgpError, match=message):
        Announcer(settings(tmp_path / "run", (), rules, **more), SystemClock())
