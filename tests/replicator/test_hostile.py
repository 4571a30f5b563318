"""A member gone bad, with a good certificate: what it announces is refused or lands nothing outside the root."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from anycastle.replicator.entry import NO_VERSION, Entry, Kind, Version
from anycastle.replicator.event import Record
from anycastle.replicator.message import (
    Ack,
    Entries,
    Fenced,
    FenceQuery,
    Gossip,
    Landed,
    LandedUpto,
    LeaseGrant,
    LeaseRequest,
    Mark,
    Message,
)
from tests.replicator.cluster import GROUP, Site, cluster, temps
from tests.replicator.members import NAMES, Member, listening, until
from tests.replicator.tree_values import file_entry, symlink_entry


@asynccontextmanager
async def besieged(tmp_path: Path) -> AsyncIterator[tuple[Site, Member]]:
    """ams and nyc as they should be; sgp speaks the protocol of links and says whatever it likes."""
    async with cluster(tmp_path, NAMES, start=False) as (one, other, bad):
        foe = Member(bad.link)
        await one.start()
        await other.start()
        async with listening(foe):
            await until(lambda: foe.links.connected() == {"ams", "nyc"}, "linked")
            await one.ready()
            yield one, foe


def evil(path: bytes, seq: int = 1, content: bytes = b"evil") -> Entry:
    return file_entry(path, content, origin="sgp", seq=seq, lamport=seq)


def say(foe: Member, *entries: Entry, content: bytes = b"evil") -> bool:
    """Whether there was a link to say it on: each refusal costs one."""
    bodies = {entry.digest: content for entry in entries if entry.digest}
    return foe.links.send("ams", Entries(GROUP, "sgp", entries, bodies))


def refused(one: Site) -> int:
    """At either of two walls: frames that are not read, and announcements that are not recorded."""
    return one.replica.counters()["announcements_refused"] + one.links.refused.total()


def outside(one: Site) -> set[str]:
    """All names near the root that are not of the setup."""
    return {path.name for path in one.root.parent.rglob("*") if one.root not in (path, *path.parents)}


@pytest.mark.parametrize(
    "path",
    [
        b"../x",
        b"/etc/x",
        b"a/../../x",
        b".anycastle/tmp/x",
        b".anycastle",
        b"a//x",
        b"a/./x",
        b"",
        b"n\0ul",
        b"x" * 300,
    ],
)
async def test_paths_that_cannot_be_are_refused(tmp_path: Path, path: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with besieged(tmp_path) as (one, foe):
        before = outside(one)
        for again in range(3):
            await until(lambda again=again: say(foe, evil(path)) and refused(one) > again, "refused")
        assert len([record for record in caplog.records if "bad frame" in record.message]) == 1
        assert outside(one) == before
        assert sorted(p.name for p in one.root.iterdir()) == [".anycastle"]
        assert temps(one.root) == []
        (one.root / "mine").write_bytes(b"mine")
        assert await one.fence() is None, "one bad member of three stops nobody"


async def test_the_second_wall_refuses_them_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever reads frames: a path that leaves the root is never recorded."""
    async with cluster(tmp_path, ("ams",)) as (one,):
        for path in (b"../x", b"/etc/x", b".anycastle/tmp/x"):
            one.replica._carry_out(Record(GROUP, "sgp", (evil(path),), {}, 0, 1))
        await until(lambda: one.replica.counters()["announcements_refused"] == 3, "refused")
        assert len([record for record in caplog.records if "refused-announcement" in record.message]) == 1
        assert "sgp" not in one.ledger.detailed()[GROUP]


async def test_a_symlink_in_the_middle_leads_nowhere(tmp_path: Path) -> None:
    async with besieged(tmp_path) as (one, foe):
        trap = tmp_path / "trap"
        trap.mkdir()
        link = replace_origin(symlink_entry(b"way", bytes(trap)), seq=1)
        say(foe, link, evil(b"way/in", 2))
        await until(lambda: (one.root / "way").is_symlink(), "the link itself is content like any other")
        await until(lambda: b"way/in" in one.content.landing.failed, "refused")
        assert list(trap.iterdir()) == []
        assert one.replica.levels()["landing_failed_paths"] == 1
        # A delete and a folder through it do no more.
        say(foe, absent(b"way/in", 3), folder(b"way/folder", 4))
        (trap / "in").write_bytes(b"mine")
        await until(lambda: b"way/folder" in one.content.landing.failed, "refused")
        assert [path.name for path in trap.iterdir()] == ["in"]
        assert temps(one.root) == []


