import dataclasses
import ipaddress

import pytest

from anycastle.bgp.route import (
    NO_MEMORY,
    BgpError,
    ChangeKind,
    Memory,
    Refusal,
    RouteState,
    Wanted,
    parse_prefix,
    plan,
    remember_announced,
    wanted,
)
from anycastle.bgp.settings import RouteRule
from anycastle.health.view import ALL_GROUPS, GroupView, Health, SiteView, View

PREFIX = ipaddress.ip_network("198.51.100.0/24")
RULE = RouteRule(prefix=PREFIX, group="blogs", lag_max_seconds=10.0, drain_seconds=5.0)
SERVE = dataclasses.replace(RULE, isolated_refuse=False)
NAMESERVER = RouteRule(prefix=PREFIX, group=None, nameserver=True)
HOST = RouteRule(prefix=PREFIX, group=None)
NOW = 1000.0


def site(
    health: Health = Health.UP,
    *,
    current: bool = True,
    lag: float = 0.0,
    drained: frozenset[str] = frozenset(),
    announced: bool = True,
    holds: bool = True,
    gated: str = "",
) -> SiteView:
    pending = {b"x/": NOW - lag} if lag else {}
    content = GroupView(current=current, current_reason="1 of 3 leases", pending=pending, gated=gated)
    return SiteView(
        health=health,
        reason="probe",
        since=0.0,
        groups={"blogs": content} if holds else {},
        drained=drained,
        announced=frozenset({str(PREFIX)} if announced else ()),
    )


def view(own: SiteView | None, *others: SiteView, isolated: bool = False) -> View:
    sites = {f"other{number}": other for number, other in enumerate(others)}
    return View(member="ams", generation=1, at=NOW, isolated=isolated, sites=sites | ({"ams": own} if own else {}))


def decide(
    world: View, rule: RouteRule = RULE, memory: Memory = NO_MEMORY, *, dns: str = "", now: float = NOW
) -> tuple[str, str, Memory]:
    (decision,), after = wanted(world, (rule,), "ams", dns, memory, now=now)
    return decision.state.value, decision.reason, after


def announced(rule: RouteRule = RULE) -> Memory:
    state, _, memory = decide(view(site()), rule)
    assert state == "normal"
    return memory


GOOD = site()
DOWN, UNKNOWN, STALE = site(Health.DOWN), site(Health.UNKNOWN), site(current=False)
LAGS = site(lag=11.0)


@pytest.mark.parametrize(
    ("own", "others", "fresh", "kept"),
    [
        # own state, the other sites, what a fresh start says, what a route already announced becomes
        (GOOD, (), "normal", "normal"),
        (GOOD, (GOOD,), "normal", "normal"),
        (None, (), "withdrawn", "degraded"),
        (None, (GOOD,), "withdrawn", "withdrawn"),
        (DOWN, (), "withdrawn", "degraded"),
        (DOWN, (GOOD,), "withdrawn", "withdrawn"),
        (UNKNOWN, (), "withdrawn", "degraded"),
        (UNKNOWN, (GOOD,), "withdrawn", "withdrawn"),
        (LAGS, (), "withdrawn", "degraded"),
        (LAGS, (GOOD,), "withdrawn", "withdrawn"),
        (site(lag=10.0), (GOOD,), "normal", "normal"),
        (STALE, (), "withdrawn", "withdrawn"),
        (STALE, (GOOD,), "withdrawn", "withdrawn"),
        (site(holds=False), (), "withdrawn", "withdrawn"),
        # others that do not count as announcing
        (DOWN, (site(announced=False),), "withdrawn", "degraded"),
        (DOWN, (DOWN,), "withdrawn", "degraded"),
        (DOWN, (UNKNOWN,), "withdrawn", "degraded"),
        (DOWN, (STALE,), "withdrawn", "degraded"),
        (LAGS, (LAGS,), "withdrawn", "degraded"),
        (DOWN, (site(drained=frozenset({ALL_GROUPS})),), "withdrawn", "degraded"),
        (DOWN, (site(drained=frozenset({"blogs"})),), "withdrawn", "degraded"),
        (DOWN, (site(drained=frozenset({"other"})),), "withdrawn", "withdrawn"),
        (DOWN, (DOWN, STALE, GOOD), "withdrawn", "withdrawn"),
    ],
)
def test_a_service_route(own: SiteView | None, others: tuple[SiteView, ...], fresh: str, kept: str) -> None:
    assert decide(view(own, *others))[0] == fresh
    assert decide(view(own, *others), memory=announced())[0] == kept


