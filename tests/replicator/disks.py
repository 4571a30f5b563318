"""Small real filesystems for tests of what disks do: full, read-only, immutable, and reads that fail. Needs root."""

import contextlib
import fcntl
import os
import struct
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from tests.replicator.cluster import Site, cluster

MIB = 1024 * 1024
LOOP_SET_STATUS64, LOOP_GET_STATUS64 = 0x4C04, 0x4C05
_INFO64_BYTES, _SIZELIMIT_AT = 232, 32


class Disk:
    """An ext4 on a loop device."""

    def __init__(self, image: Path, point: Path) -> None:
        self.point = point
        self._image = image
        self._device = run("losetup", "--find", "--show", str(image)).strip()
        try:
            run("mount", "-t", "ext4", self._device, str(point))
        except BaseException:
            self.close(mounted=False)
            raise

    def close(self, *, mounted: bool = True) -> None:
        if mounted:
            self.ends_at(0)
            run("umount", "-l", str(self.point))
        run("losetup", "--detach", self._device)

    def remount(self, how: str) -> None:
        """`ro` or `rw`."""
        run("mount", "-o", f"remount,{how}", str(self.point))

    def ends_at(self, size_bytes: int) -> None:
        """The device takes no request beyond that, so what lies there gives EIO; 0 is all of it again."""
        device = os.open(self._device, os.O_RDWR)
        try:
            info = bytearray(fcntl.ioctl(device, LOOP_GET_STATUS64, bytes(_INFO64_BYTES)))
            struct.pack_into("=Q", info, _SIZELIMIT_AT, size_bytes)
            fcntl.ioctl(device, LOOP_SET_STATUS64, bytes(info))
        finally:
            os.close(device)

    def flip(self, mark: bytes) -> None:
        """One byte of what stands once on the device becomes another, and no filesystem knows of it."""
        os.sync()
        image = self._image.read_bytes()
        assert image.count(mark) == 1
        device = os.open(self._device, os.O_RDWR)
        try:
            os.pwrite(device, b"?", image.index(mark))
            os.fsync(device)
        finally:
            os.close(device)

    def forget_cached(self, path: Path) -> None:
        """The next read comes from the device."""
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextlib.contextmanager
def ext4(folder: Path, *, mib: int = 64) -> Iterator[Disk]:
    """Mounted below `folder`; without a journal, so that nothing is written behind our back."""
    image, point = folder / "image", folder / "mount"
    point.mkdir(parents=True)
    with image.open("wb") as file:
        file.truncate(mib * MIB)
    run("mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-m", "0", "-E", "lazy_itable_init=0", str(image))
    disk = Disk(image, point)
    try:
        yield disk
    finally:
        disk.close()


@contextlib.asynccontextmanager
async def cluster_on_disk(folder: Path, *, mib: int = 64) -> AsyncIterator[tuple[Disk, Site, Site, Site]]:
    """Three sites, of which nyc's root is on a disk of its own."""
    with ext4(folder / "disk", mib=mib) as disk:
        async with cluster(folder, each=lambda name: {"root": disk.point} if name == "nyc" else {}) as (ams, nyc, sgp):
            yield disk, ams, nyc, sgp


def fill(ballast: Path) -> None:
    """Takes all the room that its filesystem has left."""
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        for _ in range(10 * MIB):
            file.write(bytes(4096))
    left = os.statvfs(ballast)
    assert left.f_bavail * left.f_frsize < MIB


def run(*words: str) -> str:
    return subprocess.run(
        words, check=True, text=True, stdout=subprocess.PIPE, timeout=30, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    ).stdout
