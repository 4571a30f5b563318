"""`script/soak gate [--minutes N] [--seed S]`: 200 users at three sites while members die, hang and are cut off.

Law: what users saw is judged by tests/e2e/gate_history.py, which knows nothing of the protocol. The same seed does the
same to the same sites at the same times; what users meet is up to the machine.
"""

import argparse
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.packages import find, provide
from tests.e2e.gate_run import GAP_SECONDS_MAX, Load, run

NEEDS = (("nginx", "nginx"), ("php-fpm8.2", "php8.2-fpm"))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="script/soak gate", description="Users, faults, and no stale answer.")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long; default 10")
    parser.add_argument("--seed", type=int, help="of the faults and the users; default: any")
    parser.add_argument("--users", type=int, default=200, help="default 200")
    parser.add_argument("--think", type=float, default=2.0, help="seconds between a user's requests; default 2")
    parser.add_argument("--without-gate", action="store_true", help="nginx asks nobody: stale answers are to be found")
    given = parser.parse_args(arguments)
    provide(NEEDS)
    if os.geteuid() or not Path("/dev/net/tun").exists() or not all(find(command) for command, _ in NEEDS):
        print("soak: needs root, /dev/net/tun, nginx and php8.2-fpm", file=sys.stderr)
        return 2
    seed = secrets.randbelow(1_000_000) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    outcome = run(Load(seed, given.minutes * 60, given.users, given.think, gated=not given.without_gate))
    print(outcome.story())
    late = [kind for kind, (seconds, _) in outcome.gaps().items() if seconds > GAP_SECONDS_MAX]
    right = not outcome.wrong and not outcome.after and not late
    print("right" if right else "WRONG")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
