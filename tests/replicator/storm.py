"""Does to a tree what applications and people do, at random and by a seed: the same seed does the same again.

Every content is written once in all the world (site, number), so a byte that is missing at the end has a name.
"""

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from tests.replicator.watching import exchange, link_open_file

NAMES = (
    *(b"a", b"b", b"c", b"photo.jpg", b"index.html"),
    b"not utf-8 \xff\xfe",
    b"two\nlines",
    b"-rf *",
    b"'\"\\$(true)",
    "größe 漢字".encode(),
    b"n" * 255,
)
DEPTH_MAX = 5
DEEP = b"/".join(b"d%d" % level for level in range(60))
"""A path of many folders."""
BIG_BYTES = 300 * 1024
"""More than travels with an announcement."""
MODES = (0o644, 0o600, 0o755, 0o640, 0o444)


class Storm:
    """One application at one site."""

    def __init__(self, root: Path, site: str, chance: random.Random) -> None:
        self.done: list[tuple[float, str]] = []
        """What was tried, and when it was over, for the story of a failure."""
        self._root = os.fsencode(root)
        self._site = site
        self._chance = chance
        self._written = 0
        self._outside = self._root + b".outside"
        os.makedirs(self._outside, exist_ok=True)

    def blow(self, steps: int) -> None:
        """So many steps; what the tree is not ready for is left out."""
        works: list[tuple[int, Callable[[], str]]] = [
            (10, self._write),
            (4, self._append),
            (4, self._replace),
            (2, self._write_big),
            (2, self._truncate),
            (4, self._make_folder),
            (2, self._make_deep),
            (4, self._rename),
            (3, self._exchange),
            (2, self._move_out_and_in),
            (4, self._remove),
            (3, self._become_other_kind),
            (2, self._chmod),
            (2, self._chown),
            (2, self._set_times),
            (3, self._symlink),
            (3, self._link),
            (1, self._link_nameless),
            (1, self._lock_folder),
        ]
        weights = [weight for weight, _ in works]
        for _ in range(steps):
            work = self._chance.choices(works, weights)[0][1]
            began = time.monotonic()
            try:
                what = work()
            except (OSError, AssertionError) as error:  # some of it may be done
                what = f"in vain: {error}"
            now = time.monotonic()
            self.done.append((now, f"{self._site}: DOES {work.__name__[1:]} {what}, took {now - began:.4f} s"))

    def _content(self) -> bytes:
        self._written += 1
        return b"%s %d\n" % (self._site.encode(), self._written)

    def _somewhere(self) -> bytes:
        """Often something that is there, else any name."""
        if self._chance.random() < 0.4:
            there = self._existing()
            if there:
                return there
        depth = self._chance.choice((1, 1, 2, 2, 3, DEPTH_MAX))
        return os.path.join(self._root, *self._chance.choices(NAMES, k=depth))

    def _existing(self) -> bytes:
        """Walks down at random; empty when nothing is there."""
        at, found = self._root, b""
        for _ in range(DEPTH_MAX):
            try:
                names = sorted(name for name in os.listdir(at) if name != b".anycastle")
            except OSError:
                break
            if not names:
                break
            found = at = os.path.join(at, self._chance.choice(names))
            if self._chance.random() < 0.4:
                break
        return found

    def _write(self) -> str:
        path = self._somewhere()
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(self._content())
        return repr(path)

    def _append(self) -> str:
        path = self._somewhere()
        with open(path, "ab") as file:
            file.write(self._content())
        return repr(path)

    def _replace(self) -> str:
        """As careful programs do: a temp file, renamed over."""
        path = self._somewhere()
        temp = path + b"~" if len(os.path.basename(path)) < 255 else path[:-1]
        with open(temp, "wb") as file:
            file.write(self._content())
        os.rename(temp, path)
        return repr(path)

    def _write_big(self) -> str:
        path = self._somewhere()
        with open(path, "wb") as file:
            for _ in range(3):
                file.write(self._content().ljust(BIG_BYTES // 3, b"."))
        return repr(path)

    def _truncate(self) -> str:
        """Without opening it: no close follows."""
        path = self._somewhere()
        os.truncate(path, self._chance.randrange(20))
        return repr(path)

    def _make_folder(self) -> str:
        path = self._somewhere()
        os.makedirs(path)
        os.chmod(path, self._chance.choice((0o755, 0o700, 0o2775)))
        return repr(path)

    def _make_deep(self) -> str:
        path = os.path.join(self._root, self._chance.choice(NAMES[:3]), DEEP)
        os.makedirs(path, exist_ok=True)
        with open(os.path.join(path, self._chance.choice(NAMES)), "wb") as file:
            file.write(self._content())
        return repr(path[-20:])

    def _rename(self) -> str:
        old, new = self._existing(), self._somewhere()
        os.makedirs(os.path.dirname(new), exist_ok=True)
        os.rename(old, new)
        return f"{old!r} {new!r}"

    def _exchange(self) -> str:
        one, other = self._existing(), self._existing()
        exchange(Path(os.fsdecode(one)), Path(os.fsdecode(other)))
        return f"{one!r} {other!r}"

    def _move_out_and_in(self) -> str:
        """Moved out of the tree; what was there before comes in somewhere else."""
        there = os.path.join(self._outside, self._chance.choice(NAMES))
        old, new = self._existing(), self._somewhere()
        if os.path.lexists(there):
            os.rename(there, new)
            return f"in {new!r}"
        os.rename(old, there)
        return f"out {old!r}"

    def _remove(self) -> str:
        path = self._existing()
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
        return repr(path)

    def _become_other_kind(self) -> str:
        path = self._existing()
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
            with open(path, "wb") as file:
                file.write(self._content())
            return f"file {path!r}"
        os.unlink(path)
        os.mkdir(path)
        with open(os.path.join(path, b"inside"), "wb") as file:
            file.write(self._content())
        return f"folder {path!r}"

    def _chmod(self) -> str:
        path = self._existing()
        if os.path.islink(path):
            return "nothing"
        os.chmod(path, self._chance.choice((0o755, 0o700) if os.path.isdir(path) else MODES))
        return repr(path)

    def _chown(self) -> str:
        path = self._existing()
        os.lchown(path, self._chance.choice((0, 1000, 33)), self._chance.choice((0, 1000, 33)))
        return repr(path)

    def _set_times(self) -> str:
        path = self._existing()
        os.utime(path, (1, self._chance.randrange(2_000_000_000)), follow_symlinks=False)
        return repr(path)

    def _symlink(self) -> str:
        path = self._somewhere()
        target = self._chance.choice((b"a", b"../b", b"/nowhere/at/all", b"missing", b"."))
        os.symlink(target + b"#" + self._content().strip(), path)
        return repr(path)

    def _link(self) -> str:
        one, other = self._existing(), self._somewhere()
        os.link(one, other, follow_symlinks=False)
        return f"{one!r} {other!r}"

    def _link_nameless(self) -> str:
        path = self._somewhere()
        file = os.open(self._root, os.O_TMPFILE | os.O_WRONLY, 0o644)
        try:
            os.write(file, self._content())
            link_open_file(file, Path(os.fsdecode(path)))
        finally:
            os.close(file)
        return repr(path)

    def _lock_folder(self) -> str:
        path = os.path.join(self._root, b"lock")
        os.mkdir(path)
        os.rmdir(path)
        return repr(path)
