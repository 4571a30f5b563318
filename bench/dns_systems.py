"""How each nameserver is told the same zone: one worker or thread, no log of queries, else its own defaults.

Law: everything is written below the folder given, on loopback and a port of our choice; servers stay in the foreground.
Written from the manuals: gdnsd-plugin-geoip(8), Knot's mod-geoip, PowerDNS's GeoIP backend, nsd.conf(5).
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.dns_load import ORIGIN, SITES, TTL_SECONDS, names

Prepare = Callable[[Path, Path, int, int], list[str]]
"""(own folder, geo database, port, UDP answers/s for one client network or 0 for no limit) -> command."""


@dataclass(frozen=True, slots=True)
class System:
    """One nameserver."""

    name: str
    needs: tuple[tuple[str, str], ...]
    """(command or file pattern, Debian package)."""
    prepare: Prepare
    steers: bool = True
    limits: bool = True
    """Whether it has a limit for client networks."""
    remark: str = ""


def prepare_anycastle(folder: Path, database: Path, port: int, limit: int = 0) -> list[str]:
    (folder / "zone").write_text("\n".join([*_apex(), ""]))
    return [sys.executable, "-m", "bench.dns_anycastle", str(folder), str(database), str(port), str(limit)]


def prepare_gdnsd(folder: Path, database: Path, port: int, limit: int = 0) -> list[str]:
    centers = ", ".join(site.name for site in SITES)
    orders = "\n".join(
        f"{site.continent} => [{', '.join([site.name, *(o.name for o in SITES if o != site)])}]" for site in SITES
    )
    addresses = "\n".join(
        f"{site.name} => {{ addrs_v4 => [{site.ipv4}], addrs_v6 => [{site.ipv6}] }}" for site in SITES
    )
    (folder / "zones").mkdir()
    (folder / "config").write_text(
        f"""options => {{
  listen => 127.0.0.1:{port}, udp_threads => 1, tcp_threads => 1
  run_dir => {folder}/run, state_dir => {folder}/state
}}
plugins => {{ geoip => {{
  maps => {{ m => {{ geoip2_db => {database}, datacenters => [{centers}], map => {{ {orders} }} }} }}
  resources => {{ r => {{ map => m, service_types => up, dcmap => {{ {addresses} }} }} }}
}} }}
"""
    )
    dynamic = [f"{name}. {TTL_SECONDS} DYNA geoip!r" for name in names()]
    (folder / "zones" / ORIGIN).write_text("\n".join([*_apex(), *dynamic, ""]))
    return ["gdnsd", "-c", str(folder), "start"]


def prepare_knot(folder: Path, database: Path, port: int, limit: int = 0) -> list[str]:
    rate_limiting = f"mod-rrl:\n  - id: limit\n    rate-limit: {limit}\n    slip: 2\n" if limit else ""
    (folder / "knot.conf").write_text(
        f"""server:
  listen: 127.0.0.1@{port}
  rundir: {folder}
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
  edns-client-subnet: on
log:
  - target: stderr
    any: warning
database:
  storage: {folder}
{rate_limiting}
mod-geoip:
  - id: geo
    config-file: {folder}/geo.conf
    ttl: {TTL_SECONDS}
    mode: geodb
    geodb-file: {database}
    geodb-key: continent/code
zone:
  - domain: {ORIGIN}
    file: {folder}/zone
    zonefile-sync: -1
    journal-content: none
    module: [{"mod-rrl/limit, " if limit else ""}mod-geoip/geo]
