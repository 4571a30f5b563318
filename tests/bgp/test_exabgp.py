import dataclasses
import ipaddress
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycastle.bgp import exabgp
from anycastle.bgp.exabgp import Command, Ignored, Malformed, Reply, SessionEvent, Sessions
from anycastle.bgp.process import environment, program
from anycastle.bgp.route import BgpError, RouteState, parse_prefix
from anycastle.bgp.settings import Address, Attributes, AttributesByState, BgpSettings, Peer
from tests.bgp.router import settings

DANGEROUS = ("json", "shutdown", "restart", "reload", "reset", "version", "help", "crash", "graceful-shutdown")


def peer(address: str = "127.0.0.2", **more: object) -> Peer:
    there = ipaddress.ip_address(address)
    local: Address = ipaddress.ip_address("127.0.0.1" if there.version == 4 else "::1")
    return Peer(**({"address": there, "asn": 64499, "local_address": local} | more))  # type: ignore[arg-type]


def site(*peers: Peer) -> BgpSettings:
    return settings(Path("/run/anycastle"), peers or (peer(),))


P = parse_prefix("198.51.100.0/24")


@pytest.mark.parametrize(
    ("state", "asn", "attributes"),
    [
        (RouteState.NORMAL, 64499, "med 100"),
        (RouteState.DEGRADED, 64499, "med 500 as-path [ 64500 64500 64500 ]"),
        (RouteState.DRAINED, 64499, "med 1000 as-path [ 64500 64500 64500 ] community [ 65535:0 ]"),
        # inside one AS the own number in the path would be a loop
        (RouteState.NORMAL, 64500, "med 100 local-preference 100"),
        (RouteState.DEGRADED, 64500, "med 500 local-preference 50"),
        (RouteState.DRAINED, 64500, "med 1000 local-preference 0 community [ 65535:0 ]"),
    ],
)
def test_the_line_of_each_state(state: RouteState, asn: int, attributes: str) -> None:
    line = exabgp.announce(site(), peer(asn=asn), P, state).text
    assert line == f"neighbor 127.0.0.2 announce route 198.51.100.0/24 next-hop self {attributes}"


def test_a_peers_policy_goes_before_the_sites_and_that_before_the_usual_one() -> None:
    site_says = AttributesByState(
        normal=Attributes(med=7, communities=((64500, 1), (64500, 2)), large_communities=((4200000000, 0, 9),)),
        degraded=Attributes(prepend=0),
        drained=Attributes(communities=((64500, 3), (65535, 0))),
    )
    where = dataclasses.replace(site(), attributes=site_says)
    own = AttributesByState(normal=Attributes(communities=(), prepend=1), drained=Attributes(med=0))

    def told(asked: Peer, state: RouteState) -> str:
        return exabgp.announce(where, asked, P, state).text.partition("next-hop self ")[2]

    large = "large-community [ 4200000000:0:9 ]"
    assert told(peer(), RouteState.NORMAL) == f"med 7 community [ 64500:1 64500:2 ] {large}"
    assert told(peer(), RouteState.DEGRADED) == "med 500"
    # RFC 8326 is never configured away, and never told twice.
    drained = "as-path [ 64500 64500 64500 ] community [ 65535:0 64500:3 ]"
    assert told(peer(), RouteState.DRAINED) == f"med 1000 {drained}"
    assert told(peer(attributes=own), RouteState.DRAINED) == f"med 0 {drained}"
    assert told(peer(attributes=own), RouteState.NORMAL) == f"med 7 as-path [ 64500 64500 ] {large}"
    # A site's policy is for peers of both kinds: each takes what has a meaning for it.
    assert told(peer(asn=64500, attributes=own), RouteState.NORMAL) == f"med 7 local-preference 100 {large}"


def test_a_withdrawal_and_an_explicit_next_hop() -> None:
    assert exabgp.withdraw(peer(), P).text == "neighbor 127.0.0.2 withdraw route 198.51.100.0/24 next-hop self"
    six = peer("::2", next_hop=ipaddress.ip_address("2001:db8::9"))
    line = exabgp.withdraw(six, parse_prefix("2001:db8:1::/48")).text
    assert line == "neighbor ::2 withdraw route 2001:db8:1::/48 next-hop 2001:db8::9"
    with pytest.raises(BgpError, match="expected withdraw"):
        exabgp.announce(site(), peer(), P, RouteState.WITHDRAWN)


@pytest.mark.parametrize("word", DANGEROUS)
def test_a_dangerous_word_never_gets_into_a_line(word: str) -> None:
    good = exabgp.announce(site(), peer(), P, RouteState.DRAINED).text
    lines = [f"{good} {word}", f"{word} {good}", word, f"# {word}", f"{good} ", good.replace("65535:0", word)]
    lines += [good.replace("self", word), good.replace("198.51.100.0/24", word), f"{good}\n{word}"]
    for line in lines:
        with pytest.raises(BgpError, match="not a line ExaBGP may be told"):
            Command(line)
    with pytest.raises(BgpError):
        exabgp.withdraw(peer(), f"{P} {word}")  # type: ignore[arg-type]
    with pytest.raises(BgpError):
        exabgp.announce(dataclasses.replace(site(), local_as=word), peer(), P, RouteState.DEGRADED)  # type: ignore[arg-type]


