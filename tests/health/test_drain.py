"""Overrides agree in whatever order they are heard."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycastle.health.drain import COUNTER_MAX, OVERRIDES_MAX, Drains, Override, decode
from anycastle.health.judge import HealthError
from anycastle.health.view import ALL_GROUPS

overrides = st.builds(
    Override,
    st.sampled_from(["ams", "nyc"]),
    st.sampled_from([ALL_GROUPS, "blogs"]),
    st.booleans(),
    st.integers(1, 4),
    st.sampled_from(["ams", "nyc", "sgp"]),
)


@given(st.data())
def test_any_order_and_repetition_gives_the_same(data: st.DataObject) -> None:
    said = data.draw(st.lists(overrides, max_size=10))
    shuffled = data.draw(st.permutations(said + said))
    assert Drains("ams", said).overrides() == Drains("nyc", shuffled).overrides()


def test_the_later_word_wins_wherever_it_was_said() -> None:
    ams, nyc = Drains("ams"), Drains("nyc")
    nyc.merge(ams.set("sgp", ALL_GROUPS, True))
    assert nyc.drained("sgp") == {ALL_GROUPS}
    ams.merge(nyc.set("sgp", ALL_GROUPS, False))
    assert ams.drained("sgp") == frozenset()
    assert ams.merge([Override("sgp", ALL_GROUPS, True, 1, "ams")]) == ()


def test_undrain_of_the_site_takes_its_groups_back() -> None:
    drains = Drains("ams")
    drains.set("ams", "blogs", True)
    drains.set("nyc", "blogs", True)
    assert {each.group for each in drains.set("ams", ALL_GROUPS, False)} == {ALL_GROUPS, "blogs"}
    assert drains.drained("ams") == frozenset()
    assert drains.drained("nyc") == {"blogs"}


def test_kept_and_read_back() -> None:
    drains = Drains("ams")
    drains.set("nyc", "blogs", True)
    drains.set("nyc", "wiki", True)
    drains.set("nyc", "wiki", False)
    assert Drains("ams", decode(drains.encode())).overrides() == drains.overrides()
    assert Drains("ams", decode(drains.encode())).drained("nyc") == {"blogs"}


@pytest.mark.parametrize("damaged", [b"", b"{}", b'[["ams", "*", 1, 1, "ams"]]', b"\xff"])
def test_damaged_overrides_are_one_clear_error(damaged: bytes) -> None:
    with pytest.raises(HealthError, match="expected \\[site, group, drained, counter, by\\]"):
        decode(damaged)


@pytest.mark.parametrize(
    "hostile",
    [
        Override("ams", "*", True, 0, "nyc"),
        Override("ams", "*", True, COUNTER_MAX + 1, "nyc"),
        Override("", "*", True, 1, "nyc"),
        Override("a" * 300, "*", True, 1, "nyc"),
    ],
)
def test_nonsense_is_refused_and_counted(hostile: Override) -> None:
    drains = Drains("ams")
    assert drains.merge([hostile]) == ()
    assert drains.overrides_refused == 1


def test_there_is_a_limit_and_it_is_said() -> None:
    drains = Drains("ams", (Override(f"s{number}", "*", True, 1, "nyc") for number in range(OVERRIDES_MAX)))
    with pytest.raises(HealthError, match=f"at most {OVERRIDES_MAX} overrides"):
        drains.set("ams", "*", True)
    drains.set("s1", "*", False)
    assert drains.drained("s1") == frozenset()
