"""What members tell each other survives the wire, and nonsense is refused with a line."""

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from anycastle.health.drain import Override
from anycastle.health.observe import Observation
from anycastle.health.view import Health
from anycastle.talk import MEASURED_MAX, PREFIXES_MAX, Measured, Talk, TalkError, decode, encode, urgent

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
    gated=st.dictionaries(words, words, max_size=4),
)


@given(talks)
def test_what_is_said_is_heard(talk: Talk) -> None:
    assert decode(encode(talk)) == talk


def test_a_member_that_says_nothing_of_gates_has_none() -> None:
    heard = decode(said())
    assert isinstance(heard, Talk)
    assert heard.gated == {}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, False),
        ({"load": 9.0}, False),
        ({"observations": (Observation("ams", "nyc", Health.UP, "another reason", 1.0),)}, False),
        ({"observations": (Observation("ams", "nyc", Health.DOWN, "so", 0.0),)}, True),
        ({"standing": {"photos": "no lease"}}, True),
        ({"gated": {"photos": "requires database"}}, True),
    ],
)
def test_what_others_must_hear_at_once(changes: dict[str, object], expected: bool) -> None:
    plain = Talk((Observation("ams", "nyc", Health.UP, "so", 0.0),), (), 1.0, (), {"photos": ""})
    assert urgent(msgspec.structs.replace(plain, **changes), plain) is expected


@given(st.binary(max_size=200))
@example(b"\x90")
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
        {"gated": {"photos": 3}},
        {"observations": [["ams"]]},
    ],
    ids=str,
)
def test_impossible_claims_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(TalkError):
        decode(said(**changes))


def test_a_later_version_may_say_more() -> None:
    assert decode(said(weather="fine")).load == 0.0


networks = st.one_of(st.binary(min_size=3, max_size=3), st.binary(min_size=6, max_size=6))
measurements = st.builds(Measured, networks, st.integers(1, 10_000_000), st.integers(1, 1_000_000))


@given(st.lists(measurements, min_size=1, max_size=MEASURED_MAX).map(tuple))
def test_round_trips_are_heard_as_they_were_said(measured: tuple[Measured, ...]) -> None:
    payload = encode(measured)
    assert decode(payload) == measured
    assert len(payload) < 2048


@pytest.mark.parametrize(
    "claim",
    [
        [b"abc", 0, 1],
        [b"abc", -5, 1],
        [b"abc", 10_000_001, 1],
        [b"abc", 5.5, 1],
        [b"abc", float("nan"), 1],
        [b"abc", 5, 0],
        [b"abc", 5, 1_000_001],
        [b"abc", 5, True],
        [b"abcd", 5, 1],
        [b"", 5, 1],
        [b"abcdefg", 5, 1],
        ["abc", 5, 1],
        [b"abc", 5],
        [b"abc", 5, 1, "more"],
        b"abc",
    ],
    ids=str,
)
def test_impossible_round_trips_are_refused(claim: object) -> None:
    fine = [b"abc", 5, 1]
    assert decode(msgspec.msgpack.encode([fine])) == (Measured(b"abc", 5, 1),)
    with pytest.raises(TalkError):
        decode(msgspec.msgpack.encode([fine, claim]))


def test_too_many_round_trips_are_refused() -> None:
    with pytest.raises(TalkError):
        decode(encode((Measured(b"abc", 5, 1),) * (MEASURED_MAX + 1)))
