"""Runs of an address space, checked against walking through every address of a small one."""

from hypothesis import given
from hypothesis import strategies as st

from anycastle.dns.runs import Runs, finished, overlay, paint

WIDTH = 6
SPACE = 1 << WIDTH
Networks = dict[tuple[int, int], int]


@st.composite
def networks(draw: st.DrawFn) -> Networks:
    """(first address, prefix bits) -> value, at most one value for each."""
    found: Networks = {}
    for _ in range(draw(st.integers(0, 12))):
        bits = draw(st.integers(0, WIDTH))
        found[draw(st.integers(0, (1 << bits) - 1)) << (WIDTH - bits), bits] = draw(st.integers(1, 3))
    return found


def longest_match(layer: Networks, address: int) -> int | None:
    best = max(
        (bits for start, bits in layer if address >> (WIDTH - bits) == start >> (WIDTH - bits)),
        default=None,
    )
    return None if best is None else layer[address >> (WIDTH - best) << (WIDTH - best), best]


def runs_of(upper: Networks, lower: Networks) -> Runs:
    layers = [
        paint([(start, bits, value) for (start, bits), value in one.items()], width=WIDTH) for one in (upper, lower)
    ]
    return finished(overlay(*layers, width=WIDTH), width=WIDTH, default=0)


@given(networks(), networks())
def test_every_address_has_the_value_of_its_longest_match_in_the_highest_layer(
    upper: Networks, lower: Networks
) -> None:
    runs = runs_of(upper, lower)
    for address in range(SPACE):
        expected = longest_match(upper, address) or longest_match(lower, address) or 0
        assert runs.look(address)[0] == expected


@given(networks(), networks())
def test_the_prefix_is_the_widest_block_of_one_value(upper: Networks, lower: Networks) -> None:
    runs = runs_of(upper, lower)
    values = [runs.look(address)[0] for address in range(SPACE)]
    for address in range(SPACE):
        widest = next(
            bits
            for bits in range(WIDTH + 1)
            if len({values[other] for other in range(SPACE) if other >> (WIDTH - bits) == address >> (WIDTH - bits)})
            == 1
        )
        assert runs.look(address)[1] == widest


@given(networks(), networks())
def test_runs_are_maximal_and_cover_everything(upper: Networks, lower: Networks) -> None:
    runs = runs_of(upper, lower)
    assert runs.starts[0] == 0
    assert len(runs.starts) == len(runs.values)
    assert list(runs.starts) == sorted(set(runs.starts))
    assert all(one != other for one, other in zip(runs.values, runs.values[1:], strict=False))
