"""The use of freed memory, measured in a process of its own."""

import subprocess
import sys

import pytest

# Prints by how many MB memory grows if the main thread needs the 40 MB that another one freed.
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
def test_memory_freed_by_one_thread_is_reused_by_others():
    if more(share=False) < 20:
        pytest.skip("this C library keeps no memory for each thread")
    assert more(share=True) < 10
