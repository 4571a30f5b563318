"""Probes in the configuration: what each kind takes, who makes them, and each fault with line, key and expectation."""

from pathlib import Path

import pytest

from anycastle.config import ConfigError, load_config
from anycastle.health.settings import (
    CertificateCheck,
    Check,
    Database,
    DiskCheck,
    DnsCheck,
    ExecCheck,
    FileCheck,
    HttpCheck,
    MysqlCheck,
    PostgresCheck,
    Probe,
    TcpCheck,
)
from tests.anycastle.test_config import EXAMPLE, changed, line_of

FIRST = '{ tcp = "127.0.1.1:8080", interval = "300ms", timeout = "250ms" },'
LINE = line_of("probes = [")
"""Keys of inline tables stand on the line of the key around them."""


def written(tmp_path: Path, probe: str, *, member: str = "ams", site: str = "ams") -> list[Probe]:
    """The probes of a site at a member, when the site has one more."""
    file = tmp_path / "a.toml"
    file.write_text(EXAMPLE.read_text().replace(FIRST, f"{FIRST} {{ {probe} }},", 1))
    return [each for each in load_config(file).for_member(member).health.probes if each.site == site]


DAY = 86_400.0


@pytest.mark.parametrize(
    ("text", "check", "name"),
    [
        (
            'http = "https://www.example.com/health", method = "HEAD", headers = { Host = "x", X-Probe = "1" }, '
            'server_name = "inner.example.net", authority = "pki/{site}.pem", warn_before = "30d", pattern = "^ok$"',
            HttpCheck(
                url="https://www.example.com/health",
                method="HEAD",
                headers=(("Host", "x"), ("X-Probe", "1")),
                server_name="inner.example.net",
                authority=Path("pki/ams.pem"),
                warn_before_seconds=30 * DAY,
                pattern="^ok$",
            ),
            "http www.example.com/health",
        ),
        (
            r'tcp = "[2001:db8::1]:25", send = "QUIT\r\n", expect = "220 "',
            TcpCheck(host="2001:db8::1", port=25, send=b"QUIT\r\n", expect=b"220 "),
            "tcp 2001:db8::1:25",
        ),
        (
            'dns = "192.0.2.1:53", name = "example.com", type = "aaaa", answer = ["2001:DB8::0"], '
            "authoritative = false",
            DnsCheck(
                host="192.0.2.1",
                port=53,
                name="example.com",
                type="AAAA",
                answer=frozenset({"2001:db8::"}),
                authoritative=False,
            ),
            "dns example.com AAAA at 192.0.2.1:53",
        ),
        (
            'dns = "192.0.2.1:53", name = "none.example.com", rcode = "nxdomain"',
            DnsCheck(host="192.0.2.1", port=53, name="none.example.com", rcode="NXDOMAIN"),
            "dns none.example.com SOA at 192.0.2.1:53",
        ),
        (
            'exec = ["/bin/check", "-v", "a b"], environment = { HOME = "/root" }',
            ExecCheck(arguments=("/bin/check", "-v", "a b"), environment=(("HOME", "/root"),)),
            "exec /bin/check -v a b",
        ),
        (
            'command = "dig | grep -q x"',
            ExecCheck(arguments=("/bin/sh", "-c", "dig | grep -q x")),
            "command dig | grep -q x",
        ),
        (
            'file = "state/{site}/ok", age_max = "5min", contains = "well"',
            FileCheck(file=Path("state/ams/ok"), age_max_seconds=300.0, contains="well"),
            "file state/{site}/ok",
        ),
        (
            'disk = "/srv", free_min = "5GiB", inodes_min = "5 %"',
            DiskCheck(folder=Path("/srv"), free_min_bytes=5 * 1024**3, files_min_share=0.05),
            "disk /srv",
        ),
        ('disk = "/srv", free_min = "60 %"', DiskCheck(folder=Path("/srv"), free_min_share=0.6), "disk /srv"),
        (
            'certificate = "192.0.2.1:443", server_name = "www.example.com", fail_before = "3d"',
            CertificateCheck(endpoint=("192.0.2.1", 443), server_name="www.example.com", fail_before_seconds=3 * DAY),
            "certificate 192.0.2.1:443 for www.example.com",
        ),
        (
            'certificate_file = "/etc/ssl/site.pem", warn_before = "30d"',
            CertificateCheck(file=Path("/etc/ssl/site.pem"), warn_before_seconds=30 * DAY),
            "certificate /etc/ssl/site.pem",
        ),
        (
            'postgres = "db.example.net:5432", user = "probe", database = "blogs", '
            'password_file = "pw", authority = "ca"',
            PostgresCheck(
                database=Database(
                    place=("db.example.net", 5432),
                    user="probe",
                    name="blogs",
                    password_file=Path("pw"),
                    authority=Path("ca"),
                ),
                lag_max_seconds=5.0,
            ),
            "postgres db.example.net:5432",
        ),
        (
            'mysql = "/run/mysqld/mysqld.sock", user = "probe", lag_max = "2s"',
            MysqlCheck(database=Database(place=Path("/run/mysqld/mysqld.sock"), user="probe"), lag_max_seconds=2.0),
            "mysql /run/mysqld/mysqld.sock",
        ),
    ],
)
def test_what_each_kind_may_be_told(tmp_path: Path, text: str, check: Check, name: str) -> None:
    found = written(tmp_path, text)[1]
    assert found.name == name
    assert at(found.check, tmp_path) == at(check, tmp_path)