@given(
    st.ip_addresses(), st.ip_addresses(), st.integers(1, 128), st.integers(1, 2**32 - 1), st.sampled_from(RouteState)
)
def test_every_address_and_number_makes_a_line(
    there: Address, target: Address, length: int, local_as: int, state: RouteState
) -> None:
    prefix = ipaddress.ip_network((target, min(length, target.max_prefixlen)), strict=False)
    where = dataclasses.replace(site(), local_as=local_as)
    if state is RouteState.WITHDRAWN:
        line = exabgp.withdraw(peer(str(there)), prefix).text
    else:
        line = exabgp.announce(where, peer(str(there)), prefix, state).text
    assert line.isascii()
    assert not any(word in line.split() for word in DANGEROUS)


# ---- configuration -------------------------------------------------------------------------------------------------


def test_exabgp_accepts_the_configuration(tmp_path: Path) -> None:
    peers = (peer(port=1790, md5="a;b{c}d#e[f],$%"), peer("::2"), peer("127.0.0.3", hold_time_seconds=0))
    peers += (peer("127.0.0.4", passive=True, port=1179, ttl_security=2), peer("127.0.0.5", multihop=3))
    path = tmp_path / "exabgp.conf"
    path.write_text(exabgp.configuration(site(*peers), ("/bin/cat", "-u", tmp_path / "x")))
    said = subprocess.run(
        [program(), "validate", "-n", path], capture_output=True, text=True, env=environment(None), check=False
    )
    assert said.returncode == 0, said.stdout + said.stderr


def test_how_far_packets_may_travel() -> None:
    def text(**more: object) -> str:
        return exabgp.configuration(site(peer(**more)), ("/bin/cat",))

    assert "ttl" not in text()
    assert "outgoing-ttl 3;" in text(multihop=3)
    assert "outgoing-ttl 255; incoming-ttl 255;" in text(ttl_security=1)
    assert "outgoing-ttl 255; incoming-ttl 253;" in text(ttl_security=3)
    assert "passive true; listen 1179;" in text(passive=True, port=1179)


def test_sessions_carry_their_own_family() -> None:
    text = exabgp.configuration(site(peer(), peer("::2")), ("/bin/cat",))
    four, six = text.splitlines()[1:]
    assert "family { ipv4 unicast; }" in four
    assert "family { ipv6 unicast; }" in six
    assert exabgp.carries(peer(), P)
    assert not exabgp.carries(peer("::2"), P)


@pytest.mark.parametrize(
    ("peers", "message"),
    [
        ((peer(), peer(asn=1)), "same address"),
        ((peer(local_address=ipaddress.ip_address("::1")),), "has the local address ::1, expected one of IPv4"),
        ((peer(multihop=2, ttl_security=1),), "has multihop and ttl_security"),
        ((peer(passive=True), peer("127.0.0.3", passive=True, ttl_security=1)), "differ in ttl_security"),
        ((peer(next_hop=ipaddress.ip_address("::1")),), "has the next hop ::1, expected one of IPv4"),
        ((peer("fe80::1%eth0"),), "expected one without a zone"),
        ((peer(md5='a"; } process evil { run /bin/sh'),), "MD5 key of BGP peer 127.0.0.2"),
        ((peer(md5="with space"),), "MD5 key"),
        ((peer(md5="a'b"),), "MD5 key"),
        ((peer(md5="x" * 81),), "1 to 80"),
        ((peer(md5=""),), "1 to 80"),
    ],
)
def test_settings_that_exabgp_cannot_be_given(peers: tuple[Peer, ...], message: str) -> None:
    with pytest.raises(BgpError, match=message) as refused:
        exabgp.configuration(site(*peers), ("/bin/cat",))
    assert not peers[0].md5 or peers[0].md5 not in str(refused.value)


@pytest.mark.parametrize("path", ["/a b", "/a;b", "/a{b", '/a"b', "/a\nb", "/ä"])
def test_a_path_that_would_end_the_line(path: str) -> None:
    with pytest.raises(BgpError, match="without spaces and quotes"):
        exabgp.configuration(site(), ("/bin/cat", Path(path)))


# ---- answers -------------------------------------------------------------------------------------------------------

TWO = ipaddress.ip_address("127.0.0.2")
STATE = '{ "exabgp": "5.0.0", "type": "state", "neighbor": { "address": { "peer": "%s" }, "state": "%s" } }'


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("done", Reply(True)),
        ("error\n", Reply(False)),
        (STATE % ("127.0.0.2", "up"), SessionEvent(TWO, "up", "")),
        (
            STATE % ("127.0.0.2", 'down", "reason": "closing connection'),
            SessionEvent(TWO, "down", "closing connection"),
        ),
        (STATE % ("127.0.0.2", "resting"), Ignored()),
        ('{"type": "notification", "notification": "shutdown"}', Ignored()),
        ("", Ignored()),
        ("some notice", Ignored()),
        # "state" lies in the first second of a session
        ('[{"state": "down", "fsm": "ESTABLISHED", "peer": {"address": "127.0.0.2"}}]', Sessions(frozenset({TWO}))),
        ('[{"state": "up", "fsm": "IDLE", "peer": {"address": "127.0.0.2"}}]', Sessions(frozenset())),
        ("[]", Sessions(frozenset())),
    ],
)
def test_answers(line: str, answer: exabgp.Answer) -> None:
    assert exabgp.parse(line) == answer


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[1]",
        "[{}]",
        '{"type": "state"}',
        STATE % ("nobody", "up"),
        STATE % ("127.0.0.2", "up") + "x",
        "[" * 50_000,
    ],
)
def test_malformed_answers_are_named_not_raised(line: str) -> None:
    assert isinstance(exabgp.parse(line), Malformed)


@given(st.text())
def test_parse_never_raises(line: str) -> None:
    exabgp.parse(line)
    exabgp.parse("{" + line)
