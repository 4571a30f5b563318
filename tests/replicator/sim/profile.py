"""How bad a world is: drawn from a seed, or said outright by a scenario."""

import random
from dataclasses import dataclass, field, replace

from anycastle.replicator.feed import FeedLimits
from anycastle.replicator.settings import Lease

PATHS = (b"a/1", b"a/2", b"b/1")
NAMES = ("ams", "nyc", "sgp", "gru", "jnb", "syd", "nrt", "scl")
"""Up to seven members, and one that takes the place of another."""

Rosters = tuple[frozenset[str], ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a roster change: everybody in it gets these rosters, one restart at a time."""

    rosters: dict[str, Rosters]
    after_current: tuple[str, ...] = ()
    """All of these must be current before any member takes the step (those that took it already are not asked)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The limits of everything that goes wrong."""

    names: tuple[str, ...]
    start: dict[str, Rosters]
    witness: str = ""
    writes: tuple[str, ...] = ()
    seconds: float = 30.0
    lease: Lease = field(default_factory=Lease)
    feed: FeedLimits = field(default_factory=FeedLimits)
    tick_seconds: float = 0.15
    loss: float = 0.0
    delay_seconds: float = 0.02
    disk_seconds: float = 0.005
    landing_seconds: float = 0.1
    notice_seconds: float = 0.02
    scan_seconds: float = 0.1
    random_users: bool = True
    reads_per_second: float = 20.0
    writes_per_second: float = 2.0
    bulk: int = 0
    """Files of an import, now and then; none for 0."""
    chaos_seconds: float = 0.0
    """Mean time between faults; none for 0."""
    lost_share: float = 0.0
    """Of the crashes, those that lose the ledger."""
    retention_seconds: float = 3600.0
    """Compaction waits for an absent member so long; then it needs a resync."""
    begun: bool = False
    """The members have met before: their ledgers are not new."""
    populated: tuple[str, ...] = ()
    """Members whose trees hold files before they ever met."""
    roster_steps: tuple[Step, ...] = ()
    copies: int = 1
    """Sites that must have landed a write before its success is told."""
    destroyed_at: float = 0.0
    """When one site is destroyed for ever; 0 for never."""
    afterwards: str = "away"
    """What becomes of it: it just stays `away`, is `taken out` of the roster, or `replaced` by an empty machine."""


def calm(members: int, **changes: object) -> Profile:
    """Nothing goes wrong by itself."""
    names = NAMES[:members]
    alone = (frozenset(names),)
    return Profile(names=names, start=dict.fromkeys(names, alone), **changes)  # type: ignore[arg-type]


def draw(seed: int, members: int, *, roster_change: bool = False, joint: bool = True) -> Profile:
    """A world for a seed."""
    rng = random.Random(f"profile {seed} {members} {roster_change} {joint}")
    names, start, steps = NAMES[:members], dict.fromkeys(NAMES[:members], (frozenset(NAMES[:members]),)), ()
    if roster_change:
        names, start, steps = draw_roster_change(rng, members, joint=joint)
    lease = Lease(drift=rng.choice((0.02, 0.2)), renewal_seconds=rng.choice((0.6, 1.0)))
    feed = FeedLimits(
        batch_entries_max=rng.choice((2, 256)),
        inflight_entries_max=4,
        backlog_entries_max=rng.choice((4, 1000)),
        retry_seconds_max=4.0,
        segments_max=4,
    )
    return Profile(
        names=names,
        start=start,
        witness=names[1] if members > 2 and rng.random() < 0.25 else "",
        lease=lease,
        feed=feed,
        loss=rng.choice((0.0, 0.05, 0.3)),
        delay_seconds=rng.choice((0.02, 0.3, 2.0)),
        disk_seconds=rng.choice((0.005, 0.05, 0.3)),
        landing_seconds=rng.choice((0.05, 1.0, 4.0)),
        notice_seconds=rng.choice((0.01, 0.2)),
        bulk=rng.choice((0, 0, 8)),
        chaos_seconds=rng.choice((1.5, 4.0, 10.0)),
        lost_share=rng.choice((0.0, 0.8)),
        retention_seconds=rng.choice((3600.0, 3600.0, 8.0)),
        populated=tuple(name for name in names if rng.random() < 0.3),
        roster_steps=steps,
    )


def draw_destruction(seed: int, members: int) -> Profile:
    """A world for a seed in which success waits for two copies, and one site is destroyed."""
    rng = random.Random(f"destruction {seed} {members}")
    afterwards = rng.choice(("away", "taken out", "replaced"))
    profile = draw(seed, members)
    return replace(
        profile,
        copies=2,
        destroyed_at=rng.uniform(4.0, 25.0),
        afterwards=afterwards,
        # Who lost its ledger numbers nothing before it heard of all the others in the roster.
        lost_share=0.0 if afterwards == "away" else profile.lost_share,
    )


def draw_roster_change(
    rng: random.Random, members: int, *, joint: bool
) -> tuple[tuple[str, ...], dict[str, Rosters], tuple[Step, ...]]:
    """One member is added, removed or replaced; `joint` False skips the step in which both rosters are known."""
    kind = rng.choice(("add", "remove", "replace"))
    names = NAMES[: members + (kind == "replace")]
    old = frozenset(names if kind == "remove" else NAMES[: len(names) - 1])
    new = frozenset(names[:-1] if kind == "remove" else names if kind == "add" else names[1:])
    both = dict.fromkeys(names, (new, old))
    last = {name: (new,) for name in names if name in new}
    steps = (Step(both), Step(last, after_current=tuple(sorted(new)))) if joint else (Step(last),)
    return names, {name: (old,) for name in names if name in old}, steps
