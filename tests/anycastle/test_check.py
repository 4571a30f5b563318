"""What `anycastle check` finds: everything at once, a line each, and it changes nothing."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from anycastle import check as check_module
from anycastle.replicator import pki
from tests.anycastle.members import ADDRESS, Members, anycastle, prepared

BGP = f"""bgp = {{ router_id = "{ADDRESS}", local_as = 64501, user = "nobody", peers = [
    {{ address = "{ADDRESS}", as = 64499, port = 1790, md5_file = "{{site}}.md5" }},
] }}"""


@pytest.fixture
def two() -> Iterator[Members]:
    with prepared("ams", "nyc") as made:
        yield made


def lines(made: Members, *words: str) -> list[str]:
    """What check says; the folder's name is left out."""
    done = anycastle("check", "--config", made.config, *words)
    assert (done.status == 0) == (not [line for line in done.err.splitlines() if not line.startswith("warning: ")])
    assert done.status in (0, 2)
    return done.err.replace(f"{made.folder}/", "").splitlines()


def everything_below(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_what_is_right_is_said_and_nothing_is_made(two: Members) -> None:
    before = everything_below(two.folder)
    done = anycastle("check", "--config", two.config, "--site", "ams")
    assert (done.status, done.err) == (0, "")
    assert done.out == f"{two.config}: right (2 members, 1 groups, 1 steered names)\n"
    assert everything_below(two.folder) == before


def test_faults_of_every_kind_are_found_in_one_run(two: Members) -> None:
    (two.folder / "zone").write_text("$TTL 60\n@ SOA ns hostmaster 1 2 3 4 5\n@ NS ns\n\nx A 1.2.3\n")
    (two.folder / "other").write_text("$TTL 60\n@ NS ns\n")
    (two.folder / "networks.csv").write_text("10.0.0.1/8,ams\n# fine\n10.0.0.0/8,lon\n")
    shutil.rmtree(two.root("ams"))
    (two.folder / "pki" / "ams.key").unlink()
    (two.folder / "state").write_text("a file")
    two.change("[geo]", '[[zones]]\nfile = "other"\n\n[[zones]]\nfile = "none"\n\n[geo]\ncountri = "x"')
    two.change('state_dir = "state/{site}"\nlink = "', 'colour = "red"\nstate_dir = "state/{site}"\nlink = "')
    found = lines(two)
    assert _matches(
        found,
        "a.toml:*: sites.ams.colour: unknown key",
        "a.toml:*: sites.nyc.colour: unknown key",
        "a.toml:*: geo.countri: unknown key; did you mean 'country'?",
        "zone:5: ",
        "other: ",
        "none: cannot read the zone file: No such file or directory",
        "networks.csv:1: 10.0.0.1/8 has host bits set; expected 10.0.0.0/8",
        "networks.csv:3: 'lon' is no site; expected some of: ams nyc",
    )
    two.change('colour = "red"\n', "")
    assert _matches(
        lines(two, "--site", "ams"),
        "a.toml:*: geo.countri: ",
        "zone:5: ",
        "other: ",
        "none: ",
        "networks.csv:1: ",
        "networks.csv:3: ",
        "state_dir state/ams cannot be made: state is not a folder",
        "group photos: root content/ams is not there: expected a folder",
        "pki/ams.key is not there: expected what `anycastle pki` makes",
    )


def _matches(found: list[str], *expected: str) -> bool:
    """Line by line; a star stands for a number."""
    assert len(found) == len(expected), found
    for line, start in zip(found, expected, strict=True):
        head, star, tail = start.partition("*")
        number, colon, rest = line.removeprefix(head).partition(":") if star else ("1", "", line)
        assert line.startswith(head), line
        assert number.isdigit(), line
        assert (colon + rest).startswith(tail) if star else True, line
    return True


def test_a_table_that_is_wrong_gives_no_second_line_for_its_stand_in(two: Members) -> None:
    two.change('root = "content/{site}"\n', "")
    two.change('file = "zone"\n', "")
    assert [line.partition(": ")[2] for line in lines(two, "--site", "ams")] == [
        "groups.photos: needs a key 'root', such as: root = \"/srv/blogs\"",
        "zones[0]: needs a key 'file', such as: file = \"zones/example.com\"",
    ]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ('root = "content/{site}"', 'root = "zone"', "group photos: root zone is not a folder: expected one"),
        ('root = "content/{site}"', 'root = "gone"', "group photos: root gone is not there: expected a folder"),
        ('state_dir = "state/{site}"', 'state_dir = "zone/x"', "state_dir zone/x cannot be made: zone is not a folder"),
        ('state_dir = "state/{site}"', 'state_dir = "/proc/x"', "state_dir /proc/x is not writable"),
    ],
)
def test_what_this_machine_lacks(two: Members, old: str, new: str, line: str) -> None:
    if "/proc" in new and os.access("/proc", os.W_OK):
        line = ""  # root may write everywhere that takes it; that /proc takes nothing shows when we start
    two.change(old, new)
    assert lines(two) == []
    found = lines(two, "--site", "ams")
    assert [each[: len(line)] for each in found] == ([line] if line else [])


