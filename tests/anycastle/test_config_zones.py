"""`[[zones]]` and `[keys.X]`: what secondaries need, and every fault by its place."""

import ipaddress
from pathlib import Path

import pytest

from anycastle.config import ConfigError, load_config
from anycastle.dns.settings import TransferSettings, TsigKey

EXAMPLE = Path(__file__).parents[2] / "examples" / "three-sites.toml"


def config_with(folder: Path, zone: str, keys: str = "") -> Path:
    """The example with more lines in its zone and more tables."""
    text = EXAMPLE.read_text()
    assert text.count('file = "zones/example.com"') == 1
    file = folder / "three-sites.toml"
    file.write_text(text.replace('file = "zones/example.com"', f'file = "zones/example.com"\n{zone}') + keys)
    for secret in ("dashboard.token", "xfr.secret"):
        (folder / secret).write_text("YSBzZWNyZXQgZm9yIHRlc3Rz\n")
    return file


KEYS = '\n[keys."xfr.example"]\nalgorithm = "hmac-sha512"\nsecret_file = "xfr.secret"\n'


def test_a_zone_with_secondaries(tmp_path: Path) -> None:
    zone = 'transfer = { to = ["192.0.2.7", "2001:db8::/64"], key = "xfr.example" }\nnotify = ["192.0.2.7:53"]'
    config = load_config(config_with(tmp_path, zone, KEYS))
    networks = (ipaddress.ip_network("192.0.2.7/32"), ipaddress.ip_network("2001:db8::/64"))
    assert config.zones[0].transfer == TransferSettings(to=networks, key="xfr.example")
    assert config.zones[0].notify == (("192.0.2.7", 53),)
    try:
        settings = config.for_member("ams")
    except ConfigError as error:  # other secrets of the example may not be here; the key's must not be among them
        pytest.fail(str(error))
    assert settings.dns is not None
    assert settings.dns.keys == (TsigKey(name="xfr.example", algorithm="hmac-sha512", secret=b"a secret for tests"),)
    assert "secret for" not in repr(settings)


@pytest.mark.parametrize(
    ("zone", "keys", "said"),
    [
        ('transfer = { to = ["192.0.2.7"], key = "nokey" }', "", "the name of a table [keys.X]; there are: none"),
        ('transfer = { to = ["192.0.2.7/24"] }', "", "an address or a network such as"),
        ("transfer = { }", "", "needs a key 'to'"),
        ('notify = ["ns2.example.net:53"]', "", "an address and port such as"),
        ("", '\n[keys.x]\nalgorithm = "hmac-md5"\nsecret_file = "xfr.secret"\n', 'one of "hmac-sha224"'),
        ("", '\n[keys.x]\nalgorithm = "hmac-sha256"\n', "needs a key 'secret_file'"),
        ("", '\n[keys."*.x"]\nsecret_file = "xfr.secret"\n', 'a name such as "xfr"'),
    ],
)
def test_faults(tmp_path: Path, zone: str, keys: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(config_with(tmp_path, zone, keys))
    assert said in str(caught.value)


def test_a_secret_that_is_not_base64_is_never_shown(tmp_path: Path) -> None:
    file = config_with(tmp_path, "", KEYS)
    (tmp_path / "xfr.secret").write_text("not base64 at all!\n")
    with pytest.raises(ConfigError, match=r"xfr\.secret: expected a secret in base64") as caught:
        load_config(file).for_member("ams")
    assert "at all" not in str(caught.value)
