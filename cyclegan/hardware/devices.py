"""The capabilities of this machine: device, precision, compiler, free memory, determinism."""

import importlib.util
import os
import resource
import shutil
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from cyclegan.config.errors import UserError

# A process older than this many seconds at its first line counts by a clock of another machine.
_LONGEST_START = 600.0

Precision = Literal["bf16", "fp16", "tf32", "fp32"]


def resolve_device(name: str, *, index: int = 0) -> torch.device:
    """The device that a --device value means; raises UserError if this machine has none.

    A GPU also becomes the current CUDA device of the process. `index` is the process's rank on its
    machine, used if the value names no GPU.
    """
    if name in ("auto", "cuda") and torch.cuda.is_available():
        if index >= torch.cuda.device_count():
            found = torch.cuda.device_count()
            raise UserError(f"{index + 1} processes on {found} GPUs: give torchrun fewer")
        name = f"cuda:{index}"
    if name == "auto":
        name = "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("--device mps: not available here; use --device auto or cpu")
    if device.type != "cuda":
        return device
    index, found = device.index or 0, torch.cuda.device_count()
    if index >= found:
        raise UserError(f"--device {name}: {found} CUDA devices found; use --device auto or cpu")
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def peak_memory(device: torch.device) -> int:
    """The peak in bytes of reserved GPU memory, or of this process's resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    # Linux counts in KiB.
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def rank_from_env() -> tuple[int, int, int]:
    """Rank, world size and local rank that torchrun gave this process; 0, 1, 0 without torchrun."""
    words = [os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")]
    if not all(word.isdigit() for word in words):
        return 0, 1, 0
    rank, world_size, local_rank = map(int, words)
    return rank, world_size, local_rank


def resolve_precision(name: str, device: torch.device) -> Precision:
    """The precision that a --precision value means on a device; raises UserError if the device
    has none. auto is bf16, tf32 or fp32, the first that the device supports in hardware; never
    fp16, whose range is small.
    """
    if name == "auto":
        if has_bf16(device):
            return "bf16"
        return "tf32" if _has_tf32(device) else "fp32"
    if name == "tf32" and not _has_tf32(device):
        raise UserError(f"--precision tf32: {device} has none; use --precision fp32")
    if name == "fp16" and device.type == "mps":
        raise UserError("--precision fp16 is not offered on mps; use --precision fp32")
    return cast(Precision, name)


def has_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bf16; emulated, it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    features = torch.cpu.get_capabilities()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16") or features.get("bf16"))


def _has_tf32(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def allow_tf32(allowed: bool) -> None:
    """Sets whether CUDA may round float32 matrix products and convolutions to TF32."""
    # The older of torch's two interfaces: torch.compile reads it and fails if the newer is used.
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed


def has_compiler(device: torch.device) -> bool:
    """Whether torch.compile works: it needs Triton on CUDA, a C++ compiler on a CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (7, 0) and bool(
            importlib.util.find_spec("triton")
        )
    return device.type == "cpu" and any(map(shutil.which, ("g++", "clang++", "c++")))


def check_compiler(asked: str, device: torch.device) -> None:
    """Raises UserError if --compile asks for a compiler that this machine does not have."""
    if asked in ("default", "max") and not has_compiler(device):
        needs = "Triton" if device.type == "cuda" else "a C++ compiler, such as g++"
        raise UserError(f"--compile {asked} needs {needs}: use --compile off")


def keep_compile_cache() -> None:
    """Puts the cache of torch.compile where the next run finds it."""
    # The default is a temporary folder, which is emptied when the machine restarts.
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache / "cyclegan" / "compiled"))


def ram_free() -> int:
    """Bytes of memory that this process may still allocate; 4 GB if the system does not say."""
    limits = [_available_memory(), _container_memory()]
    return min([limit for limit in limits if limit is not None], default=4 * 10**9)


def process_age() -> float:
    """Seconds since this process began; 0 if the system does not say."""
    try:
        # The fields behind the name, which may hold any character; in ticks since the boot.
        began = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        age = uptime - int(began) / os.sysconf("SC_CLK_TCK")
        # In some containers the two values count from different boots.
        return age if 0 < age < _LONGEST_START else 0.0
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0


def disk_free(folder: Path) -> int:
    """Bytes that may still be written below a folder, which need not exist yet; 0 if read-only."""
    existing = next((path for path in (folder, *folder.parents) if path.is_dir()), folder)
    try:
        return shutil.disk_usage(existing).free if os.access(existing, os.W_OK) else 0
    except OSError:
        return 0


def use_deterministic_algorithms() -> None:
    """Makes this process bit-reproducible, on CUDA too; call it before the first work on a GPU.
    An operation without a deterministic implementation raises RuntimeError from then on.
    """
    # cuBLAS sums in an order that depends on its workspace.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    if torch.cuda.is_available():
        _replace_padding_backward()


@cache
def _replace_padding_backward() -> Any:
    """Registers `reflection_pad2d_backward` for CUDA, for which torch has no deterministic one.
    The cache keeps the library alive, and with it the registration.
    """
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    library.impl("reflection_pad2d_backward", reflection_pad2d_backward, "CUDA")  # type: ignore[no-untyped-call]
    return library


def reflection_pad2d_backward(gradient: Tensor, input: Tensor, padding: list[int]) -> Tensor:
    """The gradient of reflection padding (left, right, top, bottom) of ... x H x W: adds the
    gradients of the borders to the pixels they mirror, in a fixed order.
    """
    left, right, top, bottom = padding
    return _folded(_folded(gradient, -1, left, right), -2, top, bottom).contiguous()


def _folded(gradient: Tensor, dim: int, before: int, after: int) -> Tensor:
    side = gradient.shape[dim] - before - after
    inner = gradient.narrow(dim, before, side).clone()
    # The pixel at the edge is not repeated: reflection begins with its neighbour.
    inner.narrow(dim, 1, before).add_(gradient.narrow(dim, 0, before).flip(dim))
    outer = gradient.narrow(dim, before + side, after)
    inner.narrow(dim, side - 1 - after, after).add_(outer.flip(dim))
    return inner


def _available_memory() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
        # Not Linux: half of the total, since the free pages do not include the file cache.
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (OSError, ValueError, AttributeError):
        return None


def _container_memory() -> int | None:
    """What is left of the memory limit of a container."""
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (group / "memory.max").read_text(), (group / "memory.current").read_text()
        return max(0, int(limit) - int(used))
    except (OSError, ValueError):
        return None