@pytest.mark.parametrize(
    ("probe", "line"),
    [
        ('exec = ["/nowhere/x"]', "probe exec /nowhere/x of ams: /nowhere/x is not there, or no program"),
        ('http = "https://x/", authority = "no.pem"', "probe http x of ams: authority no.pem cannot be read: expected"),
        (
            'mysql = "127.0.0.1:1", user = "x", password_file = "no"',
            "probe mysql 127.0.0.1:1 of ams: password_file no cannot be read: expected a file this user may read",
        ),
        ('exec = ["/bin/true"]', ""),
    ],
)
def test_what_probes_lack_on_this_machine(two: Members, probe: str, line: str) -> None:
    text = two.config.read_text()
    at = text.index("probes = [", text.index("[sites.ams]"))
    two.config.write_text(text[:at] + f"probes = [{{ {probe} }}, " + text[at + len("probes = [") :])
    assert lines(two) == []
    found = lines(two, "--site", "ams")
    assert [each[: len(line)] for each in found] == ([line] if line else [])


def test_roots_that_overlap_by_name_are_found_on_any_machine(two: Members) -> None:
    group = '\n[groups.more]\nroot = "{}"\nhosts = ["m.example.com"]\napplication = "http://127.0.0.1:1"\n'
    plain = two.text
    for root, what in (
        ("content/nyc/inside", "the root of group 'photos' (content/{site})"),
        ("content/../content/{site}/", "the root of group 'photos' (content/{site})"),
        ("state", "state_dir of ams (state/{site})"),
        ("state/nyc/x", "state_dir of nyc (state/{site})"),
    ):
        two.configure(plain + group.replace("{}", root))
        number = two.text.splitlines().index(f'root = "{root}"') + 1
        assert lines(two) == [f"a.toml:{number}: groups.more.root: overlaps {what}"]
    two.configure(plain + group.replace("{}", "content/{site}2"))
    assert lines(two) == []


def test_roots_that_overlap_through_a_symlink_are_found_on_their_machine(two: Members) -> None:
    two.configure(
        two.text + '\n[groups.more]\nroot = "more"\nhosts = ["m.example.com"]\napplication = "http://127.0.0.1:1"\n'
    )
    (two.root("ams") / "inside").mkdir()
    (two.folder / "more").symlink_to(two.root("ams") / "inside")
    assert lines(two) == []
    assert lines(two, "--site", "nyc") == []
    assert lines(two, "--site", "ams") == [
        "group more: root more is content/ams/inside, which overlaps the root of group photos (content/ams)"
    ]
    (two.folder / "more").unlink()
    (two.folder / "state").mkdir()
    (two.folder / "more").symlink_to(two.folder / "state")
    assert lines(two, "--site", "ams") == ["group more: root more is state, which overlaps state_dir (state/ams)"]


def test_certificates_of_others_are_refused(two: Members) -> None:
    pki.init(two.folder / "foreign")
    pki.issue(two.folder / "foreign", "ams")
    folder = two.folder / "pki"
    (folder / "ams.pem").unlink()
    shutil.copy(folder / "nyc.pem", folder / "ams.pem")
    assert "not usable with" in lines(two, "--site", "ams")[0], "the key is of another certificate"
    shutil.copy(folder / "nyc.key", folder / "ams.key")
    assert lines(two, "--site", "ams") == ["pki/ams.pem names nyc.member.anycastle: expected ams.member.anycastle"]
    for kind in ("pem", "key"):
        shutil.copy(two.folder / "foreign" / f"ams.{kind}", folder / f"ams.{kind}")
    assert lines(two, "--site", "ams") == [
        "pki/ams.pem is not signed by pki/ca.pem: expected both from the same `anycastle pki init`"
    ]
    assert lines(two, "--site", "nyc") == []


