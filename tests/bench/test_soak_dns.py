"""The soak: a short one really runs, and what it would say of longer ones."""

import random
from pathlib import Path

import dns.exception
import dns.message
import dns.name
import pytest

from bench.soak_dns import SAMPLES_MIN, Record, judge, rise_share, soak
from bench.soak_load import make_packet

MIB = 1 << 20


async def test_a_short_soak_runs_through_views_and_reloads(tmp_path: Path) -> None:
    record = await soak(tmp_path, 6000)
    assert list(judge(record)) == []
    assert record.sent == 6000
    assert record.views >= 1
    assert record.reloads >= 1
    assert record.counters["queries"] > 5000
    assert record.counters["queries_tcp"] > 0
    assert record.counters["rcode_formerr"] > 0
    assert len(record.worker_bytes) == len(record.control_bytes) > 1
    assert all(record.worker_bytes)


def grown(step: int) -> list[int]:
    """A steep start, then `step` bytes more with each sample, and noise."""
    chance = random.Random(1)
    return [min(number, 100) * MIB // 4 + number * step + chance.randrange(MIB) for number in range(400)]


def test_flat_memory_is_flat_whatever_the_start_and_a_leak_is_not() -> None:
    assert abs(rise_share(grown(0))) < 0.02
    assert rise_share(grown(20_000)) > 0.1
    well = {"sent": 10, "answered": 9, "control_bytes": grown(0)}
    assert list(judge(Record(worker_bytes=grown(0), **well))) == []  # type: ignore[arg-type]
    (fault,) = judge(Record(worker_bytes=grown(20_000), **well))  # type: ignore[arg-type]
    assert fault.startswith("memory of the worker rose by 1")
    assert list(judge(Record(worker_bytes=grown(20_000)[: SAMPLES_MIN - 1], **well))) == []  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["faults", "worker_restarts"])
def test_faults_and_dead_workers_fail_it(name: str) -> None:
    assert list(judge(Record(counters={name: 2}))) == [f"{name}: 2, expected none"]


def test_silence_fails_it() -> None:
    assert "only 4 of 10" in next(iter(judge(Record(sent=10, answered=4))))


def test_most_packets_are_sound_and_some_are_not() -> None:
    chance = random.Random(1)
    names: set[dns.name.Name] = set()
    broken = 0
    for _ in range(2000):
        try:
            message = dns.message.from_wire(make_packet(chance))
        except (dns.exception.DNSException, ValueError):
            broken += 1
        else:
            names.update(question.name for question in message.question)
    assert 20 < broken < 200
    assert len(names) > 500
