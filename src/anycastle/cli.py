"""The command line: `anycastle COMMAND`. Commands that ask a running member do so over its Unix socket.

Laws: a fault is one clear line each on stderr, and exit status 2; a question answered with "no" (not landed, not found)
is exit status 1; `--json` prints the API's answer as it is.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Coroutine
from pathlib import Path

from anycastle import __version__, commands, commands_pki, init
from anycastle.announce_config import add_flags, from_flags, load, refuse_mixture
from anycastle.clock import SystemClock
from anycastle.config import Config, ConfigError, load_config
from anycastle.config_log import LogSettings
from anycastle.config_profile import profile_about, profile_names, profile_text
from anycastle.errors import AnycastleError
from anycastle.log import log_to_stderr
from anycastle.roster import next_step
from anycastle.takeover import Predecessor

DEFAULT_CONFIG = "/etc/anycastle/anycastle.toml"


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except ConfigError as error:
        for fault in error.faults:
            print(fault, file=sys.stderr)
        return 2
    except AnycastleError as error:
        print(f"anycastle: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="anycastle", description="Steer users to the closest site that has it.")
    parser.add_argument("--version", action="version", version=f"anycastle {__version__}")
    commands_of = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: object, help: str, *, asks: bool = True) -> argparse.ArgumentParser:
        command = commands_of.add_parser(name, help=help, description=help)
        command.set_defaults(run=run)
        command.add_argument("--config", type=Path, default=Path(DEFAULT_CONFIG), help=f"default {DEFAULT_CONFIG}")
        command.add_argument("--site", help="which member; may be left out where only one runs on this machine")
        if asks:
            command.add_argument("--json", action="store_true", help="print the API's answer")
        return command

    add("serve", _serve, "run a member", asks=False).add_argument(
        "--rebuild-ledger",
        action="store_true",
        help="set a damaged ledger aside first, and take the journal back from the other members; all must be up",
    )
    add("check", _check, "say everything that is wrong with the configuration", asks=False)
    doctor = add(
        "doctor", _doctor, "what of this machine, its disks, rights, ports and neighbours is amiss", asks=False
    )
    doctor.add_argument("--json", action="store_true", help="print one object")
    help = "write a first configuration, from five answers"
    first = commands_of.add_parser("init", help=help, description=help)
    init.add_flags(first)
    first.set_defaults(run=init.init)
    status = add("status", commands.status, "the member, its sites, links and routes")
    help = "show it anew every so many seconds (1), until Ctrl-C"
    status.add_argument("--watch", type=float, nargs="?", const=1.0, metavar="SECONDS", help=help)
    for name, run, help in (
        ("sites", commands.sites, "every site: health, currency, what is withheld and why"),
        ("lag", commands.lag, "replication: origin × site, and what is in flight"),
        ("reload", commands.reload, "read zones, names and geography anew, all or nothing"),
        ("restart", commands.restart, "another process takes over, and no query or request is lost: for upgrades"),
    ):
        add(name, run, help)
    audit = add("audit", commands.audit, "the changes that were asked for at this member: who, what, from where, when")
    audit.add_argument("--limit", type=int, default=50, metavar="N", help="the newest N, default 50")
    routes = add("routes", commands.routes, "BGP sessions and routes: wanted, acknowledged, why")
    instead = routes.add_mutually_exclusive_group()
    instead.add_argument(
        "--dry-run", action="store_true", help="what routers would be told next, and what is held back"
    )
    instead.add_argument("--accept", action="store_true", help="let happen what is refused as too many changes at once")
    routes.add_argument("--view", type=Path, metavar="FILE", help="with --dry-run: of this view (JSON), offline")
    freeze = add("freeze", commands.freeze, "no route changes at this site, but by drains; survives restarts")
    freeze.add_argument("--reason", default="no reason given", metavar="TEXT", help="one line, shown by routes")
    add("thaw", commands.thaw, "take a freeze back")
    add("where", commands.where, "which sites have which version of a path").add_argument("place", metavar="GROUP:PATH")
    wait = add("wait", commands.wait, "block until a path has landed")
    wait.add_argument("place", metavar="GROUP:PATH")
    wait.add_argument("--sites", default="all", help="all, or names joined by commas")
    wait.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="default 60")
    explain = add("explain", commands.explain, "the answer a client would get, and every reason")
    explain.add_argument("name", metavar="NAME")
    explain.add_argument("--client", metavar="IP", help="address or network of the client")
    explain.add_argument(
        "--all-networks",
        action="store_true",
        help="the whole map instead: each network, where it is sent now, its order of sites; --json: one object a line",
    )
    explain.add_argument("--type", default="A", help="A (default), AAAA, or any other record type")
    for name, run, help in (
        ("drain", commands.drain, "move users away from a site; survives restarts"),
        ("undrain", commands.undrain, "take a drain back"),
    ):
        command = add(name, run, help)
        command.add_argument("target", metavar="SITE")
        command.add_argument("--group", default="*", help="one group only")
    nginx = add("nginx-config", _nginx_config, "write the configuration of an nginx beside a member", asks=False)
    nginx.add_argument("--group", help="of this group only; otherwise of all")
    nginx.add_argument("--listen", action="append", help="where nginx listens, default 80 and [::]:80; may be repeated")
    nginx.add_argument("--php", metavar="PLACE", help="where php-fpm listens, such as unix:/run/php/php8.2-fpm.sock")
    scrub = add("scrub", commands.scrub, "read all files again, and repair what is damaged; status 1 if some cannot be")
    scrub.add_argument("group", metavar="GROUP", nargs="?", help="one group only")
    scrub.add_argument("--no-wait", action="store_true", help="begin, and do not wait for the end")
    conflicts = add("conflicts", commands.conflicts, "paths edited at two sites at once; fetch and settle them")
    conflicts.add_argument("verb", nargs="?", choices=("get", "resolve"), help="default: list them")
    conflicts.add_argument("id", nargs="?", type=int, metavar="ID")
    conflicts.add_argument("--to", type=Path, metavar="FILE", help="get: write the kept version there, not to stdout")
    conflicts.add_argument("--keep", choices=("current", "theirs"), help="resolve: which version stays")
    resync = add("resync", commands.resync, "compare what a member holds with what the others have")
    resync.add_argument("group", nargs="?", default="*", metavar="GROUP", help="default: all")
    help = "print the API's OpenAPI document"
    commands_of.add_parser("openapi", help=help, description=help).set_defaults(run=_openapi)
    help = "health probes to routes, and nothing else: instead of `exabgp healthcheck`"
    announce = commands_of.add_parser("announce", help=help, description=help)
    add_flags(announce)
    announce.set_defaults(run=_announce)
    help = "what comes with the program for one kind of software: the names, or one of them as a file to copy"
    profile = commands_of.add_parser("profile", help=help, description=help)
    profile.add_argument("name", metavar="NAME", nargs="?", help="print this one")
    profile.set_defaults(run=_profile)
    _add_pki(commands_of)
    return parser


def _add_pki(commands_of: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    pki = commands_of.add_parser("pki", help="make the authority and the members' certificates")
    verbs = pki.add_subparsers(required=True, metavar="VERB")
    first = verbs.add_parser("init", help="make the cluster's certificate authority")
    first.add_argument("folder", type=Path, metavar="FOLDER", help="where ca.pem and ca.key are put")
    first.set_defaults(run=commands_pki.pki_init)
    issue = verbs.add_parser("issue", help="make a member's key and certificate")
    issue.add_argument("folder", type=Path, metavar="FOLDER", help="the authority's; MEMBER.pem and .key are put there")
    issue.add_argument("member", metavar="MEMBER", help="a name in cluster.members")
    issue.set_defaults(run=commands_pki.pki_issue)
    renew = verbs.add_parser("renew", help="make a member's key and certificate anew, in place of the old ones")
    renew.add_argument("folder", type=Path, metavar="FOLDER", help="the authority's, with MEMBER.pem and MEMBER.key")
    renew.add_argument("member", metavar="MEMBER", help="a name in cluster.members")
    renew.set_defaults(run=commands_pki.pki_renew)
    show = verbs.add_parser("show", help="names, validity, days left, fingerprint; status 1 if one ends within 30 days")
    show.add_argument("files", type=Path, nargs="+", metavar="FILE", help="certificates, or folders of them")
    show.add_argument("--json", action="store_true", help="print one object")
    show.set_defaults(run=commands_pki.pki_show)


def _serve(options: argparse.Namespace) -> int:
    """A process that is to take over from another says there why it cannot."""
    predecessor = Predecessor.from_environment(os.environ)
    try:
        return _serve_after(predecessor, options)
    except AnycastleError as error:
        if predecessor is not None:
            predecessor.refused(str(error))
        raise


def _serve_after(predecessor: Predecessor | None, options: argparse.Namespace) -> int:
    from anycastle.check import local_problems  # everything else starts faster without them
    from anycastle.replicator.rebuild import set_aside
    from anycastle.serve import serve

    config = load_config(options.config)
    if options.site is None:
        raise AnycastleError(f"say which member to run with --site; members: {', '.join(config.members)}")
    settings = config.for_member(options.site)
    _warn(config)
    if problems := local_problems(settings):
        if predecessor is not None:
            predecessor.refused("; ".join(problems))
        print(*problems, sep="\n", file=sys.stderr)
        return 2
    if options.rebuild_ledger and (aside := set_aside(settings.state_dir / "ledger.sqlite")):
        print(f"the damaged ledger is now {aside}", file=sys.stderr)
    log_to_stderr(config.log, SystemClock())
    return _run(serve(config, settings, SystemClock(), predecessor))


def _announce(options: argparse.Namespace) -> int:
    """Needs no member, and no configuration of one."""
    from anycastle.announce import announce

    refuse_mixture(options)
    file: Path | None = options.file
    settings = load(file, as_process=options.as_process) if file else from_flags(options)
    if options.check:
        what = f"{len(settings.bgp.rules)} routes, {len(settings.health.probes)} probes"
        print(f"right ({what}, {len(settings.bgp.peers)} routers)")
        return 0
    log_to_stderr(LogSettings(), SystemClock())
    return _run(announce(settings, SystemClock()))


def _doctor(options: argparse.Namespace) -> int:
    from anycastle.doctor import doctor

    return doctor(options)


def _openapi(options: argparse.Namespace) -> int:
    from anycastle.health.openapi import document

    print(json.dumps(document(), indent=2, ensure_ascii=False))
    return 0


def _profile(options: argparse.Namespace) -> int:
    """Reads only what the program brings along."""
    if options.name is not None:
        print(profile_text(options.name), end="")
        return 0
    width = max(map(len, profile_names()))
    for name in profile_names():
        print(f"{name:{width}}  {profile_about(name)}")
    return 0


def _run(program: Coroutine[None, None, None]) -> int:
    try:
        asyncio.run(program)
    except ExceptionGroup as group:
        expected, other = group.split(AnycastleError)
        if other is not None or expected is None:
            raise
        raise _first(expected) from None
    return 0


def _nginx_config(options: argparse.Namespace) -> int:
    """Needs no member that runs, and none of its secrets."""
    from anycastle.nginx import Wanted, nginx_config, select

    config = load_config(options.config)
    site = options.site or next(iter(config.sites))
    if options.site is None and len(config.sites) > 1:
        raise AnycastleError(f"say for which site with --site; sites: {', '.join(config.sites)}")
    config.check_member(site)
    wanted = Wanted(php=options.php, **({"listen": tuple(options.listen)} if options.listen else {}))
    groups = select(config.content_groups(site), options.group)
    print(nginx_config(config.edge(site), config.verdict(site), groups, wanted), end="")
    return 0


def _first(group: ExceptionGroup[AnycastleError]) -> AnycastleError:
    """Of several tasks that fell together, the error that came first."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, ExceptionGroup) else error


def _check(options: argparse.Namespace) -> int:
    """Never touches the network; with --site also what must be there on this machine."""
    from anycastle.check import check
    from anycastle.loading import shown

    with shown() as progress:
        config, problems = check(options.config, options.site, progress)
    _warn(config)
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        what = f"{len(config.members)} members, {len(config.groups)} groups, {len(config.names)} steered names"
        print(f"{options.config}: right ({what})")
        if step := next_step(config.members, config.members_previous, None):
            print(f"note: {step}")
    return 2 if problems else 0


def _warn(config: Config) -> None:
    for warning in config.warnings:
        print(f"warning: {warning}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
