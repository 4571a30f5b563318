import os
import socket
from pathlib import Path

import pytest

from anycastle.bgp.route import BgpError, parse_prefix
from anycastle.bgp.rundir import LOG_BYTES_MAX, Account, RunDirectory, account

A, B, C = parse_prefix("198.51.100.0/24"), parse_prefix("2001:db8::/48"), parse_prefix("10.0.0.0/8")


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_prefixes_survive(tmp_path: Path) -> None:
    with RunDirectory(tmp_path / "deep" / "run", None) as directory:
        assert directory.read_prefixes() == frozenset()
        directory.write_prefixes({B, A, C})
        assert (directory.path / "prefixes").read_text() == f"{C}\n{A}\n{B}\n"
    with RunDirectory(tmp_path / "deep" / "run", None) as directory:
        assert directory.read_prefixes() == {A, B, C}


def test_lines_that_are_no_prefix_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "prefixes").write_bytes(b"198.51.100.0/24\n10.0.0.1/8\n\xff\xfe json\n\n2001:db8::/48")
    with RunDirectory(tmp_path, None) as directory:
        assert directory.read_prefixes() == {A, B}


def test_a_left_over_temporary_file_is_no_obstacle(tmp_path: Path) -> None:
    with RunDirectory(tmp_path, None) as directory:
        (tmp_path / "exabgp.conf.new").write_text("half")
        directory.write("exabgp.conf", "whole")
        assert (tmp_path / "exabgp.conf").read_text() == "whole"
        assert not (tmp_path / "exabgp.conf.new").exists()


def test_private_without_a_user_and_readable_by_its_group_with_one(tmp_path: Path) -> None:
    for owner, folder, file in ((None, 0o700, 0o600), (Account("us", os.getuid(), os.getgid()), 0o750, 0o640)):
        with RunDirectory(tmp_path / "run", owner) as directory, directory.listen():
            directory.write("exabgp.conf", "secret")
            assert (mode(directory.path), mode(directory.path / "exabgp.conf")) == (folder, file)
            assert mode(directory.path / "ctl.sock") == (0o600 if owner is None else 0o660)


def test_a_long_path_can_be_listened_on(tmp_path: Path) -> None:
    with RunDirectory(tmp_path / ("x" * 120), None) as directory:
        for _ in range(2):  # the second finds the first one's socket left over
            with directory.listen() as listener, socket.socket(socket.AF_UNIX) as client:
                descriptor = os.open(directory.path, os.O_PATH)
                client.connect(f"/proc/self/fd/{descriptor}/ctl.sock")
                os.close(descriptor)
                assert not listener.getblocking()


def test_the_log_is_bounded_and_its_last_line_kept_for_the_reason(tmp_path: Path) -> None:
    with RunDirectory(tmp_path, None) as directory:
        assert directory.last_words() == ""
        log = directory.open_log()
        os.write(log, b"first\n" + b"x" * LOG_BYTES_MAX + b"\n  the   end \n\n")
        assert directory.last_words() == "the end"
        directory.bound_log()
        os.write(log, b"on\n")
        os.close(log)
        assert (tmp_path / "exabgp.log").read_bytes() == b"on\n"


def test_one_at_a_time(tmp_path: Path) -> None:
    second = RunDirectory(tmp_path, None)
    with RunDirectory(tmp_path, None), pytest.raises(BgpError, match="in use by another announcer"):
        second.__enter__()
    with second:
        pass


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(BgpError, match="cannot be used, expected a folder"),
        RunDirectory(tmp_path / "file" / "x", None),
    ):
        pass


def test_accounts() -> None:
    assert account(None) is None
    if os.geteuid() == 0:
        found = account("nobody")
        assert found is not None
        assert (found.name, found.uid) == ("nobody", 65534)
        with pytest.raises(BgpError, match="'no-such-user' does not exist"):
            account("no-such-user")
    else:
        assert account("no-such-user") is None  # whoever is not root stays who they are
