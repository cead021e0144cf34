"""The seam: `FileSystem`, what it returns, and `REAL`, the one for this platform.

Every system call of the store goes through here. What differs between platforms is in a file for each, not in branches.
"""

from __future__ import annotations

import sys

from nomad_sessions.storage._os_protocol import Buffer, FileStat, FileSystem

if sys.platform == "win32":
    from nomad_sessions.storage._os_windows import WindowsFileSystem as _Platform
    from nomad_sessions.storage._os_windows import most_files
elif sys.platform == "darwin":
    from nomad_sessions.storage._os_posix import DarwinFileSystem as _Platform
    from nomad_sessions.storage._os_posix import most_files
else:
    from nomad_sessions.storage._os_posix import PosixFileSystem as _Platform
    from nomad_sessions.storage._os_posix import most_files

__all__ = ["REAL", "Buffer", "FileStat", "FileSystem", "most_files"]

REAL: FileSystem = _Platform()