"""
    )
    with (folder / "geo.conf").open("w") as geo:
        for name in names():
            geo.write(f"{name}.:\n")
            for site in SITES:
                geo.write(f'  - geo: "{site.continent}"\n    A: {site.ipv4}\n    AAAA: "{site.ipv6}"\n')
    (folder / "zone").write_text("\n".join([*_apex(), *_static(), ""]))
    return ["knotd", "-c", str(folder / "knot.conf")]


def prepare_powerdns(folder: Path, database: Path, port: int, limit: int = 0) -> list[str]:
    with (folder / "zone.yaml").open("w") as zone:
        zone.write(f"domains:\n- domain: {ORIGIN}\n  ttl: {TTL_SECONDS}\n  records:\n    {ORIGIN}:\n")
        zone.write(f"      - soa: ns1.{ORIGIN} hostmaster.{ORIGIN} 1 7200 3600 1209600 300\n      - ns: ns1.{ORIGIN}\n")
        zone.write(f"    ns1.{ORIGIN}:\n      - a: 192.0.2.53\n")
        for site in SITES:
            zone.write(f"    {site.continent.lower()}.sites.{ORIGIN}:\n      - a: {site.ipv4}\n")
            zone.write(f"      - aaaa: '{site.ipv6}'\n")
        zone.write("  services:\n")
        zone.writelines(f"    {name}: '%cn.sites.{ORIGIN}'\n" for name in names())
    options = {
        "local-address": "127.0.0.1",
        "local-port": port,
        "launch": "geoip",
        "geoip-database-files": f"mmdb:{database}",
        "geoip-zones-file": folder / "zone.yaml",
        "edns-subnet-processing": "yes",
        "receiver-threads": 1,
        "distributor-threads": 1,
        "socket-dir": folder,
        "security-poll-suffix": "",
        "log-dns-queries": "no",
        "loglevel": 3,
        "disable-syslog": "yes",
    }
    (folder / "pdns.conf").write_text("".join(f"{key}={value}\n" for key, value in options.items()))
    return ["pdns_server", f"--config-dir={folder}", "--daemon=no", "--guardian=no", "--write-pid=no"]


def prepare_nsd(folder: Path, database: Path, port: int, limit: int = 0) -> list[str]:
    (folder / "zone").write_text("\n".join([*_apex(), *_static(), ""]))
    (folder / "nsd.conf").write_text(
        f"""server:
  server-count: 1
  ip-address: 127.0.0.1@{port}
  username: ""
  chroot: ""
  database: ""
  verbosity: 0
  rrl-ratelimit: {limit}
  rrl-slip: 2
  zonesdir: "{folder}"
  pidfile: "{folder}/pid"
  xfrdfile: "{folder}/xfrd"
  xfrdir: "{folder}"
  zonelistfile: "{folder}/list"
remote-control:
  control-enable: no
zone:
  name: {ORIGIN}
  zonefile: zone
"""
    )
    return ["nsd", "-d", "-c", str(folder / "nsd.conf")]


SYSTEMS = (
    System("anycastle", (), prepare_anycastle),
    System("gdnsd", (("gdnsd", "gdnsd"),), prepare_gdnsd, limits=False),
    System("knot", (("knotd", "knot"), ("/usr/lib/*/knot/modules-*/geoip.so", "knot-module-geoip")), prepare_knot),
    System(
        "powerdns",
        (("pdns_server", "pdns-server"), ("/usr/lib/*/pdns/libgeoipbackend.so", "pdns-backend-geoip")),
        prepare_powerdns,
        limits=False,
    ),
    System("nsd", (("nsd", "nsd"),), prepare_nsd, steers=False, remark="cannot steer: one static answer, the floor"),
)


def _apex() -> Iterator[str]:
    yield f"$TTL {TTL_SECONDS}"
    yield f"{ORIGIN}. IN SOA ns1.{ORIGIN}. hostmaster.{ORIGIN}. 1 7200 3600 1209600 300"
    yield f"{ORIGIN}. IN NS ns1.{ORIGIN}."
    yield f"ns1.{ORIGIN}. IN A 192.0.2.53"


def _static() -> Iterator[str]:
    for name in names():
        yield f"{name}. IN A {SITES[0].ipv4}"
        yield f"{name}. IN AAAA {SITES[0].ipv6}"
