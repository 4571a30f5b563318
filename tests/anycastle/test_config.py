"""The configuration file: everything that is wrong is said at once, with line, key and what was expected."""

from pathlib import Path

import pytest

from anycastle.config import Config, ConfigError, load_config, read_config
from anycastle.dns.settings import Policy
from anycastle.replicator.settings import HourRate

EXAMPLE = Path(__file__).parents[2] / "examples" / "three-sites.toml"


def faults(tmp_path: Path, text: str) -> list[str]:
    file = tmp_path / "x.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    return [f"{fault.line}: {fault.key}: {fault.problem}" for fault in caught.value.faults]


def changed(tmp_path: Path, old: str, new: str) -> list[str]:
    """The faults of the example after one replacement."""
    text = EXAMPLE.read_text()
    assert old in text
    return faults(tmp_path, text.replace(old, new, 1))


def line_of(text: str) -> int:
    return next(i for i, line in enumerate(EXAMPLE.read_text().splitlines(), 1) if text in line)


def test_example_is_right_for_every_member() -> None:
    config = load_config(EXAMPLE)
    assert config.members == ("ams", "nyc", "sgp")
    for member in config.members:
        settings = config.for_member(member)
        assert settings.replica.groups[0].root == EXAMPLE.parent / "content" / member
        assert settings.replica.groups[0].prefix_depth == 1
        assert set(settings.link.peers) == set(config.members) - {member}
        assert settings.dns is not None
        assert settings.dns.names[0].policy is Policy.CLOSEST


def test_other_sites_are_ordered_by_distance() -> None:
    config = load_config(EXAMPLE)
    assert config.for_member("nyc").replica.distance == ("ams", "sgp")
    assert config.for_member("sgp").replica.distance == ("ams", "nyc")


def test_site_overrides_the_application_of_a_group() -> None:
    assert load_config(EXAMPLE).for_member("sgp").replica.groups[0].application == "http://127.0.1.3:8090"


def test_unknown_member_is_refused() -> None:
    with pytest.raises(ConfigError, match="has no 'lon'; members: ams, nyc, sgp"):
        load_config(EXAMPLE).for_member("lon")


def test_every_fault_is_reported_at_once_in_line_order(tmp_path: Path) -> None:
    assert faults(
        tmp_path,
        '[cluster]\nname = 3\nmembers = ["ams"]\nmember = []\n[sites.ams]\nlink = "x"\naddresses = []\n[groups.g]\n'
        'root = "/srv"\nhosts = ["*.example.com"]\napplication = "http://127.0.0.1:1"\nfence_timeout = 3\n',
    ) == [
        "2: cluster.name: expected a text in quotes that is not empty, found 3",
        "4: cluster.member: unknown key; did you mean 'members'?",
        "5: sites.ams.probes: expected at least one: a site that nobody probes is never known to be up",
        '6: sites.ams.link: expected host and port such as "192.0.2.1:53" or "[2001:db8::1]:53", found \'x\'',
        '12: groups.g.fence_timeout: expected a time such as "500ms" or "3s" with a unit of ms, s, min, h, d, found 3',
    ]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('ttl = { min = "1s"', 'ttl = { minimum = "1s"', "names[0].ttl.minimum: unknown key; did you mean 'min'?"),
        ('steer = "closest"', 'steer = "near"', "names[0].steer: expected one of"),
        ('content = "photos:{1}/"', 'content = "blogs:{1}/"', "names[0].content: expected group:prefix/"),
        ('content = "photos:{1}/"', 'content = "photos:../"', "names[0].content: expected a prefix"),
        ('prefix = "198.51.100.0/24"', 'prefix = "0.0.0.0/0"', "expected a network that is not the default route"),
        ('lease = { term = "3s"', 'lease = { term = "1s"', "cluster.lease: expected a term of at least twice"),
        ("copies = 1", 'seed = "par"', "groups.photos.seed: expected a site out of ams, nyc, sgp, found"),
        ("copies = 1", 'retention = "0d"', "groups.photos.retention: expected a time above zero such as"),
        ("copies = 1", "copies = 4", "groups.photos.copies: expected a whole number from 1 to 3, found 4"),
        ("nameserver = true", 'nameserver = true\ngroup = "photos"', "expected either group"),
        ('hold_down = "2s"', 'sites = ["lon"]', "routes[0].sites: expected an array of different sites with bgp"),
        ("coordinates = [52.37, 4.90]", "coordinates = [520.0, 4.90]", "sites.ams.coordinates: expected [latitude"),
    ],
)
def test_one_fault_is_found_where_it_stands(tmp_path: Path, old: str, new: str, problem: str) -> None:
    found = changed(tmp_path, old, new)
    assert len(found) == 1
    line, _, rest = found[0].partition(": ")
    assert problem in rest or problem in found[0]
    assert abs(int(line) - line_of(old)) <= 4, "points at the key, or at the table around it"


