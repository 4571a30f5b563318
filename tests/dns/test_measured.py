"""What is remembered of client networks: how it fades, what it is bounded by, and what counts as one network."""

import ipaddress
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycastle.dns.measured import (
    CONNECTIONS_MAX,
    HALF_LIFE_SECONDS,
    NETWORKS_MAX,
    ROUND_TRIP_SECONDS_MAX,
    ROUND_TRIP_SECONDS_MIN,
    MeasuredNetworks,
    client_network,
    connections,
    networks_max,
    seconds,
    show_network,
)

NOW = 50_000.0
A, B = bytes((192, 0, 2)), bytes((198, 51, 100))
MOMENTS = st.lists(st.tuples(st.floats(0, 7200), st.floats(1e-4, 2.0)), min_size=1, max_size=30)
"""Pauses, and the round trip of the connection behind each."""


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("64:ff9b::c000:24d", "192.0.2.0/24"),
        ("2002:c000:24d::1", "192.0.2.0/24"),
        ("2001::ffff:fdb2", "0.0.2.0/24"),  # Teredo has its client's address inverted, in the last four bytes
        ("64:ff9b:1::1", "64:ff9b:1::/48"),
        ("::1", None),
        ("64:ff9b::1:0:0:1", None),
    ],
)
def test_what_counts_as_one_network(address: str, network: str | None) -> None:
    found = client_network(ipaddress.ip_address(address).packed)
    assert (None if found is None else show_network(found)) == network


@given(MOMENTS)
def test_a_number_is_the_weighted_mean_of_logarithms_with_weights_that_halve(
    moments: list[tuple[float, float]],
) -> None:
    measured, now, dumb = MeasuredNetworks(), NOW, []
    for pause, round_trip in moments:
        now += pause
        dumb.append((now, math.log(round_trip)))
        measured.sample(A, round_trip, now=now)
    weights = [2 ** (-(now - at) / HALF_LIFE_SECONDS) for at, _ in dumb]
    number = measured.numbers[A]
    assert connections(number, now=now) == pytest.approx(sum(weights))
    mean = sum(w * value for w, (_, value) in zip(weights, dumb, strict=True)) / sum(weights)
    assert math.log(seconds(number)) == pytest.approx(mean, abs=1e-9)
    assert min(r for _, r in moments) <= seconds(number) * (1 + 1e-9)
    assert seconds(number) <= max(r for _, r in moments) * (1 + 1e-9)


def test_connections_halve_and_the_number_stays() -> None:
    measured = MeasuredNetworks()
    measured.hear(A, 0.05, 40.0, now=NOW)
    number = measured.numbers[A]
    assert [connections(number, now=NOW + hours * HALF_LIFE_SECONDS) for hours in (0, 1, 2)] == [40, 20, 10]
    assert connections(number, now=NOW - 5) == 40  # a clock that went back gives nobody more
    assert seconds(number) == pytest.approx(0.05)


def test_one_slow_connection_moves_the_number_little() -> None:
    measured = MeasuredNetworks()
    for _ in range(30):
        measured.sample(A, 0.02, now=NOW)
    measured.sample(A, 5.0, now=NOW)
    assert seconds(measured.numbers[A]) < 0.025


@given(st.floats(allow_nan=False, min_value=0))
def test_whatever_a_kernel_says_stays_in_bounds(round_trip: float) -> None:
    measured = MeasuredNetworks()
    measured.sample(A, round_trip, now=NOW)
    assert ROUND_TRIP_SECONDS_MIN * 0.999 <= seconds(measured.numbers[A]) <= ROUND_TRIP_SECONDS_MAX * 1.001


def test_what_a_site_says_replaces_what_it_said() -> None:
    measured = MeasuredNetworks()
    measured.hear(A, 0.05, 40.0, now=NOW)
    measured.hear(A, 0.02, 10.0, now=NOW)
    assert connections(measured.numbers[A], now=NOW) == 10
    assert seconds(measured.numbers[A]) == pytest.approx(0.02)


def test_connections_are_bounded() -> None:
    measured = MeasuredNetworks()
    measured.hear(A, 0.05, CONNECTIONS_MAX, now=NOW)
    measured.sample(A, 0.05, now=NOW)
    assert connections(measured.numbers[A], now=NOW) == CONNECTIONS_MAX


@given(st.lists(st.tuples(st.integers(0, 40), st.floats(0, 4000)), max_size=150))
def test_who_connects_least_makes_room(visits: list[tuple[int, float]]) -> None:
    measured, now = MeasuredNetworks(16), NOW
    for number, pause in visits:
        now += pause
        network = bytes((10, 0, number))
        before = dict(measured.numbers)
        measured.sample(network, 0.01, now=now)
        assert len(measured.numbers) <= 16
        gone, kept = before.keys() - measured.numbers.keys(), before.keys() & measured.numbers.keys()
        if gone:
            most = max(connections(before[each], now=now) for each in gone)
            assert all(connections(before[each], now=now) >= most for each in kept)
            assert len(gone) == 2


def test_many_sites_share_the_memory() -> None:
    assert networks_max(0) == networks_max(2) == NETWORKS_MAX
    assert networks_max(50) == 8000
