"""Whether a filesystem takes anything at all: asked of the system, without writing."""

import errno
import os


def refusal(descriptor: int) -> str:
    """The system's name for why nothing can be written there now (`EROFS`, `ENOSPC`); empty when something can."""
    try:
        found = os.fstatvfs(descriptor)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "EIO")
    if found.f_flag & os.ST_RDONLY:
        return "EROFS"
    free = found.f_bfree if os.geteuid() == 0 else found.f_bavail
    files_left = found.f_ffree if found.f_files else 1  # some filesystems do not count them
    return "" if free and files_left else "ENOSPC"
