"""What a change of the view touches: little. That nothing is missed is the property in test_decider."""

import msgspec
import pytest

from anycastle.dns.touched import Touched, touched
from anycastle.dns.view_change import difference
from anycastle.health.view import Health, View
from tests.dns.worlds import LONG_AGO, NOW, site, state, view, without

SITES = {name: site(name, number, soft_load=100.0) for number, name in enumerate(("ams", "nyc", "sgp"), start=1)}
NOTHING = Touched(False, frozenset(), frozenset(), {})


def of(old: View, new: View) -> Touched:
    return touched(old, difference(old, new), SITES)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (view(), view(), NOTHING),
        (view(), view(sgp=state(load=99.0)), NOTHING),
        (view(), view(sgp=state(load=101.0)), Touched(False, frozenset({"sgp"}), frozenset(), {})),
        (view(), view(sgp=state(Health.DOWN)), Touched(False, frozenset({"sgp"}), frozenset(), {})),
        (view(), view(sgp=state(since=LONG_AGO + 1)), Touched(False, frozenset({"sgp"}), frozenset(), {})),
        (view(), view(sgp=state(drained=frozenset({"*"}))), Touched(False, frozenset({"sgp"}), frozenset(), {})),
        (view(), without(view(), "sgp"), Touched(False, frozenset({"sgp"}), frozenset(), {})),
        (
            view(),
            view(sgp=state(current=False)),
            Touched(False, frozenset(), frozenset({("sgp", "blogs")}), {"blogs": frozenset()}),
        ),
        (
            view(sgp=state(pending={b"a/": NOW, b"b/": NOW})),
            view(sgp=state(pending={b"b/": NOW + 1, b"c/": NOW})),
            Touched(False, frozenset(), frozenset(), {"blogs": frozenset({b"a/", b"b/", b"c/"})}),
        ),
    ],
)
def test_what_is_different(old: View, new: View, expected: Touched) -> None:
    assert of(old, new) == expected


def test_texts_touch_nothing() -> None:
    old = view()
    new = view(sgp=msgspec.structs.replace(state(), reason="other words", announced=frozenset({"192.0.2.0/24"})))
    assert of(old, new) == NOTHING


@pytest.mark.parametrize("isolated", [(True, False), (False, True), (True, True)])
def test_a_member_that_is_or_was_alone_judges_everything_anew(isolated: tuple[bool, bool]) -> None:
    assert of(view(isolated[0]), view(isolated[1], sgp=state(load=1.0))).everything


@pytest.mark.parametrize(
    ("group", "prefix", "candidates", "expected"),
    [
        ("blogs", b"alice/", ("ams",), True),
        ("blogs", b"", ("ams",), True),
        ("blogs", b"alice/photos/", ("ams",), True),
        ("blogs", b"alicia/", ("ams",), False),
        ("wiki", b"alice/", ("ams",), False),
        (None, b"", ("ams",), False),
        (None, b"", ("ams", "nyc"), True),
        ("blogs", b"bob/", ("sgp",), True),
        ("wiki", b"bob/", ("sgp",), False),
    ],
)
def test_whom_it_touches(group: str | None, prefix: bytes, candidates: tuple[str, ...], expected: bool) -> None:
    change = Touched(False, frozenset({"nyc"}), frozenset({("sgp", "blogs")}), {"blogs": frozenset({b"alice/"})})
    assert change.touches(group, prefix, candidates) is expected
