"""Capabilities that the member was given beside its account, given up by the processes that read hostile packets.

Law: sockets are bound before by the member, so a worker needs none. Root stays root: who runs the member so chose it.
"""

import ctypes
import os

PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4  # <linux/prctl.h>
_VERSION_3 = 0x20080522  # <linux/capability.h>


def give_up() -> None:
    """All of them, for good. Raises OSError, which must end a worker."""
    if os.geteuid() == 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, nothing = (ctypes.c_uint32 * 2)(_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    ambient = libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    if ambient != 0 or libc.capset(header, nothing) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"capabilities cannot be given up: {os.strerror(number)}")
