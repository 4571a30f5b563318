"""The gate: whether a site may answer for a path (design section 5, rule 5).

Laws: a verdict is made for one request, after it arrived, from what is true then; nothing older than what is fenced is
ever served, and nothing newer is shown before it is. What cannot be vouched for is forwarded, waited for, or refused.
"""

from collections.abc import Collection
from dataclasses import dataclass

from anycastle.replicator.entry import NO_VERSION, Entry, Version
from anycastle.replicator.settings import Isolated

RETRY_AFTER_SECONDS = 2
"""A lease is renewed, or a term is over, in about that."""


@dataclass(frozen=True, slots=True)
class Serve:
    """Answer from this site; what is not here does not exist."""

    digest: bytes | None
    """BLAKE3 of the content, when it is one file and known."""
    version: Version
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask again in a moment: something is on its way."""

    reason: str


@dataclass(frozen=True, slots=True)
class Forward:
    """Let another site answer, the first of these that can; it judges by its own gate."""

    sites: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """503 with Retry-After."""

    reason: str
    retry_after_seconds: int


Verdict = Serve | Wait | Forward | Refuse

# The truth table, first line that fits (– means: whatever it is).
#
#   current  coarse mark  disk as     newest     landed   others                       verdict
#   here     above        recorded    fenced     here
#   -------  -----------  ----------  ---------  -------  ---------------------------  -------------------------
#   no       –            –           –          –        one is current               Forward, landed ones first
#   no       –            –           –          –        none; policy `refuse`        Refuse
#   no       –            –           –          –        none; policy `serve`         Serve what is here
#   yes      yes          –           –          –        current, with the details    Forward, its origin first
#   yes      yes          –           –          –        none                         Wait
#   yes      no           no          –          –        –                            Wait
#   yes      no           yes         no         –        –                            Wait
#   yes      no           yes         yes        no       current, has landed it       Forward
#   yes      no           yes         yes        no       none                         Wait
#   yes      no           yes         yes        yes      –                            Serve
#
# `prefix_verdict` reads "settled" for "landed": everything known below the prefix. A path never heard of is fenced and
# landed by its nature: then a local 404 is a true 404.


def verdict(
    *,
    newest: Entry | None,
    fenced: bool,
    landed_here: bool,
    disk_as_recorded: bool,
    currency: str,
    current_sites: tuple[str, ...],
    landed_sites: Collection[str],
    isolated: Isolated,
    uncovered: tuple[str, int] | None,
    detailed_sites: Collection[str] = (),
) -> Verdict:
    """Judge one path.

    `currency` is why this site is not current, or empty; `current_sites` are the others that are, nearest first;
    `landed_sites` have landed `newest`; `uncovered` is the (origin, upto) of a coarse mark above the path, and
    `detailed_sites` have landed that much of its journal.
    """
    version = newest.version if newest else NO_VERSION
    digest = newest.digest if newest and newest.digest else None
    if currency:
        here = digest if landed_here and disk_as_recorded else None
        return _not_current(currency, current_sites, landed_sites, isolated, digest=here, version=version)
    if uncovered:
        return _below_mark(uncovered, current_sites, detailed_sites)
    if not disk_as_recorded:
        return Wait("what is on disk is not announced yet")
    if newest is None:
        return Serve(None, NO_VERSION, "never announced: absent everywhere")
    if not fenced:
        return Wait(f"version {version} is not fenced yet")
    if not landed_here:
        return _elsewhere(f"version {version} has not landed here", current_sites, landed_sites)
    return Serve(digest, version, f"version {version} is fenced and has landed here")


def prefix_verdict(
    *,
    fenced: bool,
    settled_here: bool,
    disk_as_recorded: bool,
    currency: str,
    current_sites: tuple[str, ...],
    settled_sites: Collection[str],
    isolated: Isolated,
    uncovered: tuple[str, int] | None,
    detailed_sites: Collection[str] = (),
) -> Verdict:
    """Judge a URL that maps to no file, by everything below its prefix.

    `fenced`: all entries known below it are; `settled_here`: all have landed here; `disk_as_recorded`: no change
    noticed on disk is waiting to be journaled; `settled_sites` have landed all; `uncovered` touches the prefix.
    """
    if currency:
        return _not_current(currency, current_sites, settled_sites, isolated, digest=None, version=NO_VERSION)
    if uncovered:
        return _below_mark(uncovered, current_sites, detailed_sites)
    if not disk_as_recorded:
        return Wait("a change on disk is not announced yet")
    if not fenced:
        return Wait("a change below the prefix is not fenced yet")
    if not settled_here:
        return _elsewhere("a change below the prefix has not landed here", current_sites, settled_sites)
    return Serve(None, NO_VERSION, "all that is known below the prefix has landed here")


def write_verdict(
    *,
    member: str,
    writes: tuple[str, ...],
    currency: str,
    current_sites: tuple[str, ...],
    uncovered: tuple[str, int] | None,
    detailed_sites: Collection[str] = (),
    unfit: Collection[str] = (),
) -> Forward | Refuse | None:
    """Rules 6 and 7: where a write must go instead; None when it may be done here.

    `writes` are the sites that take writes, in order, or empty for any. `unfit` are sites that users are kept away
    from: they are the last of the order, whatever it says. A write where details are missing (`uncovered`
    anywhere in the group) could get a version below one that is fenced already, and be lost; so it goes elsewhere too.
    """
    able = [site for site in current_sites if not writes or site in writes]
    if writes:
        writes = tuple(sorted(writes, key=lambda site: site in unfit))
        able.sort(key=writes.index)
        before = writes[: writes.index(member)] if member in writes else writes
        first = tuple(site for site in able if site in before)
        if first or member not in writes:
            return _send(f"writes go to {', '.join(writes)}", first)
    if currency:
        return _send(currency, tuple(able))
    if uncovered:
        origin, upto = uncovered
        details = tuple(site for site in able if site == origin or site in detailed_sites)
        return _send(f"the details of {origin} up to {upto} are not here", details)
    return None


def _send(reason: str, sites: tuple[str, ...]) -> Forward | Refuse:
    return Forward(sites, reason) if sites else Refuse(reason, RETRY_AFTER_SECONDS)


def _not_current(
    reason: str,
    current_sites: tuple[str, ...],
    better: Collection[str],
    isolated: Isolated,
    *,
    digest: bytes | None,
    version: Version,
) -> Verdict:
    if current_sites:
        return Forward(tuple(sorted(current_sites, key=lambda site: site not in better)), f"not current: {reason}")
    if isolated is Isolated.SERVE:
        return Serve(digest, version, f"isolated, served by policy: {reason}")
    return Refuse(f"not current: {reason}", RETRY_AFTER_SECONDS)


def _below_mark(
    uncovered: tuple[str, int], current_sites: tuple[str, ...], detailed_sites: Collection[str]
) -> Forward | Wait:
    origin, upto = uncovered
    reason = f"below a coarse change of {origin} up to {upto} whose details are not here"
    sites = [site for site in current_sites if site == origin or site in detailed_sites]
    return Forward(tuple(sorted(sites, key=lambda site: site != origin)), reason) if sites else Wait(reason)


def _elsewhere(reason: str, current_sites: tuple[str, ...], holders: Collection[str]) -> Forward | Wait:
    sites = tuple(site for site in current_sites if site in holders)
    return Forward(sites, reason) if sites else Wait(f"{reason}, nor at any other current site")