def at(check: Check, folder: Path) -> str:
    """As text, with relative files below the folder."""
    return repr(check).replace(f"{folder}/", "")


def test_rounds_label_and_defaults(tmp_path: Path) -> None:
    rounds = 'interval = "2s", timeout = "1s", rise = 4, fall = 5, jitter = "20 %", label = "front"'
    found = written(tmp_path, f'tcp = "192.0.2.1:80", {rounds}')[1]
    assert (found.name, found.interval_seconds, found.timeout_seconds) == ("front", 2.0, 1.0)
    assert (found.rise, found.fall, found.jitter) == (4, 5, 0.2)
    found = written(tmp_path, 'tcp = "192.0.2.1:80"')[1]
    assert (found.interval_seconds, found.timeout_seconds, found.rise, found.fall) == (1.0, 0.5, 2, 3)
    found = written(tmp_path, 'certificate_file = "/x"')[1]
    assert (found.interval_seconds, found.timeout_seconds) == (60.0, 5.0)


@pytest.mark.parametrize(
    ("text", "others"),
    [
        ('http = "http://192.0.2.1/"', True),
        ('http = "http://127.0.0.1/", observers = "site"', False),
        ('certificate = "192.0.2.1:443"', True),
        ('exec = ["/bin/true"]', False),
        ('exec = ["/bin/true"], observers = "all"', True),
        ('command = "true"', False),
        ('file = "/x"', False),
        ('disk = "/x", free_min = "1 %"', False),
        ('postgres = "127.0.0.1:1", user = "x"', False),
    ],
)
def test_who_makes_it(tmp_path: Path, text: str, others: bool) -> None:
    assert len(written(tmp_path, text)) == 3
    assert len(written(tmp_path, text, member="nyc")) == 2 + others


