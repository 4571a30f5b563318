"""Whether somebody holds a file open for writing, asked of the kernel by a read lease (fcntl(2), F_SETLEASE).

Law: a lease is given only while no descriptor and no shared mapping of the file may write; it is given back at once.
Where leases cannot be had (another owner without CAP_LEASE, some filesystems) the answer is no: look now, and again.
"""

import errno
import fcntl
import signal

F_SETSIG = 10
"""Not in `fcntl` of Python 3.11; Linux has one number for it on every machine that Debian runs on."""


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
