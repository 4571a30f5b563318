"""`anycastle doctor`: what of this machine, its rights, its disks and its neighbours would keep a member from its work.

Laws: nothing is changed; ports are bound for a moment, and only while the member does not run; every line that is not
ok says what to do; what cannot be found out is a warning and no silence.
"""

import argparse
import contextlib
import ctypes
import errno
import json
import os
import platform
import re
import resource
import socket
import ssl
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from anycastle.check import check
from anycastle.clock import Clock, SystemClock
from anycastle.config import Config, MemberConfig, short_path
from anycastle.dns.udp import IS_COMPILED
from anycastle.errors import AnycastleError
from anycastle.replicator import certificate
from anycastle.replicator.mounts import filesystem_of, is_remote, mounted
from anycastle.replicator.pki import server_name

OK, WARNING, FAULT = "ok", "warning", "fault"
PEER_SECONDS_MAX = 3.0
KERNEL_MIN = (5, 17)
FREE_SHARE_MIN, FREE_BYTES_MIN = 0.05, 256 * 1024 * 1024
FILES_MIN = 4096
WATCHES_MIN = 100_000
CAP_DAC_READ_SEARCH, CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_SYS_ADMIN = 2, 10, 12, 21  # <linux/capability.h>
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
_TIMEX_BYTES = 256
"""A struct timex has 208; all zero, it asks and sets nothing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line."""

    level: str
    what: str
    text: str
    do: str = ""


