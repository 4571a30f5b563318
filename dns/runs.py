"""An address space as runs of equal value, and the prefix of a run around one address.

Law: runs are maximal (neighbours differ) and cover the whole space, and `look` gives the leaf of the smallest binary
tree with these values: the widest aligned block around the address that lies inside its run. Leaves of a tree never
overlap, which is what RFC 7871 section 7.2.1 asks of the scopes of tailored answers.
"""

import heapq
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

Change = tuple[int, int | None]
"""From this address on, this value (None: nothing known); a run ends where the next begins."""


@dataclass(frozen=True, slots=True)
class Runs:
    """A complete space of `width` bits; `values[i]` holds from `starts[i]` up to the next start."""

    width: int
    starts: tuple[int, ...]
    values: tuple[int, ...]

    def look(self, address: int) -> tuple[int, int]:
        """The value at an address, and the length of the prefix around it that has this value everywhere."""
        index = bisect_right(self.starts, address) - 1
        return self.values[index], self._prefix_bits(index, address)

    def _prefix_bits(self, index: int, address: int) -> int:
        """One bit more than the address shares with the nearest address outside its run, on either side."""
        shared_bits = -1
        low = self.starts[index]
        if low:
            shared_bits = self.width - (address ^ (low - 1)).bit_length()
        if index + 1 < len(self.starts):
            above = self.starts[index + 1]
            shared_bits = max(shared_bits, self.width - (address ^ above).bit_length())
        return shared_bits + 1


def paint(networks: Iterable[tuple[int, int, int]], *, width: int) -> list[Change]:
    """Changes for (first address, prefix bits, value) networks: they nest or are apart, and the longest match wins."""
    changes: list[Change] = [(0, None)]
    enclosing: list[tuple[int, int]] = []  # (end, value), the innermost last

    def close(address: int) -> None:
        while enclosing and enclosing[-1][0] <= address:
            end, _ = enclosing.pop()
            changes.append((end, enclosing[-1][1] if enclosing else None))

    for start, bits, value in sorted(networks):
        close(start)
        changes.append((start, value))
        enclosing.append((start + (1 << (width - bits)), value))
    close(1 << width)
    return _joined(changes, width)


def overlay(upper: list[Change], lower: list[Change], *, width: int) -> list[Change]:
    """What `upper` says, and where it says nothing what `lower` says. Both begin at address 0."""
    changes: list[Change] = []
    said: list[int | None] = [None, None]
    layers = ([(address, layer, value) for address, value in one] for layer, one in enumerate((upper, lower)))
    for address, layer, value in heapq.merge(*layers, key=lambda change: change[0]):
        said[layer] = value
        changes.append((address, said[1] if said[0] is None else said[0]))
    return _joined(changes, width)


def finished(changes: list[Change], *, width: int, default: int) -> Runs:
    """The complete space, with the default where nothing is known."""
    filled = _joined([(address, default if value is None else value) for address, value in changes], width)
    return Runs(width, tuple(address for address, _ in filled), tuple(v for _, v in filled if v is not None))


def _joined(changes: list[Change], width: int) -> list[Change]:
    """Of several changes at one address the last counts; equal neighbours become one run."""
    result: list[Change] = []
    for address, value in changes:
        if address >> width:
            break
        if result and result[-1][0] == address:
            result.pop()
        if not result or result[-1][1] != value:
            result.append((address, value))
    return result
