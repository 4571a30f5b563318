"""Profiles: those that come with the program, copies of them, and what is told of a bad one."""

import re
from pathlib import Path

import pytest

from anycastle.config import Config, ConfigError, load_config
from anycastle.config_profile import ProfileError, profile_about, profile_names, profile_text
from anycastle.replicator.exclude import Exclude
from anycastle.replicator.settings import GroupSettings
from tests.anycastle.members import anycastle

EXAMPLE = Path(__file__).parents[2] / "examples" / "three-sites.toml"
PROBE = "probes = ["


def configuration(tmp_path: Path, *group: str, labelled: bool = True) -> Path:
    """The example, with this in its group instead of what it has, and a probe `database` at each site."""
    text = re.sub(r"(?m)^(writes|copies|exclude) = .*\n", "", EXAMPLE.read_text())
    text = text.replace("[groups.photos]\n", "\n".join(["[groups.photos]", *group, ""]))
    assert PROBE in text
    if labelled:
        text = text.replace(PROBE, 'probes = [{ file = "/etc/passwd", label = "database" }, ')
    file = tmp_path / "x.toml"
    file.write_text(text)
    return file


def settings(config: Config) -> GroupSettings:
    return config.content_groups("ams")[0]


def faults(file: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    return [str(fault) for fault in caught.value.faults]


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_that_comes_along_is_right(tmp_path: Path, name: str) -> None:
    config = load_config(configuration(tmp_path, f'profile = "{name}"'))
    assert config.warnings == ()
    assert profile_about(name)
    assert f"profile {name} > my.toml" in profile_text(name)


def test_they_are_the_four() -> None:
    assert profile_names() == ("generic", "mediawiki", "static", "wordpress")
    with pytest.raises(ProfileError, match=r"'\.\./\.\./init': expected one of generic, "):
        profile_text("../../init")


def test_a_profile_sets_what_the_group_does_not(tmp_path: Path) -> None:
    group = settings(load_config(configuration(tmp_path, 'profile = "wordpress"', 'settle = "1s"', "static = []")))
    assert group.writes == ("ams", "nyc", "sgp"), "the first that is current"
    assert group.writing == ("wp-admin/*.php", "wp-cron.php")
    assert (group.settle_seconds, group.static) == (1.0, ())
    assert group.fence_timeout_seconds == 10.0, "neither says it"


def test_without_a_profile_nothing_changes(tmp_path: Path) -> None:
    group = settings(load_config(configuration(tmp_path)))
    assert (group.writes, group.writing, group.exclude, group.dynamic) == ((), (), (), ("*.php", "*.cgi"))


@pytest.mark.parametrize(
    ("name", "path", "excluded"),
    [
        ("wordpress", b"wp-content/cache/page/index.html", True),
        ("wordpress", b"alice/htdocs/wp-content/cache", True),
        ("wordpress", b"wp-content/uploads/2026/11/cache/a.jpg", False),
        ("wordpress", b"wp-content/plugins/x/cache.php", False),
        ("mediawiki", b"images/lockdir/abc.lock", True),
        ("mediawiki", b"images/thumb/a/ab/A.png/300px-A.png", False),
        ("mediawiki", b"images/temp/a/ab/A.png", False),
        ("mediawiki", b"cache/l10n_cache-en.cdb", True),
        ("mediawiki", b"includes/cache/LinkCache.php", False),
        ("static", b"a.jpg.part", True),
        ("static", b"tools/.git/config", True),
        ("static", b"mirrors/anycastle.git/HEAD", False),
        ("generic", b"var/sessions/1", True),
        ("generic", b"vendor/psr/cache/src/CacheItemInterface.php", False),
        ("generic", b"data/wiki.db-wal", True),
        ("generic", b"data/wiki.db", False),
    ],
)
def test_what_is_replicated(tmp_path: Path, name: str, path: bytes, excluded: bool) -> None:
    config = load_config(configuration(tmp_path, f'profile = "{name}"'))
    assert Exclude(settings(config).exclude)(path) is excluded


def test_a_copy_stands_beside_the_configuration(tmp_path: Path) -> None:
    file = configuration(tmp_path, 'profile = "./my.toml"')
    (tmp_path / "my.toml").write_text(anycastle("profile", "wordpress").out.replace('settle = "0s"', 'settle = "2s"'))
    assert settings(load_config(file)).settle_seconds == 2.0


def test_a_bad_profile_is_told_of_with_its_own_place(tmp_path: Path) -> None:
    file = configuration(tmp_path, 'profile = "./my.toml"', 'settle = "1s"')
    (tmp_path / "my.toml").write_text('about = 1\n\nsettle = 3\nexclud = []\nroot = "/srv"\nwrites = "one"\n')
    found = faults(file)
    my = tmp_path / "my.toml"
    checked = anycastle("check", "--config", file)
    assert (checked.status, set(found) <= set(checked.err.splitlines())) == (2, True), checked.err
    assert found[:3] == [
        f"{my}:1: about: expected a text in quotes that is not empty, found 1",
        f'{my}:3: settle: expected a time such as "500ms" or "3s" with a unit of ms, s, min, h, d, found 3',
        f"{my}:4: exclud: unknown key; did you mean 'exclude'?",
    ]
    assert found[3].startswith(f"{my}:5: root: unknown key; known here: about, document_root, writes")
    assert found[4:] == [
        f'{my}:6: writes: expected "any", "first", or an array of different sites out of ams, nyc, sgp, found \'one\''
    ]


def test_two_groups_with_one_bad_profile_tell_of_it_once(tmp_path: Path) -> None:
    file = configuration(tmp_path, 'profile = "my.toml"')
    more = 'root = "/srv/b"\nhosts = ["b.example.com"]\napplication = "http://127.0.0.1:1"\nprofile = "my.toml"\n'
    file.write_text(file.read_text() + f"\n[groups.b]\n{more}")
    (tmp_path / "my.toml").write_text("colour = 1\n")
    (line,) = faults(file)
    assert line.startswith(f"{tmp_path / 'my.toml'}:1: colour: unknown key")


def test_a_profile_that_is_no_toml(tmp_path: Path) -> None:
    file = configuration(tmp_path, 'profile = "my.toml"')
    (tmp_path / "my.toml").write_text("a = 1\nb = \n")
    (line,) = faults(file)
    assert line.startswith(f"{tmp_path / 'my.toml'}:2: is not TOML: ")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('"wordpres"', 'expected one of generic, mediawiki, static, wordpress, or a file such as "./my.toml"'),
        ("7", 'expected one of generic, mediawiki, static, wordpress, or a file such as "./my.toml"'),
        ('"./none.toml"', "expected a file that is there, and {folder}/none.toml is not"),
    ],
)
def test_a_profile_that_is_not_there(tmp_path: Path, value: str, expected: str) -> None:
    file = configuration(tmp_path, f"profile = {value}")
    at = file.read_text().splitlines().index(f"profile = {value}") + 1
    (line,) = faults(file)
    assert line.startswith(f"{file}:{at}: groups.photos.profile: {expected.format(folder=tmp_path)}, found ")


