"""What becomes of freed memory, seen from a process of its own."""

import subprocess
import sys

import pytest

# A thread frees 40 MB, then the first thread needs as much: how much more is kept, in MB?
PROGRAM = """
import ctypes, sys, threading
from cyclegan.hardware import allocator
if {share}:
    allocator.share_freed_memory()
allocator.keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def use():
    blocks = [libc.malloc(ctypes.c_size_t(1 << 20)) for _ in range(40)]
    for block in blocks:
        ctypes.memset(ctypes.c_void_p(block), 1, 1 << 20)
    for block in blocks:
        libc.free(block)
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6
thread = threading.Thread(target=use)
thread.start()
thread.join()
before = resident()
use()
print(resident() - before)
"""


def more(*, share: bool) -> float:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(share=share)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone has these options")
def test_what_a_thread_has_freed_serves_the_others():
    if more(share=False) < 20:
        pytest.skip("this C library keeps no memory for each thread")
    assert more(share=True) < 10
