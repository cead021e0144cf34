"""CRC-32 as gzip and PNG have it (reflected, polynomial 0xEDB88320): what lines, tables and blocks are checked by.

By zlib, or by `isal` (Intel's ISA-L; the extra `fast`) where that is installed and there is much to do: the same number
in a tenth of the time, from the processor's carry-less multiplication. Verified by `tests/unit/test_checksum.py`.
"""

from __future__ import annotations

import zlib

__all__ = ["crc32", "hurry"]

crc32 = zlib.crc32
"""`crc32(data, value=0)`. To be called by the module's name: it is another one after `hurry`."""


def hurry() -> None:
    """From now on as quick as can be. To be called where there is much to do: loading it takes as long as opening a
    workspace. Does nothing without the extra."""
    global crc32  # noqa: PLW0603  # One number, whoever computes it.
    try:
        from isal.isal_zlib import crc32
    except ImportError:
        return
