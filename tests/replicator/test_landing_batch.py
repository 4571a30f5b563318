"""Many landed together: the order of syncs and renames, faults of one and of all, and a crash at each step."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from anycastle.replicator.disk import DigestMismatch, LocalEdit, Staged, Tree
from anycastle.replicator.entry import Entry, Version
from anycastle.replicator.landing_batch import SHARED_SYNC_MIN, Landed, Lander, Superseded
from anycastle.replicator.landing_queue import Job
from anycastle.replicator.ledger import Ledger
from anycastle.replicator.observation import Fingerprint
from anycastle.replicator.scan import scan
from tests.replicator.tree_values import GROUP, delete_entry, file_entry, folder_entry, symlink_entry, temps

COUNT = 3 * SHARED_SYNC_MIN
STEPS = ("before the content is synced", "content synced", "half renamed", "all renamed", "renames synced")


class Told(Tree):
    """Notes the order of what matters; `fault` may make a sync fail."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.steps: list[str] = []
        self.fault: Callable[[int], None] = lambda syncs: None

    def dress(self, staged: Staged) -> None:
        self.steps.append("dress")
        super().dress(staged)

    def sync(self) -> None:
        self.steps.append("sync")
        self.fault(self.steps.count("sync"))
        super().sync()

    def land(
        self, entry: Entry, staged: Staged | None, expected: Fingerprint | None, *, durable: bool = True
    ) -> Fingerprint | None:
        self.steps.append("land durably" if durable else "land")
        return super().land(entry, staged, expected, durable=durable)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(tmp_path / "ledger", member="ams", groups=(GROUP,))
    yield opened
    opened.close()


@pytest.fixture
def told(root: Path) -> Iterator[Told]:
    opened = Told(root)
    yield opened
    opened.close()


def files(count: int = COUNT) -> list[Entry]:
    return [file_entry(b"d/%d" % number, b"%d" % number, seq=number, lamport=number) for number in range(1, count + 1)]


def jobs(entries: list[Entry]) -> list[tuple[Job, bytes]]:
    return [(Job(entry), b"%d" % entry.seq) for entry in entries]


def test_many_share_two_syncs_content_first(told: Told, root: Path, ledger: Ledger) -> None:
    entries = files()
    ledger.record(GROUP, entries)
    outcomes = Lander(GROUP, told, ledger).land(jobs(entries))
    assert all(isinstance(outcome, Landed) for outcome in outcomes)
    assert [outcome.fingerprint for outcome in outcomes if isinstance(outcome, Landed)] == [
        told.fingerprint(entry.path) for entry in entries
    ]
    assert told.steps == ["dress"] * COUNT + ["sync"] + ["land"] * COUNT + ["sync"]
    assert {path.name: path.read_bytes() for path in (root / "d").iterdir()} == {
        str(entry.seq): b"%d" % entry.seq for entry in entries
    }
    assert temps(root) == []


def test_a_few_sync_their_own(told: Told, ledger: Ledger) -> None:
    entries = files(SHARED_SYNC_MIN - 1)
    ledger.record(GROUP, entries)
    Lander(GROUP, told, ledger).land(jobs(entries))
    assert told.steps == ["land durably"] * len(entries)


def test_all_kinds_land_in_the_order_given(told: Told, root: Path, ledger: Ledger) -> None:
    (root / "old").write_bytes(b"replaced")
    entries = [
        folder_entry(b"d", seq=1, lamport=1, mode=0o700),
        folder_entry(b"d/e", seq=2, lamport=2, mode=0o711),
        file_entry(b"d/e/f", b"3", seq=3, lamport=3),
        file_entry(b"new/deep/f", b"4", seq=4, lamport=4),
        Entry(**{**_fields(symlink_entry(b"d/l", b"e/f")), "seq": 5, "lamport": 5}),
        delete_entry(b"gone", seq=6, lamport=6),
    ]
    ledger.record(GROUP, entries)
    outcomes = Lander(GROUP, told, ledger).land(jobs(entries))
    assert all(isinstance(outcome, Landed) for outcome in outcomes), outcomes
    assert (root / "d/e/f").read_bytes() == b"3"
    assert (root / "d/l").read_bytes() == b"3"
    assert (root / "new/deep/f").read_bytes() == b"4"
    assert (root / "d").stat().st_mode & 0o7777 == 0o700


def _fields(entry: Entry) -> dict[str, object]:
    return {name: getattr(entry, name) for name in entry.__struct_fields__}


