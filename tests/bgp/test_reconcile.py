"""The reconciler against a model of what each router holds."""

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anycastle.bgp.reconcile import REPEATED_MAX, Order, Reconciler
from anycastle.bgp.route import RouteState
from anycastle.bgp.settings import Peer, Prefix

LOCAL = ipaddress.ip_address("127.0.0.1")
PEERS = tuple(
    Peer(address=ipaddress.ip_address(text), asn=64499, local_address=LOCAL) for text in ("127.0.0.2", "127.0.0.3")
)
SIX = Peer(address=ipaddress.ip_address("::1"), asn=64499, local_address=ipaddress.ip_address("::1"))
ONE, TWO = PEERS[0].address, PEERS[1].address
A, B, C = (ipaddress.ip_network(f"198.51.{n}.0/24") for n in (1, 2, 3))
A6 = ipaddress.ip_network("2001:db8::/48")
NORMAL, DEGRADED, WITHDRAWN = RouteState.NORMAL, RouteState.DEGRADED, RouteState.WITHDRAWN


def drain(reconciler: Reconciler) -> list[tuple[str, str, str]]:
    """Carries out everything; (peer, prefix, state) in order."""
    done = []
    while (order := reconciler.next()) is not None:
        done.append((str(order.peer.address), str(order.prefix), order.state.value))
        reconciler.acknowledge(order, now=0.0)
    return done


def test_while_down_only_withdrawals_and_on_up_every_known_prefix_once() -> None:
    reconciler = Reconciler(PEERS[:1], {A, B})
    reconciler.want({A: NORMAL})
    assert drain(reconciler) == [("127.0.0.2", str(B), "withdrawn")]
    assert reconciler.announced() == frozenset()
    for _ in range(2):
        assert reconciler.session(ONE, True)
        assert drain(reconciler) == [("127.0.0.2", str(B), "withdrawn"), ("127.0.0.2", str(A), "normal")]
        assert drain(reconciler) == []
        assert reconciler.announced() == {A}
    assert reconciler.session(ONE, False)
    assert not reconciler.session(ONE, False)
    assert reconciler.announced() == frozenset()


def test_a_session_carries_its_own_family() -> None:
    reconciler = Reconciler((PEERS[0], SIX), ())
    reconciler.want({A: NORMAL, A6: DEGRADED})
    reconciler.session(ONE, True)
    reconciler.session(SIX.address, True)
    assert sorted(drain(reconciler)) == [("127.0.0.2", str(A), "normal"), ("::1", str(A6), "degraded")]


def test_withdrawals_go_first() -> None:
    reconciler = Reconciler(PEERS, ())
    for peer in PEERS:
        reconciler.session(peer.address, True)
    reconciler.want({A: NORMAL, C: NORMAL})
    drain(reconciler)
    reconciler.want({A: DEGRADED, B: NORMAL})
    assert [state for _, _, state in drain(reconciler)] == ["withdrawn"] * 2 + ["degraded", "normal"] * 2


def test_a_route_stays_announced_while_its_attributes_change_but_not_while_it_leaves() -> None:
    reconciler = Reconciler(PEERS[:1], ())
    reconciler.session(ONE, True)
    reconciler.want({A: NORMAL})
    drain(reconciler)
    reconciler.want({A: DEGRADED})
    order = reconciler.next()
    assert order is not None
    assert reconciler.announced() == {A}
    reconciler.acknowledge(order, now=0.0)
    reconciler.want({})
    assert reconciler.next() is not None
    assert reconciler.announced() == frozenset()


def test_an_answer_from_an_older_session_does_not_count() -> None:
    reconciler = Reconciler(PEERS[:1], ())
    reconciler.want({A: NORMAL})
    reconciler.session(ONE, True)
    order = reconciler.next()
    assert order is not None
    reconciler.session(ONE, False)
    reconciler.session(ONE, True)
    reconciler.acknowledge(order, now=0.0)
    assert reconciler.announced() == frozenset()
    assert drain(reconciler) == [("127.0.0.2", str(A), "normal")]


def test_a_wish_that_changes_and_changes_back_while_an_order_is_on_its_way() -> None:
    reconciler = Reconciler(PEERS[:1], {A})
    reconciler.want({})
    reconciler.session(ONE, True)
    drain(reconciler)
    reconciler.want({A: DEGRADED})
    order = reconciler.next()
    assert order is not None
    reconciler.want({})
    reconciler.acknowledge(order, now=0.0)
    assert drain(reconciler) == [("127.0.0.2", str(A), "withdrawn")]