def test_overlapping_roots_are_refused(tmp_path: Path) -> None:
    more = '\n[groups.more]\nroot = "content/{site}/inside"\nhosts = ["m.example.com"]\napplication = "http://127.0.0.1:1"\n'
    assert changed(tmp_path, "\n[geo]", more + "\n[geo]") == [
        f"{line_of('[geo]') + 1}: groups.more.root: overlaps the root of group 'photos' (content/{{site}})"
    ]


def test_broken_toml_names_the_line(tmp_path: Path) -> None:
    assert faults(tmp_path, "[cluster]\nname = = 3\n")[0].startswith("2: : is not TOML: ")


def test_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file or directory"):
        load_config(tmp_path / "none.toml")


def test_the_same_probe_twice_is_refused_and_other_paths_are_other_probes(tmp_path: Path) -> None:
    first = '{ tcp = "127.0.1.1:8080", interval = "300ms", timeout = "250ms" },'
    found = changed(tmp_path, first, first + first)
    assert found[0].endswith(
        "sites.ams.probes[1]: tcp 127.0.1.1:8080 is probed already: expected each probe of a site once"
    )
    file = tmp_path / "y.toml"
    more = '{ http = "http://u:p@127.0.1.1:8090/deep?x=1" }, { http = "http://127.0.1.1:8090/" },'
    file.write_text(EXAMPLE.read_text().replace(first, first + more, 1))
    names = [probe.name for probe in load_config(file).for_member("ams").health.probes if probe.site == "ams"]
    assert names == [
        "tcp 127.0.1.1:8080",
        "http 127.0.1.1:8090/deep?x=1",
        "http 127.0.1.1:8090",
        "http 127.0.1.1:8090/health",
    ]


@pytest.mark.parametrize(
    ("probe", "problem"),
    [
        ('dns = "127.0.1.1:53", name = "example..com"', "expected a host name"),
        ('dns = "127.0.1.1:53", name = "example.com", type = "ANY"', "expected a record type"),
        ('dns = "127.0.1.1:53"', "needs a key 'name'"),
        ('dns = "127.0.1.1:53", name = "x", tcp = "127.0.0.1:1"', "expected exactly one of http, tcp, dns"),
        ('tcp = "127.0.0.1:1", match = "x"', "match: unknown key"),
    ],
)
def test_probes_that_cannot_be(tmp_path: Path, probe: str, problem: str) -> None:
    found = changed(tmp_path, 'tcp = "127.0.1.1:8080"', probe)
    assert problem in found[0]


def test_the_example_warns_of_nothing() -> None:
    assert load_config(EXAMPLE).warnings == ()


