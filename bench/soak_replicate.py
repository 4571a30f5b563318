"""Storms of file operations at three sites, round after round: after each, trees are equal and no bytes are lost.

`script/soak replicate [--rounds N] [--seed S] [--steps N]`. One line for each round; `--seed S --rounds 1` is round S
again. The operations are the same then; what meets what is up to the machine, so a rare fault may take
several rounds. Needs root (fanotify, owners).
"""

import argparse
import asyncio
import logging
import secrets
import sys
import tempfile
from pathlib import Path

from tests.replicator.torture import torture


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="script/soak replicate", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, help="of the first round; each round adds one (default: any)")
    parser.add_argument("--steps", type=int, default=300, help="operations at each site")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.ERROR)
    first = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    for seed in range(first, first + options.rounds):
        with tempfile.TemporaryDirectory(prefix="anycastle-soak-") as folder:
            try:
                outcome = asyncio.run(torture(Path(folder), seed, steps=options.steps, at=3 if seed % 4 else 1))
            except AssertionError as wrong:
                print(f"seed {seed}: WRONG\n{wrong}")
                return 1
        print(
            f"seed {seed}: {outcome.entries} entries, {outcome.files} files left, {outcome.concurrent} lost edits "
            f"all kept, at rest after {outcome.rest_seconds:.1f} s",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
