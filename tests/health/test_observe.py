"""Rise and fall, and how several probes make one word."""

import pytest

from anycastle.health.observe import Observer, Result
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