def test_what_goes_wrong_with_one_is_that_ones_alone(told: Told, root: Path, ledger: Ledger) -> None:
    entries = files()
    ledger.record(GROUP, entries)
    (root / "d").mkdir()
    (root / "d/2").write_bytes(b"nobody announced this")
    given = jobs(entries)
    given[3] = (given[3][0], b"!")
    newer = file_entry(b"d/5", b"newer", seq=COUNT + 1, lamport=100, parent=Version(5, "nyc"))
    ledger.record(GROUP, [newer])
    outcomes = Lander(GROUP, told, ledger).land(given)
    assert isinstance(outcomes[1], LocalEdit)
    assert isinstance(outcomes[3], DigestMismatch)
    assert isinstance(outcomes[4], Superseded)
    assert sum(isinstance(outcome, Landed) for outcome in outcomes) == COUNT - 3
    assert (root / "d/2").read_bytes() == b"nobody announced this"
    assert temps(root) == []


def test_where_the_filesystem_cannot_be_synced_each_file_is(told: Told, ledger: Ledger) -> None:
    entries = files()
    ledger.record(GROUP, entries)

    def fault(syncs: int) -> None:
        raise OSError(errno.EIO, "bad")

    told.fault = fault
    outcomes = Lander(GROUP, told, ledger).land(jobs(entries))
    assert all(isinstance(outcome, Landed) for outcome in outcomes)
    assert told.steps[-COUNT:] == ["land durably"] * COUNT


def test_renames_that_could_not_be_synced_are_not_reported_as_landed(told: Told, root: Path, ledger: Ledger) -> None:
    entries = files()
    ledger.record(GROUP, entries)

    def fault(syncs: int) -> None:
        if syncs == 2:
            raise OSError(errno.EIO, "bad")

    told.fault = fault
    lander = Lander(GROUP, told, ledger)
    outcomes = lander.land(jobs(entries))
    assert not any(isinstance(outcome, Landed) for outcome in outcomes)
    assert all("EIO" in str(outcome) for outcome in outcomes)
    assert all(isinstance(outcome, LocalEdit) for outcome in lander.land(jobs(entries))), "first somebody looks"
    assert _look_and_land(told, ledger) == 1, "only the folder, whose entry never came"
    assert temps(root) == []


def _look_and_land(tree: Tree, ledger: Ledger) -> int:
    """What a start does: scan, journal what differs, land what waits. Returns how much was announced."""
    found = [tree.observe(path, ledger.local(GROUP, path)) for path in scan(tree, ledger, GROUP)]
    announced = ledger.journal(GROUP, [change for change in found if change is not None])
    waiting = list(ledger.unlanded(GROUP))
    outcomes = Lander(GROUP, tree, ledger).land(jobs(waiting))
    landed = [(e, o.fingerprint) for e, o in zip(waiting, outcomes, strict=True) if isinstance(o, Landed)]
    ledger.landed(GROUP, landed)
    assert not list(ledger.unlanded(GROUP))
    return len(announced)


CHILD = """
import os, signal, sys
from pathlib import Path
from anycastle.replicator.landing_batch import Lander
from tests.replicator.test_landing_batch import GROUP, STEPS, Ledger, Told, files, jobs

folder, step = Path(sys.argv[1]), sys.argv[2]

class Dying(Told):
    def reached(self, now):
        if now == step:
            os.kill(os.getpid(), signal.SIGKILL)
    def sync(self):
        self.reached(STEPS[3] if "sync" in self.steps else STEPS[0])
        super().sync()
        self.reached(STEPS[4] if self.steps.count("sync") == 2 else STEPS[1])
    def land(self, *args, **named):
        if self.steps.count("land") == len(files()) // 2:
            self.reached(STEPS[2])
        return super().land(*args, **named)

ledger = Ledger.open(folder / "ledger", member="ams", groups=(GROUP,))
ledger.record(GROUP, files())
Lander(GROUP, Dying(folder / "root"), ledger).land(jobs(files()))
"""


@pytest.mark.parametrize("step", STEPS)
def test_a_crash_at_any_step_is_repaired_by_the_next_start(tmp_path: Path, step: str) -> None:
    """The process dies; nothing was reported, nothing is announced, and all of it is in place afterwards."""
    root = tmp_path / "root"
    root.mkdir()
    died = subprocess.run([sys.executable, "-c", CHILD, str(tmp_path), step], timeout=30, check=False)
    assert died.returncode == -signal.SIGKILL
    ledger = Ledger.open(tmp_path / "ledger", member="ams", groups=(GROUP,))
    tree = Tree(root)
    try:
        assert temps(root) == []
        assert len(list(ledger.unlanded(GROUP))) == COUNT
        in_place = set(os.listdir(root / "d")) if (root / "d").exists() else set()
        assert len(in_place) == {STEPS[2]: COUNT // 2, STEPS[3]: COUNT, STEPS[4]: COUNT}.get(step, 0)
        assert all((root / "d" / name).read_bytes() == name.encode() for name in in_place), "never half"
        assert _look_and_land(tree, ledger) == (1 if in_place else 0), "only the folder, whose entry never came"
        assert {path.name: path.read_bytes() for path in (root / "d").iterdir()} == {
            str(entry.seq): b"%d" % entry.seq for entry in files()
        }
    finally:
        tree.close()
        ledger.close()
