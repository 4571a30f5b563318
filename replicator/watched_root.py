"""The root of a watched tree, held open: where it is, what in it counts, and its barrier cookies.

Law: the cookie's file is made after the call and its event is queued before the call returns, so whoever sees the
event has seen everything queued before. Cookies are known by their random name alone, wherever their folder is now.
"""

import asyncio
import contextlib
import errno
import os
import secrets
import stat

from anycastle.replicator.entry import PRIVATE_FOLDER
from anycastle.replicator.watch_event import CookieRefused, WatchedTree, WatchError, is_below

COOKIES_FOLDER = PRIVATE_FOLDER + b"/cookies"
TEMPS_FOLDER = PRIVATE_FOLDER + b"/tmp"
COOKIES_MAX = 10_000
"""Dropped and not seen yet. Many more requests than one site holds at once; then nobody reads the events."""

DISK_REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class WatchedRoot:
    """Holds descriptors: close it."""

    def __init__(self, tree: WatchedTree) -> None:
        self._tree = tree
        with contextlib.ExitStack() as undo:
            try:
                self.fd = os.open(tree.root, _FOLDER)
                undo.callback(os.close, self.fd)
                self._cookies_fd = _open_cookies(self.fd)
            except OSError as error:
                raise WatchError(f"{tree.root}: expected a folder with room for cookies: {error.strerror}") from error
            undo.pop_all()
        self._outstanding: dict[bytes, str] = {}
        self._token = secrets.token_hex(8)
        self._dropped = 0
        self.path = self._where()

    def close(self) -> None:
        os.close(self._cookies_fd)
        os.close(self.fd)

    def moved(self) -> str:
        """Why the root is not where it was at the last call; the empty string when it is."""
        before, self.path = self.path, self._where()
        if before == self.path:
            return ""
        if os.fstat(self.fd).st_nlink == 0:
            return f"the root {os.fsdecode(before)} was deleted"
        return f"the root {os.fsdecode(before)} is now {os.fsdecode(self.path)}"

    @property
    def shown(self) -> str:
        """Where it is, for people."""
        return self.path.decode("utf-8", "backslashreplace")

    def hidden(self, path: bytes) -> bool:
        """True of what is never told: the root itself, our private folder, what the group excludes."""
        return not path or is_below(path, PRIVATE_FOLDER) or self._tree.excluded(path)

    def may_be_open(self, path: bytes) -> bool:
        """Whether a path of which only the creation was heard may still be written to.

        mkdir, symlink, mknod, link and linkat tell CREATE and nothing else for ever. open(O_CREAT) tells CREATE, and
        CLOSE_WRITE once it is closed (unless it was opened for reading). A name made by link(2) has company.
        """
        try:
            found = os.stat(path, dir_fd=self.fd, follow_symlinks=False)
        except OSError:
            return False
        return stat.S_ISREG(found.st_mode) and found.st_nlink == 1

    def drop_cookie(self) -> str:
        """Make and remove a file of a name that never was; raises WatchError."""
        if len(self._outstanding) >= COOKIES_MAX:
            raise WatchError(f"{COOKIES_MAX} cookies of {self._tree.root} were never seen: events are not read")
        self._dropped += 1
        name = f"{self._token}-{self._dropped}"
        self._outstanding[name.encode()] = name
        try:
            file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self._cookies_fd)
            os.close(file)
            os.unlink(name, dir_fd=self._cookies_fd)
        except OSError as error:
            del self._outstanding[name.encode()]
            kind = CookieRefused if error.errno in DISK_REFUSALS else WatchError
            raise kind(f"{self._tree.root}: cannot make a cookie: {error.strerror}") from error
        return name

    def claim(self, name: bytes) -> str | None:
        """The cookie of that name, once."""
        return self._outstanding.pop(name, None)

    def claim_all(self) -> tuple[str, ...]:
        """Every cookie not seen yet, in order: after an overflow their events may be lost."""
        names = tuple(self._outstanding.values())
        self._outstanding.clear()
        return names

    def _where(self) -> bytes:
        return os.readlink(b"/proc/self/fd/%d" % self.fd)


def _open_cookies(root_fd: int) -> int:
    """Descriptor of the cookie folder, made if missing and emptied of what a crash left; never through a symlink."""
    folder_fd = os.dup(root_fd)
    for name in COOKIES_FOLDER.split(b"/"):
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=folder_fd)
            inner_fd = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder_fd)
        finally:
            os.close(folder_fd)
        folder_fd = inner_fd
    with os.scandir(folder_fd) as entries:
        for left in entries:
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                os.unlink(left.name, dir_fd=folder_fd)
    return folder_fd


async def readable(fd: int) -> None:
    """Return when `fd` can be read, and not before the loop had a turn."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(fd, wake)
    try:
        await ready
    finally:
        loop.remove_reader(fd)
