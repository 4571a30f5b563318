"""Serial arithmetic, against the definition in RFC 1982 section 3.2 written out."""

from hypothesis import given
from hypothesis import strategies as st

from anycastle.dns.serial import is_newer

SERIALS = st.one_of(st.integers(0, 2**32 - 1), st.sampled_from((0, 1, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1)))


@given(SERIALS, SERIALS)
def test_rfc1982_3_2_comparison(one: int, two: int) -> None:
    half = 2**31
    assert is_newer(two, one) == ((one < two and two - one < half) or (one > two and one - two > half))


def test_rfc1982_3_2_half_a_circle_away_is_not_newer() -> None:
    assert not is_newer(2**31, 0)
    assert not is_newer(0, 2**31)