def test_secrets_are_looked_for_only_where_they_are_used() -> None:
    dashboard = 'dashboard = { listen = "192.0.2.1:9080", token_file = "{site}.token", reading = "token" }'
    with prepared("ams", "nyc", site_more=BGP) as two:
        two.configure(
            "\n".join(dashboard if line.startswith("dashboard = ") else line for line in two.text.splitlines())
        )
        (two.folder / "nyc.md5").write_text("secret\n")
        (two.folder / "nyc.token").write_text("0123456789abcdef\n")
        assert lines(two) == []
        assert lines(two, "--site", "nyc") == []
        assert _matches(
            lines(two, "--site", "ams"),
            "a.toml:*: sites.ams.bgp.peers[0].md5_file: ams.md5 cannot be read (No such file or directory): expected 1",
            "a.toml:*: sites.ams.dashboard.token_file: ams.token cannot be read (No such file or directory): expected",
        )
        (two.folder / "ams.md5").write_text('a "quoted" key')
        (two.folder / "ams.token").write_text("short")
        found = lines(two, "--site", "ams")
        assert [line.partition("expected ")[2] for line in found] == [
            "1 to 80 printable characters without spaces, quotes and semicolons",
            "at least 16 printable ASCII characters without spaces",
        ]
        assert "quoted" not in "".join(found), "a secret is never shown"


def test_the_bgp_user_must_exist() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root changes users")
    with prepared("ams", site_more=BGP.replace(', md5_file = "{site}.md5"', "")) as one:
        assert lines(one, "--site", "ams") == []
        one.change('"nobody"', '"no-such-user"')
        assert lines(one, "--site", "ams") == [
            "BGP user 'no-such-user' does not exist on this machine, expected an account for ExaBGP"
        ]


def test_a_member_that_does_not_exist(two: Members) -> None:
    assert lines(two, "--site", "lon") == ["a.toml: cluster.members: has no 'lon'; members: ams, nyc"]


def test_warnings_do_not_change_the_outcome(two: Members) -> None:
    two.change(
        f'dashboard = {{ listen = "{ADDRESS}:{two.sites["ams"].dashboard}" }}',
        'dashboard = { listen = "0.0.0.0:9080" }',
    )
    two.change('addresses = ["192.0.2.107"]', 'addresses = ["192.0.2.107", "2001:db8::1"]')
    assert _matches(
        lines(two),
        "warning: a.toml:*: sites.ams.dashboard.listen: 0.0.0.0 is not a loopback address: whoever reaches it may read",
        "warning: a.toml:*: names[0]: only some of its sites have IPv6 addresses, nyc has none: who asks",
    )
    two.change("[geo]", "[geo]\nx = 1")
    done = anycastle("check", "--config", two.config)
    assert done.status == 2
    assert "geo.x: unknown key" in done.err


def test_what_the_map_hardly_means_is_a_warning(two: Members) -> None:
    (two.folder / "networks.csv").write_text("10.0.0.0/8,ams\n10.0.0.0/9,nyc ams\n10.128.0.0/9,nyc ams\n")
    assert _matches(
        lines(two), "warning: a.toml: geo: networks.csv:1 10.0.0.0/8: never matches, as other lines cover all of it"
    )


def test_zones_are_checked_against_each_other(two: Members) -> None:
    (two.folder / "sub").write_text((two.folder / "zone").read_text())
    two.change(
        "[geo]", '[[zones]]\nfile = "sub"\norigin = "sub.example.com"\n\n[[names]]\nname = "x.example.org"\n\n[geo]'
    )
    found = lines(two)
    assert len(found) == 1
    assert "x.example.org" in found[0]
    two.change('[[names]]\nname = "x.example.org"\n', "")
    assert lines(two) == [
        "zone example.com: expected NS records at sub.example.com, because that zone is served here too"
    ]


def test_check_never_touches_the_network(two: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    two.change(f'link = "{ADDRESS}:{two.sites["nyc"].link}"', 'link = "nyc.example.net:7400"')
    _, problems = check_module.check(two.config, "ams")
    assert problems == []


def test_the_edges_certificates_and_log(two: Members) -> None:
    (two.folder / "tls").mkdir()
    for name in ("a", "b"):
        command = (
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-subj", f"/CN={name}", "-keyout", f"tls/{name}.key", "-out", f"tls/{name}.pem"),
        )
        subprocess.run(command, cwd=two.folder, check=True, capture_output=True, timeout=20)
    two.change("edge = { ", f'edge = {{ tls_listen = ["{ADDRESS}:1"], ')
    two.config.write_text(
        two.config.read_text()
        + '\n[edge]\naccess_log = "none/access.log"\ncertificates = [\n'
        + '    { certificate = "tls/a.pem", key = "tls/b.key" },\n'
        + '    { certificate = "tls/none.pem", key = "tls/b.key" },\n'
        + '    { certificate = "tls/b.pem", key = "tls/b.key" },\n]\n'
    )
    assert _matches(
        lines(two, "--site", "ams"),
        "tls/a.pem and tls/b.key: the key does not go with the certificate",
        "tls/none.pem is not there: expected a PEM file",
        "edge.access_log none/access.log cannot be written: expected a file in a folder that is there",
    )