@pytest.mark.parametrize(
    ("probe", "key", "problem"),
    [
        ('htpp = "x"', "", "expected exactly one of http, tcp, dns, exec, command, file, disk, certificate, "),
        ('htpp = "x"', ".htpp", "unknown key; did you mean 'http'?"),
        ('tcp = "127.0.0.1:1", file = "/x"', "", "expected exactly one of http, tcp"),
        ('http = "http://x/", pattern = "(a"', ".pattern", "expected a regular expression (missing )"),
        ('http = "http://x/", method = "get"', ".method", 'expected a method such as "GET" or "HEAD", found \'get\''),
        ('http = "http://x/", headers = { "a b" = "c" }', ".headers.a b", "expected the name of a header"),
        ('http = "http://x/", headers = { a = "c\\r\\nd: e" }', ".headers.a", "expected a text in quotes, of one line"),
        ('http = "http://x/", expect = "y"', ".expect", "unknown key"),
        ('http = "http://x/", statuses = [99]', ".statuses", "expected a whole number from 100 to 599"),
        ('tcp = "x"', ".tcp", "expected host and port"),
        ('dns = "x:1", name = "x", rcode = "FINE"', ".rcode", 'expected a response code such as "NOERROR"'),
        ('dns = "x:1", name = "x", type = "A", answer = ["x"]', ".answer", "expected the data of a record of type A"),
        ('exec = "/bin/true"', ".exec", 'expected a program and its arguments such as ["/usr/local/bin/check"'),
        ('exec = ["true"]', ".exec", "by its absolute name, found ['true']"),
        ('exec = ["/bin/true"], environment = { "A-B" = "x" }', ".environment.A-B", "expected the name of a variable"),
        ('disk = "/x"', "", "needs a key 'free_min', such as: free_min = \"5GiB\""),
        ('disk = "/x", free_min = "5"', ".free_min", 'expected a size such as "5GiB" or a share such as "10 %"'),
        ('file = "/x", observers = "all"', ".observers", 'expected "site": file looks at the machine of whoever'),
        ('file = "/x", observers = "some"', ".observers", 'expected "all" or "site"'),
        (
            'postgres = "x", user = "y"',
            ".postgres",
            'expected host and port such as "192.0.2.1:5432", or a Unix socket',
        ),
        ('postgres = "127.0.0.1:1"', "", "needs a key 'user'"),
        ('mysql = "/s", user = "y", authority = "z"', ".authority", "expected none with a Unix socket"),
        ('mysql = "127.0.0.1:1", user = "y", lag_max = 5', ".lag_max", 'expected a time such as "500ms"'),
        ('tcp = "127.0.0.1:1", jitter = "60 %"', ".jitter", 'expected a share of at most "50 %"'),
        ('tcp = "127.0.0.1:1", label = "My DB"', ".label", "expected a short name"),
    ],
)
def test_probes_that_cannot_be(tmp_path: Path, probe: str, key: str, problem: str) -> None:
    found = changed(tmp_path, FIRST, f"{FIRST} {{ {probe} }},")
    place = f"{LINE}: sites.ams.probes[1]{key}: "
    assert any(each.startswith(place) and problem in each for each in found), found


def test_several_faults_of_one_probe_are_said_at_once(tmp_path: Path) -> None:
    found = changed(tmp_path, FIRST, f'{FIRST} {{ http = "x", interval = 1, fall = 0, colour = "red" }},')
    assert [each.split(": ")[1] for each in found] == [
        f"sites.ams.probes[1].{key}" for key in ("colour", "fall", "http", "interval")
    ]


def test_a_site_that_nobody_else_sees_is_a_fault(tmp_path: Path) -> None:
    second = next(line for line in EXAMPLE.read_text().splitlines() if "127.0.1.1:8090/health" in line)
    text = EXAMPLE.read_text().replace(second, "")
    file = tmp_path / "x.toml"
    file.write_text(text.replace(FIRST, '{ exec = ["/bin/true"] },', 1))
    with pytest.raises(
        Exception, match=r"sites\.ams\.probes: expected one that all members make and no group requires"
    ):
        load_config(file)


# -- groups that require probes ---------------------------------------------------------------------------------------

GROUP = "[groups.photos]\n"


def gated(label: str = "database") -> str:
    """The example, with a probe of the same label at each site that its group requires."""
    text = EXAMPLE.read_text().replace(GROUP, f'{GROUP}requires = ["{label}"]\n', 1)
    for site in (1, 2, 3):
        first = FIRST.replace("127.0.1.1", f"127.0.1.{site}")
        assert first in text
        text = text.replace(first, f'{first} {{ tcp = "127.0.0.1:5432", label = "database" }},', 1)
    return text


def test_what_a_group_requires_each_site_looks_at_itself(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text(gated())
    for member in ("ams", "nyc", "sgp"):
        health = load_config(file).for_member(member).health
        assert health.requires == {"photos": ("database",)}
        assert [(probe.site, probe.gates_only) for probe in health.probes if probe.name == "database"] == [
            (member, True)
        ]
        assert len(health.probes) == 7
        assert sum(probe.gates_only for probe in health.probes) == 1


def test_a_label_that_some_site_lacks_is_a_fault(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text(gated("cache"))
    with pytest.raises(
        ConfigError, match=r"groups\.photos\.requires: 'cache' is the label of no probe of ams, nyc, sgp: "
    ):
        load_config(file)
