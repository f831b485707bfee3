"""What the machine at hand has: the only place that asks."""

import importlib.util
import os
import resource
import shutil
from pathlib import Path
from typing import Literal

import torch

from cyclegan.config.errors import UserError

# Seconds from the program's start to the first line of ours.
_LONGEST_START = 600.0

Precision = Literal["bf16", "fp16", "tf32", "fp32"]


def resolve_device(name: str, *, index: int = 0) -> torch.device:
    """The device that a --device value means on this machine; raises UserError if it has none. A
    GPU has its index, of itself or that of the process among those of its machine, and is the one
    that the process works on from now on: streams and graphs are made on that one.
    """
    if name in ("auto", "cuda") and torch.cuda.is_available():
        if index >= torch.cuda.device_count():
            found = torch.cuda.device_count()
            raise UserError(f"{index + 1} processes on {found} GPUs: give torchrun fewer")
        return _current(torch.device("cuda", index))
    if name == "auto":
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise UserError(f"--device {name}: {found} CUDA devices found; use --device auto or cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("--device mps: not available here; use --device auto or cpu")
    return _current(device) if device.type == "cuda" else device


def _current(device: torch.device) -> torch.device:
    index = device.index or 0
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def peak_memory(device: torch.device) -> int:
    """The most bytes that were in use at once: of the GPU's memory, or by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    # In KiB, as Linux counts.
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def own_place() -> tuple[int, int, int]:
    """As torchrun tells: a process's rank, how many there are, its rank on its machine."""
    words = [os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")]
    if not all(word.isdigit() for word in words):
        return 0, 1, 0
    rank, size, local_rank = map(int, words)
    return rank, size, local_rank


def resolve_precision(name: str, device: torch.device) -> Precision:
    """What a --precision value means on a device; raises UserError for what it does not have.

    auto is bf16 where the device computes in it, else tf32 or fp32: fp16, whose range is small,
    is only taken where it is asked for.
    """
    if name == "auto":
        if has_bf16(device):
            return "bf16"
        return "tf32" if _has_tf32(device) else "fp32"
    if name == "tf32" and not _has_tf32(device):
        raise UserError(f"--precision tf32: {device} has none; use --precision fp32")
    if name == "fp16" and device.type == "mps":
        raise UserError("--precision fp16 is not offered on mps; use --precision fp32")
    precisions: dict[str, Precision] = {p: p for p in ("bf16", "fp16", "tf32", "fp32")}
    return precisions[name]


def has_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bf16: without them it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    features = torch.cpu.get_capabilities()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16") or features.get("bf16"))


def _has_tf32(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def allow_tf32(allowed: bool) -> None:
    """Whether float32 matrix products and convolutions on CUDA may be rounded to TF32."""
    # By the older of torch's two ways: its compiler reads these, and fails if the others are set.
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed


def has_compiler(device: torch.device) -> bool:
    """Whether torch.compile can work: Triton on CUDA, a C++ compiler elsewhere."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (7, 0) and bool(
            importlib.util.find_spec("triton")
        )
    return device.type == "cpu" and any(map(shutil.which, ("g++", "clang++", "c++")))


def check_compiler(asked: str, device: torch.device) -> None:
    """Raises UserError where compiling is asked for and cannot be."""
    if asked in ("default", "max") and not has_compiler(device):
        needs = "Triton" if device.type == "cuda" else "a C++ compiler, such as g++"
        raise UserError(f"--compile {asked} needs {needs}: use --compile off")


def keep_what_is_compiled() -> None:
    """Has torch.compile find in a later run what it made in this one."""
    # The default is a folder of temporary files, which a restart of the machine empties.
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache / "cyclegan" / "compiled"))


def ram_free() -> int:
    """Bytes of memory that this process may still take; a guess where the system does not say."""
    free = [_available(), _container_left()]
    return min([amount for amount in free if amount is not None], default=4 * 10**9)


def process_age() -> float:
    """Seconds since this process began; 0 where the system does not say."""
    try:
        # Behind the name, which may hold anything, in ticks since the machine was started.
        began = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        age = uptime - int(began) / os.sysconf("SC_CLK_TCK")
        # Some containers count the one from their own start, the other from the machine's.
        return age if 0 < age < _LONGEST_START else 0.0
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0


def disk_free(folder: Path) -> int:
    """Bytes that may still be written below a folder, which need not be there yet; 0 if none."""
    there = next((place for place in (folder, *folder.parents) if place.is_dir()), folder)
    try:
        return shutil.disk_usage(there).free if os.access(there, os.W_OK) else 0
    except OSError:
        return 0


def _available() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
        # Not Linux: half of the whole, as what is free counts no memory that files are kept in.
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (OSError, ValueError, AttributeError):
        return None


def _container_left() -> int | None:
    """What a container's limit leaves, where there is one."""
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (group / "memory.max").read_text(), (group / "memory.current").read_text()
        return max(0, int(limit) - int(used))
    except (OSError, ValueError):
        return None