def doctor(options: argparse.Namespace) -> int:
    """0: all well; 1: warnings; 2: faults."""
    findings = list(examine(options.config, options.site, SystemClock()))
    if options.json:
        print(json.dumps({"findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        for each in findings:
            print(f"{each.level:<8} {each.what}: {each.text}" + (f"\n         do: {each.do}" if each.do else ""))
    levels = {finding.level for finding in findings}
    return 2 if FAULT in levels else 1 if WARNING in levels else 0


def examine(file: Path, member: str | None, clock: Clock) -> Iterator[Finding]:
    """All findings, one after the other; `member` None: the only one there is. Raises ConfigError."""
    config, problems = check(file, None)
    member = member or _only(config)
    config.check_member(member)
    if not problems:
        config, problems = check(file, member)
    yield from (Finding(FAULT, "configuration", problem, "mend it; `anycastle check`") for problem in problems)
    yield from (Finding(WARNING, "configuration", str(each), "see to it, or leave it so") for each in config.warnings)
    if not problems:
        yield Finding(OK, "configuration", f"{file} is right for {member}")
    yield from _roster(config)
    yield from _kernel()
    yield from _limits()
    yield _clock()
    try:
        settings = config.for_member(member)
    except AnycastleError:  # told above
        return
    yield from _secrets(settings)
    yield from _rights(settings)
    yield from _disks(settings)
    yield from _certificates(settings, clock)
    running = _is_running(settings)
    yield from _ports(settings) if not running else [Finding(OK, "ports", f"{member} runs, and has its own")]
    yield from _peers(settings)


def _only(config: Config) -> str:
    if len(config.members) != 1:
        raise AnycastleError(f"say which member with --site; members: {', '.join(config.members)}")
    return config.members[0]


# -- the plan ---------------------------------------------------------------------------------------------------------


def _roster(config: Config) -> Iterator[Finding]:
    count = len(config.members)
    lost = (count - 1) // 2
    if count > 1 and count % 2 == 0:
        told = (
            f"{count} members: the loss of {lost + 1} stops all" if lost else "2 members: the loss of either stops both"
        )
        yield Finding(WARNING, "roster", told, "add a witness: an odd number bears more for the same")
    else:
        yield Finding(OK, "roster", f"{count} members, of which {lost} may be lost")


# -- this machine -----------------------------------------------------------------------------------------------------


def _kernel() -> Iterator[Finding]:
    release = platform.release()
    numbers = tuple(map(int, re.findall(r"\d+", release)[:2]))
    if numbers < KERNEL_MIN:
        yield Finding(WARNING, "kernel", f"Linux {release}: no fanotify as it is needed", "Linux 5.17 or newer")
    else:
        yield Finding(OK, "kernel", f"Linux {release}")
    if not IS_COMPILED:
        yield Finding(WARNING, "nameserver", "its compiled path is not built: answers cost more", "see docs/dns.md")


def _limits() -> Iterator[Finding]:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files < FILES_MIN:
        yield Finding(WARNING, "open files", f"at most {files} here", f"ulimit -n {FILES_MIN * 4}, or the systemd unit")
    else:
        yield Finding(OK, "open files", f"at most {files}")


def _clock() -> Finding:
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except AttributeError:
        state = -1
    if state == _TIME_ERROR:
        told = "nothing sets this machine's clock: certificates and logs go by it, leases by its rate"
        return Finding(WARNING, "clock", told, "run chrony or systemd-timesyncd")
    if state < 0:
        return Finding(WARNING, "clock", "the kernel does not say whether it is set", "run chrony, and ask it")
    return Finding(OK, "clock", "is kept by a time service")


def _secrets(settings: MemberConfig) -> Iterator[Finding]:
    files = [settings.link.tls.key]
    if settings.dashboard is not None and settings.dashboard.token_file is not None:
        files.append(settings.dashboard.token_file)
    for file in files:
        with contextlib.suppress(OSError):  # told by check
            mode = file.stat().st_mode & 0o777
            if mode & 0o007:
                yield Finding(FAULT, "secrets", f"{file} has mode {mode:o}: everybody may read it", f"chmod o= {file}")
            else:
                yield Finding(OK, "secrets", f"{file} has mode {mode:o}")


def _capabilities() -> int:
    found = re.search(r"^CapEff:\s+([0-9a-f]+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1], 16) if found else 0


def _rights(settings: MemberConfig) -> Iterator[Finding]:
    has = _capabilities()
    if all(has >> each & 1 for each in (CAP_SYS_ADMIN, CAP_DAC_READ_SEARCH)):
        yield Finding(OK, "watching", "this user may watch whole filesystems (fanotify)")
    else:
        watches = int(Path("/proc/sys/fs/inotify/max_user_watches").read_text())
        told = f"this user may not watch whole filesystems; inotify has {watches} watches, one for each folder"
        do = "CAP_SYS_ADMIN and CAP_DAC_READ_SEARCH (fanotify.conf of the unit)"
        do += f", or sysctl fs.inotify.max_user_watches={WATCHES_MIN * 10}" if watches < WATCHES_MIN else ""
        yield Finding(WARNING, "watching", told, do)
    if settings.bgp is not None and settings.bgp.loopback is not None and not has >> CAP_NET_ADMIN & 1:
        yield Finding(FAULT, "loopback", "bgp.manage_loopback needs CAP_NET_ADMIN", "loopback.conf of the unit")


# -- its disks --------------------------------------------------------------------------------------------------------


def _disks(settings: MemberConfig) -> Iterator[Finding]:
    places = {"state_dir": settings.state_dir} | {f"group {each.name}": each.root for each in settings.replica.groups}
    mounts = mounted()
    for what, place in places.items():
        there = next(each for each in (place, *place.parents) if each.exists())
        filesystem = filesystem_of(mounts, os.path.realpath(os.fsencode(there)))
        yield from _filesystem(what, place, filesystem)
        yield _room(what, place, os.statvfs(there))


def _filesystem(what: str, place: Path, filesystem: str) -> Iterator[Finding]:
    if filesystem == "tmpfs":
        yield Finding(WARNING, what, f"{place} is in memory: all of it is lost at a reboot", "put it on a disk")
    elif is_remote(filesystem) and what == "state_dir":
        yield Finding(FAULT, what, f"{place} is on {filesystem}: the ledger needs a disk of its own", "a local disk")
    elif is_remote(filesystem):
        told = f"{place} is on {filesystem}: the tree is walked for each change, and a write waits for a whole walk"
        yield Finding(WARNING, what, told, "a local disk")


def _room(what: str, place: Path, found: os.statvfs_result) -> Finding:
    free, share = found.f_bavail * found.f_frsize, found.f_bavail / max(1, found.f_blocks)
    names = found.f_favail / found.f_files if found.f_files else 1.0
    shown = f"{place} has {free / 2**30:.1f} GiB free ({share:.0%})"
    if free < FREE_BYTES_MIN:
        return Finding(FAULT, what, shown, "make room: nothing lands, or is acknowledged, on a full disk")
    if share < FREE_SHARE_MIN or names < FREE_SHARE_MIN:
        return Finding(WARNING, what, f"{shown}, {names:.0%} of its inodes", "make room")
    return Finding(OK, what, shown)


# -- what it listens on -----------------------------------------------------------------------------------------------


def _is_running(settings: MemberConfig) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as asking:
        with short_path(settings.control_socket) as short:
            asking.connect(short)
        return True
    return False


def _ports(settings: MemberConfig) -> Iterator[Finding]:
    wanted = [("link", settings.link.listen, socket.SOCK_STREAM)]
    if settings.dns is not None:
        wanted += [("dns", at, kind) for at in settings.dns.listen for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM)]
    if settings.edge is not None:
        wanted += [("edge", at, socket.SOCK_STREAM) for at in (*settings.edge.listen, *settings.edge.tls_listen)]
    if settings.dashboard is not None:
        wanted.append(("dashboard", settings.dashboard.listen, socket.SOCK_STREAM))
    for what, (host, port), kind in wanted:
        name = f"{'UDP' if kind == socket.SOCK_DGRAM else 'TCP'} {host}:{port}"
        try:
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as bound:
                if kind == socket.SOCK_STREAM:
                    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                bound.bind((host, port))
        except OSError as error:
            yield Finding(FAULT, what, f"{name} cannot be had: {error.strerror}", _mend_port(error, port))
        else:
            yield Finding(OK, what, f"{name} is free")


def _mend_port(error: OSError, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"find who has it with `ss -lnp sport = :{port}`, or take another"
        case errno.EADDRNOTAVAIL:
            return "an address of this machine, or give it this one"
        case errno.EACCES:
            return "CAP_NET_BIND_SERVICE (the systemd unit has it), or a port above 1023"
        case _:
            return "another address or port"


# -- certificates and neighbours --------------------------------------------------------------------------------------


def _certificates(settings: MemberConfig, clock: Clock) -> Iterator[Finding]:
    tls = settings.link.tls
    for file in (tls.authority, tls.certificate):
        try:
            found = certificate.read(file)
        except AnycastleError as error:
            yield Finding(FAULT, "certificate", str(error), "`anycastle pki` makes it")
            continue
        for each in found:
            days = each.days_left(clock.wall())
            if fault := each.fault(clock.wall()):
                level = WARNING if 0 <= days < certificate.WARN_DAYS else FAULT
                yield Finding(level, "certificate", fault, "`anycastle pki renew`, and copy it here")
            else:
                yield Finding(OK, "certificate", f"{file} ends in {days:.0f} days")


def _peers(settings: MemberConfig) -> Iterator[Finding]:
    tls = settings.link.tls
    try:
        context = ssl.create_default_context(cafile=str(tls.authority))
        context.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ssl.SSLError):  # told by check
        return
    for peer, (host, port) in settings.link.peers.items():
        yield _peer(context, peer, host, port, settings.link.source_address)


def _peer(context: ssl.SSLContext, peer: str, host: str, port: int, source: str | None) -> Finding:
    where, what = f"{host}:{port}", f"peer {peer}"
    try:
        address = (source, 0) if source else None
        with (
            socket.create_connection((host, port), timeout=PEER_SECONDS_MAX, source_address=address) as raw,
            context.wrap_socket(raw, server_hostname=server_name(peer)),
        ):
            return Finding(OK, what, f"{where} answers, and shows its certificate")
    except ssl.SSLError as error:
        reason = getattr(error, "verify_message", "") or error.reason or str(error)
        told = f"{where} answers, but not as {peer}: {reason}"
        return Finding(FAULT, what, told, "certificates of one `anycastle pki init`, each at its own member")
    except TimeoutError:
        told = f"{where} says nothing within {PEER_SECONDS_MAX:g} s"
        return Finding(WARNING, what, told, f"let TCP port {port} through the firewalls on the way")
    except OSError as error:
        told = f"{where} cannot be reached: {error.strerror or error}"
        return Finding(WARNING, what, told, f"start it, and let TCP port {port} through")
