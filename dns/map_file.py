"""Text files of an operator's map, `SUBJECT,…` a line: networks with an order of sites, countries with distances.

Law: every fault is found in one pass, with file, line and expectation; a file with a fault is not used.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from anycastle.dns.errors import DnsError

FILE_BYTES_MAX = 64 << 20
"""About two million lines: far more than anybody writes, and still read in seconds."""
FAULTS_MAX = 1000
"""Reading stops there: such a file is not a map at all."""

Key = TypeVar("Key")
Value = TypeVar("Value")


class GeoError(DnsError):
    """A map that cannot be used; `faults` has one line for each thing wrong with it."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        more = len(faults) - 1
        super().__init__(faults[0] + (f" (and {more} more)" if more else ""))


def read_text(file: Path, expected: str) -> str:
    """The whole of it. Raises GeoError."""
    try:
        with file.open("rb") as stream:
            content = stream.read(FILE_BYTES_MAX + 1)
        if len(content) > FILE_BYTES_MAX:
            raise ValueError(f"it has more bytes than the limit of {FILE_BYTES_MAX}")
        return content.decode("utf-8")
    except (OSError, ValueError) as error:
        raise GeoError([f"{file}: cannot be read: {error}; expected {expected}"]) from error


def parse_lines(text: str, file: str, parse: Callable[[str, str], tuple[Key, Value]]) -> dict[Key, Value]:
    """What `parse(content, where)` makes of each line that is neither empty nor a comment (`#`).

    `parse` raises ValueError with what is wrong and what was expected. Raises GeoError with all faults.
    """
    found: dict[Key, Value] = {}
    lines: dict[Key, int] = {}
    faults: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.partition("#")[0].strip()
        if not content:
            continue
        try:
            key, value = parse(content, f"{file}:{number}")
            if key in found:
                raise ValueError(f"{key} stands in line {lines[key]} already; expected each once")
        except ValueError as error:
            faults.append(f"{file}:{number}: {error}")
            if len(faults) == FAULTS_MAX:
                break
            continue
        found[key], lines[key] = value, number
    if faults:
        raise GeoError(faults)
    return found


def check_sites(named: Sequence[str], known: Sequence[str]) -> None:
    """Raises ValueError for a site that is none, or that is named twice."""
    for name in named:
        if name not in known:
            raise ValueError(f"{name!r} is no site; expected some of: {' '.join(known)}")
    if len(set(named)) < len(named):
        raise ValueError(f"{' '.join(named)!r} names a site twice; expected each at most once")
