"""Which addresses to add and remove: never a stranger's, never before the delay."""

import ipaddress
import math

from hypothesis import given
from hypothesis import strategies as st

from anycastle.bgp.addresses import steps
from anycastle.bgp.settings import Address

ALL = [ipaddress.ip_address(text) for text in ("198.51.100.1", "198.51.100.2", "2001:db8::1")]
A, B, C = ALL


def test_added_at_once_removed_after_the_delay() -> None:
    first = steps(frozenset({A, C}), {B: False}, {}, delay_seconds=2.0, now=10.0)
    assert (first.add, first.remove, first.wake) == ((A, C), (), math.inf)
    left = steps(frozenset({A}), {A: True, B: False, C: True}, {}, delay_seconds=2.0, now=20.0)
    assert (left.add, left.remove, dict(left.free_since), left.wake) == ((), (), {C: 20.0}, 22.0)
    gone = steps(frozenset({A}), {A: True, B: False, C: True}, left.free_since, delay_seconds=2.0, now=22.0)
    assert (gone.remove, dict(gone.free_since)) == ((C,), {})
    back = steps(frozenset({A, C}), {A: True, C: True}, left.free_since, delay_seconds=2.0, now=21.0)
    assert (back.add, back.remove, dict(back.free_since)) == ((), (), {})


MOMENTS = st.lists(
    st.tuples(st.sets(st.sampled_from(ALL)), st.sets(st.sampled_from(ALL)), st.floats(0.0, 3.0)), max_size=30
)


@given(MOMENTS, st.sets(st.sampled_from(ALL)))
def test_a_machine_after_any_history(
    moments: list[tuple[set[Address], set[Address], float]], strange: set[Address]
) -> None:
    """Strangers stay, whatever is wanted; ours is there while it is wanted and leaves 2 s after at the earliest."""
    present = dict.fromkeys(strange, False)
    free: dict[Address, float] = {}
    wanted_at: dict[Address, float] = {}
    now = 0.0
    for wanted, taken_away, seconds in moments:
        now += seconds
        for address in taken_away:
            present.pop(address, None)
        strange -= taken_away
        todo = steps(frozenset(wanted), present, free, delay_seconds=2.0, now=now)
        free = dict(todo.free_since)
        for address in todo.remove:
            assert present.pop(address)
            assert now - wanted_at[address] >= 2.0
        present |= dict.fromkeys(todo.add, True)
        assert wanted <= present.keys()
        assert strange <= present.keys()
        wanted_at |= dict.fromkeys(wanted, now)
