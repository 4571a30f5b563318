"""The protocol under everything that goes wrong at once, and each of its rules taken away."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.replicator.sim.checker import Violation
from tests.replicator.sim.mutants import MUTANTS
from tests.replicator.sim.profile import Profile, calm, draw, draw_destruction
from tests.replicator.sim.scenario import COMEBACKS, SCENARIOS
from tests.replicator.sim.world import Unsettled, World

SEEDS = range(12)
SEEDS_PER_MUTANT_MAX = 60
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("members", "seeds"), [(2, 12), (3, 12), (4, 12), (5, 12), (6, 6), (7, 6)])
def test_nothing_stale_and_everything_comes_to_rest(members: int, seeds: int) -> None:
    reads = writes = 0
    for seed in range(seeds):
        world = _run(draw(seed, members), seed)
        reads += world.checker.reads
        writes += world.checker.writes
    assert reads > 100 * seeds
    assert writes > 4 * seeds


@pytest.mark.parametrize("members", [2, 3, 4])
def test_rosters_change_without_harm(members: int) -> None:
    reads = sum(_run(draw(seed, members, roster_change=True), seed).checker.reads for seed in SEEDS)
    assert reads > 50 * len(SEEDS)


@pytest.mark.parametrize("members", [3, 5])
def test_no_copied_write_is_lost_with_one_site(members: int) -> None:
    """The site that took it burns down as soon as its writer was told that it is safe."""
    worlds = [_run(draw_destruction(seed, members), seed) for seed in SEEDS]
    assert sum(bool(world.destroyed) for world in worlds) > len(SEEDS) / 2
    assert {world.profile.afterwards for world in worlds if world.destroyed} == {"away", "taken out", "replaced"}


def _run(profile: Profile, seed: int) -> World:
    try:
        return World(profile, seed=seed).run()
    except Violation as fault:
        pytest.fail(f"seed {seed}: {fault}; replay with script/simulate --members ... --seed {seed}")


def test_without_faults_everybody_is_served() -> None:
    world = World(calm(3, seconds=20.0), seed=1).run()
    assert world.checker.gave_up <= 5  # Deletions that find nothing.
    assert world.checker.reads > 300
    assert world.checker.writes > 15


@pytest.mark.parametrize("rule", sorted(set(MUTANTS) - set(SCENARIOS) - set(COMEBACKS)))
def test_each_rule_is_needed(rule: str) -> None:
    mutant = MUTANTS[rule]
    with mutant.applied():
        for seed in range(SEEDS_PER_MUTANT_MAX):
            try:
                World(mutant.draw(seed, 3), seed=seed, member=mutant.member).run()
            except Unsettled:
                continue
            except Violation:
                return
    pytest.fail(f"{SEEDS_PER_MUTANT_MAX} seeds without the rule that {mutant.without}, and nothing was wrong")


@pytest.mark.parametrize("rule", sorted(SCENARIOS))
def test_each_narrow_rule_is_needed(rule: str) -> None:
    world = SCENARIOS[rule]()
    assert world.checker.writes == 1, "the write succeeds once the lease is over"
    with MUTANTS[rule].applied(), pytest.raises(Violation, match="sgp got"):
        SCENARIOS[rule]()


@pytest.mark.parametrize("rule", sorted(COMEBACKS))
def test_each_rule_for_members_that_come_back_is_needed(rule: str) -> None:
    COMEBACKS[rule]()
    with MUTANTS[rule].applied(), pytest.raises(Violation):
        COMEBACKS[rule](member=MUTANTS[rule].member)


def test_members_lose_their_ledgers_and_the_rest_goes_on() -> None:
    """Among the worlds that are drawn there are enough of these."""
    worlds = [World(draw(seed, 3), seed=seed).run() for seed in SEEDS]
    assert sum(world.lost for world in worlds) >= 3
    assert sum(world.compacted for world in worlds) > 10
    assert sum(bool(world.profile.populated) for world in worlds) >= 3


def test_every_rule_of_the_design_has_a_mutant() -> None:
    assert {mutant.rule for mutant in MUTANTS.values()} >= {
        "1",
        "2",
        "3",
        "4",
        "5",
        "6",
        "8",
        "clocks",
        "lost",
        "put back",
        "compaction",
    }


def test_a_seed_replays_exactly_in_any_process() -> None:
    command = [sys.executable, "-m", "tests.replicator.sim", "--members", "4", "--seed", "7"]
    told = {
        subprocess.run(
            command,
            cwd=ROOT,
            env={"PYTHONHASHSEED": salt, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
        for salt in ("1", "2")
    }
    assert len(told) == 1
    assert len(told.pop()) > 10_000
