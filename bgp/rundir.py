"""The folder that the announcer shares with ExaBGP: configuration, socket, withdrawals, what was ever announced.

Law: ExaBGP's user may read and connect, never write; each file is replaced in whole. One controller at a time holds
the folder's lock.
"""

import contextlib
import fcntl
import os
import pwd
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from anycastle.bgp.route import BgpError, parse_prefix, prefix_order
from anycastle.bgp.settings import Prefix

CONFIGURATION = "exabgp.conf"
SOCKET = "ctl.sock"
WITHDRAWS = "withdraws"
PREFIXES = "prefixes"
LOG = "exabgp.log"
LOCK = "lock"

FILE_BYTES_MAX = 4 * 1024 * 1024
LOG_BYTES_MAX = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Account:
    """Whom ExaBGP becomes."""

    name: str
    uid: int
    gid: int


def account(user: str | None) -> Account | None:
    """The account to change to; None keeps our own. Raises `BgpError` when there is no such user."""
    if user is None or os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise BgpError(f"BGP user {user!r} does not exist on this machine, expected an account for ExaBGP") from None
    return Account(user, entry.pw_uid, entry.pw_gid)


class RunDirectory:
    """A context manager: holds the lock while open."""

    def __init__(self, path: Path, owner: Account | None) -> None:
        self.path = path
        self._owner = owner
        self._lock = -1

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._permit(self.path, 0o700, 0o750)
            self._lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.__exit__()
            raise BgpError(f"{self.path} is in use by another announcer, expected a folder of our own") from None
        except OSError as error:
            self.__exit__()
            raise BgpError(f"{self.path} cannot be used, expected a folder we may write: {error.strerror}") from None
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def write(self, name: str, text: str) -> None:
        """Replaces the file in whole, durably; raises OSError."""
        temporary = self.path / f"{name}.new"
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        self._permit(temporary, 0o600, 0o640)
        temporary.replace(self.path / name)
        with self._folder() as folder:
            os.fsync(folder)

    def read_prefixes(self) -> frozenset[Prefix]:
        """The prefixes ever announced; lines that are none are left out, they never came from us."""
        try:
            with open(self.path / PREFIXES, encoding="ascii", errors="replace") as file:
                lines = file.read(FILE_BYTES_MAX).split()
        except FileNotFoundError:
            return frozenset()
        found = set()
        for line in lines:
            with contextlib.suppress(BgpError):
                found.add(parse_prefix(line))
        return frozenset(found)

    def write_prefixes(self, prefixes: Iterable[Prefix]) -> None:
        self.write(PREFIXES, "".join(f"{prefix}\n" for prefix in sorted(prefixes, key=prefix_order)))

    def listen(self) -> socket.socket:
        """The socket that the bridge connects to, non-blocking."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with contextlib.suppress(FileNotFoundError):
                (self.path / SOCKET).unlink()
            with self._folder() as folder:
                # Through the folder's descriptor: a Unix socket's path ends at 107 bytes, ours need not.
                listener.bind(f"/proc/self/fd/{folder}/{SOCKET}")
            self._permit(self.path / SOCKET, 0o600, 0o660)
            listener.listen(4)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
        return listener

    def open_log(self) -> int:
        """A descriptor for ExaBGP's output: a file, because a full pipe would stop ExaBGP while we hang."""
        return os.open(self.path / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def bound_log(self) -> None:
        """Empties the log when it has grown over its limit; ExaBGP appends, so it goes on at the new end."""
        with contextlib.suppress(OSError):
            if (self.path / LOG).stat().st_size > LOG_BYTES_MAX:
                os.truncate(self.path / LOG, 0)

    def last_words(self) -> str:
        """The last line of ExaBGP's log, for the reason of its end."""
        try:
            with open(self.path / LOG, "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
                lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines()]
        except OSError:
            return ""
        return next((" ".join(line.split()) for line in reversed(lines) if line), "")

    @contextlib.contextmanager
    def _folder(self) -> Iterator[int]:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _permit(self, path: Path, private: int, shared: int) -> None:
        """Ours alone, or readable by the group of ExaBGP's user."""
        if self._owner is not None:
            os.chown(path, -1, self._owner.gid)
        path.chmod(private if self._owner is None else shared)
