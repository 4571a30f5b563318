"""Whether somebody holds a file open for writing, asked of the kernel by a read lease (fcntl(2), F_SETLEASE).

Law: a lease is given only while no descriptor and no shared mapping of the file may write; it is given back at once.
Where leases cannot be had (another owner without CAP_LEASE, some filesystems) the answer is no: look now, and again.
"""

import errno
import fcntl
import os
import signal

from anycastle.errors import AnycastleError
from anycastle.replicator.disk import Tree

F_SETSIG = 10
"""Not in `fcntl` of Python 3.11; Linux has one number for it on every machine that Debian runs on."""


def is_written(tree: Tree, path: bytes) -> bool:
    """Somebody holds the file at a path open for writing; no for what is no file, or is gone."""
    try:
        descriptor = tree.open_body(path)
    except AnycastleError:
        return False
    try:
        return is_held_for_writing(descriptor)
    finally:
        os.close(descriptor)


def is_held_for_writing(descriptor: int) -> bool:
    """`descriptor` must be open for reading only."""
    try:
        # A writer that comes in the moment we hold the lease is announced by a signal: one that is ignored by default.
        fcntl.fcntl(descriptor, F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False
