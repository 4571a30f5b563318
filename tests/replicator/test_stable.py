"""How far everybody is past a journal."""

from pyroaring import BitMap

from anycastle.replicator.message import LandedUpto, LeaseGrant
from anycastle.replicator.stable import PROPOSE_SECONDS, Stable, passed

G = "g"


def stable(sites: str = "abc") -> Stable:
    one = Stable("a", "bc", sites, (G,))
    for member in "bc":
        one.landed(member, G, {"a": LandedUpto(9, b"")})
        one.detailed(member, G, {"a": 9})
    return one


def grant(sent: float, **recorded: int) -> LeaseGrant:
    return LeaseGrant(sent, 1, {G: recorded}, {}, 3.0)


def cut(one: Stable, at: float) -> dict[str, int]:
    return one.cut(G, {"a": 7}, now=at)


def test_what_waits_to_land_is_not_passed() -> None:
    assert passed(LandedUpto(9, b"")) == 9
    assert passed(LandedUpto(9, BitMap([4, 8]).serialize())) == 3


def test_a_cut_stands_once_all_were_asked_again_and_hold_nothing_unknown() -> None:
    one = stable()
    assert not cut(one, 1.0), "proposed"
    one.granted("b", grant(1.1, a=7), {G: {"a": 7}})
    one.granted("c", grant(0.9, a=7), {G: {"a": 7}})
    assert not cut(one, 1.2), "c was asked before"
    one.granted("c", grant(1.1, a=7, c=1), {G: {"a": 7}})
    assert not cut(one, 1.3), "c holds an entry that is not here"
    one.granted("c", grant(1.1, a=7, c=1), {G: {"a": 7, "c": 1}})
    assert cut(one, 1.4) == {"a": 7}
    assert not cut(one, 1.4 + PROPOSE_SECONDS), "told once"


def test_who_meets_again_has_to_say_anew_how_far_it_is() -> None:
    one = stable()
    cut(one, 1.0)
    one.met("b")
    for member in "bc":
        one.granted(member, grant(1.1), {G: {}})
    assert not cut(one, 1.2)
    assert not cut(one, 1.0 + PROPOSE_SECONDS), "nothing is known of b"
    one.landed("b", G, {"a": LandedUpto(3, b"")})
    cut(one, 1.0 + 2 * PROPOSE_SECONDS)
    for member in "bc":
        one.granted(member, grant(99.0), {G: {}})
    assert cut(one, 99.0) == {"a": 3}


def test_a_witness_counts_by_what_it_recorded_and_who_was_given_up_not_at_all() -> None:
    one = Stable("a", "bc", "ab", (G,))
    one.detailed("c", G, {"a": 5})
    one.absent(G, frozenset("b"))
    cut(one, 1.0)
    one.granted("c", grant(1.1), {G: {}})
    assert cut(one, 1.2) == {"a": 5}
