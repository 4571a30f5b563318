"""One step, and the dry run that is the same step."""

import ipaddress
from pathlib import Path

from anycastle.bgp.decide import State, as_seen, step
from anycastle.bgp.settings import BgpSettings, RouteRule
from anycastle.health.view import GroupView, Health, SiteView, View
from tests.bgp.router import settings

PREFIX = "198.51.100.0/24"


def where(hold_down_seconds: float = 5.0) -> BgpSettings:
    rule = RouteRule(prefix=ipaddress.ip_network(PREFIX), group="blogs", hold_down_seconds=hold_down_seconds)
    return settings(Path("/run/anycastle"), (), (rule,))


def view(health: Health, *, others: int = 1, announced: bool = True) -> View:
    blogs = GroupView(current=True, current_reason="3 of 3 leases", pending={})
    told = frozenset({PREFIX} if announced else ())

    def site(health: Health) -> SiteView:
        return SiteView(health=health, reason="probe", since=0.0, groups={"blogs": blogs}, announced=told)

    sites = {f"other{number}": site(Health.UP) for number in range(others)}
    return View(member="ams", generation=1, at=0.0, sites={"ams": site(health)} | sites)


def test_a_dry_run_of_a_file_starts_from_what_the_file_says_is_announced() -> None:
    _, plan = step(where(), view(Health.DOWN), "", as_seen(where(), view(Health.DOWN)), now=0.0)
    assert [str(change) for change in plan.changes] == [
        f"withdraw {PREFIX} (withdrawn): down: probe; 1 other sites announce"
    ]
    lonely = view(Health.DOWN, others=0)
    _, plan = step(where(), lonely, "", as_seen(where(), lonely), now=0.0)
    assert str(plan.changes[0]).startswith(f"change {PREFIX} (degraded): down: probe; kept")
    fresh = view(Health.UP, announced=False)
    _, plan = step(where(), fresh, "", as_seen(where(), fresh), now=0.0)
    assert str(plan.changes[0]).startswith(f"announce {PREFIX} (normal)")


def test_what_is_held_says_why() -> None:
    state, now = State(), 0.0
    for now, health in enumerate((Health.UP, Health.DOWN, Health.UP)):
        state, plan = step(where(), view(health), "", state, now=float(now))
    assert plan.changes == ()
    (held,) = plan.held
    assert (held.kind.value, held.state.value) == ("announce", "normal")
    assert held.reason.startswith("held down after 1.0 recent withdrawals; would be normal")


def test_a_health_signal_that_flaps_for_five_minutes() -> None:
    """At 1 Hz, as a site that may leave and as the last one; the numbers of docs/bgp.md."""
    for others, updates_max in ((1, 14), (0, 26)):
        state, updates = State(), 0
        for tick in range(600):
            health = Health.DOWN if tick % 2 else Health.UP
            state, plan = step(where(), view(health, others=others), "", state, now=tick * 0.5)
            updates += len(plan.changes)
        assert 6 <= updates <= updates_max
