"""One step, and the dry run that is the same step."""

import ipaddress
from dataclasses import replace
from pathlib import Path

import hypothesis
from hypothesis import given
from hypothesis import strategies as st

from anycastle.bgp.decide import State, as_seen, step
from anycastle.bgp.restrain import Freeze
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


def walked_for_all(where: BgpSettings, seen: View, reason: str, state: State, *, accept: bool, now: float) -> State:
    return step(where, seen, reason, replace(state, basis=None), accept=accept, now=now)[0]


FOUR = tuple(ipaddress.ip_network(f"198.51.{n}.0/24") for n in range(4))
MANY = (
    RouteRule(prefix=FOUR[0], group="blogs", hold_down_seconds=2.0, drain_seconds=3.0, lag_max_seconds=4.0),
    RouteRule(prefix=FOUR[1], group="blogs", hold_down_seconds=2.0, drain_seconds=3.0, lag_max_seconds=4.0),
    RouteRule(prefix=FOUR[2], group="shop", hold_down_seconds=0.0, isolated_refuse=False, minimum_sites=0),
    RouteRule(prefix=FOUR[3], group=None, nameserver=True),
)
GROUPS = st.builds(
    lambda current, since: GroupView(
        current=current, current_reason="leases", pending={} if since is None else {b"alice/": since}
    ),
    st.sampled_from((True, True, False)),
    st.sampled_from((None, None, 0.0, 5.0, 10.0)),
)
SITES = st.builds(
    lambda health, blogs, shop, drained, announced: SiteView(
        health=health,
        reason="probe",
        since=0.0,
        groups={"blogs": blogs, "shop": shop},
        drained=frozenset({"blogs"} if drained else ()),
        announced=frozenset(announced),
    ),
    st.sampled_from((Health.UP, Health.UP, Health.DOWN, Health.UNKNOWN)),
    GROUPS,
    GROUPS,
    st.sampled_from((False, False, True)),
    st.sets(st.sampled_from([str(prefix) for prefix in FOUR])),
)
VIEWS = st.builds(
    lambda own, other: View(member="ams", generation=1, at=0.0, sites={"ams": own, "nyc": other}), SITES, SITES
)
MOMENTS = st.tuples(
    st.one_of(st.none(), VIEWS),
    st.sampled_from(("", "", "unwell")),
    st.sampled_from((None, None, None, "freeze", "thaw", "accept")),
    st.sampled_from((0.0, 0.5, 0.5, 1.0, 7.0, 70.0)),
)


@hypothesis.settings(max_examples=300, deadline=None)
@given(st.lists(MOMENTS, max_size=25), st.sampled_from((None, 1, 2)))
def test_a_step_for_what_may_differ_is_a_step_for_all(
    moments: list[tuple[View | None, str, str | None, float]], changes_max: int | None
) -> None:
    where = replace(settings(Path("/run/anycastle"), (), MANY), changes_max=changes_max)
    seen, now = view(Health.UP), 100.0
    quick, full = State(), State()
    for new, reason, word, seconds in moments:
        seen, now = new or seen, now + seconds
        if word in ("freeze", "thaw"):
            states = {prefix: told.state for prefix, told in full.told.items()}
            freeze = Freeze(reason="works", wall=0.0, states=states) if word == "freeze" else None
            quick, full = replace(quick, freeze=freeze), replace(full, freeze=freeze)
        quick, _ = step(where, seen, reason, quick, accept=word == "accept", now=now)
        full = walked_for_all(where, seen, reason, full, accept=word == "accept", now=now)
        assert list(quick.told.values()) == list(full.told.values())
        assert quick.limit.message == full.limit.message


def test_what_a_step_costs_is_what_changed() -> None:
    """A group of its own for each of ten, a thousand routes each; only one of them is decided again."""
    rules = tuple(
        RouteRule(prefix=ipaddress.ip_network(((10 << 24) + (n << 8), 24)), group=f"g{n % 10}") for n in range(10_000)
    )
    where = replace(settings(Path("/run/anycastle"), (), rules), routes_max=10_000)
    well = {f"g{n}": GroupView(current=True, current_reason="3 of 3 leases", pending={}) for n in range(10)}

    def seen(groups: dict[str, GroupView]) -> View:
        own = SiteView(health=Health.UP, reason="probe", since=0.0, groups=groups)
        return View(member="ams", generation=1, at=0.0, sites={"ams": own})

    state = State()
    for now in (0.0, 0.5):
        state, _ = step(where, seen(well), "", state, now=now)
    settled = state
    state, plan = step(where, seen(well), "", state, now=1.0)
    assert (state.told, state.memory, state.damping) == (settled.told, settled.memory, settled.damping)
    assert state.told is settled.told, "nothing was even copied"
    assert plan.changes == ()
    lost = well | {"g3": GroupView(current=False, current_reason="1 of 3 leases", pending={})}
    state, plan = step(where, seen(lost), "", state, now=1.5)
    assert len(plan.changes) == len(state.news) == 1000
    assert state.basis is not None
    assert len(state.basis.restless) == 1000
