"""The one configuration file, the same at every site: read, checked as a whole, and turned into each part's settings.

Laws: unknown keys are faults; all faults are reported at once; reading never touches the network. Relative files are
relative to the configuration file; `{site}` in a file name stands for the member that reads it.
"""

import base64
import contextlib
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from anycastle import config_values as v
from anycastle.bgp.settings import BgpSettings, Peer
from anycastle.config_edge import EdgePart, check_edge, read_edge
from anycastle.config_log import LogSettings, read_log
from anycastle.config_parts import (
    GroupPart,
    LocalPart,
    SitePart,
    read_group,
    read_name,
    read_site,
)
from anycastle.config_probes import counting, located
from anycastle.config_read import ConfigError, Fault, Faults, NamedFile, Table, read_toml
from anycastle.config_routes import RoutePart, check_routes, read_route
from anycastle.config_tokens import TokenFault, read_tokens
from anycastle.config_zones import KeyPart, read_keys, read_zone
from anycastle.dns.settings import DnsSettings, GeoSettings, SteeredName, SteeredSite, TsigKey, ZoneFile
from anycastle.health.settings import HealthSettings, Reading
from anycastle.replicator.settings import (
    CertificateFiles,
    EdgeSettings,
    GroupSettings,
    Lease,
    LinkSettings,
    ReplicaSettings,
    Tls,
    VerdictSettings,
)

__all__ = ["Config", "ConfigError", "DashboardSettings", "MemberConfig", "load_config", "read_config"]

