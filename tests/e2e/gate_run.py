"""One run: users, faults, and then what the history says.

What is checked where, of the history of all requests:

    every read, through nginx and through the built-in edge      nothing stale or missing after success
    every write, and reads through the built-in edge             one atomic order (monotonic reads across users)
    every photo                                                  whole
    every page                                                   whole, but while an edit of it is under way
    5xx and no answer                                            counted; no kind of request is without for longer
                                                                 than GAP_SECONDS_MAX while a majority is up (it is)
    in the end                                                   every site serves every path; trees are equal; every
                                                                 edit that succeeded is in its page or was kept

Beside nginx the gate is asked once, before the file is opened or the program runs (docs/limits.md): what is not fenced
yet may show there, so its reads have no part in the atomic order. The wiki reads without its own lock, so it may read
half a page while it writes one, as it would on a single machine; at any other time that is wrong.
"""

import asyncio
import re
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tests.anycastle.members import until
from tests.e2e.gate_faults import Fault, carry_out, plan
from tests.e2e.gate_history import Seen, Wrong, atomic, by_path, longest_gap, stale, window
from tests.e2e.gate_sites import ADDRESSES, CUSTOMERS, MEMBERS, USERS, GateSites, gate_sites
from tests.e2e.gate_users import PORTS, History, Plan, Users, read_history, session
from tests.lag import entered

PHOTOS, PAGES = 3, 5
GAP_SECONDS_MAX = 15.0
"""A link is silent for three seconds until it ends, a fence then waits for a term of three, a read for two; and the
machine that has all sites on its two cores may be busy.
"""
REST_SECONDS = 40.0
UNSURE_SECONDS = 5.0
"""A request that was given up may be carried out for so long: a member that was stopped goes on with it."""
REASONS_MAX = 8
WRONG_LINES_MAX = 3
"""So many wrong paths are told in full."""


@dataclass(frozen=True, slots=True)
class Load:
    """How long, and how much."""

    seed: int
    seconds: float
    users: int = 200
    think_seconds: float = 2.0
    gated: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """What there is to say."""

    load: Load
    zero: float
    history: list[Seen]
    faults: list[Fault]
    wrong: list[Wrong]
    after: list[str]
    """What did not hold in the end."""

    def gaps(self) -> dict[str, tuple[float, float]]:
        """Kind of request -> (longest time without a served one, since when)."""
        end = self.zero + self.load.seconds
        kinds = sorted({seen.kind for seen in self.history})
        found = {kind: longest_gap((s for s in self.history if s.kind == kind), self.zero, end) for kind in kinds}
        return {kind: (seconds, since - self.zero) for kind, (seconds, since) in found.items()}

    def summary(self) -> str:
        lines = []
        for (kind, door), seen in _sorted_by(self.history):
            answers = Counter("served" if each.served else str(each.status or "no answer") for each in seen)
            told = ", ".join(f"{count} {what}" for what, count in answers.most_common())
            lines.append(f"{kind:6} through {door:5}: {told}; {_slowest(seen)}")
        for kind, (seconds, since) in self.gaps().items():
            begin = self.zero + since
            meanwhile = [s for s in self.history if s.kind == kind and begin < s.ended < begin + seconds]
            lines.append(
                f"{kind:6}: at most {seconds:.1f} s without a served one (from {since:.1f}): {_said(meanwhile)}"
            )
        return "\n".join([*lines, f"not served: {_said(self.history)}"])

    def story(self) -> str:
        """What was done when, and the history of what is wrong."""
        lines = [f"seed {self.load.seed}, {self.load.seconds:g} s; seconds from the beginning"]
        lines += [fault.line() for fault in self.faults]
        lines += [self.summary(), *self.after]
        paths = by_path(self.history)
        lines.append(f"{len(self.wrong)} wrong: {dict(Counter(wrong.path for wrong in self.wrong))}")
        for wrong in self.wrong[:WRONG_LINES_MAX]:
            lines.append(f"{wrong.path} at {wrong.by.began - self.zero:.3f}: {wrong.why}")
            lines += window(paths[wrong.path], wrong, self.zero)
        return "\n".join(lines)


def run(load: Load) -> Outcome:
    """Raises AssertionError when something cannot be had."""
    with gate_sites(gated=load.gated) as sites:
        faults = plan(load.seed, load.seconds)
        written = sites.folder / "history"
        users = Plan(
            seed=load.seed,
            seconds=load.seconds,
            users=load.users,
            think_seconds=load.think_seconds,
            sites={name: ADDRESSES[name] for name in MEMBERS},
            customers=CUSTOMERS,
            photos=PHOTOS,
            pages=PAGES,
            history=str(written),
        )
        process, zero = sites.users(msgspec.json.encode(users).decode()), time.monotonic()
        try:
            carry_out(faults, sites, zero)
            status = process.wait(load.seconds + 60)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        assert status == 0, sites.log("users")[-3000:]
        after = _come_to_rest(sites, users)
        history = read_history(written)
        after += _lost_edits(sites, history)
    return Outcome(load, zero, history, faults, judge(history), after)


