"""What is recorded of what others tell, what is ignored and how it is counted, and who is acknowledged when."""

from collections import Counter

import pytest

from anycastle.replicator import event as e
from anycastle.replicator import message as m
from anycastle.replicator.fence import Grants
from anycastle.replicator.intake import Intake
from anycastle.replicator.progress_vector import Progress
from anycastle.replicator.reception import MARK_ENTRIES_MAX, NAME_CHARACTERS_MAX, ORIGINS_MAX, Reception
from tests.replicator.tree_values import GROUP, file_entry

JOURNAL = (GROUP, "nyc")


class Made:
    """Of ams, which has that much of nyc's journal."""

    def __init__(self, *, holds: bool = True, recorded: int = 0) -> None:
        here = {GROUP: {"nyc": recorded}} if recorded else {}
        self.recorded, detailed = Progress((GROUP,), here), Progress((GROUP,), here)
        self.intake = Intake(self.recorded, detailed, patience_seconds=30.0)
        self.ignored: Counter[str] = Counter()
        self.reception = Reception(
            member="ams",
            holds=holds,
            recorded=self.recorded,
            detailed=detailed,
            intake=self.intake,
            grants=Grants(term_seconds=3.0, now=0.0),
            ignored=self.ignored,
        )


def entries(*seqs: int, upto: int = 0, after: int = 0, origin: str = "nyc", lost: bool = False) -> m.Entries:
    made = tuple(file_entry(b"%d" % seq, origin=origin, seq=seq, lamport=seq) for seq in seqs)
    return m.Entries(GROUP, origin, made, {}, after=after, upto=upto, lost=lost)


def test_entries_are_recorded_once_and_acknowledged_when_they_are_durable() -> None:
    made = Made(recorded=2)
    (record,) = made.reception.entries("nyc", entries(2, 3, 4), now=1.0)
    assert isinstance(record, e.Record)
    assert [entry.seq for entry in record.entries] == [3, 4]
    assert (record.after, record.upto) == (2, 4)
    assert made.reception.entries("sgp", entries(3, 4), now=1.0) == (), "it is under way"
    (known,) = made.reception.entries("sgp", entries(1, 2), now=1.0)
    assert isinstance(known, e.Send)
    assert known.member == "sgp"
    assert isinstance(known.message, m.Ack)
    assert (known.message.upto, known.message.detailed) == (2, 2)
    assert made.reception.entries("nyc", entries(6), now=1.0) == ()
    assert list(made.ignored) == ["entries after a hole"]


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (m.Entries("none", "nyc", (), {}, after=0, upto=1), "entries of no such journal"),
        (entries(origin="x" * (NAME_CHARACTERS_MAX + 1), upto=1), "entries of no such journal"),
        (entries(1, 3), "entries of no such journal"),
        (entries(upto=MARK_ENTRIES_MAX + 1, lost=True), "too much said to be lost"),
        (entries(3, upto=3), "entries with holes"),
    ],
)
def test_entries_that_make_no_sense_are_counted(message: m.Entries, why: str) -> None:
    made = Made()
    assert made.reception.entries("nyc", message, now=1.0) == ()
    assert list(made.ignored) == [why]


def test_what_was_compacted_is_passed_over_only_by_who_compares_or_holds_nothing() -> None:
    made, stretch = Made(), entries(3, upto=3)
    made.reception.entries("nyc", stretch, now=1.0)
    assert made.reception.outdated == {GROUP: "nyc"}
    made.reception.merge(e.Merging(GROUP, on=True, comparing=True))
    assert made.reception.outdated == {}
    assert len(made.reception.entries("nyc", stretch, now=1.0)) == 1
    assert len(Made(holds=False).reception.entries("nyc", stretch, now=1.0)) == 1
    assert len(Made().reception.entries("nyc", entries(upto=3, lost=True), now=1.0)) == 1, "nobody has it"


@pytest.mark.parametrize(
    ("mark", "why"),
    [
        (m.Mark(GROUP, "ams", 0, 5, b"a/"), "mark of no such journal"),
        (m.Mark("none", "nyc", 0, 5, b"a/"), "mark of no such journal"),
        (m.Mark(GROUP, "nyc", 5, 5, b"a/"), "mark of no such journal"),
        (m.Mark(GROUP, "nyc", 0, MARK_ENTRIES_MAX + 1, b"a/"), "mark of no such journal"),
        (m.Mark(GROUP, "nyc", 7, 9, b"a/"), "mark after a hole"),
    ],
)
def test_marks_that_make_no_sense_are_counted(mark: m.Mark, why: str) -> None:
    made = Made(recorded=2)
    assert made.reception.mark("nyc", mark, now=1.0) == ()
    assert list(made.ignored) == [why]


def test_a_mark_is_recorded_once_and_one_after_it_too() -> None:
    made = Made(recorded=2)
    first, second = m.Mark(GROUP, "nyc", 2, 5, b"a/"), m.Mark(GROUP, "nyc", 5, 9, b"b/")
    assert made.reception.mark("nyc", first, now=1.0) == (e.RecordMark(first),)
    assert made.reception.mark("nyc", first, now=1.0) == ()
    assert made.reception.mark("nyc", second, now=1.0) == (e.RecordMark(second),)
    (known,) = made.reception.mark("nyc", m.Mark(GROUP, "nyc", 0, 2, b"a/"), now=1.0)
    assert isinstance(known, e.Send)


def test_a_query_is_answered_now_or_when_it_can_be() -> None:
    made = Made(recorded=2)
    (known,) = made.reception.fence_query("sgp", m.FenceQuery(GROUP, "nyc", 2), now=1.0)
    assert isinstance(known, e.Send)
    assert made.reception.fence_query("sgp", m.FenceQuery(GROUP, "nyc", 3), now=1.0) == ()
    made.recorded.raise_to(JOURNAL, 3)
    assert made.intake.durable(JOURNAL) == ("sgp",)
    assert made.reception.fence_query("sgp", m.FenceQuery("none", "nyc", 3), now=1.0) == ()
    assert list(made.ignored) == ["query of no such group"]


def test_journals_are_bounded() -> None:
    made = Made()
    for number in range(ORIGINS_MAX):
        made.recorded.raise_to((GROUP, f"m{number}"), 1)
    assert made.reception.entries("nyc", entries(1), now=1.0) == ()
    assert list(made.ignored) == ["entries of no such journal"]
