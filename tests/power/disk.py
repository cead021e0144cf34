"""A disk image on a loop device whose power can be cut, in a mount namespace of the caller's own.

FS_IOC_SHUTDOWN stops the file system where it is: what has not reached the image by then never does. The image lies in
a tmpfs, so that a cycle takes milliseconds. When this process dies, the namespace ends, the mounts go with it, and the
loop device, which is only held open here, is freed.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import struct
import subprocess
import time
from pathlib import Path
from typing import Literal

from tests.support.tiers import tool

__all__ = ["FLUSHED", "SUDDEN", "Disk", "Kind"]

Kind = Literal["ext4", "xfs"]
SUDDEN = 2
"""Nothing more reaches the disk."""
FLUSHED = 1
"""The journal of the file system is written first: metadata is on the disk, data is not."""

_FS_IOC_SHUTDOWN = 0x8004587D
_MEBIBYTES = {"ext4": 96, "xfs": 320}
_MAKE = {"ext4": ["-q", "-F", "-E", "nodiscard,lazy_itable_init=0"], "xfs": ["-q", "-f", "-K"]}


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


class Disk:
    """One image, made with mkfs and mounted at `mount`."""

    def __init__(self, folder: str, kind: Kind) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "none", folder], check=True)
        self.kind = kind
        self.mount = f"{folder}/mount"
        os.mkdir(self.mount)
        image = Path(folder, "image")
        with image.open("wb") as file:
            file.truncate(_MEBIBYTES[kind] << 20)
        subprocess.run([str(tool(f"mkfs.{kind}")), *_MAKE[kind], str(image)], check=True, stdout=subprocess.DEVNULL)
        losetup = str(tool("losetup"))
        found = subprocess.run([losetup, "--find", "--show", str(image)], check=True, capture_output=True, text=True)
        self._device = found.stdout.strip()
        self._held = os.open(self._device, os.O_RDONLY)
        # Freed with the last descriptor and the last mount, however this process ends.
        subprocess.run([losetup, "--detach", self._device], check=True)
        self.power_on()

    def power_on(self) -> None:
        """Mounts it, which replays the journal of the file system."""
        self._call(_libc().mount(self._device.encode(), self.mount.encode(), self.kind.encode(), 0, None))

    def cut(self, how: int) -> bool:
        """Cuts the power; whether it is really off: nothing can be written any more."""
        import fcntl  # Not on Windows, where this module is only collected.

        fd = os.open(self.mount, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _FS_IOC_SHUTDOWN, struct.pack("I", how))
        finally:
            os.close(fd)
        try:
            os.close(os.open(f"{self.mount}/probe", os.O_CREAT | os.O_WRONLY))
        except OSError as error:
            return error.errno == errno.EIO
        return False

    def unplug(self) -> None:
        """Unmounts it; who had files open must be gone."""
        deadline = time.monotonic() + 5
        while _libc().umount2(self.mount.encode(), 0):
            code = ctypes.get_errno()
            if code != errno.EBUSY or time.monotonic() > deadline:
                raise OSError(code, os.strerror(code), self.mount)
            time.sleep(0.002)

    def _call(self, result: int) -> None:
        if result:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), self.mount)
