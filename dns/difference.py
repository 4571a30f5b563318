"""What changed between two versions of a zone, kept for secondaries that ask for no more (IXFR, RFC 1995).

Law: a difference turns exactly what a transfer of the former version held into what one of the new version holds. So
there is none, and the whole zone goes out, where that cannot be known: after a change of steered names, whose default
answers in a secondary depend on when it asked, and after a change under the same serial. History is bounded: a
secondary that is further behind takes the zone.
"""

from collections.abc import Iterator
from dataclasses import replace

import msgspec

from anycastle.dns.node_table import RawSet
from anycastle.dns.rrset import AAAA, SOA, A, RRset, canonical
from anycastle.dns.serial import is_newer
from anycastle.dns.tables import Tables
from anycastle.dns.zone import Zone, serial_of, show_name, soa_of

VERSIONS_MAX = 64
"""A secondary that was told of none of so many changes has been away for long."""
HISTORY_BYTES_MAX = 16 << 20
"""Of one zone, in each process; a zone that is smaller bounds it too."""
_RECORD_BYTES = 12
"""What a record has besides owner and rdata, about."""


class Difference(msgspec.Struct, frozen=True):
    """From one version to the next."""

    before: RRset
    """The SOA record of the former version."""
    after: RRset
    removed: tuple[RawSet, ...]
    added: tuple[RawSet, ...]
    """Without SOA records."""
    size_bytes: int
    """About what a transfer of it takes, before compression."""

    def rrsets(self) -> Iterator[RRset]:
        """RFC 1995 section 4: the former SOA heads what goes, the new one what comes."""
        yield self.before
        yield from (found.rrset() for found in self.removed)
        yield self.after
        yield from (found.rrset() for found in self.added)


def follow(before: Tables, after: Tables) -> Tables:
    """`after` with what is to be known of what it replaces. Takes seconds for a million names: for a thread."""
    histories = {}
    unraised = {}
    for origin, zone in after.zones.items():
        old = before.zones.get(origin)
        if old is None:
            continue
        if is_newer(serial_of(zone), serial_of(old)):
            if origin in after.transfers and _same_steering(before, after):
                histories[origin] = _history(before.histories.get(origin, ()), old, zone)
        elif next(_changes(old, zone), None) is not None or serial_of(zone) != serial_of(old):
            said = f"changed, but its serial did not rise ({serial_of(old)}, now {serial_of(zone)})"
            unraised[origin] = f"zone {show_name(origin)} {said}: secondaries keep what they have"
        else:
            histories[origin] = before.histories.get(origin, ()) if _same_steering(before, after) else ()
            if origin in before.unraised:
                unraised[origin] = before.unraised[origin]
    return replace(after, histories=histories, unraised=unraised)


def chain_from(history: tuple[Difference, ...], serial: int) -> tuple[Difference, ...]:
    """All differences since a version, oldest first; empty when that version is not known."""
    for number, each in enumerate(history):
        if _serial(each.before) == serial:
            return history[number:]
    return ()


def _history(history: tuple[Difference, ...], old: Zone, new: Zone) -> tuple[Difference, ...]:
    limit = min(HISTORY_BYTES_MAX, new.nodes.size_bytes())
    last = _difference(old, new, limit)
    if last is None:
        return ()
    kept = [last]
    for each in reversed(history[-VERSIONS_MAX + 1 :]):
        if sum(other.size_bytes for other in kept) + each.size_bytes > limit:
            break
        kept.append(each)
    return tuple(reversed(kept))


def _difference(old: Zone, new: Zone, limit_bytes: int) -> Difference | None:
    """None when it is larger than what it would save."""
    removed: list[RawSet] = []
    added: list[RawSet] = []
    size = 0
    for gone, come in _changes(old, new):
        removed += gone
        added += come
        size += sum(map(_size_bytes, (*gone, *come)))
        if size > limit_bytes:
            return None
    return Difference(soa_of(old), soa_of(new), tuple(removed), tuple(added), size)


def _changes(old: Zone, new: Zone) -> Iterator[tuple[list[RawSet], list[RawSet]]]:
    """(what goes, what comes) for each name that differs, but for SOA records and what steering answers."""
    for name, packed in new.nodes.packed_items():
        if packed != old.nodes.packed_sets(name):
            found = _name_change(_sets(old, name), _sets(new, name))
            if any(found):
                yield found
    for name, _ in old.nodes.packed_items():
        if name not in new.nodes and (gone := list(_sets(old, name).values())):
            yield gone, []


def _sets(zone: Zone, name: bytes) -> dict[int, RawSet]:
    node = zone.nodes.get(name)
    hidden = {SOA} if node is None or not node.steered else {SOA, A, AAAA}
    return {found.rrtype: found for found in zone.nodes.raw_sets(name) if found.rrtype not in hidden}


def _name_change(old: dict[int, RawSet], new: dict[int, RawSet]) -> tuple[list[RawSet], list[RawSet]]:
    gone: list[RawSet] = []
    come: list[RawSet] = []
    for rrtype in old.keys() | new.keys():
        before, after = old.get(rrtype), new.get(rrtype)
        gone += _without(before, after)
        come += _without(after, before)
    return gone, come


def _without(found: RawSet | None, other: RawSet | None) -> list[RawSet]:
    """Records that the other set lacks; with another TTL it lacks all."""
    if found is None:
        return []
    if other is None or found.ttl != other.ttl:
        return [found]
    there = {canonical(other.rrtype, rdata) for rdata in other.rdatas}
    rdatas = tuple(rdata for rdata in found.rdatas if canonical(found.rrtype, rdata) not in there)
    return [RawSet(found.owner, found.rrtype, found.ttl, rdatas)] if rdatas else []


def _size_bytes(found: RawSet) -> int:
    return sum(len(found.owner) + _RECORD_BYTES + len(rdata) for rdata in found.rdatas)


def _same_steering(before: Tables, after: Tables) -> bool:
    old, new = before.steering, after.steering
    return (old.exact, old.wildcards, old.sites) == (new.exact, new.wildcards, new.sites)


def _serial(soa: RRset) -> int:
    return int.from_bytes(soa.rdatas[0][4][:4], "big")