def replace_origin(entry: Entry, *, seq: int) -> Entry:
    return Entry("sgp", seq, GROUP, entry.path, seq, entry.kind, NO_VERSION, target=entry.target, mode=entry.mode)


def absent(path: bytes, seq: int) -> Entry:
    return Entry("sgp", seq, GROUP, path, seq, Kind.ABSENT, NO_VERSION)


def folder(path: bytes, seq: int) -> Entry:
    return Entry("sgp", seq, GROUP, path, seq, Kind.FOLDER, NO_VERSION, mode=0o755)


async def test_a_body_that_is_not_what_was_announced_is_not_landed(tmp_path: Path) -> None:
    async with besieged(tmp_path) as (one, foe):
        say(foe, evil(b"page", content=b"announced"), content=b"something")
        await until(lambda: one.replica.counters()["bodies_refused"] == 1, "counted")
        await until(lambda: b"page" in one.content.landing.failed, "and nobody has the right one")
        assert not (one.root / "page").exists()
        assert temps(one.root) == []


async def test_impossible_entries_are_refused(tmp_path: Path) -> None:
    async with besieged(tmp_path) as (one, foe):
        bad = (
            Entry("sgp", 1, GROUP, b"a", 2**60, Kind.ABSENT, NO_VERSION),
            Entry("sgp", 1, "other-group", b"a", 1, Kind.ABSENT, NO_VERSION),
            Entry("ams", 1, GROUP, b"a", 1, Kind.ABSENT, NO_VERSION),
            Entry("sgp", 1, GROUP, b"a", 1, Kind.ABSENT, Version(5, "nyc")),
        )
        for count, entry in enumerate(bad):
            await until(lambda entry=entry, count=count: say(foe, entry) and refused(one) > count, f"refused {entry}")
            one.replica.controller._intake._underway.clear()  # as its patience does after a while
        assert one.ledger.detailed()[GROUP].get("sgp", 0) == 0


async def test_messages_of_unknown_groups_and_garbled_states_end_nothing(tmp_path: Path) -> None:
    nonsense: tuple[Message, ...] = (
        Ack("nowhere", "sgp", 5, {"ams": 1.0}),
        Ack(GROUP, "nobody", 2**40, {"*": float("inf")}, 2**40),
        Entries("nowhere", "sgp", (evil(b"a"),)),
        Entries(GROUP, "sgp", ()),
        Entries(GROUP, "sgp", (evil(b"a", 7),)),
        Mark("nowhere", "sgp", 0, 5, b""),
        Mark(GROUP, "ams", 0, 5, b""),
        Mark(GROUP, "sgp", 5, 2, b"x/"),
        FenceQuery("nowhere", "sgp", 1),
        FenceQuery(GROUP, "sgp", 2**50),
        Fenced({"nowhere": {"sgp": 7}, GROUP: {"sgp": 2**50, "ams": 2**50}}),
        Landed({"nowhere": {"sgp": LandedUpto(1)}, GROUP: {"ams": LandedUpto(2**40)}}, {"nowhere": "x"}),
        Landed({GROUP: {"ams": LandedUpto(5, b"garbage")}}, {}),
        LeaseGrant(1.0, 99, {"nowhere": {"x": 1}}, {}, 1e9),
        LeaseRequest(1.0, 1, {"nowhere": {"x": 1}}, {}, {}),
        Gossip(b"\xff\xff"),
    )
    async with besieged(tmp_path) as (one, foe):
        for number, message in enumerate(nonsense):
            before, mark = refused(one), b"%d" % number

            def read_or_refused(message: Message = message, before: int = before, mark: bytes = mark) -> bool:
                """Said again and again: what is said on a link that is about to end is lost."""
                foe.links.send("ams", message)
                foe.links.send("ams", Gossip(mark))
                return ("sgp", mark) in one.gossip or refused(one) > before

            await until(read_or_refused, f"either read or refused: {message}")
        (one.root / "mine").write_bytes(b"mine")
        assert await one.fence() is None
        assert one.replica.counters()["messages_ignored"] > 0


async def test_a_flood_of_announcements_is_bounded(tmp_path: Path) -> None:
    async with besieged(tmp_path) as (one, foe):
        recorder = one.replica._recorder
        for seq in range(1, 3001):
            foe.links.send("ams", Entries(GROUP, "sgp", (evil(b"%d" % seq, seq),)))
        await until(lambda: one.ledger.detailed()[GROUP].get("sgp", 0) > 100, "some are recorded")
        assert recorder._waiting.qsize() <= 1000
        (one.root / "mine").write_bytes(b"mine")
        assert await one.fence() is None