def test_what_an_isolated_member_says_of_others_does_not_count() -> None:
    assert decide(view(DOWN, GOOD, isolated=True), memory=announced())[0] == "degraded"


def test_what_a_group_requires_gates_its_route_but_not_that_of_the_last_site() -> None:
    gated = site(gated="requires database: refused")
    withdrawn = ("withdrawn", "blogs requires database: refused; 1 other sites announce")
    assert decide(view(gated, GOOD), memory=announced())[:2] == withdrawn
    state, reason, _ = decide(view(gated, gated), memory=announced())
    assert state == "degraded"
    assert reason.startswith("blogs requires database: refused; kept: 0 other sites announce")
    assert decide(view(gated), HOST)[0] == "normal"


@pytest.mark.parametrize(("minimum", "state"), [(1, "withdrawn"), (2, "withdrawn"), (3, "degraded")])
def test_minimum_sites(minimum: int, state: str) -> None:
    rule = dataclasses.replace(RULE, minimum_sites=minimum)
    assert decide(view(DOWN, GOOD, GOOD), rule, announced())[0] == state


def test_a_kept_route_says_why() -> None:
    _, reason, _ = decide(view(DOWN), memory=announced())
    assert reason == "down: probe; kept: 0 other sites announce, minimum_sites is 1"


@pytest.mark.parametrize("others", [(), (GOOD,)])
def test_lost_currency_keeps_the_route_of_a_group_that_serves_alone(others: tuple[SiteView, ...]) -> None:
    assert decide(view(STALE, *others), SERVE)[0] == "withdrawn"
    state, reason, _ = decide(view(STALE, *others), SERVE, announced(SERVE))
    assert (state, reason) == ("degraded", 'not current for blogs: 1 of 3 leases; kept by isolated = "serve"')
    both = site(Health.DOWN, current=False)
    assert decide(view(both, *others), SERVE, announced(SERVE))[0] == ("withdrawn" if others else "degraded")


def test_lag_comes_back_only_below_half() -> None:
    memory, states = announced(), []
    for lag in (10.0, 10.1, 9.0, 5.0, 4.9, 9.0, 10.1, 0.0):
        state, _, memory = decide(view(site(lag=lag), GOOD), memory=memory)
        states.append(state)
    assert states == ["normal", *["withdrawn"] * 3, "normal", "normal", "withdrawn", "normal"]


def test_a_limit_of_zero_lag_is_left_when_settled() -> None:
    rule = dataclasses.replace(RULE, lag_max_seconds=0.0)
    memory, states = announced(rule), []
    for lag in (0.1, 0.0):
        state, _, memory = decide(view(site(lag=lag), GOOD), rule, memory)
        states.append(state)
    assert states == ["withdrawn", "normal"]


@pytest.mark.parametrize("own", [GOOD, DOWN, UNKNOWN, None])
def test_a_nameserver_depends_on_the_local_dns_alone(own: SiteView | None) -> None:
    for isolated in (False, True):
        assert decide(view(own, isolated=isolated), NAMESERVER)[0] == "normal"
        state, reason, _ = decide(view(own, isolated=isolated), NAMESERVER, announced(NAMESERVER), dns="no answer")
        assert (state, reason) == ("withdrawn", "local DNS: no answer")


def test_a_route_without_group_needs_health_only() -> None:
    assert decide(view(site(holds=False)), HOST)[0] == "normal"
    assert decide(view(site(Health.DOWN, holds=False), GOOD), HOST, announced(HOST))[0] == "withdrawn"


