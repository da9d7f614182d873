"""CRC32 as zlib defines it, by the fastest code at hand.

Intel's ISA-L (package ``isal``) computes the same numbers about six times faster than zlib 1.2 and
halves the time to read a sample; where there is no wheel of it, zlib does the work.
"""

import importlib.util

if importlib.util.find_spec("isal"):
    from isal.isal_zlib import crc32
else:
    from zlib import crc32

__all__ = ["crc32"]
