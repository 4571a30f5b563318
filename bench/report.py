"""What every benchmark prints: rows of one shape, as a table for people or as one JSON object.

Law: a number is the median of its rounds; a ratio is to `anycastle` in the same metric (and case, where it has it), and
is left out of shares and where ours is missing or zero. What could not be measured is a row without a value and a
remark, never a made-up number.
"""

import json
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

OURS = "anycastle"


@dataclass(frozen=True, slots=True)
class Row:
    """One measured number."""

    system: str
    case: str
    metric: str
    unit: str
    value: float | None
    """None when the system cannot do the case, or is not there; `remark` says which."""
    remark: str = ""


def median_rows(rounds: Sequence[Iterable[Row]]) -> list[Row]:
    """One row for each system, case and metric, in order of first appearance, its value the median of the rounds."""
    values: dict[tuple[str, str, str, str], list[float]] = {}
    remarks: dict[tuple[str, str, str, str], str] = {}
    for one in rounds:
        for row in one:
            key = row.system, row.case, row.metric, row.unit
            remarks[key] = row.remark or remarks.get(key, "")
            found = values.setdefault(key, [])
            if row.value is not None:
                found.append(row.value)
    return [Row(*key, statistics.median(found) if found else None, remarks[key]) for key, found in values.items()]


def ratio(row: Row, rows: Iterable[Row]) -> float | None:
    """How many times ours a value is; where we have no such case, ours of the same metric."""
    ours = [other for other in rows if other.system == OURS and (other.metric, other.unit) == (row.metric, row.unit)]
    ours.sort(key=lambda other: other.case != row.case)
    if not ours or row.unit == "%" or row.value is None or not ours[0].value:
        return None
    return row.value / ours[0].value


def table(rows: Sequence[Row]) -> str:
    """One line for each system and case, a column for each metric with its ratio to ours; remarks stand below."""
    metrics = list(dict.fromkeys((row.metric, row.unit) for row in rows))
    lines = [["system", "case", *(f"{metric} ({unit})" for metric, unit in metrics)]]
    remarks: dict[str, None] = {}
    for system, case in dict.fromkeys((row.system, row.case) for row in rows):
        own = {(row.metric, row.unit): row for row in rows if (row.system, row.case) == (system, case)}
        cells = [_cell(own.get(metric), rows) for metric in metrics]
        remarks |= {f"{system}: {row.remark}": None for row in own.values() if row.remark}
        lines.append([system, case, *cells])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = [_line(line, widths) for line in lines]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([texts[0], rule, *texts[1:], *([""] if remarks else []), *remarks])


def as_json(bench: str, machine: str, rows: Iterable[Row]) -> str:
    """The object that `--json` prints. Rows without a value stay out: every value in it is a number."""
    given = [
        {"system": row.system, "case": row.case, "metric": row.metric, "unit": row.unit, "value": row.value}
        for row in rows
        if row.value is not None
    ]
    return json.dumps({"bench": bench, "machine": machine, "rows": given}, indent=1)


def machine() -> str:
    """Cores, processor, kernel and Python; nothing that names the host."""
    models = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")]
    model = models[0] if models else platform.machine()
    cores = os.cpu_count()
    return f"{cores} cores, {model}, {platform.system()} {platform.release()}, Python {platform.python_version()}"


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return []


def _cell(row: Row | None, rows: Sequence[Row]) -> str:
    if row is None or row.value is None:
        return "-"
    text = f"{row.value:,.0f}" if row.value >= 1000 else f"{row.value:.3g}"
    times = ratio(row, rows)
    return text if times is None or row.system == OURS else f"{text} ({times:.2f}×)"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"