CONTROL_SOCKET = "control.sock"
"""In `state_dir`; whoever may open it may command the member."""
_COOKIE_SECRETS = (
    re.compile(r"[0-9A-Fa-f]{32}(\s+[0-9A-Fa-f]{32})*"),
    "lines of 32 hexadecimal digits, the one that signs first",
)
_AFFINITY_KEYS = (
    re.compile(r"[0-9A-Fa-f]{64}(\s+[0-9A-Fa-f]{64})*"),
    "lines of 64 hexadecimal digits, the one that signs first",
)
_MD5_KEY = re.compile(r"[!#-&(-:<-~]{1,80}"), "1 to 80 printable characters without spaces, quotes and semicolons"
_TSIG_SECRET = (
    re.compile(r"(?=.{16})(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"),
    "a secret in base64, at least 16 characters, such as: head -c 32 /dev/urandom | base64",
)
_TOP = ("cluster", "sites", "witnesses", "groups", "zones", "names", "keys", "routes", "geo", "edge", "log")


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardSettings:
    """Where a member shows itself over TCP; the commands always use the Unix socket in `state_dir`."""

    listen: tuple[str, int]
    token_file: Path | None
    """Changes over TCP need a token from it; None allows reading only. Read again whenever it changes."""
    reading: Reading = Reading.OPEN
    hosts: tuple[str, ...] = ()
    """Names by which it may be asked, beside addresses and names that are nobody's on the internet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberConfig:
    """What one member runs."""

    member: str
    cluster: str
    state_dir: Path
    coordinates: dict[str, tuple[float, float]]
    replica: ReplicaSettings
    link: LinkSettings
    health: HealthSettings
    dns: DnsSettings | None
    bgp: BgpSettings | None
    edge: EdgeSettings | None
    verdict: VerdictSettings | None
    dashboard: DashboardSettings | None
    log: LogSettings

    @property
    def control_socket(self) -> Path:
        return self.state_dir / CONTROL_SOCKET


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole file, checked."""

    file: Path
    name: str
    members: tuple[str, ...]
    members_previous: tuple[str, ...]
    lease: Lease
    tls: Tls
    sites: dict[str, SitePart]
    witnesses: dict[str, LocalPart]
    groups: tuple[GroupPart, ...]
    keys: tuple[KeyPart, ...]
    zones: tuple[ZoneFile, ...]
    names: tuple[SteeredName, ...]
    routes: tuple[RoutePart, ...]
    geo: GeoSettings
    edge_part: EdgePart
    log: LogSettings
    warnings: tuple[Fault, ...] = ()
    """What may be meant, and more often is not."""

    def check_member(self, member: str) -> None:
        """Raises ConfigError for a name that is not in the roster."""
        if member not in self.members:
            known = ", ".join(self.members)
            raise ConfigError((Fault(self.file, None, "cluster.members", f"has no {member!r}; members: {known}"),))

    def control_socket(self, member: str) -> Path:
        """Where a member listens for commands; needs none of its secrets."""
        self.check_member(member)
        return self._path(self._local(member).state_dir, member) / CONTROL_SOCKET

    def for_member(self, member: str) -> MemberConfig:
        """The settings of one member. Raises ConfigError for a name not in the roster, or secrets that cannot be read.

        Token and keys are read here, so that no member needs those of another.
        """
        self.check_member(member)
        site, local = self.sites.get(member), self._local(member)
        faults: list[Fault] = []
        bgp, dashboard = self._bgp(member, site, faults), self._dashboard(member, local, faults)
        dns, edge = self._dns(member, site, faults), self.edge(member)
        affinity_keys = self._secret(self.edge_part.affinity_keys if edge else None, member, *_AFFINITY_KEYS, faults)
        if faults:
            raise ConfigError(tuple(faults))
        return MemberConfig(
            member=member,
            cluster=self.name,
            state_dir=self._path(local.state_dir, member),
            coordinates={name: part.coordinates for name, part in self.sites.items() if part.coordinates},
            replica=self._replica(member, self._path(local.state_dir, member)),
            link=self._link(member, local),
            health=self._health(member),
            dns=dns,
            bgp=bgp,
            edge=edge and replace(edge, affinity_keys=tuple(map(bytes.fromhex, (affinity_keys or "").split()))),
            verdict=self.verdict(member),
            dashboard=dashboard,
            log=self.log,
        )

    def _health(self, member: str) -> HealthSettings:
        """What this member looks at; what groups require, each site looks at itself."""
        required = _required(self.groups)
        probes = [probe for part in self.sites.values() for probe in part.probes]
        return HealthSettings(
            member=member,
            sites=tuple(self.sites),
            probes=tuple(
                replace(located(probe, lambda file: self._path(str(file), member)), gates_only=probe.name in required)
                for probe in probes
                if probe.site == member or not (probe.site_only or probe.name in required)
            ),
            requires={part.name: part.requires for part in self.groups if part.requires and member in self.sites},
        )

    def edge(self, member: str) -> EdgeSettings | None:
        """Without its secret keys, which only `for_member` reads."""
        site, part = self.sites.get(member), self.edge_part
        if site is None or not (site.edge.listen or site.edge.tls_listen):
            return None
        return EdgeSettings(
            site=member,
            listen=site.edge.listen,
            tls_listen=site.edge.tls_listen,
            certificates=tuple(
                CertificateFiles(self._path(certificate, member), self._path(key, member))
                for certificate, key in part.certificates
            )
            if site.edge.tls_listen
            else (),
            trusted_proxies=part.trusted_proxies,
            body_bytes_max=part.body_bytes_max,
            response_held_bytes_max=part.held_bytes_max,
            connections_max=part.connections_max,
            connections_per_client_max=part.connections_per_client_max,
            head_seconds_max=part.head_seconds_max,
            silence_seconds_max=part.client_seconds_max,
            application_timeout_seconds=part.application_seconds_max,
            drain_seconds_max=part.drain_seconds_max,
            verdict_headers=part.verdict_headers,
            access_log=self._path(part.access_log, member) if part.access_log else None,
            websockets_max=part.websockets_max,
            websocket_silence_seconds_max=part.websocket_seconds_max,
        )

    def verdict(self, member: str) -> VerdictSettings | None:
        part = self.sites[member].edge.verdict if member in self.sites else None
        if part is None:
            return None
        path = self._path(part.socket, member)
        passes = path.with_name(f"{path.name}.pass") if part.passes else None
        return VerdictSettings(site=member, socket=path, owner=part.owner, mode=part.mode, passes=passes)

    def content_groups(self, member: str) -> tuple[GroupSettings, ...]:
        """The groups that a member holds the content of."""
        return tuple(self._group(part, member) for part in self.groups) if member in self.sites else ()

    def steered_sites(self) -> tuple[SteeredSite, ...]:
        """What steering knows of every site."""
        return tuple(
            SteeredSite(
                name=name,
                addresses=part.addresses,
                coordinates=part.coordinates,
                cost=part.cost,
                weight=part.weight,
                soft_load=part.soft_load,
                hard_load=part.hard_load,
            )
            for name, part in self.sites.items()
        )

    def _local(self, member: str) -> LocalPart:
        return self.sites[member].local if member in self.sites else self.witnesses[member]

    def _path(self, path: str, member: str) -> Path:
        return (self.file.parent / path.replace("{site}", member)).absolute()

    def _replica(self, member: str, state_dir: Path) -> ReplicaSettings:
        return ReplicaSettings(
            member=member,
            members=self.members,
            members_previous=self.members_previous,
            sites=tuple(self.sites),
            distance=self._nearest(member),
            groups=self.content_groups(member),
            group_names=tuple(part.name for part in self.groups),
            lease=self.lease,
            state_dir=state_dir,
            retention_seconds={part.name: part.retention_seconds for part in self.groups},
        )

    def _group(self, part: GroupPart, member: str) -> GroupSettings:
        return GroupSettings(
            name=part.name,
            root=self._path(part.root, member),
            hosts=part.hosts,
            document_root=part.document_root,
            application=self.sites[member].applications.get(part.name, part.application),
            prefix_depth=max((_depth(name) for name in self.names if name.group == part.name), default=0),
            writes=part.writes,
            copies=part.copies,
            isolated=part.isolated,
            exclude=part.exclude,
            dynamic=part.dynamic,
            writing=part.writing,
            fence_timeout_seconds=part.fence_timeout_seconds,
            wait_max_seconds=part.wait_max_seconds,
            static=part.static,
            affinity_seconds=part.affinity_seconds,
            settle_seconds=part.settle_seconds,
            scrub_bytes_per_second=part.scrub_bytes_per_second,
            seed=part.seed,
        )

    def _nearest(self, member: str) -> tuple[str, ...]:
        """The other sites, nearest first; those without coordinates last, in the order of the file."""
        others = [name for name in self.sites if name != member]
        here = self.sites[member].coordinates if member in self.sites else None
        if here is None:
            return tuple(others)
        return tuple(sorted(others, key=lambda name: _distance(here, self.sites[name].coordinates)))

    def _link(self, member: str, local: LocalPart) -> LinkSettings:
        parts = {name: site.local for name, site in self.sites.items()} | self.witnesses
        return LinkSettings(
            member=member,
            listen=local.link_listen,
            peers={name: part.link for name, part in parts.items() if name != member},
            tls=Tls(
                authority=self._path(str(self.tls.authority), member),
                certificate=self._path(str(self.tls.certificate), member),
                key=self._path(str(self.tls.key), member),
            ),
            source_address=local.link_source,
            body_bytes_per_second=local.body_rate,
            body_hours=local.body_rate_hours,
            compress=local.compress,
        )

    def _dns(self, member: str, site: SitePart | None, faults: list[Fault]) -> DnsSettings | None:
        if site is None or not site.dns_listen:
            return None
        cookie_secrets = self._secret(site.dns_cookie_secrets, member, *_COOKIE_SECRETS, faults)
        return DnsSettings(
            member=member,
            listen=site.dns_listen,
            workers=site.dns_workers,
            zones=self.zones,
            keys=tuple(key for part in self.keys if (key := self._key(part, member, faults)) is not None),
            names=self.names,
            sites=self.steered_sites(),
            geo=self.geo,
            cookie_secrets=tuple(map(bytes.fromhex, (cookie_secrets or "").split())),
            responses_per_second_max=site.dns_responses_per_second,
            tcp_connections_max=site.dns_tcp_connections,
            tcp_connections_per_client_max=site.dns_tcp_connections_per_client,
        )

    def _key(self, part: KeyPart, member: str, faults: list[Fault]) -> TsigKey | None:
        secret = self._secret(part.secret_file, member, *_TSIG_SECRET, faults)
        if secret is None:
            return None
        return TsigKey(name=part.name, algorithm=part.algorithm, secret=base64.b64decode(secret))

    def _bgp(self, member: str, site: SitePart | None, faults: list[Fault]) -> BgpSettings | None:
        if site is None or site.bgp is None:
            return None
        isolated = {part.name: part.isolated.value == "refuse" for part in self.groups}
        rules = tuple(part.rule(isolated.get(part.group or "", True)) for part in self.routes if member in part.sites)
        return BgpSettings(
            member=member,
            router_id=site.bgp.router_id,
            local_as=site.bgp.local_as,
            peers=tuple(self._peer(peer, md5_file, member, faults) for peer, md5_file in site.bgp.peers),
            rules=rules,
            changes_max=site.bgp.changes_of(len(rules)),
            run_dir=self._path(site.local.state_dir, member) / "bgp",
            user=site.bgp.user,
            attributes=site.bgp.attributes,
            routes_max=site.bgp.routes_max,
            loopback=site.bgp.loopback,
        )

    def _peer(self, peer: Peer, md5_file: NamedFile | None, member: str, faults: list[Fault]) -> Peer:
        return replace(peer, md5=self._secret(md5_file, member, *_MD5_KEY, faults))

    def _dashboard(self, member: str, local: LocalPart, faults: list[Fault]) -> DashboardSettings | None:
        part = local.dashboard
        if part.listen is None:
            return None
        file = self._path(part.token_file.name, member) if part.token_file else None
        if file is not None and part.token_file is not None:
            try:
                read_tokens(file)
            except TokenFault as fault:
                faults.append(part.token_file.fault(str(fault)))
        return DashboardSettings(listen=part.listen, token_file=file, reading=part.reading, hosts=part.hosts)

    def _secret(
        self, named: NamedFile | None, member: str, form: re.Pattern[str], expected: str, faults: list[Fault]
    ) -> str | None:
        """What stands in the file. It is never shown, not even when it is wrong."""
        if named is None:
            return None
        path = self._path(named.name, member)
        try:
            secret = path.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not ASCII"
            faults.append(named.fault(f"{path} cannot be read ({reason}): expected {expected}"))
            return None
        if not form.fullmatch(secret):
            faults.append(named.fault(f"{path}: expected {expected}"))
            return None
        return secret


