"""Response-rate limiting."""

from anycastle.dns.limit import Limiter, Verdict

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


def test_memory_is_bounded() -> None:
    limiter = Limiter(1, networks_max=2)
    for third in range(3):
        limiter.check(bytes((10, 0, third, 1)), now=1.0)
    assert limiter.check(bytes((10, 0, 2, 1)), now=1.0) is Verdict.SLIP
    assert limiter.check(bytes((10, 0, 0, 1)), now=1.0) is Verdict.PASS  # forgotten
