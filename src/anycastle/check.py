"""Everything that can be found wrong before anything starts: in the configuration, the files it names, this machine.

Laws: all of it at once, as far as one fault does not hide another; nothing is made, changed, bound or asked over the
network. `anycastle check` says it, and `anycastle serve` looks at its own machine the same way before it begins.
"""

import dataclasses
import importlib.util
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from anycastle.bgp.loopback import problem as loopback_problem
from anycastle.bgp.process import program
from anycastle.bgp.rundir import account
from anycastle.clock import SystemClock
from anycastle.config import Config, ConfigError, MemberConfig, overlap, read_config
from anycastle.config_read import Fault, Faults
from anycastle.dns.geo_load import GeoError, load_geo
from anycastle.dns.geo_review import covered_lines, unpreferred_sites
from anycastle.dns.master import Progress, load_zone
from anycastle.dns.settings import DnsSettings, GeoSettings
from anycastle.dns.tables import ZonesError, build_tables
from anycastle.errors import AnycastleError
from anycastle.health.settings import ExecCheck, HttpCheck, MysqlCheck, PostgresCheck, Probe
from anycastle.replicator.edge_tls import problems as certificate_faults
from anycastle.replicator.edge_verdict import account_ids
from anycastle.replicator.identity import Identity
from anycastle.replicator.pki import server_name
from anycastle.replicator.settings import GroupSettings, Tls


def check(file: Path, member: str | None, progress: Progress | None = None) -> tuple[Config, list[str]]:
    """The configuration and all its problems, a line each; with `member` its machine's too. Raises ConfigError."""
    config, faults = read_config(file)
    problems = [str(fault) for fault in faults.in_order()]
    together = not (faults.about("zones") or faults.about("names"))
    problems += table_problems(config, together=together, progress=progress)
    geo_problems, geo_warnings = look_at_geo(config)
    problems += geo_problems
    config = dataclasses.replace(config, warnings=(*config.warnings, *geo_warnings))
    if member is not None:
        problems += _member_problems(config, faults, member)
    return config, list(dict.fromkeys(problems))


def table_problems(config: Config, *, together: bool, progress: Progress | None = None) -> list[str]:
    """Of zones and steered names, which are the same at every site; `together` also one against another."""
    found: list[str] = []
    if together:
        # Names outside of all zones, a delegation that is missing. Geography comes by itself: it tells more of it.
        sites = config.steered_sites()
        settings = DnsSettings(
            member="check", listen=(), workers=1, zones=config.zones, names=config.names, sites=sites, geo=GeoSettings()
        )
        try:
            build_tables(settings, progress)
        except ZonesError as error:
            found = error.faults
        except AnycastleError as error:
            found = [str(error)]
        else:
            return []
    problems: list[str] = []
    for zone in config.zones:  # each by itself, for the first fault hides the others
        try:
            load_zone(zone, progress=progress)
        except AnycastleError as error:
            problems.append(str(error))
    return list(dict.fromkeys([*problems, *found]))


def look_at_geo(config: Config) -> tuple[Sequence[str], Sequence[Fault]]:
    """What is wrong with the map; if nothing is, what it says and its author hardly meant."""
    sites = config.steered_sites()
    try:
        geo = load_geo(config.geo, sites)
    except GeoError as error:
        return error.faults, []
    found = [*covered_lines(geo), *unpreferred_sites(geo, config.names, sites)]
    return [], [Fault(config.file, None, "geo", text) for text in found]


def _member_problems(config: Config, faults: Faults, member: str) -> list[str]:
    """Only of tables in which nothing is wrong: a stand-in would give a second, misleading line."""
    if faults.about("cluster") or faults.about(f"sites.{member}") or faults.about(f"witnesses.{member}"):
        return []
    groups = tuple(group for group in config.groups if not faults.about(f"groups.{group.name}"))
    try:
        return local_problems(dataclasses.replace(config, groups=groups).for_member(member))
    except ConfigError as error:
        return [str(fault) for fault in error.faults]


