"""Journals reach every member over real links: in frames that fit, each member in its own lane, nothing twice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from blake3 import blake3

from anycastle.replicator.courier import Courier
from anycastle.replicator.entry import Entry, Kind
from anycastle.replicator.event import SendEntries
from anycastle.replicator.ledger import Ledger
from anycastle.replicator.message import BODIES_FOLLOW, PROTOCOL, Bodies, Entries
from anycastle.replicator.observation import Change
from anycastle.replicator.threads import Threads
from tests.replicator.members import Member, link_settings, make_authority, meshed, running, until
from tests.replicator.tree_values import GROUP, wrote


def heard(member: Member) -> list[Entries]:
    return [event.message for event in member.received() if isinstance(event.message, Entries)]


def behind(member: Member) -> list[Bodies]:
    return [event.message for event in member.received() if isinstance(event.message, Bodies)]


def followed(member: Member) -> list[bytes]:
    return [digest for message in behind(member) for digest in message.bodies]


def seqs(member: Member) -> list[int]:
    return [entry.seq for message in heard(member) for entry in message.entries]


class Office:
    """A courier at ams, its journal, and how often each body was read."""

    def __init__(self, folder: Path, bodies: dict[bytes, bytes], sites: tuple[str, ...]) -> None:
        self.ledger = Ledger.open(folder / "ledger", member="ams", groups=(GROUP,))
        self.threads = Threads(2, "read")
        self.bodies = bodies
        self.read: list[int] = []
        self.courier = Courier(("nyc", "sgp"), self.ledger, threads=self.threads, body=self._body, sites=sites)

    def _body(self, entry: Entry) -> bytes | None:
        self.read.append(entry.seq)
        return self.bodies.get(entry.digest)

    def ask(self, after: int, upto: int, *members: str) -> None:
        for member in members:
            self.courier.ask(SendEntries(member, GROUP, "ams", after, upto))


@asynccontextmanager
async def office(
    folder: Path,
    changes: list[Change],
    bodies: dict[bytes, bytes],
    *,
    sites: tuple[str, ...] = ("nyc", "sgp"),
    newest_of_sgp: int = PROTOCOL,
    **link: int,
) -> AsyncIterator[tuple[Office, Member, Member]]:
    settings = link_settings(make_authority(folder / "pki"), **link)
    ams, nyc = Member(settings["ams"]), Member(settings["nyc"])
    sgp = Member(settings["sgp"], newest=newest_of_sgp)
    made = Office(folder, bodies, sites)
    made.ledger.journal(GROUP, changes)
    try:
        async with meshed(ams, nyc, sgp), running(made.courier.run(ams.links)):
            yield made, nyc, sgp
    finally:
        made.threads.close()
        made.ledger.close()


def files(count: int, size: int) -> tuple[list[Change], dict[bytes, bytes]]:
    contents = [b"%08d" % number * (size // 8) for number in range(count)]
    changes = [wrote(b"%d" % number, content) for number, content in enumerate(contents)]
    return changes, {blake3(content).digest(): content for content in contents}


async def test_what_was_lost_is_said_by_itself(tmp_path: Path) -> None:
    changes, _ = files(2, 8)
    async with office(tmp_path, changes, {}) as (made, nyc, _sgp):
        made.ledger.record(GROUP, (), left_of=("ams", 2, 7), lost=True)
        made.ledger.journal(GROUP, [wrote(b"after", b"it")])
        made.ask(0, 8, "nyc")
        await until(lambda: seqs(nyc) == [1, 2, 8], "all of it")
        assert [(*message.stretch(), message.lost) for message in heard(nyc)] == [
            (0, 2, False),
            (2, 7, True),
            (7, 8, False),
        ]


async def test_bodies_follow_in_frames_that_fit(tmp_path: Path) -> None:
    changes, bodies = files(60, 100_000)
    async with office(tmp_path, changes, bodies) as (made, nyc, sgp):
        made.ask(0, 60, "nyc", "sgp")
        for member in (nyc, sgp):
            await until(lambda member=member: len(seqs(member)) == 60, "all of it")
            assert seqs(member) == list(range(1, 61))
            await until(lambda member=member: len(followed(member)) == 60, "and all bodies")
            assert followed(member) == [digest for message in heard(member) for digest in message.coming]
            assert all(sum(map(len, each.bodies.values())) <= 1024 * 1024 for each in behind(member))
        assert len(made.read) < 2 * 60, "members at the same place share what was read"


async def test_bodies_come_along_where_an_older_version_is_spoken(tmp_path: Path) -> None:
    changes, bodies = files(60, 100_000)
    async with office(tmp_path, changes, bodies, newest_of_sgp=BODIES_FOLLOW - 1) as (made, nyc, sgp):
        made.ask(0, 60, "nyc", "sgp")
        await until(lambda: len(followed(nyc)) == 60, "all bodies behind their entries")
        await until(lambda: len(seqs(sgp)) == 60, "all of it")
        assert {digest for message in heard(sgp) for digest in message.bodies} == set(bodies)
        assert not behind(sgp)
        assert not any(message.coming for message in heard(sgp))


async def test_a_little_body_travels_along(tmp_path: Path) -> None:
    changes, bodies = files(1, 800)
    async with office(tmp_path, changes, bodies) as (made, nyc, _sgp):
        made.ask(0, 1, "nyc")
        await until(lambda: seqs(nyc) == [1], "it")
        (message,) = heard(nyc)
        assert (message.bodies, message.coming) == (bodies, ())


async def test_a_witness_is_sent_no_bodies(tmp_path: Path) -> None:
    changes, bodies = files(3, 800)
    async with office(tmp_path, changes, bodies, sites=("nyc",)) as (made, nyc, sgp):
        made.ask(0, 3, "nyc", "sgp")
        await until(lambda: len(seqs(nyc)) == len(seqs(sgp)) == 3, "both")
        assert [len(message.bodies) for message in heard(sgp)] == [0]
        assert [len(message.bodies) for message in heard(nyc)] == [3]


async def test_a_stretch_asked_for_twice_is_sent_once(tmp_path: Path) -> None:
    changes, bodies = files(30, 80)
    async with office(tmp_path, changes, bodies) as (made, nyc, _sgp):
        made.ask(0, 30, *["nyc"] * 5)
        made.ask(29, 30, "nyc")
        await until(lambda: len(seqs(nyc)) == 31, "both")
        assert seqs(nyc) == [*range(1, 31), 30]


async def test_what_does_not_fit_in_a_frame_goes_in_halves(tmp_path: Path) -> None:
    changes = [Change(path=b"%d" % number, kind=Kind.SYMLINK, target=b"t" * 3000, mode=0o777) for number in range(100)]
    changes.append(Change(path=b"huge", kind=Kind.FOLDER, xattrs={"user.x": b"x" * 200_000}))
    async with office(tmp_path, changes, {}, frame_bytes_max=64 * 1024) as (made, nyc, _sgp):
        made.ask(0, 101, "nyc")
        await until(lambda: made.courier.too_long == 1, "one entry alone is too long")
        await until(lambda: len(seqs(nyc)) == 100, "all others arrive")
        assert seqs(nyc) == list(range(1, 101))


async def test_a_slow_member_delays_nobody(tmp_path: Path) -> None:
    """The link to sgp takes nothing; nyc hears everything, and sgp's lane goes on when it does."""
    changes, bodies = files(200, 200_000)
    async with office(tmp_path, changes, bodies) as (made, nyc, sgp):
        links, full = made, True
        courier_send = made.courier._send

        def send(member: str, *rest: object) -> bool:
            return not (full and member == "sgp") and courier_send(member, *rest)  # type: ignore[arg-type]

        links.courier._send = send  # type: ignore[method-assign]
        made.ask(0, 200, "sgp", "nyc")
        await until(lambda: len(seqs(nyc)) == 200, "nyc")
        assert seqs(sgp) == []
        full = False
        await until(lambda: len(seqs(sgp)) == 200, "sgp")
        await asyncio.sleep(0)
