"""The table of mounts, as proc_pid_mountinfo(5) describes it."""

from pathlib import Path

import pytest

from anycastle.replicator.mounts import Mount, filesystem_of, is_remote, mounted, parse

TABLE = rb"""22 27 0:21 / / rw,relatime - ext4 /dev/vda rw
36 35 98:0 /mnt1 /srv/with\040space rw,noatime master:1 shared:2 - nfs4 server:/x rw
37 35 98:1 / /srv rw - xfs /dev/vdb rw
38 35 98:2 / /srv/a/b rw - tmpfs tmpfs rw
garbage
"""


def test_parse() -> None:
    assert parse(TABLE) == (
        Mount(b"/", "ext4"),
        Mount(b"/srv/with space", "nfs4"),
        Mount(b"/srv", "xfs"),
        Mount(b"/srv/a/b", "tmpfs"),
    )


@pytest.mark.parametrize(
    ("path", "filesystem"),
    [
        (b"/srv/a", "xfs"),
        (b"/srv/a/b", "tmpfs"),
        (b"/srv/ab", "xfs"),
        (b"/srv/with space/x", "nfs4"),
        (b"/home", "ext4"),
        (b"/", "ext4"),
    ],
)
def test_where_a_path_is(path: bytes, filesystem: str) -> None:
    mounts = parse(TABLE)
    assert filesystem_of(mounts, path) == filesystem


def test_later_mounts_cover_earlier_ones() -> None:
    assert filesystem_of((Mount(b"/", "rootfs"), Mount(b"/", "ext4")), b"/srv") == "ext4"


def test_remote() -> None:
    assert is_remote("nfs4")
    assert is_remote("fuse.sshfs")
    assert not is_remote("ext4")
    assert not is_remote("fuseblk")


def test_this_machine() -> None:
    assert filesystem_of(mounted(), b"/proc/self") == "proc"
    assert Path("/proc").is_mount()