def test_repetition_tells_withdrawals_and_what_was_refused_again() -> None:
    reconciler = Reconciler(PEERS[:1], {B})
    reconciler.session(ONE, True)
    reconciler.want({A: NORMAL, C: NORMAL})
    refused = None
    while (order := reconciler.next()) is not None:
        if order.prefix == C:
            refused = order
            reconciler.refuse(order)
        else:
            reconciler.acknowledge(order, now=0.0)
    assert refused is not None
    assert not reconciler.busy()
    assert reconciler.announced() == {A}
    reconciler.repeat()
    assert [p for _, p, _ in drain(reconciler)] == [str(B), str(C)]


def test_what_was_found_by_asking() -> None:
    reconciler = Reconciler(PEERS, ())
    assert reconciler.found(frozenset({ONE}))
    assert not reconciler.found(frozenset({ONE}))
    reconciler.want({A: NORMAL})
    assert drain(reconciler) == [("127.0.0.2", str(A), "normal")]
    assert reconciler.found(frozenset({TWO}))
    assert reconciler.announced() == frozenset()


def test_an_unknown_peer_is_ignored() -> None:
    assert not Reconciler(PEERS, ()).session(ipaddress.ip_address("192.0.2.1"), True)


STEPS = st.one_of(
    st.tuples(st.just("want"), st.dictionaries(st.sampled_from((A, B, C)), st.sampled_from(RouteState))),
    st.tuples(st.just("session"), st.tuples(st.sampled_from((ONE, TWO)), st.booleans())),
    st.tuples(st.just("take"), st.none()),
    st.tuples(st.just("answer"), st.sampled_from((True, True, True, False))),
    st.tuples(st.just("repeat"), st.none()),
    st.tuples(st.just("forget"), st.none()),
)


class Routers:
    """What the routers hold if ExaBGP carries out every order given to a session that is up."""

    def __init__(self) -> None:
        self.up = {ONE: False, TWO: False}
        self.held: dict[object, dict[Prefix, RouteState]] = {ONE: {}, TWO: {}}

    def carry_out(self, order: Order) -> None:
        here = self.held[order.peer.address]
        here.pop(order.prefix, None)
        if order.state is not WITHDRAWN and self.up[order.peer.address]:
            here[order.prefix] = order.state


@settings(max_examples=300)
@given(st.lists(STEPS, max_size=40))
def test_after_any_history_the_routers_end_with_what_is_wanted(steps: list[tuple[str, object]]) -> None:
    reconciler, routers = Reconciler(PEERS, {A, B, C}), Routers()
    flying: Order | None = None
    wanted: dict[Prefix, RouteState] = {}
    for kind, value in [*steps, ("answer", True), ("repeat", None)]:
        match kind, value:
            case "want", dict():
                wanted = value
                reconciler.want(wanted)
            case "session", (address, bool(up)):
                routers.up[address] = up
                routers.held[address] = {}
                reconciler.session(address, up)
            case "take", _ if flying is None:
                flying = reconciler.next()
                if flying is not None:
                    assert flying.state is WITHDRAWN or routers.up[flying.peer.address]
            case "answer", done if flying is not None:
                if done:
                    routers.carry_out(flying)
                    reconciler.acknowledge(flying, now=0.0)
                else:
                    reconciler.refuse(flying)
                flying = None
            case "repeat", _:
                reconciler.repeat()
            case "forget", _:
                reconciler.forget()
                flying = None
                reconciler.found(frozenset(a for a, up in routers.up.items() if up))
    while (order := reconciler.next()) is not None:
        routers.carry_out(order)
        reconciler.acknowledge(order, now=0.0)
    right = {prefix: state for prefix, state in wanted.items() if state is not WITHDRAWN}
    for address, up in routers.up.items():
        assert routers.held[address] == (right if up else {})
    assert reconciler.announced() == (right.keys() if any(routers.up.values()) else set())
    assert not reconciler.busy()


@pytest.mark.parametrize("count", [1000])
def test_many_routes_take_one_order_each(count: int) -> None:
    prefixes = [ipaddress.ip_network(((10 << 24) + (n << 8), 24)) for n in range(count)]
    reconciler = Reconciler(PEERS[:1], ())
    reconciler.session(ONE, True)
    reconciler.want(dict.fromkeys(prefixes, NORMAL))
    assert len(drain(reconciler)) == count


def test_repeated_withdrawals_take_turns_and_keep_their_time() -> None:
    prefixes = [ipaddress.ip_network(((10 << 24) + (n << 8), 24)) for n in range(REPEATED_MAX + 100)]
    reconciler = Reconciler(PEERS[:1], prefixes)
    reconciler.session(ONE, True)
    while (order := reconciler.next()) is not None:
        reconciler.acknowledge(order, now=1.0)
    reconciler.repeat()
    first = drain(reconciler)
    reconciler.repeat()
    second = drain(reconciler)
    assert [prefix for _, prefix, _ in (*first, *second)][: len(prefixes)] == list(map(str, prefixes))
    assert len(first) == len(second) == REPEATED_MAX
    assert {told.since for _, _, told in reconciler.told(ONE) if told} == {1.0}
