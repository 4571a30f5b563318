"""What members tell each other survives the wire, and nonsense is refused with a line."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycastle.health.drain import Override
from anycastle.health.observe import Observation
from anycastle.health.view import Health
from anycastle.talk import PREFIXES_MAX, Talk, TalkError, decode, encode

words = st.text(max_size=20)
observations = st.builds(Observation, words, words, st.sampled_from(Health), words, st.floats(0, 1e6))
overrides = st.builds(Override, words, words, st.booleans(), st.integers(0, 2**53 - 1), words)
talks = st.builds(
    Talk,
    observations=st.lists(observations, max_size=4).map(tuple),
    overrides=st.lists(overrides, max_size=4).map(tuple),
    load=st.floats(0, 1e9),
    announced=st.lists(words, max_size=4).map(tuple),
    standing=st.dictionaries(words, words, max_size=4),
)


@given(talks)
def test_what_is_said_is_heard(talk: Talk) -> None:
    assert decode(encode(talk)) == talk


@given(st.binary(max_size=200))
def test_noise_is_refused_and_nothing_else_happens(noise: bytes) -> None:
    with pytest.raises(TalkError) as caught:
        decode(noise)
    assert "\n" not in str(caught.value)


def said(**changes: object) -> bytes:
    plain = {"observations": [], "overrides": [], "load": 0.0, "announced": [], "standing": {}}
    return msgspec.msgpack.encode(plain | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"load": float("nan")},
        {"load": float("inf")},
        {"load": -1.0},
        {"announced": ["10.0.0.0/8"] * (PREFIXES_MAX + 1)},
        {"standing": {"photos": 3}},
        {"observations": [["ams"]]},
    ],
    ids=str,
)
def test_impossible_claims_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(TalkError):
        decode(said(**changes))


def test_a_later_version_may_say_more() -> None:
    assert decode(said(weather="fine")).load == 0.0
