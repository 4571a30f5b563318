"""Response-rate limiting."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from anycastle.dns.limit import KEY, WAYS, Limiter, Verdict

CLIENT = bytes((192, 0, 2, 1))
NEIGHBOUR = bytes((192, 0, 2, 200))
STRANGER = bytes((192, 0, 3, 1))


def verdicts(limiter: Limiter, source: bytes, count: int, now: float) -> list[Verdict]:
    return [limiter.check(source, now=now) for _ in range(count)]


def test_zero_lets_everything_pass() -> None:
    assert set(verdicts(Limiter(0), CLIENT, 1000, 1.0)) == {Verdict.PASS}


def test_over_the_limit_every_second_answer_slips() -> None:
    limiter = Limiter(10)
    assert set(verdicts(limiter, CLIENT, 10, 1.0)) == {Verdict.PASS}
    assert verdicts(limiter, CLIENT, 4, 1.0) == [Verdict.SLIP, Verdict.DROP, Verdict.SLIP, Verdict.DROP]


def test_a_network_is_limited_as_one_and_others_are_not() -> None:
    limiter = Limiter(10)
    verdicts(limiter, CLIENT, 10, 1.0)
    assert limiter.check(NEIGHBOUR, now=1.0) is Verdict.SLIP
    assert limiter.check(STRANGER, now=1.0) is Verdict.PASS


def test_ipv6_is_limited_by_56_bits() -> None:
    limiter = Limiter(1)
    prefix = bytes.fromhex("20010db8000011")
    assert limiter.check(prefix + b"\x01" + bytes(8), now=1.0) is Verdict.PASS
    assert limiter.check(prefix + b"\x02" + bytes(8), now=1.0) is Verdict.SLIP
    assert limiter.check(bytes.fromhex("20010db8000012") + bytes(9), now=1.0) is Verdict.PASS


def test_the_bucket_fills_again_up_to_one_second() -> None:
    limiter = Limiter(10)
    verdicts(limiter, CLIENT, 30, 1.0)
    assert verdicts(limiter, CLIENT, 6, 1.5).count(Verdict.PASS) == 5
    assert verdicts(limiter, CLIENT, 20, 99.0).count(Verdict.PASS) == 10


def test_families_are_apart() -> None:
    limiter = Limiter(1)
    assert limiter.check(bytes(4), now=1.0) is Verdict.PASS
    assert limiter.check(bytes(16), now=1.0) is Verdict.PASS


def forged(count: int, *, first: int = 0) -> list[bytes]:
    return [struct.pack("!I", (10 << 24) + (number << 8)) for number in range(first, first + count)]


def test_a_flood_from_random_networks_does_not_wash_a_limited_one_out_of_the_table() -> None:
    limiter = Limiter(10, row_bits=2)
    verdicts(limiter, CLIENT, 10, 1.0)
    passed = [limiter.check(source, now=1.05) for source in forged(1000)]
    assert limiter.check(CLIENT, now=1.05) is Verdict.SLIP
    assert passed.count(Verdict.PASS) < 16 * 11, "a full table gives out what its buckets hold, and no more"


def test_random_networks_slower_than_the_limit_all_pass() -> None:
    limiter = Limiter(10, row_bits=2)
    verdicts(limiter, CLIENT, 30, 1.0)
    for number, source in enumerate(forged(1000)):
        assert limiter.check(source, now=2.0 + number / 20) is Verdict.PASS


def test_networks_that_fall_into_one_row_gain_nothing_by_taking_turns() -> None:
    limiter = Limiter(10, row_bits=0)
    passed = sum(limiter.check(source, now=1.0) is Verdict.PASS for _ in range(100) for source in forged(5))
    assert passed == WAYS * 10


def test_which_networks_share_a_row_depends_on_the_key() -> None:
    def limited(key: int) -> set[bytes]:
        limiter = Limiter(1, key=key, row_bits=3)
        return {source for source in forged(64) if limiter.check(source, now=1.0) is not Verdict.PASS}

    assert limited(KEY) == limited(KEY) != limited(KEY ^ 0xABCDEF << 32)


@given(
    st.lists(st.tuples(st.integers(0, 30), st.floats(0, 0.5)), max_size=300),
    st.floats(0.5, 50),
    st.integers(0, 2**64 - 1),
)
def test_the_table_never_gives_out_more_than_its_places_hold(
    queries: list[tuple[int, float]], rate: float, key: int
) -> None:
    """Whatever others do: burst and what came in since, for each place of the table at most."""
    limiter = Limiter(rate, key=key, row_bits=1)
    now, passed = 1.0, 0
    for number, pause in queries:
        now += pause
        passed += limiter.check(forged(1, first=number)[0], now=now) is Verdict.PASS
    assert passed <= 2 * WAYS * (max(1.0, rate) + (now - 1.0) * rate) + 1e-6
