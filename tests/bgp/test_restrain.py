"""What may not change now."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycastle.bgp.restrain import (
    NOTHING_PASSED,
    WINDOW_SECONDS,
    Freeze,
    LimitMemory,
    decode_freeze,
    frozen,
    limited,
)
from anycastle.bgp.route import BgpError, Cause, RouteState, Wanted

PREFIXES = [ipaddress.ip_network(f"198.51.{n}.0/24") for n in range(10)]
NORMAL = dict.fromkeys(PREFIXES, RouteState.NORMAL)


def wanted(*states: str, cause: Cause = Cause.MEASURED) -> tuple[Wanted, ...]:
    return tuple(
        Wanted(prefix=prefix, state=RouteState(state), reason="why", cause=cause)
        for prefix, state in zip(PREFIXES, states, strict=False)
    )


def shown(decisions: tuple[Wanted, ...]) -> list[str]:
    return [decision.state.value for decision in decisions]


class Line:
    """Feeds decisions through `limited`, as routers were told them."""

    def __init__(self, changes_max: int | None) -> None:
        self.memory: LimitMemory = NOTHING_PASSED
        self.told = dict(NORMAL)
        self.changes_max = changes_max

    def at(self, now: float, decisions: tuple[Wanted, ...], *, accept: bool = False) -> list[str]:
        found, self.memory = limited(
            decisions,
            self.told,
            self.memory,
            routes=len(decisions),
            changes_max=self.changes_max,
            accept=accept,
            now=now,
        )
        self.told |= {decision.prefix: decision.state for decision in found}
        return shown(found)


def test_all_of_one_moment_or_nothing_of_it() -> None:
    line = Line(2)
    assert line.at(0.0, wanted("withdrawn", "degraded", "normal")) == ["withdrawn", "degraded", "normal"]
    line = Line(2)
    assert line.at(0.0, wanted("withdrawn", "degraded", "withdrawn")) == ["normal"] * 3
    assert (line.memory.refused_since, line.memory.passed) == (0.0, ())
    assert line.at(5.0, wanted("withdrawn", "degraded", "withdrawn")) == ["normal"] * 3
    assert line.memory.refused_since == 0.0
    assert line.at(6.0, wanted("withdrawn", "normal", "normal")) == ["withdrawn", "normal", "normal"]
    assert line.memory == LimitMemory((6.0,))


def test_at_once_is_a_minute() -> None:
    line = Line(2)
    for now in (0.0, 10.0):
        assert line.at(now, wanted(*["withdrawn"] * int(1 + now / 10)))[-1] == "withdrawn"
    three = wanted("withdrawn", "withdrawn", "withdrawn")
    assert line.at(20.0, three) == ["withdrawn", "withdrawn", "normal"]
    assert "3 of 3 routes would get worse within 60 s, changes_max allows 2" in line.memory.message
    assert line.at(WINDOW_SECONDS, three) == ["withdrawn"] * 3
    assert not line.memory.message


def test_the_operators_word_lets_it_happen_and_starts_the_count_anew() -> None:
    line = Line(1)
    assert line.at(0.0, wanted("withdrawn", "withdrawn"), accept=True) == ["withdrawn", "withdrawn"]
    assert line.memory == NOTHING_PASSED


@pytest.mark.parametrize("cause", [Cause.REQUIRED, Cause.OPERATOR])
def test_no_limit_holds_up_a_site_that_could_not_serve_or_a_drain(cause: Cause) -> None:
    line = Line(1)
    assert line.at(0.0, wanted(*["withdrawn"] * 5, cause=cause)) == ["withdrawn"] * 5


def test_getting_better_is_never_held_up() -> None:
    line = Line(1)
    line.told = dict.fromkeys(PREFIXES, RouteState.WITHDRAWN)
    assert line.at(0.0, wanted(*["normal"] * 10)) == ["normal"] * 10


@given(st.lists(st.tuples(st.floats(0.0, 50.0), st.lists(st.sampled_from(["normal", "degraded", "withdrawn"])))))
def test_never_more_than_the_limit_in_any_minute(steps: list[tuple[float, list[str]]]) -> None:
    line, now, worse = Line(3), 0.0, []
    rank = ["normal", "degraded", "withdrawn"].index
    for pause, states in steps:
        now += pause
        before = dict(line.told)
        line.at(now, wanted(*states))
        worse += [now for p in PREFIXES if rank(line.told[p].value) > rank(before[p].value)]
        assert sum(now - at < WINDOW_SECONDS for at in worse) <= 3


def test_frozen_but_for_drains() -> None:
    freeze = Freeze(reason="works", wall=1e9, states={PREFIXES[0]: RouteState.NORMAL, PREFIXES[1]: RouteState.DEGRADED})
    assert shown(frozen(wanted("withdrawn", "normal", "normal"), freeze)) == ["normal", "degraded", "withdrawn"]
    assert shown(frozen(wanted("drained", "withdrawn", cause=Cause.OPERATOR), freeze)) == ["drained", "withdrawn"]
    assert shown(frozen(wanted("withdrawn"), None)) == ["withdrawn"]
    assert decode_freeze(freeze.encode()) == freeze
    assert decode_freeze(b"") is None


@pytest.mark.parametrize("data", [b"{", b"[]", b"{}", b'{"reason": "", "wall": 1, "states": {"x": "normal"}}'])
def test_a_freeze_that_cannot_be_read_is_an_error(data: bytes) -> None:
    with pytest.raises(BgpError, match="freeze"):
        decode_freeze(data)
