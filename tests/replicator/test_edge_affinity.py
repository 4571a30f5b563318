"""The mark that keeps a user at a site: who made it, for whom, and until when."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycastle.replicator.edge_affinity import COOKIE, Affinity, Mark

AMS = Affinity(group="blogs", site="ams", keys=(b"k" * 32,), seconds=3600.0)
WALL = 1_800_000_000.0


def value(cookie: str) -> str:
    return cookie.partition(";")[0]


def test_a_mark_leads_back() -> None:
    cookie = AMS.cookie(wall=WALL, secure=False)
    assert cookie.startswith(f"{COOKIE}=ams.")
    assert cookie.endswith("; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax")
    assert AMS.cookie(wall=WALL, secure=True).endswith("; Secure")
    for line in (value(cookie), f"a=b; {value(cookie)}; c", f"{COOKIE}=forged; {value(cookie)}"):
        assert replace(AMS, site="nyc").read(("x=y", line), wall=WALL) == Mark("ams", WALL + 3600)


@pytest.mark.parametrize("other", [{"group": "shop"}, {"keys": (b"j" * 32,)}])
def test_a_mark_of_others_says_nothing(other: dict[str, object]) -> None:
    cookie = value(AMS.cookie(wall=WALL, secure=False))
    assert replace(AMS, **other).read((cookie,), wall=WALL) is None  # type: ignore[arg-type]


def test_it_ends() -> None:
    cookie = value(AMS.cookie(wall=WALL, secure=False))
    assert AMS.read((cookie,), wall=WALL + 3599) is not None
    assert AMS.read((cookie,), wall=WALL + 3600) is None
    assert AMS.read((cookie,), wall=WALL - 10) is None, "nobody marks for longer than this"


def test_keys_are_rolled_over() -> None:
    new = replace(AMS, keys=(b"n" * 32, b"k" * 32))
    assert new.read((value(AMS.cookie(wall=WALL, secure=False)),), wall=WALL) is not None
    assert AMS.read((value(new.cookie(wall=WALL, secure=False)),), wall=WALL) is None


def test_when_a_user_is_marked() -> None:
    assert AMS.due(None, wall=WALL)
    assert AMS.due(Mark("nyc", WALL + 3000), wall=WALL)
    assert not AMS.due(Mark("ams", WALL + 3000), wall=WALL)
    assert AMS.due(Mark("ams", WALL + 1000), wall=WALL)


@given(st.integers(0, 200), st.sampled_from("0123456789abcdef.g-"))
def test_a_mark_cannot_be_changed(place: int, char: str) -> None:
    cookie = value(AMS.cookie(wall=WALL, secure=False))
    place = len(COOKIE) + 1 + place % (len(cookie) - len(COOKIE) - 1)
    forged = cookie[:place] + char + cookie[place + 1 :]
    assert forged == cookie or AMS.read((forged,), wall=WALL) is None


@given(st.text(), st.text())
def test_rubbish_is_no_mark(a: str, b: str) -> None:
    assert AMS.read((a, f"{COOKIE}={b}"), wall=WALL) is None
