"""The one reader of clocks, and what counts as a jump."""

from dataclasses import dataclass

from anycastle.clock import JumpDetector, SystemClock


@dataclass
class Hands:
    """A clock set by hand."""

    boot: float = 100.0
    real: float = 1_700_000_000.0

    def now(self) -> float:
        return self.boot

    def wall(self) -> float:
        return self.real

    def pass_(self, boot: float, real: float) -> None:
        self.boot += boot
        self.real += real


def test_time_goes_on() -> None:
    clock = SystemClock()
    assert clock.now() < clock.now()
    assert clock.wall() > 1_700_000_000


def test_time_that_passes_is_no_jump() -> None:
    hands = Hands()
    jumps = JumpDetector(hands)
    hands.pass_(3600, 3600)
    assert not jumps.jumped()


def test_a_clock_that_is_set_is_told_once() -> None:
    for moved in (0.6, -0.6, 86400.0):
        hands = Hands()
        jumps = JumpDetector(hands)
        hands.pass_(1, 1 + moved)
        assert jumps.jumped()
        hands.pass_(1, 1)
        assert not jumps.jumped()


def test_slow_slewing_is_followed() -> None:
    hands = Hands()
    jumps = JumpDetector(hands)
    for _ in range(10_000):
        hands.pass_(1, 1.0005)
        assert not jumps.jumped()


def test_the_limit_is_what_it_is_told() -> None:
    hands = Hands()
    jumps = JumpDetector(hands, limit_seconds=0.1)
    hands.pass_(1, 1.2)
    assert jumps.jumped()