def judge(history: list[Seen]) -> list[Wrong]:
    """See above."""
    wrong = []
    for path in by_path(history).values():
        edits = [seen for seen in path if seen.kind == "edit"]
        whole = [seen for seen in path if not (_half(seen) and _beside(seen, edits))]
        wrong += stale(whole)
        wrong += atomic([seen for seen in whole if seen.wrote or (seen.door == "edge" and not _half(seen))])
    return sorted(wrong, key=lambda each: each.by.began)


def _half(seen: Seen) -> bool:
    return seen.kind == "page" and (seen.token or "").startswith("half ")


def _beside(read: Seen, edits: list[Seen]) -> bool:
    """An edit was under way at that time, or may have been: nobody was told of its end."""
    return any(e.began < read.ended and read.began < e.ended + (0 if e.served else UNSURE_SECONDS) for e in edits)


# -- in the end -----------------------------------------------------------------------------------------------------


def _come_to_rest(sites: GateSites, plan: Plan) -> list[str]:
    """All is healed: everybody is well, trees are equal, users get all paths everywhere. What of it does not hold."""
    try:
        sites.wait_until_well()
        until(lambda: not _tree_difference(sites), "trees are equal", REST_SECONDS)
    except AssertionError as error:
        return [f"in the end: {error}", *(f"trees differ: {path}" for path in _tree_difference(sites))]
    with Path(f"/run/netns/{sites.wire.prefix}-{USERS}").open("rb") as place, entered(place.fileno()):
        return asyncio.run(_read_all(plan))


async def _read_all(plan: Plan) -> list[str]:
    paths = {f"customer{c}/{p}.jpg": "file" for c in range(plan.customers) for p in range(plan.photos)}
    paths |= {f"wiki/page{number}": "page" for number in range(plan.pages)}
    history = History(Path(plan.history))
    try:
        async with session() as http:
            users = Users(plan, http, history)
            asked = (users.ask(kind, path, s, d) for path, kind in paths.items() for s in MEMBERS for d in PORTS)
            seen = await asyncio.gather(*asked)
    finally:
        history.close()
    return [f"in the end {each.line(each.began)} of {each.path}" for each in seen if not each.served]


def _tree_difference(sites: GateSites) -> list[str]:
    trees = [_tree(sites, name) for name in MEMBERS]
    return sorted({path for tree in trees for path in tree if any(other.get(path) != tree[path] for other in trees)})


def _tree(sites: GateSites, site: str) -> dict[str, bytes]:
    found = {}
    for group in ("photos", "wiki"):
        root = sites.root(site, group)
        for path in root.rglob("*"):
            relative = path.relative_to(root)
            if relative.parts[0] != ".anycastle" and path.is_file():
                found[f"{group}:{relative}"] = path.read_bytes()
    return found


def _lost_edits(sites: GateSites, history: list[Seen]) -> list[str]:
    """Edits that succeeded and are neither in their page nor in what was kept of a conflict."""
    kept: set[bytes] = set()
    for site in MEMBERS:
        root = sites.root(site, "wiki")
        for folder in (root / "pages", root / ".anycastle/conflicts"):
            for path in folder.rglob("*"):
                if path.is_file():
                    kept.update(path.read_bytes().split(b"\n"))
    edits = [seen for seen in history if seen.kind == "edit" and seen.served and seen.token]
    lost = [seen for seen in edits if (seen.token or "").encode() not in kept]
    return [f"lost: {seen.path}, edited {seen.token} at {seen.site}" for seen in lost]


def _sorted_by(history: list[Seen]) -> list[tuple[tuple[str, str], list[Seen]]]:
    found: dict[tuple[str, str], list[Seen]] = {}
    for seen in history:
        found.setdefault((seen.kind, seen.door), []).append(seen)
    return sorted(found.items())


def _said(seen: list[Seen]) -> str:
    """What those were told that got nothing, most common first, with the numbers left out."""
    told = Counter(f"{s.status or ''} {re.sub(r'[0-9]+', 'N', s.verdict)}".strip() for s in seen if not s.served)
    return "; ".join(f"{count} × {what[:110]}" for what, count in told.most_common(REASONS_MAX)) or "nobody was refused"


def _slowest(seen: list[Seen]) -> str:
    times = sorted(1e3 * (each.ended - each.began) for each in seen if each.served)
    return f"p50 {times[len(times) // 2]:.0f} ms, p99 {times[int(len(times) * 0.99)]:.0f} ms" if times else "never"