def test_the_probe_that_a_profile_asks_for(tmp_path: Path) -> None:
    file = configuration(tmp_path, 'profile = "wordpress"', labelled=False)
    (line,) = faults(file)
    at = file.read_text().splitlines().index("[groups.photos]") + 1
    assert line == (
        f"{file}:{at}: groups.photos.requires: 'database' is the label of no probe of ams, nyc, sgp: expected one at "
        "each site; the profile asks for it, and requires = [] here would not"
    )
    assert load_config(configuration(tmp_path, 'profile = "wordpress"', "requires = []", labelled=False))


@pytest.mark.parametrize(
    ("group", "place", "problem"),
    [
        ('fence_timeout = "400ms"', "x.toml", "groups.photos.fence_timeout: expected more than the profile's settle"),
        ('settle = "20s"', "x.toml", "groups.photos.settle: expected less than fence_timeout"),
        ("", "my.toml", "settle: expected less than fence_timeout"),
    ],
)
def test_a_settle_too_long_is_a_fault_of_who_said_it(tmp_path: Path, group: str, place: str, problem: str) -> None:
    file = configuration(tmp_path, 'profile = "my.toml"', group)
    seconds = "1s" if group else "10s"
    (tmp_path / "my.toml").write_text(f'settle = "{seconds}"\n')
    (line,) = faults(file)
    assert line.startswith(f"{tmp_path / place}:")
    assert problem in line


def test_profile_prints_one_or_names_all() -> None:
    done = anycastle("profile")
    assert [line.split()[0] for line in done.out.splitlines()] == list(profile_names())
    assert anycastle("profile", "static").out == profile_text("static")
    done = anycastle("profile", "phpbb")
    assert (done.status, done.out) == (2, "")
    assert done.err == (
        "anycastle: there is no profile 'phpbb': expected one of generic, mediawiki, static, wordpress\n"
    )