def test_faults_leave_a_configuration_of_which_the_rest_can_be_looked_at(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text(EXAMPLE.read_text().replace("copies = 1", "copies = 9").replace('file = "zones/example.com"', ""))
    config, found = read_config(file)
    assert [fault.key for fault in found.in_order()] == ["groups.photos.copies", "zones[0]"]
    assert config.zones == ()
    assert config.for_member("ams").replica.groups[0].copies == 1


def test_rates_by_the_hour(tmp_path: Path) -> None:
    def read(hours: str) -> Config:
        file = tmp_path / "a.toml"
        file.write_text(EXAMPLE.read_text().replace("[sites.ams]\n", f"[sites.ams]\nbody_rate_hours = {hours}\n", 1))
        return load_config(file)

    link = read('{ "08-20" = "5 MB/s", "22-06" = "unlimited" }').for_member("ams").link
    assert link.body_hours == (HourRate(8, 20, 5_000_000), HourRate(22, 6, None))
    assert link.compress
    for wrong, problem in (
        ('{ "8-20" = "5MB/s" }', "expected hours and rates such as"),
        ('{ "08-08" = "5MB/s" }', "expected hours and rates such as"),
        ('"5MB/s"', "expected hours and rates such as"),
        ('{ "08-20" = "5MB" }', "expected a rate such as"),
        ('{ "08-20" = "5MB/s", "19-22" = "1MB/s" }', "expected each hour once, and 19-22 has some"),
        ('{ "20-04" = "5MB/s", "03-05" = "1MB/s" }', "expected each hour once, and 03-05 has some"),
    ):
        with pytest.raises(ConfigError, match=problem):
            read(wrong)


def test_limits_of_the_nameserver(tmp_path: Path) -> None:
    file = tmp_path / "anycastle.toml"
    limits = 'workers = 1, tcp_connections = 40, tcp_connections_per_client = 4, responses_per_network = "9 resp/s"'
    file.write_text(EXAMPLE.read_text().replace("workers = 1", limits, 1))
    settings = load_config(file).for_member("ams").dns
    assert settings is not None
    assert settings.tcp_connections_max == 40
    assert settings.tcp_connections_per_client_max == 4
    assert settings.responses_per_second_max == 9.0


def test_cookie_secrets_are_read_by_the_member_that_has_them_and_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "anycastle.toml"
    listen = 'dns = { listen = ["127.0.1.1:5300"'
    assert EXAMPLE.read_text().count(listen) == 1
    file.write_text(
        EXAMPLE.read_text().replace(listen, 'dns = { cookie_secrets = "cookies", listen = ["127.0.1.1:5300"')
    )
    secrets = tmp_path / "cookies"
    first, second = "e5e973e5a6b2a43f48e7dc849e37bfcf", "DD3BDF9344b678b185a6f5cb60fca715"
    secrets.write_text(f"{first}\n{second}\n")
    settings = load_config(file).for_member("ams").dns
    assert settings is not None
    assert settings.cookie_secrets == (bytes.fromhex(first), bytes.fromhex(second))
    assert first not in repr(settings)
    assert repr(settings.cookie_secrets[0]) not in repr(settings)
    other = load_config(file).for_member("nyc").dns
    assert other is not None
    assert other.cookie_secrets == ()
    secrets.write_text(first[:-1])
    with pytest.raises(ConfigError, match="cookies: expected lines of 32 hexadecimal digits") as caught:
        load_config(file).for_member("ams")
    assert first[:8] not in str(caught.value)


def test_the_verdict_socket_is_each_members_own(tmp_path: Path) -> None:
    text = EXAMPLE.read_text()
    table = 'edge = {{ verdict = {{ socket = "/run/{{site}}.sock", owner = "www-data", {} }}, '
    file = tmp_path / "x.toml"
    file.write_text(text.replace("edge = { ", table.format('mode = "0660"')))
    found = load_config(file).verdict("nyc")
    assert found is not None
    assert (found.socket, found.owner, found.mode) == (Path("/run/nyc.sock"), "www-data", 0o660)
    assert load_config(EXAMPLE).verdict("nyc") is None
    (problem,) = faults(tmp_path, text.replace("edge = { ", table.format("modus = 1"), 1))
    assert "sites.ams.edge.verdict.modus: unknown key; did you mean 'mode'?" in problem


EDGE = """
[edge]
certificates = [{ certificate = "tls/{site}.pem", key = "tls/{site}.key" }]
trusted_proxies = ["192.0.2.0/24", "2001:db8::1"]
access_log = "log/{site}.log"
verdict_headers = false
affinity_keys = "affinity"
body_max = "20MiB"
head_timeout = "5s"
drain = "0s"
"""


def test_the_edge(tmp_path: Path) -> None:
    text = EXAMPLE.read_text().replace("edge = { ", 'edge = { tls_listen = ["127.0.1.9:443"], ')
    text = text.replace(
        "[groups.photos]\n", '[groups.photos]\naffinity = "cookie"\nstatic = ["*.jpg"]\nsettle = "200ms"\n'
    )
    file = tmp_path / "x.toml"
    file.write_text(text + EDGE)
    with pytest.raises(ConfigError, match="affinity cannot be read"):
        load_config(file).for_member("ams")
    (tmp_path / "affinity").write_text("ab" * 32 + "\n" + "cd" * 32 + "\n")
    settings = load_config(file).for_member("ams")
    edge, (group, *_) = settings.edge, settings.replica.groups
    assert edge is not None
    assert edge.tls_listen == (("127.0.1.9", 443),)
    assert [each.key for each in edge.certificates] == [tmp_path / "tls" / "ams.key"]
    assert [str(each) for each in edge.trusted_proxies] == ["192.0.2.0/24", "2001:db8::1/128"]
    assert (edge.access_log, edge.verdict_headers) == (tmp_path / "log" / "ams.log", False)
    assert edge.affinity_keys == (b"\xab" * 32, b"\xcd" * 32)
    assert (edge.body_bytes_max, edge.head_seconds_max, edge.drain_seconds_max) == (20 * 1024**2, 5.0, 0.0)
    assert (group.static, group.affinity_seconds, group.settle_seconds) == (("*.jpg",), 4 * 3600.0, 0.2)
    usual = load_config(EXAMPLE).for_member("ams")
    assert usual.edge is not None
    assert [str(each) for each in usual.edge.trusted_proxies] == ["127.0.0.0/8", "::1/128"]
    assert usual.replica.groups[0].affinity_seconds is None


def test_what_the_edge_needs(tmp_path: Path) -> None:
    text = EXAMPLE.read_text().replace("edge = { ", 'edge = { tls_listen = ["127.0.1.9:443"], ')
    found = faults(
        tmp_path, text.replace("[groups.photos]\n", '[groups.photos]\naffinity = "cookie"\nsettle = "1min"\n')
    )
    assert any("edge.certificates: tls_listen of ams, nyc, sgp needs this key" in fault for fault in found)
    assert any("edge.affinity_keys: affinity of photos needs this file" in fault for fault in found)
    assert any("groups.photos.settle: expected less than fence_timeout" in fault for fault in found)
    (fault,) = faults(tmp_path, EXAMPLE.read_text() + '\n[edge]\ntrusted_proxies = ["0.0.0.0/0"]\n')
    assert "edge.trusted_proxies: expected" in fault
    (fault,) = faults(tmp_path, EXAMPLE.read_text() + "\n[edge]\nbody = 1\n")
    assert "edge.body: unknown key; did you mean 'body_max'?" in fault
