"""A change makes the later view of the earlier one, and is small."""

import msgspec
from hypothesis import given

from anycastle.dns.view_change import ViewChange, applied, difference, without_itself
from anycastle.health.view import Health, View
from tests.dns.test_steer import WORLDS
from tests.dns.worlds import NOW, state, view, without


@given(WORLDS, WORLDS)
def test_what_it_is_for(old: View, new: View) -> None:
    change = msgspec.msgpack.decode(msgspec.msgpack.encode(difference(old, new)), type=ViewChange)
    assert applied(old, change) == new


def test_sites_and_groups_come_and_go() -> None:
    bare = msgspec.structs.replace(state(), groups={})
    worlds = (view(), without(view(), "nyc"), view(sgp=bare), view(isolated=True, ams=state(load=3.0)))
    for old in worlds:
        for new in worlds:
            assert applied(old, difference(old, new)) == new


def test_what_did_not_change_is_neither_told_nor_made_anew() -> None:
    many = {b"u%05d/" % number: NOW for number in range(5000)}
    old = view(sgp=state(pending=many))
    new = view(sgp=state(pending=many | {b"alice/": NOW}))
    change = difference(old, new)
    assert list(change.sites) == ["sgp"]
    assert len(msgspec.msgpack.encode(change)) < 200
    assert applied(old, change).sites["ams"] is old.sites["ams"]


def test_a_member_that_is_not_heard_of_knows_nothing_of_its_own_site() -> None:
    assert without_itself(view(), now=NOW) == view(
        ams=msgspec.structs.replace(state(Health.UNKNOWN, since=NOW), reason="its member has fallen silent")
    )
    witness = without(view(), "ams")
    assert without_itself(witness, now=NOW) is witness