@contextlib.contextmanager
def short_path(socket: Path) -> Iterator[str]:
    """The same place by way of its folder's descriptor: a Unix socket's path ends at 107 bytes, state_dir need not.

    Raises OSError when the folder is not there.
    """
    folder = os.open(socket.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{socket.name}"
    finally:
        os.close(folder)


def load_config(file: Path) -> Config:
    """Read and check the whole file. Raises ConfigError with every fault, in the order of lines."""
    config, faults = read_config(file)
    if faults.found:
        raise ConfigError(faults.in_order())
    return config


def read_config(file: Path) -> tuple[Config, Faults]:
    """The file, with stand-ins for what is wrong in it, so that what is right can be looked at all the same.

    Raises ConfigError when it cannot be read or is not TOML.
    """
    values, faults = read_toml(file)
    top = Table(values, "", faults)
    cluster = top.table("cluster")
    name = cluster.need("name", v.text, "?", '"example"')
    nobody: tuple[str, ...] = ()
    members = cluster.need("members", v.many(v.short_name), nobody, '["ams", "nyc", "sgp"]')
    previous = cluster.take("members_previous", v.many(v.short_name), nobody)
    tls = _read_tls(cluster.table("tls"))
    lease = _read_lease(cluster.table("lease"))
    cluster.done(("name", "members", "members_previous", "tls", "lease"))

    sites = {key: read_site(key, table) for key, table in top.table("sites").named().items()}
    witnesses = {key: _read_witness(table) for key, table in top.table("witnesses").named().items()}
    _check_roster(faults, members, tuple(sites), tuple(witnesses))
    groups = tuple(read_group(key, table, tuple(sites)) for key, table in top.table("groups").named().items())
    group_names = tuple(group.name for group in groups)
    _check_applications(faults, sites, group_names)
    _check_probes(faults, sites, groups)
    folder = file.absolute().parent
    _check_roots(faults, folder, groups, {name: site.local.state_dir for name, site in sites.items()})
    keys = read_keys(top.table("keys"))
    key_names = tuple(key.name for key in keys)
    zones = tuple(zone for table in top.tables("zones") if (zone := read_zone(table, folder, key_names)) is not None)
    names = tuple(read_name(table, group_names, tuple(sites)) for table in top.tables("names"))
    _check_names(faults, names, sites)
    routes = tuple(
        read_route(table, group_names, tuple(key for key, site in sites.items() if site.bgp))
        for table in top.tables("routes")
    )
    check_routes(faults, routes, {key: site.bgp for key, site in sites.items() if site.bgp})
    geo = _read_geo(top.table("geo"), folder)
    edge_table = top.table("edge")
    edge = read_edge(edge_table)
    affine = tuple(group.name for group in groups if group.affinity_seconds is not None)
    check_edge(edge_table, edge, {key: site.edge for key, site in sites.items()}, affine)
    log = read_log(top.table("log"))
    top.done(_TOP)
    config = Config(
        file=file.absolute(),
        name=name,
        members=members,
        members_previous=previous,
        lease=lease,
        tls=tls,
        sites=sites,
        witnesses=witnesses,
        groups=groups,
        keys=keys,
        zones=zones,
        names=names,
        routes=routes,
        geo=geo,
        edge_part=edge,
        log=log,
        warnings=tuple(faults.warned),
    )
    return config, faults


def _read_tls(table: Table) -> Tls:
    tls = Tls(
        authority=Path(table.take("authority", v.text, "pki/ca.pem")),
        certificate=Path(table.take("certificate", v.text, "pki/{site}.pem")),
        key=Path(table.take("key", v.text, "pki/{site}.key")),
    )
    table.done(("authority", "certificate", "key"))
    return tls


def _read_lease(table: Table) -> Lease:
    lease = Lease(
        term_seconds=table.take("term", v.positive_seconds, 3.0),
        renewal_seconds=table.take("renewal", v.positive_seconds, 1.0),
        drift=table.take("drift", v.share, 0.02),
    )
    table.done(("term", "renewal", "drift"))
    if lease.renewal_seconds * 2 > lease.term_seconds:
        table.fault("", "expected a term of at least twice the renewal, so that one lost message costs nothing")
    return lease


def _read_witness(table: Table) -> LocalPart:
    local = LocalPart.read(table)
    table.done(LocalPart.KEYS)
    return local


def _read_geo(table: Table, folder: Path) -> GeoSettings:
    keys = ("country", "city", "asn", "distances", "networks")
    files = {key: folder / file if (file := table.take(key, v.text, "")) else None for key in keys}
    table.done(keys)
    if files["asn"] and not files["distances"]:
        table.fault("asn", "is used for the AS numbers of geo.distances only: expected that file too")
    return GeoSettings(**files)


def _check_roster(faults: Faults, members: tuple[str, ...], sites: tuple[str, ...], witnesses: tuple[str, ...]) -> None:
    if len(set(members)) != len(members):
        faults.add("cluster.members", "expected each member once")
    for member in members:
        if member not in sites and member not in witnesses:
            faults.add("cluster.members", f"{member!r} needs a table [sites.{member}] or [witnesses.{member}]")
    for kind, names in (("sites", sites), ("witnesses", witnesses)):
        for name in names:
            if name not in members:
                faults.add(f"{kind}.{name}", "is not one of cluster.members")
    for name in set(sites) & set(witnesses):
        faults.add(f"witnesses.{name}", "is a site already; a witness holds no content")


def _check_applications(faults: Faults, sites: dict[str, SitePart], groups: tuple[str, ...]) -> None:
    for name, site in sites.items():
        for group in site.applications:
            if group not in groups:
                faults.add(f"sites.{name}.applications.{group}", f"no such group; groups: {', '.join(groups)}")


def _required(groups: tuple[GroupPart, ...]) -> frozenset[str]:
    """Labels of probes that gate groups."""
    return frozenset(label for group in groups for label in group.requires)


def _check_probes(faults: Faults, sites: dict[str, SitePart], groups: tuple[GroupPart, ...]) -> None:
    for group in groups:
        for label in group.requires:
            without = [name for name, site in sites.items() if label not in {probe.name for probe in site.probes}]
            if without:
                problem = f"{label!r} is the label of no probe of {', '.join(without)}: expected one at each site"
                if group.requires_by_profile:
                    problem += "; the profile asks for it, and requires = [] here would not"
                faults.add(f"groups.{group.name}.requires", problem)
    required = _required(groups)
    for name, site in sites.items():
        if site.probes and not counting(site.probes, required):
            problem = "expected one that all members make and no group requires: else nobody sees this site go down"
            faults.add(f"sites.{name}.probes", problem)


def _check_roots(faults: Faults, folder: Path, groups: tuple[GroupPart, ...], state_dirs: Mapping[str, str]) -> None:
    """Two groups over one tree would announce each other's landings for ever, and a ledger in a tree its own growth.

    By name only; where a symlink leads, only its own machine can say (`anycastle.check`).
    """
    for i, group in enumerate(groups):
        others = [(other.root, f"the root of group {other.name!r} ({other.root})") for other in groups[:i]]
        for site, state_dir in state_dirs.items():
            root = _plain_path(folder, group.root, site)
            named = [*others, (state_dir, f"state_dir of {site} ({state_dir})")]
            found = [what for path, what in named if overlap(root, _plain_path(folder, path, site))]
            if found:
                faults.add(f"groups.{group.name}.root", f"overlaps {found[0]}")
                break


def _plain_path(folder: Path, path: str, site: str) -> Path:
    return Path(os.path.normpath(folder / path.replace("{site}", site)))


def overlap(a: Path, b: Path) -> bool:
    """One is the other, or lies in it."""
    return a == b or a in b.parents or b in a.parents


def _check_names(faults: Faults, names: tuple[SteeredName, ...], sites: Mapping[str, SitePart]) -> None:
    for i, name in enumerate(names):
        if any(name.name == other.name for other in names[:i]):
            faults.add(f"names[{i}].name", f"{name.name!r} is steered twice")
        families = {site: {address.version for address in sites[site].addresses} for site in name.sites or sites}
        for version in sorted(set().union(*families.values())):
            without = [site for site, has in families.items() if version not in has]
            if without:
                problem = f"only some of its sites have IPv{version} addresses, {', '.join(without)} has none"
                faults.warn(f"names[{i}]", f"{problem}: who asks for that family is never sent there")


def _depth(name: SteeredName) -> int:
    return len([part for part in name.content.split("/") if part])


def _distance(a: tuple[float, float], b: tuple[float, float] | None) -> float:
    """Great-circle distance in radians (haversine); infinite when one place is not known."""
    if b is None:
        return math.inf
    (lat1, lon1), (lat2, lon2) = (tuple(map(math.radians, place)) for place in (a, b))
    h = math.sin((lat2 - lat1) / 2) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    return 2 * math.asin(min(1.0, math.sqrt(h)))
