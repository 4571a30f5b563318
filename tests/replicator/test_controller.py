"""The controller in conversation: one member is real, what the others say is written down."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap

from anycastle.replicator import event as e
from anycastle.replicator import message as m
from anycastle.replicator.controller import Controller
from anycastle.replicator.entry import NO_VERSION, Entry, Kind
from anycastle.replicator.feed import FeedLimits
from anycastle.replicator.settings import Lease

ROSTER = frozenset({"ams", "nyc", "sgp"})
QUIET = 100.0
"""Long after the start: nothing is out from an earlier life."""


def controller(**changes: Any) -> Controller:
    usual: dict[str, Any] = {
        "member": "ams",
        "rosters": (ROSTER,),
        "lease": Lease(),
        "incarnation": 3,
        "groups": ("g", "h"),
        "recorded": {},
        "detailed": {},
        "fenced": {},
        "now": 0.0,
    }
    return Controller(**{**usual, **changes})


def linked(now: float = QUIET, **changes: Any) -> Controller:
    """With links to both others, who said that they hold nothing, and answered without vouching for any group."""
    one = controller(**changes)
    for member in ("nyc", "sgp"):
        one.step(e.LinkUp(member, 1), now=now)
        one.step(e.Received(member, request()), now=now)
        one.step(e.Received(member, grant(now, {})), now=now)
    return one


def request(recorded: m.Vectors | None = None, **changes: Any) -> m.LeaseRequest:
    recorded = recorded if recorded is not None else {"g": {}, "h": {}}
    usual = {"sent": 1.0, "incarnation": 1, "recorded": recorded, "detailed": recorded, "fenced": {}}
    return m.LeaseRequest(**{**usual, **changes})


def grant(sent: float, recorded: m.Vectors, **changes: Any) -> m.LeaseGrant:
    usual = {"sent": sent, "incarnation": 3, "recorded": recorded, "fenced": {}, "term_seconds": 3.0}
    return m.LeaseGrant(**{**usual, **changes})


def entries(origin: str, first: int, last: int, group: str = "g") -> m.Entries:
    made = (Entry(origin, seq, group, b"p%d" % seq, seq, Kind.FILE, NO_VERSION) for seq in range(first, last + 1))
    return m.Entries(group, origin, tuple(made))


def hear(one: Controller, member: str, message: m.Message, now: float = QUIET) -> tuple[e.Command, ...]:
    return one.step(e.Received(member, message), now=now)


def sent(commands: tuple[e.Command, ...], kind: type) -> list[tuple[str, Any]]:
    return [(c.member, c.message) for c in commands if isinstance(c, e.Send) and isinstance(c.message, kind)]


# Leases.


def test_a_new_link_is_asked_for_a_lease_and_told_what_has_landed() -> None:
    one = controller(recorded={"g": {"nyc": 2}}, detailed={"g": {"nyc": 1}}, fenced={"g": {"nyc": 1}})
    commands = one.step(e.LinkUp("nyc", 1), now=5.0)
    vectors = {"g": {"nyc": 2}, "h": {}}, {"g": {"nyc": 1}, "h": {}}, {"g": {"nyc": 1}, "h": {}}
    assert e.Send("nyc", m.LeaseRequest(5.0, 3, *vectors)) in commands
    assert sent(commands, m.Landed)


def test_a_request_is_granted_with_what_is_recorded_here() -> None:
    one = controller(recorded={"g": {"nyc": 2}})
    one.step(e.LinkUp("nyc", 1), now=5.0)
    granted = m.LeaseGrant(1.0, 1, {"g": {"nyc": 2}, "h": {}}, {"g": {}, "h": {}}, 3.0, {"g": (0, 2), "h": (0, 0)})
    assert sent(hear(one, "nyc", request(), 5.0), m.LeaseGrant) == [("nyc", granted)]


def test_what_was_said_does_not_change_afterwards() -> None:
    one = linked()
    (_, granted), *_ = sent(hear(one, "nyc", request(sent=2.0)), m.LeaseGrant)
    one.step(e.Journaled("g", 1), now=QUIET)
    assert granted.recorded == {"g": {}, "h": {}}


def test_one_message_makes_every_group_current_and_no_group_waits_for_another() -> None:
    one = linked()
    assert (
        one.currency("g", now=QUIET) == "1 of 2 votes needed: nyc does not know the group; sgp does not know the group"
    )
    commands = hear(one, "nyc", grant(QUIET, {"g": {"sgp": 1000}, "h": {}, "other": {"x": 5}}))
    assert [c for c in commands if isinstance(c, e.CurrencyMoved)] == [
        e.CurrencyMoved("g", "1 of 2 votes needed: nyc knows more: sgp 0 of 1000; sgp does not know the group"),
        e.CurrencyMoved("h", ""),
    ]
    assert one.currency_until("h", now=QUIET) == QUIET + 3.0 * 0.98
    assert one.currency("other", now=QUIET) == "does not know the group"
    lapsed = one.step(e.Tick(), now=QUIET + 2.95)
    assert e.CurrencyMoved("h", "1 of 2 votes needed: nyc gave no lease; sgp gave no lease") in lapsed


def test_recording_what_the_grantor_knew_makes_the_lease_count() -> None:
    one = linked()
    hear(one, "nyc", grant(QUIET, {"g": {"sgp": 2}}))
    hear(one, "sgp", entries("sgp", 1, 2))
    assert e.CurrencyMoved("g", "") in one.step(e.Recorded("g", "sgp", 2), now=QUIET + 1)


def test_leases_are_asked_for_again_each_renewal() -> None:
    one = linked()
    asked = [bool(sent(one.step(e.Tick(), now=QUIET + n / 10), m.LeaseRequest)) for n in range(31)]
    assert asked.count(True) == 4


def test_a_jump_of_the_clock_takes_everything_that_was_computed_with_it() -> None:
    one = linked()
    hear(one, "nyc", grant(QUIET, {"g": {}}))
    assert one.currency("g", now=QUIET) == ""
    commands = one.step(e.ClockJumped("suspended"), now=QUIET + 1)
    assert one.currency("g", now=QUIET + 1) != ""
    assert len(sent(commands, m.LeaseRequest)) == 2
    assert hear(one, "nyc", grant(QUIET, {"g": {}}), QUIET + 1) == ()
    told = sent(hear(one, "nyc", m.FenceQuery("g", "nyc", 0), QUIET + 2), m.Ack)
    assert told == [("nyc", m.Ack("g", "nyc", 0, {"*": 2.0}, 0))]


# Recording and acknowledging.


def test_entries_are_recorded_then_acknowledged() -> None:
    one = linked()
    announced = entries("nyc", 1, 3)
    assert hear(one, "nyc", announced) == (e.Record("g", "nyc", announced.entries, {}, 0, 3),)
    assert one.recorded("g", "nyc") == 0
    commands = one.step(e.Recorded("g", "nyc", 3), now=QUIET + 1)
    # Both hold leases given before; that of QUIET has 2 s left.
    assert sent(commands, m.Ack) == [("nyc", m.Ack("g", "nyc", 3, {"nyc": 2.0, "sgp": 2.0}, 3))]
    assert (one.recorded("g", "nyc"), one.detailed("g", "nyc")) == (3, 3)


def test_repeated_and_overlapping_entries_are_recorded_once_and_holes_not_at_all() -> None:
    one = linked()
    assert hear(one, "nyc", entries("nyc", 2, 3)) == ()
    assert hear(one, "nyc", entries("nyc", 1, 2)) == (e.Record("g", "nyc", entries("nyc", 1, 2).entries, {}, 0, 2),)
    assert hear(one, "nyc", entries("nyc", 1, 2)) == ()
    assert hear(one, "nyc", entries("nyc", 2, 4)) == (e.Record("g", "nyc", entries("nyc", 3, 4).entries, {}, 2, 4),)
    one.step(e.Recorded("g", "nyc", 4), now=QUIET)
    again = hear(one, "sgp", entries("nyc", 1, 4))
    assert [member for member, _ in sent(again, m.Ack)] == ["sgp"]
    assert one.ignored["entries after a hole"] == 1


def test_a_disk_that_never_answers_is_told_again() -> None:
    one = linked()
    hear(one, "nyc", entries("nyc", 1, 2))
    one.step(e.Tick(), now=QUIET + 31.0)
    assert hear(one, "nyc", entries("nyc", 1, 2), QUIET + 31.0) != ()


def test_a_query_is_answered_at_once_or_when_it_is_recorded() -> None:
    one = linked()
    assert hear(one, "sgp", m.FenceQuery("g", "nyc", 2)) == ()
    hear(one, "nyc", entries("nyc", 1, 2))
    assert {member for member, _ in sent(one.step(e.Recorded("g", "nyc", 2), now=QUIET), m.Ack)} == {"nyc", "sgp"}
    assert [member for member, _ in sent(hear(one, "sgp", m.FenceQuery("g", "nyc", 1)), m.Ack)] == ["sgp"]


# Our own journal.


def test_a_change_is_announced_fenced_by_acks_of_all_and_told() -> None:
    one = linked()
    commands = one.step(e.Journaled("g", 2, b"alice/"), now=QUIET)
    assert [c for c in commands if isinstance(c, e.SendEntries)] == [
        e.SendEntries("nyc", "g", "ams", 0, 2),
        e.SendEntries("sgp", "g", "ams", 0, 2),
    ]
    assert one.waiting_for("g", "ams", 2, now=QUIET) == "recorded by 1 of 2 needed, not by nyc, sgp"
    hear(one, "nyc", m.Ack("g", "ams", 2, {"sgp": 2.0}, 2))
    assert one.fenced("g", "ams") == 0
    assert one.waiting_for("g", "ams", 2, now=QUIET) == "waiting 3.0 s for older leases of sgp to end"
    commands = hear(one, "sgp", m.Ack("g", "ams", 1, {}, 1))
    assert (e.StoreFenced("g", "ams", 1), e.FenceMoved("g", "ams", 1)) == commands[:2]
    commands = hear(one, "sgp", m.Ack("g", "ams", 2, {}, 2))
    assert sent(commands, m.Fenced) == [(peer, m.Fenced({"g": {"ams": 2}})) for peer in ("nyc", "sgp")]
    assert one.waiting_for("g", "ams", 2, now=QUIET) == ""


def test_a_dead_member_costs_a_stretched_term_once() -> None:
    one = linked()
    one.step(e.Journaled("g", 1), now=QUIET)
    hear(one, "nyc", m.Ack("g", "ams", 1, {"sgp": 2.0}, 1))
    one.step(e.LinkDown("sgp"), now=QUIET)
    hear(one, "nyc", grant(QUIET + 2, {"g": {}}), QUIET + 2)
    one.step(e.Tick(), now=QUIET + 2.9)
    assert one.fenced("g", "ams") == 0, "our own grant is out for 3 s"
    one.step(e.Tick(), now=QUIET + 3.0)
    assert one.fenced("g", "ams") == 1
    one.step(e.Journaled("g", 2), now=QUIET + 4)
    hear(one, "nyc", m.Ack("g", "ams", 2, {}, 2), QUIET + 4)
    assert one.fenced("g", "ams") == 2


def test_an_ack_of_zero_entries_in_the_first_term_after_the_start_waits() -> None:
    one = linked(now=1.0)
    one.step(e.Journaled("g", 1), now=1.0)
    hear(one, "nyc", m.Ack("g", "ams", 1, {}, 1), 1.0)
    assert one.fenced("g", "ams") == 0
    one.step(e.Tick(), now=4.1)
    assert one.fenced("g", "ams") == 0, "an ack counts while its giver is heard: it may have lost its ledger"
    hear(one, "nyc", grant(4.0, {"g": {}}), 4.2)
    one.step(e.Tick(), now=4.2)
    assert one.fenced("g", "ams") == 1


def test_acks_that_got_lost_are_asked_for() -> None:
    one = linked()
    one.step(e.Journaled("g", 1), now=QUIET)
    hear(one, "nyc", m.Ack("g", "ams", 1, {}, 1))
    commands = one.step(e.Tick(), now=QUIET + 0.6)
    assert sent(commands, m.FenceQuery) == [("sgp", m.FenceQuery("g", "ams", 1))]
    assert sent(one.step(e.Tick(), now=QUIET + 0.7), m.FenceQuery) == []


def test_after_a_restart_what_is_not_known_to_be_fenced_is_fenced() -> None:
    one = linked(recorded={"g": {"ams": 5, "nyc": 2}}, detailed={"g": {"ams": 5, "nyc": 2}}, fenced={"g": {"ams": 3}})
    asked = sent(one.step(e.Tick(), now=QUIET + 1), m.FenceQuery)
    assert ("nyc", m.FenceQuery("g", "ams", 5)) in asked
    assert ("nyc", m.FenceQuery("g", "nyc", 2)) in asked, "its origin did not finish it for longer than a term"


def test_a_reader_who_waits_makes_anybody_run_the_fence() -> None:
    one = linked()
    hear(one, "nyc", entries("nyc", 1, 1))
    one.step(e.Recorded("g", "nyc", 1), now=QUIET)
    asked = sent(one.step(e.FenceWanted("g", "nyc", 1), now=QUIET), m.FenceQuery)
    assert asked == [(peer, m.FenceQuery("g", "nyc", 1)) for peer in ("nyc", "sgp")]
    hear(one, "nyc", m.Ack("g", "nyc", 1, {}, 1))
    commands = hear(one, "sgp", m.Ack("g", "nyc", 1, {}, 1))
    assert e.FenceMoved("g", "nyc", 1) in commands


def test_what_others_fenced_is_believed_as_far_as_it_is_recorded() -> None:
    one = linked()
    assert hear(one, "nyc", m.Fenced({"g": {"nyc": 9}, "none": {"nyc": 9}})) == ()
    hear(one, "nyc", entries("nyc", 1, 2))
    one.step(e.Recorded("g", "nyc", 2), now=QUIET)
    assert one.fenced("g", "nyc") == 0
    commands = hear(one, "sgp", grant(QUIET, {"g": {"nyc": 9}}, fenced={"g": {"nyc": 9}}))
    assert e.FenceMoved("g", "nyc", 2) in commands
    assert not sent(commands, m.Fenced), "only who completed it tells"


# Feeding others.


def test_a_long_journal_goes_out_in_batches_as_acks_come_in() -> None:
    one = linked(limits=FeedLimits(batch_entries_max=10, inflight_entries_max=20))
    first = [c for c in one.step(e.Journaled("g", 100), now=QUIET) if isinstance(c, e.SendEntries)]
    assert [(c.member, c.after, c.upto) for c in first][:2] == [("nyc", 0, 10), ("nyc", 10, 20)]
    assert len(first) == 4
    more = [c for c in hear(one, "nyc", m.Ack("g", "ams", 10, {}, 10)) if isinstance(c, e.SendEntries)]
    assert [(c.member, c.after, c.upto) for c in more] == [("nyc", 20, 30)]


def test_what_got_lost_is_sent_again_ever_more_seldom() -> None:
    one = linked()
    one.step(e.Journaled("g", 1), now=QUIET)
    times = []
    for tenth in range(1, 300):
        now = QUIET + tenth / 10
        commands = one.step(e.Tick(), now=now)
        if e.SendEntries("nyc", "g", "ams", 0, 1) in commands:
            times.append(tenth / 10)
    assert times == pytest.approx([1.0, 3.0, 7.0, 15.0], abs=0.2)


def test_a_member_that_nobody_brings_on_gets_a_foreign_journal_from_us() -> None:
    one = linked(recorded={"g": {"nyc": 500}}, detailed={"g": {"nyc": 500}})
    behind = {"g": {"nyc": 100}, "h": {}}
    assert not _feeds(hear(one, "sgp", request(behind, sent=2.0)))
    assert not _feeds(hear(one, "sgp", request({"g": {"nyc": 150}, "h": {}}, sent=3.0))), "somebody does"
    stuck = _feeds(hear(one, "sgp", request({"g": {"nyc": 150}, "h": {}}, sent=4.0)))
    assert stuck[0] == e.SendEntries("sgp", "g", "nyc", 150, 406)
    assert not _feeds(hear(one, "sgp", m.Ack("g", "nyc", 450, {}, 450))), "somebody else is ahead"
    assert not _feeds(hear(one, "sgp", m.Ack("g", "nyc", 460, {}, 460)))


def test_a_member_that_lost_its_ledger_gets_its_own_journal_back() -> None:
    one = linked(recorded={"g": {"nyc": 5}}, detailed={"g": {"nyc": 5}})
    assert e.SendEntries("nyc", "g", "nyc", 0, 5) in hear(one, "nyc", request(sent=2.0))
    lost = linked()
    assert hear(lost, "nyc", entries("ams", 1, 2)) == (e.Record("g", "ams", entries("ams", 1, 2).entries, {}, 0, 2),)


FORGETFUL = {"forgot": "new", "limits": FeedLimits(backlog_entries_max=0), "groups": ("g",)}


def test_what_nobody_has_of_the_own_journal_is_passed_over_and_told() -> None:
    lost = controller(**FORGETFUL)
    for member in ("nyc", "sgp"):
        lost.step(e.LinkUp(member, 1), now=QUIET)
    hear(lost, "nyc", entries("ams", 1, 2))
    lost.step(e.Recorded("g", "ams", 2), now=QUIET)
    known = {"g": {"ams": 5}}
    hear(lost, "nyc", grant(QUIET, known, yours={"g": (2, 5)}))
    assert not lost.remembers()
    commands = hear(lost, "sgp", grant(QUIET, known, yours={"g": (3, 4)}))
    assert not _records(commands), "sgp may have the third yet"
    commands = hear(lost, "sgp", grant(QUIET + 1, known, yours={"g": (2, 4)}), QUIET + 1)
    assert _records(commands) == [e.Record("g", "ams", (), {}, 2, 5, lost=True)]
    assert not _records(lost.step(e.Tick(), now=QUIET + 1.1)), "once"
    commands = lost.step(e.Recorded("g", "ams", 5), now=QUIET + 1.2)
    assert e.Remembered() in commands
    assert lost.remembers()


def test_a_stretch_that_was_lost_is_recorded_and_nothing_was_missed() -> None:
    one = linked(recorded={"g": {"nyc": 5}}, detailed={"g": {"nyc": 2}})
    assert one.uncovered("g", b"a") == ("nyc", 5)
    commands = hear(one, "nyc", m.Entries("g", "nyc", (), after=2, upto=5, lost=True))
    assert _records(commands) == [e.Record("g", "nyc", (), {}, 2, 5, lost=True)]
    assert not one.outdated("g")
    assert sent(one.step(e.Recorded("g", "nyc", 5), now=QUIET), m.Ack)[0][1].detailed == 5
    assert one.uncovered("g", b"a") is None
    assert not _records(hear(one, "nyc", m.Entries("g", "nyc", (), after=5, upto=5 + 10**9, lost=True)))
    assert one.ignored["too much said to be lost"] == 1


def test_what_is_on_its_way_to_the_disk_is_told_to_who_may_have_lost_it() -> None:
    one = linked(groups=("g",))
    hear(one, "nyc", entries("nyc", 1, 2))
    hear(one, "nyc", m.Mark("g", "nyc", 0, 9, b"a/"))
    (granted,) = sent(hear(one, "nyc", request({"g": {}})), m.LeaseGrant)
    assert granted[1].yours == {"g": (2, 9)}
    one.step(e.Tick(), now=QUIET + 100.0)
    (granted,) = sent(hear(one, "nyc", request({"g": {}}), QUIET + 100.0), m.LeaseGrant)
    assert granted[1].yours == {"g": (2, 9)}, "a disk that takes so long may write it yet"


def test_nobody_knows_where_what_was_given_back_belongs() -> None:
    """A mark over it is of the whole group, even where what came afterwards is below one folder."""
    lost = linked(**FORGETFUL)
    hear(lost, "nyc", entries("ams", 1, 2))
    commands = lost.step(e.Recorded("g", "ams", 2), now=QUIET) + lost.step(e.Journaled("g", 3, b"a/"), now=QUIET)
    marks = [mark for to, mark in sent(commands, m.Mark) if to == "sgp"]
    assert marks == [m.Mark("g", "ams", 0, 2, b""), m.Mark("g", "ams", 2, 3, b"a/")]


def _records(commands: tuple[e.Command, ...]) -> list[e.Record]:
    return [command for command in commands if isinstance(command, e.Record)]


def _feeds(commands: tuple[e.Command, ...]) -> list[e.SendEntries]:
    return [command for command in commands if isinstance(command, e.SendEntries)]


def test_a_hundred_thousand_changes_leave_nothing_behind_but_numbers() -> None:
    """All numbers are in a handful of small objects: the pickle of a controller does not grow with the journal."""
    one, steps = linked(), 20_000
    for seq in range(1, steps + 1):
        commands = one.step(e.Journaled("g", seq, b"alice/%d/" % seq), now=QUIET)
        for peer in ("nyc", "sgp"):
            hear(one, peer, m.Ack("g", "ams", seq, {}, seq))
    assert len(commands) == 2
    assert one.fenced("g", "ams") == steps
    assert _reachable(one) < 2000


def _reachable(root: object) -> int:
    import gc
    import types

    seen: dict[int, object] = {}
    stack = [root]
    while stack:
        item = stack.pop()
        if id(item) not in seen and not isinstance(item, type | types.FunctionType | types.ModuleType):
            seen[id(item)] = item
            stack.extend(gc.get_referents(item))
    return len(seen)


# Coarse marks.


def test_a_backlog_is_announced_by_coarse_marks_first() -> None:
    one = linked(limits=FeedLimits(batch_entries_max=10, inflight_entries_max=10, backlog_entries_max=50))
    one.step(e.Journaled("g", 10, b"alice/"), now=QUIET)
    commands = one.step(e.Journaled("g", 100, b"bob/import/"), now=QUIET)
    marks = [m.Mark("g", "ams", 0, 10, b"alice/"), m.Mark("g", "ams", 10, 100, b"bob/import/")]
    assert sent(commands, m.Mark) == [(peer, mark) for peer in ("nyc", "sgp") for mark in marks]
    for peer in ("nyc", "sgp"):
        hear(one, peer, m.Ack("g", "ams", 100, {}, 0))
    assert one.fenced("g", "ams") == 100
    assert not _feeds(hear(one, "nyc", m.Ack("g", "ams", 100, {}, 0))), "no details were confirmed"
    assert _feeds(hear(one, "nyc", m.Ack("g", "ams", 100, {}, 10))) == [e.SendEntries("nyc", "g", "ams", 10, 20)]


def test_a_slow_link_gets_a_mark_too() -> None:
    one = linked()
    one.step(e.Journaled("g", 1, b"alice/"), now=QUIET)
    assert not sent(one.step(e.Tick(), now=QUIET + 0.5), m.Mark)
    assert ("nyc", m.Mark("g", "ams", 0, 1, b"alice/")) in sent(one.step(e.Tick(), now=QUIET + 0.8), m.Mark)


def test_a_mark_is_recorded_acknowledged_and_hides_what_it_covers_until_the_details_come() -> None:
    one = linked()
    first, second = m.Mark("g", "nyc", 0, 10, b"alice/"), m.Mark("g", "nyc", 10, 20, b"bob/")
    assert hear(one, "nyc", first) == (e.RecordMark(first),)
    assert hear(one, "nyc", first) == (), "it is under way"
    assert hear(one, "nyc", second) == (e.RecordMark(second),)
    assert hear(one, "nyc", m.Mark("g", "nyc", 21, 22, b"")) == ()
    acks = sent(one.step(e.Marked("g", "nyc", 10), now=QUIET), m.Ack)
    assert acks == [("nyc", m.Ack("g", "nyc", 10, {"nyc": 3.0, "sgp": 3.0}, 0))]
    one.step(e.Marked("g", "nyc", 20), now=QUIET)
    assert (one.recorded("g", "nyc"), one.detailed("g", "nyc")) == (20, 0)
    assert one.uncovered("g", b"alice/x") == ("nyc", 10)
    assert one.uncovered("g", b"bob") == ("nyc", 20)
    assert one.uncovered("g", b"alicia") is None
    assert one.uncovered_below("g", b"") == ("nyc", 20)
    assert one.uncovered_below("g", b"alice/htdocs/") == ("nyc", 10)
    assert one.uncovered_below("h", b"") is None
    hear(one, "nyc", entries("nyc", 1, 10))
    one.step(e.Recorded("g", "nyc", 10), now=QUIET)
    assert one.uncovered("g", b"alice/x") is None
    assert one.uncovered("g", b"bob/x") == ("nyc", 20)


def test_marks_survive_a_restart_and_what_is_not_known_may_be_anywhere() -> None:
    vectors: dict[str, Any] = {"recorded": {"g": {"nyc": 20, "sgp": 3}}, "detailed": {"g": {"nyc": 5, "sgp": 3}}}
    one = controller(**vectors, marks=(m.Mark("g", "nyc", 0, 20, b"alice/"),))
    assert one.uncovered("g", b"alice/x") == ("nyc", 20)
    assert one.uncovered("g", b"bob/x") is None
    assert controller(**vectors).uncovered("g", b"bob/x") == ("nyc", 20)


def test_a_mark_is_passed_on_when_its_origin_is_gone() -> None:
    mark = m.Mark("g", "nyc", 0, 20, b"alice/")
    one = linked(recorded={"g": {"nyc": 20}}, marks=(mark,))
    assert sent(hear(one, "sgp", request(sent=2.0)), m.Mark) == [("sgp", mark)]


# What others have landed.


def test_what_others_have_landed_and_whether_they_are_current() -> None:
    one = linked()
    gaps = BitMap([3, 5]).serialize()
    said = {"g": {"ams": m.LandedUpto(6, gaps)}, "none": {"ams": m.LandedUpto(9)}}
    assert hear(one, "nyc", m.Landed(said, {"g": "", "h": "alone"})) == (
        e.PeerLanded("nyc", "g"),
        e.PeerLanded("nyc", "h"),
    )
    assert [seq for seq in range(1, 8) if one.landed_sites("g", "ams", seq)] == [1, 2, 4, 6]
    assert one.peer_landed("nyc", "g") == {"ams": m.LandedUpto(6, gaps)}
    assert one.peer_current("nyc", "g", now=QUIET + 1) == ""
    assert one.peer_current("nyc", "h", now=QUIET + 1) == "alone"
    assert one.peer_current("nyc", "g", now=QUIET + 4) == "not heard of for 4 s"
    assert one.peer_current("sgp", "g", now=QUIET) == "not heard of yet"
    assert one.peer_current("xyz", "g", now=QUIET) == "not in the roster"
    one.step(e.LinkDown("nyc"), now=QUIET)
    assert one.peer_current("nyc", "g", now=QUIET) == "no link"


@pytest.mark.parametrize(
    "said",
    [
        m.LandedUpto(6, b"no bitmap"),
        m.LandedUpto(6, BitMap([7]).serialize()),
        m.LandedUpto(6, BitMap([0]).serialize()),
        m.LandedUpto(6, b"\0" * 2_000_000),
        m.LandedUpto(-1),
    ],
)
def test_a_garbled_state_is_ignored_and_counted(said: m.LandedUpto) -> None:
    one = linked()
    assert hear(one, "nyc", m.Landed({"g": {"ams": said}}, {})) == ()
    assert one.ignored == {"garbled state of landing": 1}


def test_what_we_have_landed_is_told_but_not_too_often() -> None:
    one = linked()
    one.step(e.Tick(), now=QUIET)
    told = []
    for hundredth in range(1, 50):
        now = QUIET + hundredth / 100
        commands = one.step(e.LandedHere("g", {"nyc": m.LandedUpto(hundredth)}), now=now)
        told += [said.landed["g"]["nyc"].watermark for member, said in sent(commands, m.Landed) if member == "nyc"]
    assert 4 <= len(told) <= 5
    last = sent(one.step(e.Tick(), now=QUIET + 0.7), m.Landed)[0][1]
    assert last.landed["g"] == {"nyc": m.LandedUpto(49)}


def test_gossip_is_passed_up() -> None:
    assert hear(linked(), "nyc", m.Gossip(b"hello")) == (e.GossipReceived("nyc", b"hello"),)


# Nonsense.


def test_messages_that_make_no_sense_are_counted() -> None:
    one = linked()
    nonsense: list[m.Message] = [
        m.Hello("nyc", 1, 1, (), ()),
        request(incarnation=9),
        grant(QUIET + 1, {}),
        grant(QUIET, {}, incarnation=2),
        m.Entries("g", "nyc", ()),
        entries("x" * 65, 1, 1),
        entries("nyc", 1, 1, group="none"),
        m.Mark("g", "nyc", 5, 5, b""),
        m.Mark("g", "nyc", -1, 5, b""),
        m.Mark("g", "nyc", 0, 2**60, b""),
        m.Mark("g", "ams", 0, 5, b""),
        m.Ack("g", "ams", 1, {"sgp": math.nan}, 1),
        m.Ack("g", "ams", 1, {"sgp": -1.0}, 1),
        m.Ack("g", "ams", 77, {}, 77),
        m.FenceQuery("none", "ams", 1),
    ]
    for message in nonsense:
        assert not [c for c in hear(one, "nyc", message) if not isinstance(c, e.Send)]
    hear(one, "stranger", m.Gossip(b""))
    one.step(e.LinkUp("stranger", 1), now=QUIET)
    assert sum(one.ignored.values()) == len(nonsense) + 2


numbers = st.sampled_from([-(2**63), -1, 0, 1, 2, 3, 2**40, 2**63])
names = st.sampled_from(["ams", "nyc", "sgp", "", "other"])
groups = st.sampled_from(["g", "none"])
vectors = st.dictionaries(groups, st.dictionaries(names, numbers, max_size=3), max_size=2)
floats = st.floats() | st.sampled_from([QUIET, 0.0])
messages = st.one_of(
    st.builds(m.LeaseRequest, floats, numbers, vectors, vectors, vectors),
    st.builds(m.LeaseGrant, floats, st.just(3), vectors, vectors, floats),
    st.builds(entries, names, st.integers(-2, 4), st.integers(-2, 4), groups),
    st.builds(m.Mark, groups, names, numbers, numbers, st.binary(max_size=3)),
    st.builds(m.Ack, groups, names, numbers, st.dictionaries(names, floats, max_size=3), numbers),
    st.builds(m.FenceQuery, groups, names, numbers),
    st.builds(m.Fenced, vectors),
    st.builds(
        m.Landed,
        st.dictionaries(groups, st.dictionaries(names, st.builds(m.LandedUpto, numbers, st.binary(max_size=20)))),
        st.dictionaries(groups, names),
    ),
)
events = st.one_of(
    st.builds(e.Received, st.sampled_from(["nyc", "sgp", "other"]), messages),
    st.builds(e.LinkUp, names, numbers),
    st.builds(e.LinkDown, names),
    st.builds(e.FenceWanted, groups, names, numbers),
    st.just(e.Tick()),
    st.just(e.ClockJumped("")),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(events, max_size=20))
def test_nothing_from_the_network_trips_it_or_moves_what_is_durable(said: list[e.Event]) -> None:
    one = linked(recorded={"g": {"nyc": 2}}, detailed={"g": {"nyc": 2}})
    for number, event in enumerate(said):
        one.step(event, now=QUIET + number / 10)
    for origin in ("ams", "nyc", "sgp", "", "other"):
        assert one.recorded("g", origin) == one.detailed("g", origin) == (2 if origin == "nyc" else 0)
        assert 0 <= one.fenced("g", origin) <= one.recorded("g", origin)