def local_problems(settings: MemberConfig) -> list[str]:
    """What a member needs on this machine and does not find."""
    problems = _state_problems(settings)
    problems += _root_problems(settings)
    problems += _certificate_problems(settings.link.tls, settings.member)
    problems += [problem for probe in settings.health.probes for problem in _probe_problems(probe)]
    if settings.verdict is not None and settings.verdict.owner:
        try:
            account_ids(settings.verdict.owner)
        except AnycastleError as error:
            problems.append(str(error))
    if settings.edge is not None:
        problems += certificate_faults(settings.edge.certificates, wall=SystemClock().wall())
        problems += _log_problems(settings.edge.access_log)
    if settings.bgp is not None:
        if settings.bgp.loopback is not None and (missing := loopback_problem(settings.bgp.loopback)):
            problems.append(missing)
        for needed in (program, lambda user=settings.bgp.user: account(user)):
            try:
                needed()
            except AnycastleError as error:
                problems.append(str(error))
    return problems


def _state_problems(settings: MemberConfig) -> list[str]:
    folder = settings.state_dir
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not there.is_dir():
        return [f"state_dir {folder} cannot be made: {there} is not a folder"]
    if not os.access(there, os.W_OK | os.X_OK):
        return [f"state_dir {folder} is not writable: expected a folder this user may write to"]
    return []


def _root_problems(settings: MemberConfig) -> list[str]:
    problems = []
    state = ("state_dir", Path(os.path.realpath(settings.state_dir)))
    real: list[tuple[str, Path]] = [state]
    for group in settings.replica.groups:
        problem = _root_problem(group)
        if problem:
            problems.append(problem)
            continue
        root = Path(os.path.realpath(group.root))
        problems += [
            f"group {group.name}: root {group.root} is {root}, which overlaps {what} ({other})"
            for what, other in real
            if overlap(root, other)
        ]
        real.append((f"the root of group {group.name}", root))
    return problems


def _root_problem(group: GroupSettings) -> str:
    where = f"group {group.name}: root {group.root}"
    if not group.root.exists():
        return f"{where} is not there: expected a folder"
    if not group.root.is_dir():
        return f"{where} is not a folder: expected one"
    if not os.access(group.root, os.R_OK | os.W_OK | os.X_OK):
        return f"{where} is not writable: expected a folder this user may read and write"
    return ""


def _log_problems(file: Path | None) -> list[str]:
    if file is None or (file.is_file() and os.access(file, os.W_OK)):
        return []
    if not file.exists() and file.parent.is_dir() and os.access(file.parent, os.W_OK | os.X_OK):
        return []
    return [f"edge.access_log {file} cannot be written: expected a file in a folder that is there"]


def _probe_problems(probe: Probe) -> Iterator[str]:
    """Files and drivers without which it can only fail."""
    where = f"probe {probe.name} of {probe.site}"
    match probe.check:
        case HttpCheck(authority=authority):
            files = {"authority": authority}
        case PostgresCheck(database=database) | MysqlCheck(database=database):
            files = {"authority": database.authority, "password_file": database.password_file}
            extra, driver = ("postgres", "asyncpg") if isinstance(probe.check, PostgresCheck) else ("mysql", "asyncmy")
            if importlib.util.find_spec(driver) is None:
                yield f"{where} needs the driver {driver}: pip install 'anycastle[{extra}]'"
        case ExecCheck(arguments=(program, *_)):
            files = {}
            if not os.access(program, os.X_OK):
                yield f"{where}: {program} is not there, or no program that this user may run"
        case _:
            files = {}
    for key, file in files.items():
        if file is not None and not (file.is_file() and os.access(file, os.R_OK)):
            yield f"{where}: {key} {file} cannot be read: expected a file this user may read"


def _certificate_problems(tls: Tls, member: str) -> list[str]:
    missing = [file for file in (tls.authority, tls.certificate, tls.key) if not file.is_file()]
    if missing:
        return [f"{file} is not there: expected what `anycastle pki` makes" for file in missing]
    try:
        return list(_identity_problems(tls, member))
    except AnycastleError as error:
        return [str(error)]


def _identity_problems(tls: Tls, member: str) -> Iterable[str]:
    """The others would turn such a certificate away, or take us for somebody else. Raises PkiError."""
    own = Identity(tls).certificates[0]
    if own.names != (server_name(member),):
        yield f"{tls.certificate} names {', '.join(own.names) or 'nobody'}: expected {server_name(member)}"
