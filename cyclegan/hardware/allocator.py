"""Options of glibc's allocator; under another C library nothing is changed.

This module imports no torch, since torch starts threads.
"""

import ctypes
import sys

# The numbers in glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGEST_INT = 2**31 - 1


def share_freed_memory() -> None:
    """Lets all threads reuse what one has freed, where each would keep its own: the thread that
    draws previews would hold 40 MB. Call it before a second thread starts.
    """
    _mallopt(_M_ARENA_MAX, 1)


def keep_freed_memory() -> None:
    """Keeps freed memory for the next step. Memory returned to the system comes back page by page,
    each zeroed first, which takes a tenth of a step's time on a CPU.
    """
    _mallopt(_M_MMAP_THRESHOLD, _LARGEST_INT)
    _mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT)


def _mallopt(option: int, value: int) -> None:
    # Other C libraries on Linux ignore these options.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(option, value)
