"""Rise and fall, and how several probes make one word."""

from dataclasses import replace

import pytest

from anycastle.health.observe import Observer, Result, Streak, pause_seconds
from anycastle.health.settings import Probe, TcpCheck
from anycastle.health.view import Health

U, D, N = Health.UP, Health.DOWN, Health.UNKNOWN


def probe(name: str = "tcp", *, site: str = "ams", rise: int = 2, fall: int = 3) -> Probe:
    return Probe(site=site, name=name, check=TcpCheck(host="192.0.2.10", port=80), rise=rise, fall=fall)


def result(ok: bool, name: str = "tcp", *, site: str = "ams") -> Result:
    reason = "connected" if ok else "connection refused"
    return Result(site=site, probe=name, ok=ok, reason=reason, took_seconds=0.01)


@pytest.mark.parametrize(
    ("rounds", "expected"),
    [
        ("+", [N]),
        ("++", [N, U]),
        ("--", [N, N]),
        ("---", [N, N, D]),
        ("+-+-+-", [N, N, N, N, N, N]),
        ("++--+--", [N, U, U, U, U, U, U]),
        ("++---", [N, U, U, U, D]),
        ("---+-++", [N, N, D, D, D, D, U]),
    ],
)
def test_a_probe_changes_only_after_enough_in_a_row(rounds: str, expected: list[Health]) -> None:
    observer = Observer("ams", (probe(),))
    seen = []
    for second, sign in enumerate(rounds):
        observer.observe(result(sign == "+"), now=float(second))
        seen.append(observer.observation("ams", now=float(second)).health)
    assert seen == expected


@pytest.mark.parametrize(
    ("first", "second", "health", "reason"),
    [
        ("++", "++", U, "all 2 probes succeed"),
        ("++", "---", D, "b: connection refused"),
        ("++", "+", N, "b: connected"),
        ("+", "---", D, "b: connection refused"),
        ("++", "", N, "b: no result yet"),
    ],
)
def test_all_probes_must_be_up_and_any_takes_the_site_down(
    first: str, second: str, health: Health, reason: str
) -> None:
    observer = Observer("nyc", (probe("a"), probe("b")))
    for name, rounds in (("a", first), ("b", second)):
        for sign in rounds:
            observer.observe(result(sign == "+", name), now=1.0)
    said = observer.observation("ams", now=1.0)
    assert (said.observer, said.site, said.health, said.reason) == ("nyc", "ams", health, reason)


def test_a_site_without_probes_is_unknown() -> None:
    said = Observer("ams", ()).observation("ams", now=0.0)
    assert (said.health, said.reason) == (N, "no probe is configured")


def gate(rounds: str = "") -> Observer:
    database = Probe(site="ams", name="database", check=TcpCheck(host="192.0.2.10", port=1), gates_only=True)
    observer = Observer("ams", (probe(), database))
    for sign in rounds:
        observer.observe(result(sign == "+", "database"), now=1.0)
    return observer


@pytest.mark.parametrize(
    ("rounds", "now", "required", "why"),
    [
        ("++", 1.0, ("database",), ""),
        ("++", 1.0, (), ""),
        ("", 1.0, ("database",), "requires database: no result yet"),
        ("---", 1.0, ("database",), "requires database: connection refused"),
        ("++--", 1.0, ("database",), ""),
        ("++", 7.0, ("database",), ""),
        ("++", 9.0, ("database",), "requires database, which does not report"),
        ("++", 1.0, ("database", "other"), "requires other, which is not configured"),
    ],
)
def test_what_a_group_requires(rounds: str, now: float, required: tuple[str, ...], why: str) -> None:
    assert gate(rounds).missing(required, age_max_seconds=5.0, now=now) == why


def test_a_probe_that_gates_groups_says_nothing_of_the_site() -> None:
    observer = gate("---")
    for _ in range(2):
        observer.observe(result(True), now=1.0)
    assert observer.observation("ams", now=60.0).health is U
    assert observer.observation("ams", now=1.0).reason == "its probe succeeds"


def test_a_warning_is_told_while_all_is_well() -> None:
    observer = Observer("nyc", (probe("a"), probe("b")))
    for name, warning in (("a", "its certificate ends in 3 days"), ("b", "")):
        for _ in range(2):
            observer.observe(
                Result(site="ams", probe=name, ok=True, reason="", took_seconds=0.0, warning=warning), now=1.0
            )
    said = observer.observation("ams", now=1.0)
    assert (said.health, said.reason) == (U, "all 2 probes succeed; a: its certificate ends in 3 days")


@pytest.mark.parametrize(
    ("rounds", "pause"),
    [
        ("", 10.0),
        ("+", 10.0),
        ("++", 10.0),
        ("++-", 5.0),
        ("++--", 5.0),
        ("++---", 10.0),
        ("---+", 10.0),
        ("++-+", 10.0),
    ],
)
def test_a_probe_in_doubt_looks_again_sooner(rounds: str, pause: float) -> None:
    streak = Streak()
    for sign in rounds:
        streak = streak.after(result(sign == "+"), rise=2, fall=3, now=1.0)
    slow = replace(probe(), interval_seconds=10.0, jitter=0.2)
    assert pause_seconds(slow, streak, stretch=0.0) == pause
    assert pause_seconds(slow, streak, stretch=0.5) == pytest.approx(1.1 * pause)


def test_age_grows_only_when_a_probe_is_overdue() -> None:
    observer = Observer("ams", (probe(),))
    observer.observe(result(True), now=10.0)
    assert observer.observation("ams", now=11.5).age_seconds == 0.0
    assert observer.observation("ams", now=16.6).age_seconds == pytest.approx(5.0)


def test_new_configuration_forgets_removed_and_changed_probes_only() -> None:
    observer = Observer("ams", (probe("kept"), probe("changed"), probe("removed")))
    for name in ("kept", "changed", "removed"):
        for _ in range(2):
            observer.observe(result(True, name), now=1.0)
    observer.configure((probe("kept"), probe("changed", rise=3)))
    assert observer.observation("ams", now=1.0).reason == "changed: no result yet"
    observer.observe(result(False, "removed"), now=2.0)
    assert observer.results_ignored == 1
    for _ in range(3):
        observer.observe(result(True, "changed"), now=2.0)
    assert observer.observation("ams", now=2.0).health is U


def test_every_probe_is_shown_with_what_its_rounds_come_to() -> None:
    observer = Observer("ams", (probe("tcp"), probe("dns", site="nyc"), replace(probe("database"), gates_only=True)))
    for second in range(2):
        observer.observe(result(True), now=float(second))
    seen = {each.probe.name: each for each in observer.watched(now=11.0)}
    assert list(seen) == ["database", "tcp", "dns"]
    assert (seen["tcp"].streak.health, seen["dns"].streak.health) == (U, N)
    assert seen["tcp"].overdue_seconds > 8.0
    assert seen["dns"].overdue_seconds == 0.0
