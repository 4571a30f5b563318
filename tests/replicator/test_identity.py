"""Certificates exchanged under running links: real handshakes, real files."""

import os
import shutil
import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from anycastle.replicator import peer, pki
from anycastle.replicator.certificate import load, read
from anycastle.replicator.identity import Identity
from anycastle.replicator.message import Gossip
from anycastle.replicator.pki import PkiError
from tests.replicator.members import Member, link_settings, make_authority, meshed, tls, until
from tests.replicator.test_pki import handshake

NAMES = ("ams", "nyc")


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    return make_authority(tmp_path / "pki", NAMES)


def shown(one: Identity, other: Identity) -> bytes:
    """What `one`, listening, shows to `other`."""
    _, client = handshake(one.server, other.client, expecting="ams")
    der = client.getpeercert(binary_form=True)
    assert der is not None
    return der


def der(folder: Path, member: str) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return load(folder / f"{member}.pem")[0].public_bytes(Encoding.DER)


def test_a_renewed_certificate_is_shown_from_the_next_handshake_on(authority: Path) -> None:
    ams, nyc = Identity(tls(authority, "ams")), Identity(tls(authority, "nyc"))
    before = der(authority, "ams")
    assert shown(ams, nyc) == before
    assert not ams.look()
    pki.renew(authority, "ams")
    assert ams.look()
    assert not ams.look()
    assert shown(ams, nyc) == der(authority, "ams") != before


def test_a_renewal_half_done_changes_nothing_and_says_why(authority: Path) -> None:
    ams, nyc = Identity(tls(authority, "ams")), Identity(tls(authority, "nyc"))
    before, old_key = der(authority, "ams"), (authority / "ams.key").read_bytes()
    pki.renew(authority, "ams")
    new_key = (authority / "ams.key").read_bytes()
    (authority / "ams.key").write_bytes(old_key)
    assert not ams.look()
    assert "cannot be used, what was loaded before stays" in ams.trouble
    assert ams.faults(wall=ams.certificates[0].valid_from)[0] == ams.trouble
    assert shown(ams, nyc) == before
    (authority / "ams.key").write_bytes(new_key)
    assert ams.look()
    assert ams.trouble == ""


def test_an_authority_that_was_taken_away_is_trusted_no_longer(authority: Path, tmp_path: Path) -> None:
    """The way to replace an authority: both in the file, members renewed, then the old one taken out."""
    other = make_authority(tmp_path / "other", NAMES)
    old, new = (authority / "ca.pem").read_bytes(), (other / "ca.pem").read_bytes()
    (authority / "ca.pem").write_bytes(old + new)
    ams = Identity(tls(authority, "ams"))
    nyc_old = Identity(tls(authority, "nyc"))
    (other / "ca.pem").write_bytes(old + new)
    nyc_new = Identity(tls(other, "nyc"))
    for peer_identity in (nyc_old, nyc_new):
        assert ams.trusts(handshake(ams.server, peer_identity.client, expecting="ams")[0].getpeercert(True))
    for name in ("ams.pem", "ams.key"):
        os.replace(other / name, authority / name)
    (authority / "ca.pem").write_bytes(new)
    assert ams.look()
    assert ams.trusts(der(other, "nyc"))
    assert not ams.trusts(der(authority, "nyc"))
    assert not ams.trusts(None)
    handshake(ams.server, nyc_new.client, expecting="ams")
    with pytest.raises(ssl.SSLError):
        handshake(ams.server, nyc_old.client, expecting="ams")


def test_what_ends_is_told_thirty_days_before(authority: Path) -> None:
    ams = Identity(tls(authority, "ams"))
    (own,) = read(authority / "ams.pem")
    assert own.names == ("ams.member.anycastle",)
    assert not own.authority
    day = 86400.0
    assert ams.faults(wall=own.valid_until - 31 * day) == ()
    (fault,) = ams.faults(wall=own.valid_until - 29 * day)
    assert "ams.pem (ams.member.anycastle) ends in 29.0 days: `anycastle pki renew`" in fault
    assert "ended 1.0 days ago" in ams.faults(wall=own.valid_until + day)[0]
    assert "not valid before" in ams.faults(wall=own.valid_from - day)[0]
    assert ams.seconds_left(wall=own.valid_until - 5) == pytest.approx(5)


def test_what_cannot_be_read_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("rubbish")
    for name in ("x.pem", "y.pem"):
        with pytest.raises(PkiError, match=rf"{name}: expected certificates in PEM"):
            read(tmp_path / name)


async def test_links_stay_while_certificates_are_renewed(authority: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "FILES_LOOK_SECONDS", 0.02)
    settings = link_settings(authority, NAMES)
    ams, nyc = Member(settings["ams"]), Member(settings["nyc"])
    async with meshed(ams, nyc):
        for name in NAMES:
            pki.renew(authority, name)
        await until(lambda: ams.links.identity.reloads and nyc.links.identity.reloads, "both have loaded")
        assert ams.links.send("nyc", Gossip(b"still here"))
        await until(nyc.received, "heard")
        assert not ams.downs()
        assert not nyc.downs()


async def test_an_authority_is_replaced_under_living_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As docs/operations.md tells it; who was not renewed when the old one goes is cut off, until it is."""
    monkeypatch.setattr(peer, "FILES_LOOK_SECONDS", 0.02)
    folder = make_authority(tmp_path / "pki", NAMES)
    new = make_authority(tmp_path / "new", NAMES)
    both = (folder / "ca.pem").read_bytes() + (new / "ca.pem").read_bytes()
    settings = {
        name: replace(each, tls=tls(shutil.copytree(folder, tmp_path / name), name))
        for name, each in link_settings(folder, NAMES).items()
    }
    ams, nyc = Member(settings["ams"]), Member(settings["nyc"])
    async with meshed(ams, nyc):
        for name in NAMES:
            (tmp_path / name / "ca.pem").write_bytes(both)
        exchange(new, tmp_path / "ams", "ams")
        await until(lambda: ams.links.identity.reloads and nyc.links.identity.reloads, "both have loaded")
        assert not ams.downs()
        (tmp_path / "ams" / "ca.pem").write_bytes((new / "ca.pem").read_bytes())
        await until(lambda: ams.downs() and nyc.downs(), "nyc, not renewed, is cut off")
        assert not ams.links.connected()
        exchange(new, tmp_path / "nyc", "nyc")
        await until(lambda: ams.links.connected() and nyc.links.connected(), "renewed, linked again")


def exchange(source: Path, target: Path, member: str) -> None:
    for suffix in ("key", "pem"):
        shutil.copy(source / f"{member}.{suffix}", target / f"{member}.{suffix}")
