"""Reading TOML tables so that every fault is found at once, each with its file, line, key and what was expected.

Law: a key is either asked for or a fault. `Table.take` never raises on bad input: it notes a `Fault` and hands back a
stand-in, so that one run over the file finds everything; whoever reads then refuses the whole.
"""

import difflib
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from anycastle.errors import AnycastleError

T = TypeVar("T")

_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"""^\s*((?:[A-Za-z0-9_.\-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_\-]+|"[^"]*"|'[^']*'))*)\s*=""")


class ConfigError(AnycastleError):
    """The configuration cannot be used; `faults` holds every reason, one line each."""

    def __init__(self, faults: "tuple[Fault, ...]") -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = faults


class Expected(AnycastleError):
    """Raised by a value parser; its text completes "expected …"."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong."""

    file: Path
    line: int | None
    key: str
    problem: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else str(self.file)
        return f"{place}: {_printable(self.key)}: {self.problem}" if self.key else f"{place}: {self.problem}"


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file that only one member has, and where the configuration names it, for when it cannot be read."""

    name: str
    at: Fault

    def fault(self, problem: str) -> Fault:
        return replace(self.at, problem=problem)


@dataclass(slots=True)
class Faults:
    """Everything wrong that was found so far, and where keys stand in the file."""

    file: Path
    lines: dict[str, int]
    found: list[Fault] = field(default_factory=list)
    warned: list[Fault] = field(default_factory=list)
    """What may be meant, and more often is not: said, but no reason to refuse the file."""

    def add(self, key: str, problem: str) -> None:
        self.found.append(self.at(key, problem))

    def warn(self, key: str, problem: str) -> None:
        self.warned.append(self.at(key, problem))

    def at(self, key: str, problem: str = "") -> Fault:
        return Fault(self.file, self._line(key), key, problem)

    def about(self, key: str) -> bool:
        """Something at this key or below it is wrong."""
        own = (fault.key for fault in self.found if fault.file == self.file)
        return any(re.match(re.escape(key) + r"($|[.\[])", each) for each in own)

    def in_order(self) -> tuple[Fault, ...]:
        """This file's first; those of files that it names, each once."""
        place = {fault: (fault.file != self.file, fault.file, fault.line or 0, fault.key) for fault in self.found}
        return tuple(sorted(place, key=lambda fault: place[fault]))

    def _line(self, key: str) -> int | None:
        """Of the key, or of the nearest key around it (an inline table stands on one line)."""
        while key:
            if key in self.lines:
                return self.lines[key]
            key = key[: max(key.rfind("."), key.rfind("["), 0)]
        return None


class Table:
    """One table of the file, at a dotted place such as `sites.ams` or `routes[1]`."""

    def __init__(self, values: Any, place: str, faults: Faults) -> None:
        self.place = place
        self.faults = faults
        self._left: dict[str, Any] = dict(values) if isinstance(values, dict) else {}
        self._below: Table | None = None
        if not isinstance(values, dict):
            faults.add(place, f"expected a table, found {show(values)}")

    def key(self, name: str) -> str:
        return f"{self.place}.{name}" if self.place else name

    def has(self, name: str) -> bool:
        return name in self._left

    def fault(self, name: str, problem: str) -> None:
        self.faults.add(self.key(name) if name else self.place, problem)

    def named_file(self, name: str, parse: Callable[[Any], str]) -> NamedFile | None:
        """An optional key whose value names a file to be read later, by the member that has it."""
        file = self.take(name, parse, "")
        return NamedFile(file, self.faults.at(self.key(name))) if file else None

    def warn(self, name: str, problem: str) -> None:
        self.faults.warn(self.key(name) if name else self.place, problem)

    def fall_back_on(self, below: "Table") -> None:
        """From now on `take` looks there for what is not here; what is wrong there is a fault there."""
        self._below = below

    def take(self, name: str, parse: Callable[[Any], T], default: T) -> T:
        """The value of an optional key."""
        if self._below is not None:
            default = self._below.take(name, parse, default)
        if name not in self._left:
            return default
        return self._parse(name, parse, default)

    def need(self, name: str, parse: Callable[[Any], T], stand_in: T, example: str) -> T:
        """The value of a required key; `stand_in` carries the reading on after a fault."""
        if name not in self._left:
            self.fault("", f"needs a key {name!r}, such as: {name} = {example}")
            return stand_in
        return self._parse(name, parse, stand_in)

    def table(self, name: str) -> "Table":
        """A table inside; an empty one where there is none."""
        return Table(self._left.pop(name, {}), self.key(name), self.faults)

    def tables(self, name: str) -> "list[Table]":
        """An array of tables inside."""
        values = self._left.pop(name, [])
        if not isinstance(values, list):
            self.fault(name, f"expected an array of tables, found {show(values)}")
            return []
        return [Table(value, f"{self.key(name)}[{i}]", self.faults) for i, value in enumerate(values)]

    def named(self) -> "dict[str, Table]":
        """All that is left, as tables by name: `[sites.ams]`, `[sites.nyc]`."""
        left, self._left = self._left, {}
        return {name: Table(value, self.key(name), self.faults) for name, value in left.items()}

    def named_values(self, parse: Callable[[Any], T]) -> dict[str, T]:
        """All that is left, each value parsed; faulty ones are left out."""
        found: dict[str, T] = {}
        for name in tuple(self._left):
            try:
                found[name] = parse(self._left.pop(name))
            except Expected as expected:
                self.fault(name, f"expected {expected}")
        return found

    def done(self, known: tuple[str, ...]) -> None:
        """Whatever was not asked for is unknown: name it, with the nearest key that exists."""
        for name in self._left:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known here: {', '.join(known)}"
            self.fault(name, f"unknown key{hint}")

    def _parse(self, name: str, parse: Callable[[Any], T], stand_in: T) -> T:
        value = self._left.pop(name)
        try:
            return parse(value)
        except Expected as expected:
            self.fault(name, f"expected {expected}, found {show(value)}")
            return stand_in


def _printable(key: str) -> str:
    """A quoted key may hold anything, and a fault is one line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in key)


def show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def read_toml(file: Path) -> tuple[dict[str, Any], Faults]:
    """The file's tables and where its keys stand. Raises ConfigError when it cannot be read or is not TOML."""
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigError((Fault(file, None, "", f"cannot be read: {reason}"),)) from error
    try:
        return tomllib.loads(text), Faults(file, key_lines(text))
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"\(at line (\d+), column \d+\)", str(error))
        problem = re.sub(r"\s*\(at .*\)$", "", str(error))
        line = int(at[1]) if at else len(text.splitlines())  # it says "at end of document"
        raise ConfigError((Fault(file, line, "", f"is not TOML: {problem}"),)) from error


def key_lines(text: str) -> dict[str, int]:
    """Dotted place of every table and of every key that begins a line -> its line number (from 1).

    Keys of inline tables are not found on their own: they stand on the line of the key around them.
    """
    lines: dict[str, int] = {}
    arrays: dict[str, int] = {}
    place = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            place = _plain(header[2])
            if header[1] == "[[":
                index = arrays[place] = arrays.get(place, -1) + 1
                place = f"{place}[{index}]"
            lines.setdefault(place, number)
        elif key := _KEY.match(line):
            lines.setdefault(f"{place}.{_plain(key[1])}" if place else _plain(key[1]), number)
    return lines


def _plain(dotted: str) -> str:
    return re.sub(r"""\s*\.\s*""", ".", dotted).replace('"', "").replace("'", "")
