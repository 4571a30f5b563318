"""Which service addresses to add to the loopback interface and which to take away, and when.

Law: pure. An address is there before its route is announced, and goes only a while after its route has gone; what is
there and is not ours stays, whatever is wanted.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from anycastle.bgp.settings import Address


@dataclass(frozen=True, slots=True)
class Steps:
    """What to do now."""

    add: tuple[Address, ...]
    remove: tuple[Address, ...]
    free_since: Mapping[Address, float]
    """Of ours that nobody wants: since when; for the next call."""
    wake: float
    """When the next one may be taken away, seconds of BOOTTIME."""


def steps(
    wanted: frozenset[Address],
    present: Mapping[Address, bool],
    free_since: Mapping[Address, float],
    *,
    delay_seconds: float,
    now: float,
) -> Steps:
    """`present` is what the interface has, and whether that is ours."""
    free = {
        address: free_since.get(address, now) for address, ours in present.items() if ours and address not in wanted
    }
    over = {address for address, since in free.items() if now - since >= delay_seconds}
    left = {address: since for address, since in free.items() if address not in over}
    return Steps(
        add=tuple(sorted(wanted - present.keys(), key=_order)),
        remove=tuple(sorted(over, key=_order)),
        free_since=left,
        wake=min(left.values(), default=math.inf) + delay_seconds,
    )


def _order(address: Address) -> tuple[int, int]:
    return address.version, int(address)
