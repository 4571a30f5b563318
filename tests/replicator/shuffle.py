"""Does to the folders of a tree what applications do, at random."""

import contextlib
import os
import random
import shutil
from pathlib import Path

from tests.replicator.watching import exchange

NAMES = ("a", "b", "c", "d")
DEPTH_MAX = 4


def folders_below(root: Path) -> list[bytes]:
    """Every folder a watcher must know, relative; the root is the empty one."""
    found = []
    for place, names, _ in os.walk(os.fsencode(root)):
        inner = os.path.relpath(place, os.fsencode(root))
        names[:] = [name for name in names if name not in (b".anycastle", b"cache")]
        found.append(b"" if inner == b"." else inner)
    return found


def shuffle(root: Path, chance: random.Random, steps: int) -> None:
    """`steps` random steps; whatever the tree is not ready for is left out."""
    outside = root.parent / "outside"
    outside.mkdir(exist_ok=True)
    for _ in range(steps):
        one, other = _somewhere(root, chance), _somewhere(root, chance)
        with contextlib.suppress(OSError, AssertionError):
            match chance.choice(["make", "make", "write", "rename", "rename", "exchange", "out", "in", "remove"]):
                case "make":
                    one.mkdir(parents=True)
                case "write":
                    (one / "file").write_bytes(b"x")
                case "rename":
                    one.rename(other)
                case "exchange":
                    exchange(one, other)
                case "out":
                    one.rename(outside / chance.choice(NAMES))
                case "in":
                    (outside / chance.choice(NAMES)).rename(one)
                case "remove":
                    shutil.rmtree(one)


def _somewhere(root: Path, chance: random.Random) -> Path:
    return root.joinpath(*chance.choices(NAMES, k=chance.randint(1, DEPTH_MAX)))
