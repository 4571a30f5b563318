"""What goes out of the journals: the own one to everybody, a foreign one to a member that nobody else brings on.

Laws: a member is sent what it lacks by the origin at once, and by others only when it came no further between two of
its lease requests; whoever finds that somebody else got ahead with the same journal stops.
"""

from collections.abc import Iterator, Mapping

from anycastle.replicator.coarse import Marks
from anycastle.replicator.event import Command, Send, SendEntries
from anycastle.replicator.feed import Feed, FeedLimits, Prefixes
from anycastle.replicator.message import Ack, LeaseRequest, Mark
from anycastle.replicator.progress_vector import Progress


class Outflow:
    """The feeds to all members."""

    def __init__(
        self,
        *,
        member: str,
        groups: tuple[str, ...],
        recorded: Progress,
        detailed: Progress,
        marks: Marks,
        limits: FeedLimits,
    ) -> None:
        self._member = member
        self._groups = groups
        self._recorded = recorded
        self._detailed = detailed
        self._marks = marks
        self._limits = limits
        self._prefixes = {group: Prefixes(detailed.get((group, member))) for group in groups}
        self._feeds: dict[tuple[str, str, str], Feed] = {}
        self._requests: dict[str, LeaseRequest] = {}
        self._touched: dict[tuple[str, str, str], None] = {}
        self._coarse: list[Send] = []

    def journaled(self, group: str, upto: int, prefix: bytes) -> None:
        """The own journal grew."""
        self._prefixes[group].add(upto, prefix, segments_max=self._limits.segments_max)
        for member in self._requests:
            self._touch((member, group, self._member))

    def given_back(self, group: str, upto: int) -> None:
        """The own journal, of a former life, was recorded again: nobody knows below which folders it changed."""
        self._prefixes[group].start = max(upto, self._prefixes[group].start)

    def reset(self, member: str) -> None:
        """Its link came or went: it will tell anew how far it is."""
        self._requests.pop(member, None)
        for key in [key for key in self._feeds if key[0] == member]:
            del self._feeds[key]
            self._touched.pop(key, None)

    def requested(self, member: str, request: LeaseRequest, *, now: float) -> None:
        """Every lease request says how far the member is."""
        before = self._requests.get(member)
        self._requests[member] = request
        for group in self._groups:
            if group not in request.recorded:
                continue
            for origin in dict.fromkeys((self._member, *self._recorded.group(group))):
                have, known = _reached(request, group, origin)
                have = min(have, self._detailed.get((group, origin)))
                stuck = before is not None and _reached(before, group, origin) == _reached(request, group, origin)
                self._heard((member, group, origin), have, known, stuck=stuck, now=now)

    def comparing(self, member: str, group: str) -> bool | None:
        """Whether the member compares what it holds of a group; None when that is not known."""
        request = self._requests.get(member)
        return None if request is None else group in request.comparing

    def detailed(self, member: str, group: str) -> Mapping[str, int]:
        """The entries that the member said it holds."""
        request = self._requests.get(member)
        return request.detailed.get(group, {}) if request is not None else {}

    def _heard(self, key: tuple[str, str, str], have: int, known: int, *, stuck: bool, now: float) -> None:
        journal = key[1:]
        feed = self._feeds.get(key)
        if feed is not None:
            feed.confirm(have, known, now=now, limits=self._limits)
        elif key[2] == self._member or (stuck and have < self._detailed.get(journal)):
            self._feeds[key] = Feed.start(have, known, now=now, limits=self._limits)
        if key[2] != self._member and stuck and known < self._recorded.get(journal):
            self._coarse += [Send(key[0], mark) for mark in self._marks.of(journal, beyond=known)]
        self._touch(key)

    def acknowledged(self, member: str, ack: Ack, *, now: float) -> None:
        """An ack confirms what was sent."""
        key = (member, ack.group, ack.origin)
        feed = self._feeds.get(key)
        if feed is None:
            return
        if ack.origin != self._member and ack.detailed > feed.sent:
            del self._feeds[key]
            return
        journal = key[1:]
        have, known = min(ack.detailed, self._detailed.get(journal)), min(ack.upto, self._recorded.get(journal))
        feed.confirm(have, known, now=now, limits=self._limits)
        self._touch(key)

    def tick(self, *, now: float) -> None:
        """See to what is stuck."""
        for key, feed in self._feeds.items():
            feed.rewind_if_stuck(now=now, limits=self._limits)
            if feed.have < self._detailed.get(key[1:]):
                self._touch(key)

    def _touch(self, key: tuple[str, str, str]) -> None:
        if key in self._feeds:
            self._touched[key] = None

    def commands(self, *, now: float) -> Iterator[Command]:
        """What to send now."""
        yield from self._coarse
        self._coarse.clear()
        touched, self._touched = self._touched, {}
        for key in touched:
            if key in self._feeds:
                yield from self._pump(*key, self._feeds[key], now=now)

    def _pump(self, member: str, group: str, origin: str, feed: Feed, *, now: float) -> Iterator[Command]:
        head = self._detailed.get((group, origin))
        if origin == self._member and feed.wants_mark(head, now=now, limits=self._limits):
            for after, upto, prefix in self._prefixes[group].between(max(feed.known, feed.marked), head):
                yield Send(member, Mark(group, origin, after, upto, prefix))
            feed.marked = head
        request = self._requests.get(member)
        bodies = request is None or group not in request.comparing
        for after, upto in feed.batches(head, now=now, limits=self._limits):
            yield SendEntries(member, group, origin, after, upto, bodies)


def _reached(request: LeaseRequest, group: str, origin: str) -> tuple[int, int]:
    have = request.detailed.get(group, {}).get(origin, 0)
    return have, max(have, request.recorded.get(group, {}).get(origin, 0))
