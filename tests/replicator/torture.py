"""Storms over the trees of real members, and what must hold when they are over."""

import asyncio
import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from blake3 import blake3

from anycastle.replicator.compaction import Compaction
from anycastle.replicator.entry import Entry, Kind, Version
from anycastle.replicator.observation import Change
from tests.replicator.cluster import GROUP, Site, cluster, picture, temps
from tests.replicator.storm import Storm
from tests.replicator.witness import Witness

REST_SECONDS_MAX = 60.0
TEMPS_SECONDS = 10.0
"""From the last change to equal trees; a machine that has other work too is slow."""
THREE = ("ams", "nyc", "sgp")


@dataclass
class Outcome:
    """What one round came to."""

    seed: int
    entries: int = 0
    files: int = 0
    concurrent: int = 0
    """Edits that lost against another that did not know of them."""
    rest_seconds: float = 0.0


class Wrong(AssertionError):
    """Something that must hold does not, at a path."""

    def __init__(self, path: bytes, what: str) -> None:
        super().__init__(what)
        self.path = path


@patch.object(Compaction, "ask", lambda self, command: None)
async def torture(folder: Path, seed: int, *, steps: int, at: int, gusts: int = 3) -> Outcome:
    """`steps` at each of the first `at` of three sites, in `gusts`; raises AssertionError, with what is wrong.

    Nothing is compacted meanwhile: what was superseded is looked for when it is over.
    """
    outcome = Outcome(seed)
    chance = random.Random(seed)
    async with cluster(folder, THREE) as sites:
        gone = [Replaced(site) for site in sites]
        witness = Witness(sites)
        storms = [Storm(site.root, site.name, random.Random(chance.random())) for site in sites[:at]]
        try:
            for gust in range(gusts):
                await asyncio.gather(*(asyncio.to_thread(storm.blow, steps // gusts) for storm in storms))
                if gust == 0:
                    await at_rest(sites, outcome)
            await at_rest(sites, outcome)
            await no_bytes_lost(sites, outcome, {each for site in gone for each in site.versions})
            await no_temps_left(sites)
        except Wrong as wrong:
            steps_done = [line for storm in storms for line in storm.done]
            raise AssertionError(f"seed {seed}: {wrong}\n{witness.story(wrong.path, steps_done)}") from wrong
    return outcome


async def no_temps_left(sites: Sequence[Site]) -> None:
    """What was staged for an entry that has been superseded since goes a moment after all is at rest."""
    deadline = time.monotonic() + TEMPS_SECONDS
    while left := [f"{site.name}: {_told(site, name)}" for site in sites for name in temps(site.root)]:
        assert time.monotonic() < deadline, f"temps are left over: {left}"
        await asyncio.sleep(0.05)


def _told(site: Site, temp: str) -> str:
    try:
        return f"{temp} {os.lstat(site.root / '.anycastle/tmp' / temp)}"
    except FileNotFoundError:
        return f"{temp}, gone"


async def at_rest(sites: tuple[Site, ...], outcome: Outcome) -> None:
    """Every tree is byte-equal, with all that is replicated, and every ledger says so."""
    began = time.monotonic()
    while (wrong := await asyncio.to_thread(_unlike, sites)) and time.monotonic() - began < REST_SECONDS_MAX:  # noqa: ASYNC110 - polled with a deadline
        await asyncio.sleep(0.05)
    outcome.rest_seconds = time.monotonic() - began
    if wrong is not None:
        raise Wrong(wrong.path, f"after {REST_SECONDS_MAX:.0f} s: {wrong}")


def _unlike(sites: tuple[Site, ...]) -> Wrong | None:
    """How the sites still differ; None when they do not."""
    for site in sites:
        if site.ledger.detailed() != sites[0].ledger.detailed():
            return Wrong(b"", f"{site.name} and {sites[0].name} know different journals")
        if waiting := next(site.ledger.unlanded(GROUP), None):
            cause = site.content.landing.failed.get(waiting.path, "it never failed")
            return Wrong(waiting.path, f"{site.name} has not landed {waiting}: {cause}")
        if site.content.settle.unsettled(b"") or site.content.settle.still_written:
            return Wrong(b"", f"{site.name} has not looked at everything")
    first = picture(sites[0].root)
    for site in sites[1:]:
        other = picture(site.root)
        if other != first:
            return _difference(sites[0].name, first, site.name, other)
    return _against_ledger(sites[0], first)


def _difference(name: str, one: dict[str, Any], other_name: str, other: dict[str, Any]) -> Wrong:
    path = min(path for path in one.keys() | other.keys() if one.get(path) != other.get(path))
    has, other_has = str(one.get(path))[:300], str(other.get(path))[:300]
    return Wrong(os.fsencode(path), f"{path!r}: {name} has {has}, {other_name} has {other_has}")


def _against_ledger(site: Site, tree: dict[str, Any]) -> Wrong | None:
    known = {os.fsdecode(path) for path, _ in site.ledger.locals_below(GROUP, b"")}
    differing = sorted(known ^ tree.keys())
    if not differing:
        return None
    return Wrong(os.fsencode(differing[0]), f"{site.name}: tree and ledger differ in {differing[:3]}")


class Replaced:
    """Notes what the application at a site replaced itself, also where that was nothing to announce: it happened to
    do what somebody else had just announced.
    """

    def __init__(self, site: Site) -> None:
        self.versions: set[tuple[bytes, Version]] = set()
        ledger, journal = site.ledger, site.ledger.journal

        def noting(group: str, changes: Sequence[Change], *more: frozenset[bytes]) -> tuple[Entry, ...]:
            for change in changes:
                if (local := ledger.local(group, change.path)) is not None:
                    self.versions.add((change.path, local.version))
            return journal(group, changes, *more)

        ledger.journal = noting  # type: ignore[method-assign]


async def no_bytes_lost(sites: tuple[Site, ...], outcome: Outcome, gone: set[tuple[bytes, Version]]) -> None:
    """Whatever was announced and did not win, and that nobody replaced knowingly, is kept somewhere."""
    entries = [entry for site in sites for entry in sites[0].ledger.entries(GROUP, site.name, 0, 1_000_000)]
    kept = {digest for site in sites for digest in _kept(site.root)}
    newest: dict[bytes, Entry] = {}
    for entry in entries:
        if entry.path not in newest or newest[entry.path].version < entry.version:
            newest[entry.path] = entry
    replaced = gone | {(entry.path, entry.parent) for entry in entries}
    lost: list[Entry] = []
    for entry in entries:
        winner = newest[entry.path]
        if entry is winner or (entry.path, entry.version) in replaced or entry.kind in (Kind.ABSENT, Kind.FOLDER):
            continue
        outcome.concurrent += 1
        if _content(entry) not in kept | {_content(winner)} and not _came_again(entry, entries):
            lost.append(entry)
    outcome.entries, outcome.files = len(entries), sum(entry.kind is Kind.FILE for entry in newest.values())
    if lost:
        raise Wrong(
            lost[0].path, f"{len(lost)} edits are nowhere: {'; '.join(_story(each, entries) for each in lost[:3])}"
        )


def _came_again(entry: Entry, entries: list[Entry]) -> bool:
    """A greater version has the very same bytes, and replaced these without a conflict; it is looked for itself."""
    return any(
        (other.path, other.kind, _content(other)) == (entry.path, entry.kind, _content(entry))
        for other in entries
        if other.version > entry.version
    )


def _story(lost: Entry, entries: list[Entry]) -> str:
    """Every entry of a path, the oldest first."""
    lines = [
        f"{entry.version} {entry.kind.name} {entry.size} replaced {entry.parent} seq {entry.seq}"
        for entry in sorted(entries, key=lambda entry: entry.version)
        if entry.path == lost.path
    ]
    return "\n  ".join([f"{lost.version} of {lost.path!r}:", *lines])


def _content(entry: Entry) -> bytes:
    return entry.digest if entry.kind is Kind.FILE else b"-> " + entry.target


def _kept(root: Path) -> list[bytes]:
    found = []
    for folder, folders, files in os.walk(os.fsencode(root / ".anycastle/conflicts")):
        for name in (*files, *folders):
            path = os.path.join(folder, name)
            if os.path.islink(path):
                found.append(b"-> " + os.readlink(path))
            elif os.path.isfile(path):
                with open(path, "rb") as file:
                    found.append(blake3(file.read()).digest())
    return found