@pytest.mark.parametrize("rule", [RULE, NAMESERVER])
def test_a_drain_is_told_first_and_then_carried_out(rule: RouteRule) -> None:
    rule = dataclasses.replace(rule, drain_seconds=5.0)
    world, memory, states = view(site(drained=frozenset({ALL_GROUPS}))), announced(rule), []
    for now in (NOW, NOW + 4.9, NOW + 5.0, NOW + 60.0):
        state, _, memory = decide(world, rule, memory, now=now)
        states.append(state)
    assert states == ["drained", "drained", "withdrawn", "withdrawn"]
    assert decide(view(GOOD), rule, memory)[0] == "normal"


def test_a_drain_of_one_group_leaves_the_others_and_the_nameserver() -> None:
    assert decide(view(site(drained=frozenset({"blogs"}))), memory=announced())[0] == "drained"
    assert decide(view(site(drained=frozenset({"wikis"}))), memory=announced())[0] == "normal"
    assert decide(view(site(drained=frozenset({"blogs"}))), NAMESERVER, announced(NAMESERVER))[0] == "normal"


def test_a_drained_site_that_starts_is_not_announced() -> None:
    assert decide(view(site(drained=frozenset({ALL_GROUPS}))))[0] == "withdrawn"


def test_a_drain_does_not_keep_what_may_not_be_served() -> None:
    gone = site(current=False, drained=frozenset({ALL_GROUPS}))
    assert decide(view(gone), memory=announced())[0] == "withdrawn"


def test_a_route_that_was_only_wanted_is_not_kept() -> None:
    memory = announced()
    shown = (Wanted(prefix=PREFIX, state=RouteState.WITHDRAWN, reason="held down"),)
    assert decide(view(DOWN), memory=memory)[0] == "degraded"
    assert decide(view(DOWN), memory=remember_announced(memory, shown))[0] == "withdrawn"


# ---- plan ----------------------------------------------------------------------------------------------------------


def route(prefix: str, state: str = "normal") -> Wanted:
    return Wanted(prefix=ipaddress.ip_network(prefix), state=RouteState(state), reason="why")


def test_a_plan_is_sorted_and_holds_only_changes() -> None:
    before = (route("2001:db8::/48"), route("192.0.2.0/24"), route("10.9.0.0/16"), route("10.1.0.0/16"))
    after = (
        route("203.0.113.0/24"),
        route("10.9.0.0/16", "degraded"),
        route("10.1.0.0/16"),
        route("2001:db8::/48", "withdrawn"),
    )
    changes = plan(before, after, routes_max=10)
    assert not isinstance(changes, Refusal)
    assert [(c.kind, str(c.prefix)) for c in changes] == [
        (ChangeKind.CHANGE, "10.9.0.0/16"),
        (ChangeKind.WITHDRAW, "192.0.2.0/24"),
        (ChangeKind.ANNOUNCE, "203.0.113.0/24"),
        (ChangeKind.WITHDRAW, "2001:db8::/48"),
    ]
    assert str(changes[0]) == "change 10.9.0.0/16 (degraded): why"


@pytest.mark.parametrize(
    ("routes", "message"),
    [
        ((route("10.0.0.0/24"), route("10.0.1.0/24"), route("10.0.2.0/24")), "3 routes wanted, at most 2 allowed"),
        ((route("0.0.0.0/0"),), "0.0.0.0/0 is a default route, expected a prefix of at least 1 bit"),
        ((route("::/0"),), "::/0 is a default route"),
        ((route("10.0.0.0/24"), route("10.0.0.0/24")), "10.0.0.0/24 is wanted 2 times, expected once"),
    ],
)
def test_refusals(routes: tuple[Wanted, ...], message: str) -> None:
    refused = plan((), routes, routes_max=2)
    assert isinstance(refused, Refusal)
    assert message in refused.message


def test_withdrawn_routes_do_not_count_towards_the_limit() -> None:
    routes = (route("10.0.0.0/24"), route("10.0.1.0/24", "withdrawn"))
    assert not isinstance(plan((), routes, routes_max=1), Refusal)


@pytest.mark.parametrize(
    "text", ["198.51.100.1/24", "2001:db8::1/48", "198.51.100.0/33", "json", "", "10.0.0.0/8 json"]
)
def test_what_is_no_prefix(text: str) -> None:
    with pytest.raises(BgpError, match="is no prefix, expected one like"):
        parse_prefix(text)
