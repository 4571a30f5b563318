"""What `anycastle announce` is told: a small TOML file, or flags that stand for the same keys.

Law: there is one reader. Flags become the tables that the file would have had, so that both mean the same, are checked
the same, and fail with the same words.
"""

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anycastle import config_values as v
from anycastle.bgp.settings import Address, BgpSettings, Peer, RouteRule
from anycastle.config_prefixes import overlaps
from anycastle.config_probes import located, read_probes
from anycastle.config_read import ConfigError, Fault, Faults, NamedFile, Table, read_toml
from anycastle.config_routes import read_bgp, read_lent_bgp, read_lone_route
from anycastle.health.settings import HealthSettings

NAME = "here"
"""The one site there is."""
STATE_DIR = "/var/lib/anycastle-announce"
_KEYS = ("bgp", "probes", "routes", "disable_file", "state_dir")
_MD5_KEY = re.compile(r"[!#-&(-:<-~]{1,80}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnounceSettings:
    """All of it."""

    bgp: BgpSettings
    health: HealthSettings
    disable_file: Path | None
    """While it exists the service counts as drained by an operator."""
    as_process: bool
    """ExaBGP is somebody else's, and runs us."""
    neighbors: frozenset[Address]
    """The only ones that are told, of somebody else's ExaBGP; none is all."""


def load(file: Path, *, as_process: bool) -> AnnounceSettings:
    """Raises ConfigError with everything that is wrong."""
    values, faults = read_toml(file)
    return _read(Table(values, "", faults), file.absolute().parent, as_process=as_process)


def from_flags(options: argparse.Namespace) -> AnnounceSettings:
    """Raises ConfigError; a place such as `probes[0].interval` is that of the same key in a file."""
    values = tables(options)
    return _read(Table(values, "", Faults(Path("flags"), {})), Path.cwd(), as_process=options.as_process)


def tables(options: argparse.Namespace) -> dict[str, Any]:
    """The flags as the file that says the same."""

    def given(**values: Any) -> dict[str, Any]:
        return {key: value for key, value in values.items() if value is not None and value != []}

    timing = given(interval=options.interval, timeout=options.timeout, rise=options.rise, fall=options.fall)
    probes = [{kind: each} | timing for kind in ("command", "http", "tcp") for each in getattr(options, kind) or ()]
    policy = given(hold_down=options.hold_down, drain=options.drain, on_down=options.on_down)
    policy |= {key: True for key in ("allow_private", "allow_long_prefix") if getattr(options, key)}
    states = {
        state: given(
            med=getattr(options, f"{state}_med"),
            prepend=getattr(options, f"{state}_prepend"),
            local_preference=options.local_preference,
            communities=[*(options.community or ()), *(getattr(options, f"{state}_community", None) or ())],
            large_communities=options.large_community,
        )
        for state in ("normal", "degraded", "drained")
    }
    bgp: dict[str, Any] = {"attributes": states} | given(
        neighbors=options.neighbor, loopback=options.loopback, loopback_delay=options.loopback_delay
    )
    if options.manage_loopback:
        bgp["manage_loopback"] = True
    if not options.as_process:
        bgp |= given(router_id=options.router_id, local_as=options.local_as, user=options.user)
        bgp["peers"] = [dict(_peer_words(each)) for each in options.peer or ()]
    return {
        "bgp": bgp,
        "probes": probes,
        "routes": [{"prefix": prefix} | policy for prefix in options.route or ()],
    } | given(disable_file=options.disable, state_dir=options.state_dir)


def _peer_words(text: str) -> Iterator[tuple[str, Any]]:
    """`192.0.2.254,as=64499,port=1790`: the address, then keys of `peers`."""
    address, *rest = text.split(",")
    yield "address", address
    for word in rest:
        key, _, value = word.partition("=")
        yield key, int(value) if value.isdigit() else {"true": True, "false": False}.get(value, value)


def _read(top: Table, folder: Path, *, as_process: bool) -> AnnounceSettings:
    faults = top.faults
    neighbors: frozenset[Address] = frozenset()
    if as_process:
        part, neighbors = read_lent_bgp(top.table("bgp"))
    else:
        part = read_bgp(top.table("bgp"))
        if not part.peers:
            faults.add("bgp.peers", 'expected at least one router, such as { address = "192.0.2.254", as = 64499 }')
    probes = tuple(located(probe, lambda file: folder / file) for probe in read_probes(NAME, top.tables("probes")))
    if not probes:
        faults.add("probes", 'expected at least one, such as { command = "curl -sf http://127.0.0.1/health" }')
    managed = part.loopback is not None
    rules = tuple(read_lone_route(table, managed=managed) for table in top.tables("routes"))
    _check_rules(faults, rules, part.routes_max)
    disable = top.take("disable_file", v.text, "")
    state_dir = top.take("state_dir", v.text, STATE_DIR)
    top.done(_KEYS)
    peers = tuple(_with_key(peer, named, folder, faults) for peer, named in part.peers)
    if faults.found:
        raise ConfigError(faults.in_order())
    bgp = BgpSettings(
        member=NAME,
        router_id=part.router_id,
        local_as=part.local_as,
        peers=peers,
        rules=rules,
        run_dir=folder / state_dir,
        user=part.user,
        attributes=part.attributes,
        routes_max=part.routes_max,
        changes_max=part.changes_of(len(rules)),
        loopback=part.loopback,
    )
    return AnnounceSettings(
        bgp=bgp,
        health=HealthSettings(member=NAME, sites=(NAME,), probes=probes),
        disable_file=folder / disable if disable else None,
        as_process=as_process,
        neighbors=neighbors,
    )


def _check_rules(faults: Faults, rules: tuple[RouteRule, ...], routes_max: int) -> None:
    if not rules:
        faults.add("routes", 'expected at least one, such as { prefix = "198.51.100.1/32" }')
    prefixes = [rule.prefix for rule in rules]
    for number, prefix in enumerate(prefixes):
        if prefix in prefixes[:number]:
            faults.add(f"routes[{number}].prefix", f"{prefix} is there already: expected it once")
    for inner, outer in overlaps(prefixes):
        faults.warn("routes", f"{inner} lies within {outer}, which draws its users when {inner} is withdrawn")
    if len(rules) > routes_max:
        faults.add("routes", f"{len(rules)} routes: expected at most routes_max = {routes_max}")


def _with_key(peer: Peer, named: NamedFile | None, folder: Path, faults: Faults) -> Peer:
    """The TCP MD5 key is never shown, not even when it is wrong."""
    if named is None:
        return peer
    try:
        key = (folder / named.name).read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not ASCII"
        faults.found.append(named.fault(f"{folder / named.name} cannot be read: {reason}"))
        return peer
    if not _MD5_KEY.fullmatch(key):
        faults.found.append(named.fault("expected 1 to 80 printable characters without spaces, quotes and semicolons"))
    return replace(peer, md5=key)


def refuse_mixture(options: argparse.Namespace) -> None:
    """A file and flags would leave open which of them counts. Raises ConfigError."""
    flags = [f"--{name.replace('_', '-')}" for name in FLAGS if getattr(options, name) not in (None, [], False)]
    if options.file is not None and flags:
        raise ConfigError((Fault(options.file, None, "", f"expected a file or flags, found both: {', '.join(flags)}"),))


FLAGS = (
    *("command", "http", "tcp", "interval", "timeout", "rise", "fall", "disable"),
    *("route", "on_down", "hold_down", "drain", "allow_private", "allow_long_prefix"),
    *("normal_med", "degraded_med", "drained_med", "normal_prepend", "degraded_prepend", "drained_prepend"),
    *("manage_loopback", "loopback", "loopback_delay"),
    *("community", "drained_community", "large_community", "local_preference", "neighbor"),
    *("router_id", "local_as", "peer", "user", "state_dir"),
)


def add_flags(command: argparse.ArgumentParser) -> None:
    """All of `anycastle announce`."""
    add = command.add_argument
    add("file", type=Path, nargs="?", metavar="FILE", help="TOML file that says it all; instead of the flags")
    add("--as-process", action="store_true", help="an ExaBGP that is there already runs this as its process")
    add("--check", action="store_true", help="say what is wrong with it, and end")
    checks = command.add_argument_group("is the service well? (all of them must succeed)")
    checks.add_argument("--command", action="append", metavar="CMD", help="status 0; run by /bin/sh; may be repeated")
    checks.add_argument("--http", action="append", metavar="URL", help="answers 200; may be repeated")
    checks.add_argument("--tcp", action="append", metavar="HOST:PORT", help="accepts; may be repeated")
    checks.add_argument("--interval", metavar="TIME", help='between two looks, such as "500ms"; default 1s')
    checks.add_argument("--timeout", metavar="TIME", help="a look that takes longer has failed; default 500ms")
    checks.add_argument("--rise", type=int, help="looks that succeed in a row make it up; default 2")
    checks.add_argument("--fall", type=int, help="looks that fail in a row make it down; default 3")
    checks.add_argument("--disable", metavar="FILE", help="while it exists the routes are drained")
    routes = command.add_argument_group("which routes, and how they look")
    routes.add_argument("--route", action="append", metavar="PREFIX", help="such as 198.51.100.1/32; may be repeated")
    routes.add_argument("--on-down", choices=("withdraw", "degrade"), help="default withdraw")
    routes.add_argument("--hold-down", metavar="TIME", help="a route that got worse stays so at least this long; 5s")
    routes.add_argument("--drain", metavar="TIME", help="with 65535:0 before a drained route is withdrawn; 10s")
    routes.add_argument("--allow-private", action="store_true", help="prefixes not globally reachable are meant")
    routes.add_argument(
        "--allow-long-prefix", action="store_true", help="so are those beyond /24 and /48; not of hosts"
    )
    for state in ("normal", "degraded", "drained"):
        routes.add_argument(f"--{state}-med", type=int, metavar="N")
        routes.add_argument(f"--{state}-prepend", type=int, metavar="N", help="own AS number in the path besides once")
    routes.add_argument("--local-preference", type=int, metavar="N", help="to routers of our own AS")
    routes.add_argument("--community", action="append", metavar="A:B", help="in every state; may be repeated")
    routes.add_argument("--drained-community", action="append", metavar="A:B", help="besides 65535:0; may be repeated")
    routes.add_argument("--large-community", action="append", metavar="A:B:C", help="may be repeated")
    routes.add_argument("--manage-loopback", action="store_true", help="addresses of host routes come and go with them")
    routes.add_argument("--loopback", metavar="INTERFACE", help="where; default lo")
    routes.add_argument("--loopback-delay", metavar="TIME", help="how long an address outlives its route; default 1s")
    own = command.add_argument_group("with an ExaBGP of our own")
    own.add_argument("--router-id", metavar="IP")
    own.add_argument("--local-as", type=int, metavar="N")
    own.add_argument("--peer", action="append", metavar="IP,as=N[,KEY=VALUE…]", help="a router; keys as in `peers`")
    own.add_argument("--user", help="whom ExaBGP becomes when we are root")
    own.add_argument("--state-dir", metavar="FOLDER", help=f"default {STATE_DIR}")
    lent = command.add_argument_group("with --as-process")
    lent.add_argument("--neighbor", action="append", metavar="IP", help="only these; default all; may be repeated")
