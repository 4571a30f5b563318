"""Starts ExaBGP so that it cannot outlive its controller: `launch.py PARENT_PID PROGRAM ARGUMENT…`.

Law: standard library only, run with `python -I`. The kernel is asked to SIGKILL this process when the parent dies
(PR_SET_PDEATHSIG survives execve); then the program takes its place. A killed controller so takes its announcements
with it: the kernel closes the TCP sessions and the routers drop the routes at once, not after a hold time. The request
is made after the change of user, which would clear it, and outside the controller's own fork, whose threads make code
between fork and exec unsafe. Capabilities that the controller was given beside its account end here: ExaBGP keeps only
the one for low ports.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
PR_CAP_AMBIENT, PR_CAP_AMBIENT_LOWER = 47, 3
CAP_NET_BIND_SERVICE, CAPABILITIES_MAX = 10, 64  # <linux/capability.h>


def main(arguments: list[str]) -> int:  # returns only when it fails
    parent, program = int(arguments[0]), arguments[1]
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        print(f"prctl(PR_SET_PDEATHSIG) failed: {os.strerror(ctypes.get_errno())}", file=sys.stderr)
        return 1
    for capability in set(range(CAPABILITIES_MAX)) - {CAP_NET_BIND_SERVICE}:  # those this kernel does not know: EINVAL
        ctypes.CDLL(None).prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_LOWER, capability, 0, 0)
    if os.getppid() == parent:  # else it died before the request was made
        os.execv(program, arguments[1:])
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
