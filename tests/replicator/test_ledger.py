"""The ledger on real SQLite files."""

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap

from anycastle.replicator.entry import NO_VERSION, Entry, EntryError, Kind, Version
from anycastle.replicator.ledger import Ledger
from anycastle.replicator.ledger_step import LAMPORT_MAX, SEQ_MAX
from anycastle.replicator.message import Mark
from anycastle.replicator.observation import Change, Conflict, makes_the_same
from anycastle.replicator.schema import LedgerError, LedgerHole
from tests.replicator.tree_values import (
    GROUP,
    delete_entry,
    file_entry,
    file_size_limit,
    fingerprint,
    folder_entry,
    made_folder,
    removed,
    wrote,
)


def open_ledger(path: Path, *, member: str = "ams", content: bool = True) -> Ledger:
    return Ledger.open(path, member=member, groups=(GROUP, "wiki"), content=content, wall=lambda: 1234.5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    opened = open_ledger(path)
    yield opened
    opened.close()


def gaps(ledger: Ledger, origin: str) -> list[int]:
    said = ledger.landed_upto(GROUP)[origin].gaps
    return list(BitMap.deserialize(said)) if said else []


def unlanded(ledger: Ledger) -> list[Entry]:
    return list(ledger.unlanded(GROUP))


# Landed, and not written down before a crash


def as_landed(entry: Entry) -> Change:
    """What a scan finds where the entry was put in place."""
    facts = {
        name: getattr(entry, name) for name in ("path", "kind", "digest", "size", "mode", "uid", "gid", "mtime_ns")
    }
    return Change(**facts, fingerprint=fingerprint(size=entry.size))


def test_what_landed_before_a_crash_is_not_announced_over_what_replaced_it(ledger: Ledger) -> None:
    first = file_entry(b"a", b"1", seq=1, lamport=1)
    second = file_entry(b"a", b"2", seq=2, lamport=2, parent=first.version)
    third = file_entry(b"a", b"3", seq=3, lamport=3, parent=second.version)
    ledger.record(GROUP, [first])
    ledger.landed(GROUP, [(first, fingerprint())])
    ledger.record(GROUP, [second, third])
    assert ledger.journal(GROUP, [as_landed(second)]) == (), "renamed into place, then the process died"
    local = ledger.local(GROUP, b"a")
    assert local is not None
    assert local.version == second.version
    assert unlanded(ledger) == [third], "which lands over it now, as if nothing had happened"
    assert ledger.is_ancestor(GROUP, local.version, third)


def test_what_landed_before_a_crash_does_not_win_over_a_version_of_another_line(ledger: Ledger) -> None:
    """Two sites wrote at once, so neither version is an ancestor of the other."""
    lost = file_entry(b"a", b"1", seq=1, lamport=1)
    won = file_entry(b"a", b"2", origin="sgp", seq=1, lamport=2)
    ledger.record(GROUP, [lost])
    ledger.record(GROUP, [won])
    assert ledger.journal(GROUP, [as_landed(lost)]) == ()
    local = ledger.local(GROUP, b"a")
    assert local is not None
    assert local.version == lost.version
    assert unlanded(ledger) == [won]


def test_a_delete_that_landed_before_a_crash_does_not_come_back_either(ledger: Ledger) -> None:
    first = file_entry(b"a", b"1", seq=1, lamport=1)
    gone = msgspec.structs.replace(delete_entry(b"a", seq=2, lamport=2), parent=first.version)
    again = file_entry(b"a", b"3", seq=3, lamport=3, parent=gone.version)
    ledger.record(GROUP, [first])
    ledger.landed(GROUP, [(first, fingerprint())])
    ledger.record(GROUP, [gone, again])
    assert ledger.journal(GROUP, [removed(b"a")]) == ()
    assert unlanded(ledger) == [again]


def test_an_edit_that_nobody_made_before_is_announced_over_what_waits(ledger: Ledger) -> None:
    first = file_entry(b"a", b"1", seq=1, lamport=1)
    second = file_entry(b"a", b"2", seq=2, lamport=2, parent=first.version)
    ledger.record(GROUP, [first])
    ledger.landed(GROUP, [(first, fingerprint())])
    ledger.record(GROUP, [second])
    (edit,) = ledger.journal(GROUP, [wrote(b"a", b"edited here")])
    assert edit.version > second.version
    assert edit.parent == first.version, "so that both sites see a conflict"


# Our own journal


def test_journal_is_dense_and_chains_versions(ledger: Ledger) -> None:
    first, second = ledger.journal(GROUP, [wrote(b"a", b"1"), wrote(b"b")])
    (third,) = ledger.journal(GROUP, [wrote(b"a", b"2")])
    assert [entry.seq for entry in (first, second, third)] == [1, 2, 3]
    assert first.parent == NO_VERSION
    assert third.parent == first.version
    assert third.version > second.version > first.version
    assert ledger.head(GROUP) == 3
    assert ledger.newest(GROUP, b"a") == third
    assert ledger.recorded() == ledger.detailed() == {GROUP: {"ams": 3}, "wiki": {}}
    assert gaps(ledger, "ams") == []


def test_groups_have_journals_of_their_own(ledger: Ledger) -> None:
    ledger.journal(GROUP, [wrote(b"a")])
    (other,) = ledger.journal("wiki", [wrote(b"a")])
    assert other.seq == 1
    assert ledger.local("wiki", b"b") is None


def test_equal_content_announces_nothing_but_is_remembered(ledger: Ledger) -> None:
    ledger.journal(GROUP, [wrote(b"a", b"1")])
    again = wrote(b"a", b"1")
    assert ledger.journal(GROUP, [again]) == ()
    known = ledger.local(GROUP, b"a")
    assert known is not None
    assert known.fingerprint == again.fingerprint
    assert ledger.head(GROUP) == 1


@pytest.mark.parametrize(
    "other",
    [{"mode": 0o600}, {"uid": 7}, {"gid": 7}, {"mtime_ns": 7}, {"xattrs": {"user.a": b"1"}}, {"digest": b"\1" * 32}],
    ids=lambda other: next(iter(other)),
)
def test_any_attribute_makes_news(ledger: Ledger, other: dict[str, object]) -> None:
    change = wrote(b"a")
    ledger.journal(GROUP, [change])
    assert len(ledger.journal(GROUP, [msgspec.structs.replace(change, **other)])) == 1


def test_delete_is_a_tombstone_and_a_new_file_descends_from_it(ledger: Ledger) -> None:
    ledger.journal(GROUP, [wrote(b"a")])
    (gone,) = ledger.journal(GROUP, [removed(b"a")])
    assert gone.kind is Kind.ABSENT
    assert ledger.journal(GROUP, [removed(b"a"), removed(b"never")]) == ()
    known = ledger.local(GROUP, b"a")
    assert known is not None
    assert (known.kind, known.fingerprint) == (Kind.ABSENT, None)
    (back,) = ledger.journal(GROUP, [wrote(b"a")])
    assert back.parent == gone.version


def test_one_batch_may_name_a_path_twice(ledger: Ledger) -> None:
    entries = ledger.journal(GROUP, [wrote(b"a", b"1"), wrote(b"a", b"1"), removed(b"a")])
    assert [entry.kind for entry in entries] == [Kind.FILE, Kind.ABSENT]
    assert entries[1].parent == entries[0].version


def test_a_path_that_cannot_be_spoils_the_whole_batch_and_nothing_else(ledger: Ledger) -> None:
    with pytest.raises(EntryError):
        ledger.journal(GROUP, [wrote(b"a"), wrote(b"../b")])
    assert ledger.head(GROUP) == 0
    assert ledger.newest(GROUP, b"a") is None
    assert ledger.journal(GROUP, [wrote(b"a")])[0].seq == 1


# Others' journals


def test_recorded_entries_wait_to_land(ledger: Ledger) -> None:
    one, two = file_entry(b"a", seq=1, lamport=4), file_entry(b"b", seq=2, lamport=5)
    assert ledger.record(GROUP, [one, two]) == (one, two)
    assert unlanded(ledger) == [one, two]
    assert gaps(ledger, "nyc") == [1, 2]
    seen = fingerprint()
    ledger.landed(GROUP, [(one, seen)])
    assert unlanded(ledger) == [two]
    assert gaps(ledger, "nyc") == [2]
    assert ledger.landed_upto(GROUP)["nyc"].watermark == 2
    known = ledger.local(GROUP, b"a")
    assert known is not None
    assert (known.version, known.digest, known.fingerprint) == (one.version, one.digest, seen)
    assert [path for path, _ in ledger.with_digest(GROUP, one.digest, 9)] == [b"a"]
    assert ledger.with_digest(GROUP, b"?" * 32, 9) == []


def test_repeated_entries_are_ignored_and_a_hole_is_refused_in_whole(ledger: Ledger) -> None:
    first = file_entry(b"a", seq=1, lamport=1)
    ledger.record(GROUP, [first])
    assert ledger.record(GROUP, [first]) == ()
    with pytest.raises(LedgerHole) as hole:
        ledger.record(GROUP, [file_entry(b"b", seq=2, lamport=2), file_entry(b"c", seq=4, lamport=4)])
    assert hole.value.expected == 3
    assert ledger.detailed()[GROUP] == {"nyc": 1}
    assert ledger.newest(GROUP, b"b") is None


def test_own_lamport_exceeds_every_one_seen_also_after_reopening(path: Path) -> None:
    ledger = open_ledger(path)
    ledger.record(GROUP, [file_entry(b"a", lamport=900)])
    assert ledger.journal(GROUP, [wrote(b"b")])[0].lamport == 901
    ledger.record("wiki", [msgspec.structs.replace(file_entry(b"a", lamport=5000), group="wiki")])
    ledger.close()
    ledger = open_ledger(path)
    assert ledger.journal(GROUP, [wrote(b"c")])[0].lamport == 5001
    ledger.close()


def test_an_older_version_that_comes_late_is_never_landed(ledger: Ledger) -> None:
    newer = file_entry(b"a", b"new", origin="sgp", lamport=9)
    older = file_entry(b"a", b"old", origin="nyc", lamport=3)
    ledger.record(GROUP, [newer])
    assert ledger.record(GROUP, [older]) == ()
    assert gaps(ledger, "nyc") == [1]
    assert gaps(ledger, "sgp") == [1]
    assert ledger.newest(GROUP, b"a") == newer


def test_what_is_superseded_counts_as_landed_once_something_newer_has(ledger: Ledger) -> None:
    """Till then the bytes of either may be at one site only, which has overwritten the older: it is no copy."""
    one = file_entry(b"a", b"1", seq=1, lamport=1)
    two = file_entry(b"a", b"2", seq=2, lamport=2, parent=one.version)
    assert ledger.record(GROUP, [one, two]) == (two,)
    assert gaps(ledger, "nyc") == [1, 2]
    three = file_entry(b"a", b"3", origin="sgp", lamport=3, parent=two.version)
    ledger.record(GROUP, [three])
    assert gaps(ledger, "nyc") == [1, 2]
    assert unlanded(ledger) == [three]
    ledger.close()
    again = Ledger.open(ledger.path, member=ledger.member, groups=(GROUP,))
    assert gaps(again, "nyc") == [1, 2]
    again.landed(GROUP, [(two, fingerprint())])
    assert gaps(again, "nyc") == []
    assert gaps(again, "sgp") == [1]
    again.landed(GROUP, [(three, fingerprint())])
    assert gaps(again, "sgp") == []
    again.close()


def test_a_stretch_that_was_lost_is_passed_over_and_kept_in_mind(ledger: Ledger) -> None:
    ledger.record(GROUP, [file_entry(b"a", b"1", seq=1, lamport=1)])
    ledger.mark(GROUP, "nyc", 1, 9, b"d/")
    assert ledger.record(GROUP, (), left_of=("nyc", 1, 9), lost=True) == ()
    assert ledger.detailed()[GROUP]["nyc"] == 9
    assert ledger.marks(GROUP) == ()
    ledger.record(GROUP, [file_entry(b"b", b"2", seq=10, lamport=2)])
    ledger.record(GROUP, (), left_of=("nyc", 10, 12), lost=True)
    ledger.close()
    again = Ledger.open(ledger.path, member=ledger.member, groups=(GROUP,))
    assert [again.lost_beyond(GROUP, "nyc", seq) for seq in (0, 8, 9, 12)] == [(1, 9), (1, 9), (10, 12), None]
    assert again.lost_beyond(GROUP, "sgp", 0) is None
    with pytest.raises(EntryError, match="cannot be"):
        again.record(GROUP, (), left_of=("nyc", 12, SEQ_MAX + 1), lost=True)
    assert gaps(again, "nyc") == [1, 10]
    again.close()


def test_a_change_made_here_is_newer_than_all_that_waited(ledger: Ledger) -> None:
    one = file_entry(b"a", b"1", seq=1, lamport=1)
    ledger.record(GROUP, [one, file_entry(b"a", b"2", seq=2, lamport=2, parent=one.version)])
    ledger.journal(GROUP, [wrote(b"a", b"3")])
    assert gaps(ledger, "nyc") == []


def test_of_equal_lamports_the_greater_origin_wins(ledger: Ledger) -> None:
    ledger.record(GROUP, [file_entry(b"a", origin="sgp", lamport=3)])
    assert ledger.record(GROUP, [file_entry(b"a", origin="nyc", lamport=3)]) == ()
    newest = ledger.newest(GROUP, b"a")
    assert newest is not None
    assert newest.origin == "sgp"


def test_an_older_version_that_lands_leaves_the_newest_waiting(ledger: Ledger) -> None:
    one = file_entry(b"a", b"1", seq=1, lamport=1)
    two = file_entry(b"a", b"2", seq=2, lamport=2, parent=one.version)
    ledger.record(GROUP, [one, two])
    ledger.landed(GROUP, [(one, fingerprint())])
    known = ledger.local(GROUP, b"a")
    assert known is not None
    assert known.version == one.version
    assert unlanded(ledger) == [two]


def test_local_edit_over_a_waiting_entry_wins_and_ends_the_wait(ledger: Ledger) -> None:
    (base,) = ledger.journal(GROUP, [wrote(b"a", b"1")])
    remote = file_entry(b"a", b"theirs", lamport=7, parent=base.version)
    ledger.record(GROUP, [remote])
    (ours,) = ledger.journal(GROUP, [wrote(b"a", b"ours")])
    assert ours.version > remote.version
    assert ours.parent == base.version
    assert unlanded(ledger) == []
    ledger.landed(GROUP, [(remote, fingerprint())])  # told late: it has been replaced since
    known = ledger.local(GROUP, b"a")
    assert known is not None
    assert known.version == ours.version


def test_finding_the_waiting_content_on_the_disk_is_its_landing(ledger: Ledger) -> None:
    entry = file_entry(b"a", b"same", mtime_ns=6)
    ledger.record(GROUP, [entry])
    assert ledger.journal(GROUP, [wrote(b"a", b"same", mtime_ns=6)]) == ()
    known = ledger.local(GROUP, b"a")
    assert known is not None
    assert known.version == entry.version
    assert (unlanded(ledger), gaps(ledger, "nyc")) == ([], [])


def test_a_folder_made_for_its_content_waits_for_its_own_entry(ledger: Ledger) -> None:
    entry = folder_entry(b"d", mode=0o2775)
    ledger.record(GROUP, [entry])
    assert ledger.journal(GROUP, [made_folder(b"d", mode=0o755)]) == ()
    assert unlanded(ledger) == [entry]


def test_waiting_entries_survive_and_come_in_the_order_they_were_made(path: Path) -> None:
    entries = [file_entry(b"%d" % (9999 - n), seq=n, lamport=n) for n in range(1, 2502)]
    ledger = open_ledger(path)
    ledger.record(GROUP, entries)
    ledger.landed(GROUP, [(entries[0], fingerprint()), (entries[7], fingerprint())])
    waiting, said = unlanded(ledger), ledger.landed_upto(GROUP)
    ledger.close()
    ledger = open_ledger(path)
    assert unlanded(ledger) == waiting == [entry for entry in entries if entry.seq not in (1, 8)]
    assert ledger.landed_upto(GROUP) == said
    ledger.close()


def test_landing_what_was_never_recorded_is_refused(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="not recorded"):
        ledger.landed(GROUP, [(file_entry(b"a"), fingerprint())])


@pytest.mark.parametrize(
    "entry",
    [
        file_entry(b"../a"),
        file_entry(b"/etc/passwd"),
        file_entry(b".anycastle/tmp/x"),
        file_entry(b"a", lamport=LAMPORT_MAX + 1),
        file_entry(b"a", lamport=0),
        file_entry(b"a", lamport=2, parent=Version(2, "nyc")),
        msgspec.structs.replace(file_entry(b"a"), group="wiki"),
    ],
    ids=["dots", "absolute", "private", "lamport", "no lamport", "own parent", "group"],
)
def test_entries_that_cannot_be_are_refused(ledger: Ledger, entry: Entry) -> None:
    with pytest.raises(EntryError):
        ledger.record(GROUP, [entry])
    assert ledger.detailed()[GROUP] == {}


def test_a_lost_ledger_takes_its_own_entries_back(tmp_path: Path) -> None:
    old, new = open_ledger(tmp_path / "old.db"), open_ledger(tmp_path / "new.db")
    entries = old.journal(GROUP, [wrote(b"a"), wrote(b"b")])
    assert new.created
    new.record(GROUP, entries)
    assert new.journal(GROUP, [wrote(b"c")])[0].seq == 3
    assert [entry.path for entry in new.unlanded(GROUP)] == [b"a", b"b"]
    old.close()
    new.close()


def test_a_witness_records_and_holds_nothing(path: Path) -> None:
    witness = open_ledger(path, member="wit", content=False)
    entry = file_entry(b"a")
    assert witness.record(GROUP, [entry]) == ()
    assert witness.entries(GROUP, "nyc", 0, 10) == (entry,)
    assert unlanded(witness) == []
    assert witness.landed_upto(GROUP)["nyc"].gaps == b""
    assert list(witness.locals_below(GROUP, b"")) == []
    witness.close()


# Looking things up


def test_entries_come_in_order_and_bounded(ledger: Ledger) -> None:
    ledger.journal(GROUP, [wrote(b"%d" % n) for n in range(10)])
    assert [entry.seq for entry in ledger.entries(GROUP, "ams", 3, 4)] == [4, 5, 6, 7]
    assert ledger.entries(GROUP, "ams", 10, 4) == ()
    assert ledger.entries(GROUP, "unheard-of", 0, 4) == ()


def test_walks_below_a_folder(ledger: Ledger) -> None:
    paths = [b"a", b"a/b", b"a/b/c", b"a-b", b"a0", b"ab/c", b"z\xff\xff"]
    ledger.journal(GROUP, [wrote(path) for path in paths] + [removed(b"a/b/c")])
    assert [entry.path for entry in ledger.below(GROUP, b"a/")] == [b"a/b"]
    assert [entry.path for entry in ledger.below(GROUP, b"")] == [b"a", b"a-b", b"a/b", b"a0", b"ab/c", b"z\xff\xff"]
    assert [path for path, _ in ledger.locals_below(GROUP, b"a/")] == [b"a/b"]
    assert [path for path, _ in ledger.keys_below(GROUP, b"ab/")] == [b"ab/c"]


def test_long_walks_are_paged_and_may_be_left(ledger: Ledger) -> None:
    ledger.journal(GROUP, [wrote(b"d/%05d" % n) for n in range(2500)])
    walk = ledger.locals_below(GROUP, b"d/")
    assert next(walk)[0] == b"d/00000"
    ledger.journal(GROUP, [removed(b"d/02400")])
    assert sum(1 for _ in walk) == 2498


def test_paths_and_pending_name_what_is_in_flight(ledger: Ledger) -> None:
    ledger.record(GROUP, [file_entry(b"a", seq=1, lamport=1), file_entry(b"b", seq=2, lamport=2)])
    ledger.journal(GROUP, [wrote(b"c")])
    assert list(ledger.paths(GROUP, "nyc", [2, 9, 1])) == [(2, b"b"), (1, b"a")]
    assert set(ledger.pending(GROUP, {"nyc": 1})) == {("nyc", 2, b"b", 1234.5), ("ams", 1, b"c", 1234.5)}


def test_ancestors_are_followed_over_all_journals(ledger: Ledger) -> None:
    (one,) = ledger.journal(GROUP, [wrote(b"a", b"1")])
    two = file_entry(b"a", b"2", seq=1, lamport=5, parent=one.version)
    three = file_entry(b"a", b"3", origin="sgp", seq=1, lamport=8, parent=two.version)
    ledger.record(GROUP, [two])
    ledger.record(GROUP, [three])
    assert ledger.is_ancestor(GROUP, one.version, three)
    assert ledger.is_ancestor(GROUP, two.version, three)
    assert ledger.is_ancestor(GROUP, NO_VERSION, three)
    assert not ledger.is_ancestor(GROUP, three.version, three)
    assert not ledger.is_ancestor(GROUP, Version(4, "nyc"), three)
    stranger = file_entry(b"a", origin="nyc", seq=2, lamport=9, parent=Version(6, "nobody"))
    assert not ledger.is_ancestor(GROUP, one.version, stranger)


def test_an_unknown_group_is_an_error(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="no group photos"):
        ledger.newest("photos", b"a")


# Coarse marks and fences


def test_marks_extend_what_is_recorded_until_details_come(path: Path) -> None:
    ledger = open_ledger(path)
    ledger.record(GROUP, [file_entry(b"p/1", seq=1, lamport=1)])
    assert ledger.mark(GROUP, "nyc", 1, 3, b"p/") == 3
    assert ledger.mark(GROUP, "nyc", 2, 4, b"q/") == 4
    with pytest.raises(LedgerHole):
        ledger.mark(GROUP, "nyc", 5, 9, b"p/")
    ledger.close()
    ledger = open_ledger(path)
    assert ledger.recorded()[GROUP] == {"nyc": 4}
    assert ledger.detailed()[GROUP] == {"nyc": 1}
    assert set(ledger.marks(GROUP)) == {Mark(GROUP, "nyc", 1, 3, b"p/"), Mark(GROUP, "nyc", 2, 4, b"q/")}
    ledger.record(GROUP, [file_entry(b"p/2", seq=2, lamport=2), file_entry(b"p/3", seq=3, lamport=3)])
    assert ledger.marks(GROUP) == (Mark(GROUP, "nyc", 2, 4, b"q/"),)
    assert ledger.mark(GROUP, "nyc", 1, 3, b"p/") == 4
    assert len(ledger.marks(GROUP)) == 1
    ledger.close()


@pytest.mark.parametrize(("origin", "after", "upto"), [("ams", 0, 3), ("nyc", 0, 2**40), ("nyc", -1, 3), ("nyc", 0, 0)])
def test_marks_that_cannot_be_do_nothing(ledger: Ledger, origin: str, after: int, upto: int) -> None:
    if upto:
        with pytest.raises(EntryError):
            ledger.mark(GROUP, origin, after, upto, b"")
    else:
        assert ledger.mark(GROUP, origin, after, upto, b"") == 0
    assert ledger.marks(GROUP) == ()


def test_fences_only_move_forward_and_are_remembered(path: Path) -> None:
    ledger = open_ledger(path)
    ledger.store_fenced(GROUP, "nyc", 7)
    ledger.store_fenced(GROUP, "nyc", 3)
    ledger.record(GROUP, [file_entry(b"a")])
    assert ledger.fenced()[GROUP] == {"nyc": 7}
    ledger.close()
    ledger = open_ledger(path)
    assert ledger.fenced()[GROUP]["nyc"] == 7
    assert ledger.detailed()[GROUP]["nyc"] == 1
    ledger.close()


# Facts, conflicts, opening


def test_facts_and_conflicts_are_kept(path: Path) -> None:
    conflict = Conflict(GROUP, b"a\xff", Version(9, "nyc"), Version(8, "ams"), b"8@ams/a\xff", 1234.5)
    ledger = open_ledger(path)
    ledger.put("drains", b"\0x")
    ledger.put("drains", b"y")
    ledger.add_conflict(conflict)
    ledger.close()
    ledger = open_ledger(path)
    assert ledger.get("drains") == b"y"
    assert ledger.get("ledger.member") is None
    assert ledger.conflicts() == (conflict,)
    assert (ledger.last_conflict(), ledger.conflicts_after(0), ledger.conflicts_after(1)) == (1, {1: conflict}, {})
    ledger.close()


def test_each_opening_is_a_new_incarnation(path: Path) -> None:
    seen = []
    for _ in range(3):
        ledger = open_ledger(path)
        seen.append((ledger.incarnation, ledger.created))
        ledger.close()
        ledger.close()
    assert seen == [(1, True), (2, False), (3, False)]


def one_line(error: pytest.ExceptionInfo[LedgerError], *words: str) -> None:
    text = str(error.value)
    assert "\n" not in text
    for word in words:
        assert word in text


def test_a_ledger_has_one_owner(path: Path, ledger: Ledger) -> None:
    with pytest.raises(LedgerError) as error:
        open_ledger(path)
    one_line(error, "in use", str(path))


def test_another_members_ledger_is_refused(path: Path) -> None:
    open_ledger(path).close()
    with pytest.raises(LedgerError) as error:
        open_ledger(path, member="nyc")
    one_line(error, "belongs to member ams")
    open_ledger(path).close()


@pytest.mark.parametrize("damage", ["noise", "torn page", "other format"])
def test_a_damaged_file_is_refused(path: Path, damage: str) -> None:
    ledger = open_ledger(path)
    ledger.journal(GROUP, [wrote(b"%d" % n) for n in range(2000)])
    ledger.close()
    content = bytearray(path.read_bytes())
    match damage:
        case "noise":
            content = bytearray(random.Random(1).randbytes(8192))
        case "torn page":
            content[4096 * 20 : 4096 * 30] = bytes(4096 * 10)
        case _:
            content[60:64] = (77).to_bytes(4, "big")  # user_version
    path.write_bytes(content)
    with pytest.raises(LedgerError) as error:
        open_ledger(path)
    one_line(error, str(path))


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file" / "ledger.db", tmp_path / "missing" / "ledger.db", Path("/proc/ledger.db")):
        with pytest.raises(LedgerError) as error:
            open_ledger(path)
        one_line(error, str(path))


def test_a_full_disk_loses_nothing_and_recovers(ledger: Ledger, path: Path) -> None:
    ledger.journal(GROUP, [wrote(b"before")])
    with file_size_limit(os.path.getsize(f"{path}-wal") + 4096), pytest.raises(LedgerError) as error:
        ledger.journal(GROUP, [wrote(b"%d" % n) for n in range(1000)])
    one_line(error, str(path))
    assert ledger.head(GROUP) == 1
    assert [entry.seq for entry in ledger.journal(GROUP, [wrote(b"after")])] == [2]


def test_after_close_everything_is_an_error(path: Path) -> None:
    ledger = open_ledger(path)
    ledger.newest(GROUP, b"a")
    ledger.close()
    with pytest.raises(LedgerError):
        ledger.newest(GROUP, b"a")
    with pytest.raises(LedgerError):
        ledger.journal(GROUP, [wrote(b"a")])


def test_threads_write_one_after_the_other_and_read_at_will(ledger: Ledger) -> None:
    problems: list[BaseException] = []

    def write(name: int) -> None:
        try:
            for n in range(100):
                (entry,) = ledger.journal(GROUP, [wrote(b"%d/%d" % (name, n))])
                assert ledger.newest(GROUP, entry.path) == entry
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert [entry.seq for entry in ledger.entries(GROUP, "ams", 0, 1000)] == list(range(1, 401))


_WRITER = """
import sys
from pathlib import Path
from anycastle.replicator.ledger import Ledger
from tests.replicator.tree_values import GROUP, wrote
ledger = Ledger.open(Path(sys.argv[1]), member="ams", groups=(GROUP,))
n = ledger.head(GROUP)
while True:
    entries = ledger.journal(GROUP, [wrote(b"%d" % (n + k)) for k in range(7)])
    n += 7
    print(entries[-1].seq, flush=True)
"""


def test_what_was_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    path, acknowledged = tmp_path / "ledger.db", 0
    for rounds in range(3):
        child = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        with child.stdout as said:
            for _ in range(5 + 40 * rounds):
                acknowledged = int(said.readline())
            child.send_signal(signal.SIGKILL)
            acknowledged = max([acknowledged, *(int(line) for line in said if line.endswith("\n"))])
        assert child.wait() == -signal.SIGKILL
        path_head = _head_of(path)
        assert path_head >= acknowledged
        assert path_head % 7 == 0


def _head_of(path: Path) -> int:
    ledger = Ledger.open(path, member="ams", groups=(GROUP,))
    try:
        head = ledger.head(GROUP)
        assert [entry.seq for entry in ledger.entries(GROUP, "ams", 0, head + 1)] == list(range(1, head + 1))
        return head
    finally:
        ledger.close()


# Any order gives the same


_CHANGES = st.lists(
    st.tuples(st.sampled_from([b"a", b"b", b"b/c"]), st.integers(1, 30), st.booleans()), min_size=1, max_size=12
)


def _journal_of(origin: str, changes: list[tuple[bytes, int, bool]]) -> list[Entry]:
    entries, lamport = [], 0
    for seq, (path, step, delete) in enumerate(changes, 1):
        lamport += step
        make = delete_entry if delete else file_entry
        entries.append(make(path, origin=origin, seq=seq, lamport=lamport))
    return entries


@settings(deadline=None, max_examples=60)
@given(st.data(), _CHANGES, _CHANGES)
def test_any_interleaving_gives_the_same_newest(
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
    left: list[tuple[bytes, int, bool]],
    right: list[tuple[bytes, int, bool]],
) -> None:
    journals = {"nyc": _journal_of("nyc", left), "sgp": _journal_of("sgp", right)}
    ledger = open_ledger(tmp_path_factory.mktemp("order") / "ledger.db")
    landed: set[tuple[str, int]] = set()
    try:
        todo = dict.fromkeys(journals, 0)
        while any(todo[origin] < len(journals[origin]) for origin in journals):
            origin = data.draw(st.sampled_from(sorted(o for o in journals if todo[o] < len(journals[o]))))
            start = data.draw(st.integers(0, todo[origin]))  # some of it repeated
            end = data.draw(st.integers(todo[origin] + 1, len(journals[origin])))
            stood = {path: ledger.newest(GROUP, path) for path in (b"a", b"b", b"b/c")}
            ledger.record(GROUP, journals[origin][start:end])
            for entry in journals[origin][todo[origin] : end]:  # what is in place already has landed
                before = stood[entry.path]
                if before is not None and entry.version > before.version:
                    if (before.origin, before.seq) in landed and makes_the_same(entry, before):
                        landed.add((entry.origin, entry.seq))
                    stood[entry.path] = entry
                elif before is None:
                    stood[entry.path] = entry
            todo[origin] = end
            waiting = list(ledger.unlanded(GROUP))
            if waiting and data.draw(st.booleans()):
                entry = data.draw(st.sampled_from(waiting))
                ledger.landed(GROUP, [(entry, None if entry.kind is Kind.ABSENT else fingerprint())])
                landed.add((entry.origin, entry.seq))
        everything = [*journals["nyc"], *journals["sgp"]]
        for path in (b"a", b"b", b"b/c"):
            of_path = [entry for entry in everything if entry.path == path]
            newest = max(of_path, key=lambda entry: entry.version, default=None)
            assert ledger.newest(GROUP, path) == newest
        newest_of = {entry.path: entry for entry in sorted(everything, key=lambda entry: entry.version)}
        waits = {(e.origin, e.seq) for e in newest_of.values()} - landed
        assert {(e.origin, e.seq) for e in ledger.unlanded(GROUP)} == waits
        stands = {path: local.version for path in newest_of if (local := ledger.local(GROUP, path))}
        missing = {
            (e.origin, e.seq)
            for e in everything
            if (newest_of[e.path].origin, newest_of[e.path].seq) in waits and e.version > stands.get(e.path, NO_VERSION)
        }
        assert {(origin, seq) for origin in journals for seq in gaps(ledger, origin)} == missing
    finally:
        ledger.close()


def test_an_entry_of_what_is_in_place_already_has_landed(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path / "ledger.db")
    try:
        first, second = _journal_of("nyc", [(b"a", 1, False)])[0], _journal_of("sgp", [(b"a", 1, False)])[0]
        ledger.record(GROUP, [first])
        there = fingerprint()
        ledger.landed(GROUP, [(first, there)])
        equal = msgspec.structs.replace(first, origin="sgp", lamport=second.lamport)
        assert ledger.record(GROUP, [equal]) == ()
        local = ledger.local(GROUP, b"a")
        assert local is not None
        assert local.version == equal.version
        assert local.fingerprint == there
        assert list(ledger.unlanded(GROUP)) == []
    finally:
        ledger.close()
