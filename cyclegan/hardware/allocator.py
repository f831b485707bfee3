"""What the C library does with freed memory; where that is not glibc, nothing is changed."""

import ctypes
import sys

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGEST_INT = 2**31 - 1


def share_freed_memory() -> None:
    """What one thread has freed serves all others, where each would else keep its own: the thread
    that draws previews would keep 40 MB for the next. Only before there is a second thread.
    """
    _set(_M_ARENA_MAX, 1)


def keep_freed_memory() -> None:
    """What is freed is kept for the next step. Given back to the system, it would come again page
    by page, each of them set to 0 first: a tenth of a step's time on a CPU.
    """
    _set(_M_MMAP_THRESHOLD, _LARGEST_INT)
    _set(_M_TRIM_THRESHOLD, _LARGEST_INT)


def _set(option: int, value: int) -> None:
    # Another library that knows the function takes no notice of these options.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(option, value)
