"""Writes down what the members of a test did, so that a failure tells its story: one path's, and of the folders above.

Law: it changes nothing but the time a step takes; what it wraps is public.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from anycastle.replicator.entry import Entry
from anycastle.replicator.look import Seen
from anycastle.replicator.observation import Change, Fingerprint
from tests.replicator.cluster import Site

Line = tuple[float, str, tuple[bytes, ...]]
"""When, what, and to which paths."""


class Witness:
    """Of everything at some sites, from now on."""

    def __init__(self, sites: Sequence[Site]) -> None:
        self._lines: list[Line] = []
        for site in sites:
            self._watch_looks(site)
            self._watch_ledger(site)

    def story(self, path: bytes, others: Sequence[tuple[float, str]] = ()) -> str:
        """Everything that was done to a path, the folders it is in and what is in it, with `others` in between."""
        shown = repr(path)[2:-1]
        lines = [(when, what) for when, what, paths in self._lines if any(_near(path, each) for each in paths)]
        lines += [line for line in others if any(part in line[1] for part in _shown_line(shown))]
        return "\n".join(f"{when:.4f} {what}" for when, what in sorted(lines))

    def _note(self, site: Site, what: str, paths: Sequence[bytes]) -> None:
        self._lines.append((time.monotonic(), f"{site.name}: {what}", tuple(paths)))

    def _watch_looks(self, site: Site) -> None:
        settle, note = site.content.settle, self._note
        look, through, insist, walk = settle.look, settle.look_through, settle.insist, settle.survey.walk
        observe = settle.looks.observe

        def noting(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(paths: Any) -> Any:
                told = [paths] if isinstance(paths, bytes) else list(paths)
                for each in told:
                    note(site, f"{name} {each!r}", (each,))
                return method(paths if isinstance(paths, bytes) else told)

            return wrapped

        def observing(paths: Any) -> Seen:
            began, asked = time.monotonic(), list(paths)
            seen = observe(asked)
            took = f"took {time.monotonic() - began:.4f} s"
            changed = {change.path: _told(change) for change in seen.changes}
            for each in {*asked, *changed}:
                more = f", more: {seen.more[each][:5]}" if each in seen.more else ""
                again = ", again" if each in seen.again else ""
                note(site, f"looked at {each!r}: {changed.get(each, 'the same')}{more}{again}, {took}", (each,))
            return seen

        settle.look = noting("to look at", look)  # type: ignore[method-assign]
        settle.look_through = noting("to look through", through)  # type: ignore[method-assign]
        settle.insist = noting("insists on", insist)  # type: ignore[method-assign]
        settle.survey.walk = noting("scans", walk)  # type: ignore[method-assign]
        settle.looks.observe = observing  # type: ignore[method-assign]

    def _watch_ledger(self, site: Site) -> None:
        ledger, note = site.ledger, self._note
        journal, landed, record = ledger.journal, ledger.landed, ledger.record
        keep = site.content.tree.keep_conflict

        def journaling(group: str, changes: Sequence[Change], *more: Any) -> tuple[Entry, ...]:
            entries = journal(group, changes, *more)
            announced = {entry.path: entry for entry in entries}
            for change in changes:
                entry = announced.get(change.path)
                what = f"as {entry.version} over {entry.parent}" if entry is not None else "as nothing new"
                note(site, f"journaled {_told(change)} {change.path!r} {what}", (change.path,))
            return entries

        def noting_landed(group: str, items: Sequence[tuple[Entry, Fingerprint | None]]) -> None:
            landed(group, items)
            for entry, fingerprint in items:
                note(site, f"landed {entry.version} {entry.kind.name} {entry.path!r} {fingerprint}", (entry.path,))

        def recording(group: str, entries: Sequence[Entry], **named: Any) -> tuple[Entry, ...]:
            waiting = record(group, entries, **named)
            for entry in entries:
                told = f"recorded {entry.version} {entry.kind.name} {entry.path!r} over {entry.parent}"
                note(site, f"{told}{', to land' if entry in waiting else ''}", (entry.path,))
            return waiting

        def keeping(path: bytes, *more: Any) -> bytes:
            kept = b"nothing: it raised"
            try:
                kept = keep(path, *more)
            finally:
                note(site, f"kept {path!r} {more} as {kept!r}", (path,))
            return kept

        ledger.journal = journaling  # type: ignore[method-assign]
        ledger.landed = noting_landed  # type: ignore[method-assign]
        ledger.record = recording  # type: ignore[method-assign]
        site.content.tree.keep_conflict = keeping  # type: ignore[method-assign]


def _told(change: Change) -> str:
    found = change.fingerprint
    return change.kind.name + (f" {change.size} ino {found.ino} ctime {found.ctime_ns}" if found is not None else "")


def _near(path: bytes, other: bytes) -> bool:
    """The same, above it, or in it."""
    return path == other or path.startswith(other + b"/") or other.startswith(path + b"/")


def _shown_line(shown: str) -> Iterator[str]:
    while shown:
        yield f"/{shown}'"
        shown = shown.rpartition("/")[0]
