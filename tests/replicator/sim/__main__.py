"""The command behind script/simulate: many seeds, or one with its story."""

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

from tests.replicator.sim.checker import Violation
from tests.replicator.sim.exhaustive import BOUNDS, Bounds, Search
from tests.replicator.sim.member import Member
from tests.replicator.sim.mutants import MUTANTS, Mutant
from tests.replicator.sim.profile import NAMES, Profile, draw, draw_destruction
from tests.replicator.sim.scenario import COMEBACKS, SCENARIOS
from tests.replicator.sim.world import World

STORIES = {**SCENARIOS, **COMEBACKS}


def main() -> int:
    arguments = _parser().parse_args()
    mutant = MUTANTS.get(arguments.without)
    with mutant.applied() if mutant else nullcontext():
        if arguments.exhaustive:
            return _exhaustive(BOUNDS[arguments.exhaustive], arguments.ticks)
        if arguments.scenario:
            return _scenario(arguments.scenario)
        member = mutant.member if mutant else Member
        drawn = partial(_drawn(arguments, mutant), members=arguments.members)
        if arguments.seed is not None:
            return _one(arguments.seed, drawn(arguments.seed), member)
        return _many(arguments.seeds, arguments.members, drawn, member)


def _drawn(arguments: argparse.Namespace, mutant: Mutant | None) -> Callable[..., Profile]:
    if arguments.destroy:
        return draw_destruction
    if arguments.roster_change:
        return partial(draw, roster_change=True, joint=not mutant or mutant.joint)
    return mutant.draw if mutant else draw


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="script/simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, metavar="N", help="run the seeds 0 to N-1 (default 100)")
    parser.add_argument("--members", type=int, default=3, metavar="M", choices=range(2, len(NAMES)), help="2 to 7")
    parser.add_argument("--seed", type=int, metavar="S", help="replay this seed alone and print its story")
    parser.add_argument("--roster-change", action="store_true", help="with a member added, removed or replaced")
    parser.add_argument("--destroy", action="store_true", help="with two copies of each write, and a site destroyed")
    parser.add_argument("--without", choices=sorted(MUTANTS), default="", metavar="RULE", help=", ".join(MUTANTS))
    parser.add_argument("--scenario", choices=sorted(STORIES), metavar="NAME", help=", ".join(STORIES))
    parser.add_argument("--exhaustive", choices=sorted(BOUNDS), metavar="BOUNDS", help=", ".join(BOUNDS))
    parser.add_argument(
        "--ticks", type=int, metavar="N", help="for --exhaustive: so many (one more takes ten times as long)"
    )
    return parser


def _exhaustive(bounds: Bounds, ticks: int | None) -> int:
    bounds = bounds if ticks is None else replace(bounds, ticks=ticks)
    start, search = time.monotonic(), Search(bounds)
    wrong = ""
    try:
        search.run()
    except Violation as fault:
        wrong = str(fault)
    states = len(search.states.facts)
    print(f"{wrong or 'right'}: {len(search.worlds)} worlds, {search.steps} steps between them, ", end="")
    print(f"{states} states of members, {time.monotonic() - start:.1f} s; {bounds}")
    return 1 if wrong else 0


def _one(seed: int, profile: Profile, member: type[Member]) -> int:
    print(
        f"seed {seed}: {', '.join(profile.names)}, witness {profile.witness or 'none'}, {profile.lease}, {profile.feed}"
    )
    print(f"loss {profile.loss}, delay {profile.delay_seconds} s, disk {profile.disk_seconds} s, ", end="")
    print(
        f"landing {profile.landing_seconds} s, faults each {profile.chaos_seconds} s, imports of {profile.bulk} files"
    )
    return _told(World(profile, seed=seed, told=True, member=member))


def _told(world: World) -> int:
    try:
        world.run()
    except (Violation, AssertionError) as fault:
        print("\n".join(world.story.lines))
        print(f"\n{type(fault).__name__} at {world.t:.3f}: {fault}")
        return 1
    print("\n".join(world.story.lines))
    print(f"\nright: {_counted([world])}")
    return 0


def _scenario(name: str) -> int:
    try:
        world = STORIES[name](told=True)
    except Violation as fault:
        print(f"Violation: {fault}")
        return 1
    print("\n".join(world.story.lines))
    print(f"\nright: {_counted([world])}")
    return 0


def _many(seeds: int, members: int, drawn: Callable[[int], Profile], member: type[Member]) -> int:
    start, worlds, faults = time.monotonic(), [], 0
    for seed in range(seeds):
        world = World(drawn(seed), seed=seed, member=member)
        worlds.append(world)
        try:
            world.run()
        except (Violation, AssertionError) as fault:
            faults += 1
            print(f"seed {seed}: {type(fault).__name__} at {world.t:.3f}: {fault}", flush=True)
    print(f"{seeds} seeds of {members} members, {faults} wrong: {_counted(worlds)}, {time.monotonic() - start:.1f} s")
    return 1 if faults else 0


def _counted(worlds: list[World]) -> str:
    reads, writes = (sum(getattr(world.checker, what) for world in worlds) for what in ("reads", "writes"))
    gave_up = sum(world.checker.gave_up for world in worlds)
    return f"{reads} reads, {writes} successful writes, {gave_up} requests given up"


if __name__ == "__main__":
    sys.exit(main())
