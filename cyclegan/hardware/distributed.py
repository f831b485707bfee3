"""The process group of a run: one process, or those that torchrun has started."""

import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed import PrefixStore  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from cyclegan.config.errors import UserError
from cyclegan.hardware.devices import rank_from_env

Value = TypeVar("Value")

# The main process measures and draws previews while the others wait for it.
TIMEOUT = timedelta(hours=2)

# Seconds between two reads of the store during the rendezvous.
_POLL_SECONDS = 0.02


@dataclass(eq=False)
class ProcessGroup:
    """A process and its group. In a group of one, nothing is communicated."""

    rank: int = 0
    size: int = 1
    # The rank among the processes of this machine.
    local_rank: int = 0
    restarts: int = 0

    def __post_init__(self) -> None:
        self._gloo: Any = None
        self._pending_flags: tuple[torch.Tensor, Any] | None = None

    @classmethod
    def from_env(cls) -> "ProcessGroup":
        """Reads the environment variables that torchrun sets."""
        restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT") or 0)
        return cls(*rank_from_env(), restarts=restarts)

    @property
    def is_main(self) -> bool:
        """Whether this process writes, prints and measures: rank 0."""
        return self.rank == 0

    def join(self, device: torch.device) -> None:
        """Waits for the other ranks. GPUs exchange tensors by NCCL, CPUs by gloo."""
        if self.size == 1:
            return
        backend = "nccl" if device.type == "cuda" else "gloo"
        store, rank, size = next(rendezvous("env://"))
        store = PrefixStore(rendezvous_key(store, rank=rank, size=size), store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
        # Data on the CPU has a group of its own, which never waits for a GPU.
        self._gloo = dist.new_group(backend="gloo", timeout=TIMEOUT)

    def leave(self) -> None:
        if self._gloo is not None:
            if self._pending_flags is not None:
                self._pending_flags[1].wait()
            dist.destroy_process_group()
            self._gloo = None

    def per_process(self, batch_size: int) -> int:
        """The batch size of one process; raises UserError if it is not a whole number."""
        if batch_size % self.size:
            multiple = -(-batch_size // self.size) * self.size
            raise UserError(
                f"--batch_size {batch_size} cannot be dealt out to {self.size} processes: give a "
                f"multiple of {self.size}, as {multiple} (it is the number over all of them)"
            )
        return batch_size // self.size

    def data_parallel(
        self, forward: Callable[..., Value], modules: nn.Module, *, find_unused_parameters: bool
    ) -> Callable[..., Value]:
        """Wraps a function that computes losses with `modules`: its backward pass averages their
        gradients over all ranks.
        """
        if self.size == 1 or not any(p.requires_grad for p in modules.parameters()):
            return forward
        return DistributedDataParallel(
            _ForwardModule(forward, modules), find_unused_parameters=find_unused_parameters
        )

    def no_sync(self, forward: Callable[..., object]) -> AbstractContextManager[Any]:
        """A context in which the backward pass of a wrapped function averages no gradients."""
        if isinstance(forward, DistributedDataParallel):
            return forward.no_sync()
        return nullcontext()

    def any_rank(self, flags: int) -> int:
        """Asynchronous all-reduce (bitwise OR) of flags; returns the result of the previous call,
        so that the communication overlaps with the step between two calls.
        """
        if self.size == 1:
            return flags
        previous = self._pending_flags
        reduced = torch.tensor(int(flags))
        work = dist.all_reduce(reduced, dist.ReduceOp.BOR, group=self._gloo, async_op=True)
        self._pending_flags = reduced, work
        if previous is None:
            return 0
        previous[1].wait()
        return int(previous[0].item())

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """The mean of each value over all ranks, which must give the same names."""
        if self.size == 1 or not values:
            return dict(values)
        gathered: list[Any] = [None] * self.size
        dist.all_gather_object(gathered, values, group=self._gloo)
        return {name: sum(each[name] for each in gathered) / self.size for name in values}

    def gather(self, value: Value) -> list[Value]:
        """The values of all ranks on the main process; on the others, only their own."""
        if self.size == 1:
            return [value]
        gathered: list[Any] | None = [None] * self.size if self.is_main else None
        dist.gather_object(value, gathered, group=self._gloo)
        return gathered or [value]

    def broadcast(self, value: Value) -> Value:
        """The main process's value, on all ranks."""
        if self.size == 1:
            return value
        box = [value if self.is_main else None]
        dist.broadcast_object_list(box, src=0, group=self._gloo)
        return box[0]  # type: ignore[return-value]

    @contextmanager
    def main_process_first(self) -> Iterator[None]:
        """Runs the body on one process of each machine before the others, which then find its
        files.
        """
        if self.size > 1 and self.local_rank:
            dist.barrier(group=self._gloo)
        yield
        if self.size > 1 and not self.local_rank:
            dist.barrier(group=self._gloo)


def rendezvous_key(store: Any, *, rank: int, size: int) -> str:
    """A key prefix that only the processes running now agree on. torchrun keeps its store when it
    restarts processes, and the addresses that the former ones left there are stale (pytorch issue
    135712).
    """
    own = uuid.uuid4().hex
    store.set(f"here/{rank}", own)
    if rank:
        present: list[str] = []
        while own not in present:
            time.sleep(_POLL_SECONDS)
            present = store.get("all").decode().split()
        store.set(f"met/{rank}", present[0])
        return present[0]
    answers: list[str] = []
    # Rank 0 lists the keys it sees. A rank answers once its own key is listed, so `size - 1`
    # answers with this key mean that every listed rank is running.
    while answers != [own] * (size - 1):
        present = [own, *(store.get(f"here/{other}").decode() for other in range(1, size))]
        store.set("all", " ".join(present))
        time.sleep(_POLL_SECONDS)
        keys = [f"met/{other}" for other in range(1, size)]
        answers = [store.get(key).decode() for key in keys if store.check([key])]
    return own


class _ForwardModule(nn.Module):
    """A function as the forward method of a module, as DistributedDataParallel requires."""

    def __init__(self, function: Callable[..., Any], modules: nn.Module) -> None:
        super().__init__()
        self.modules_with_gradients = modules
        self.function = function

    def forward(self, *arguments: Any, **options: Any) -> Any:
        return self.function(*arguments, **options)


SINGLE_PROCESS = ProcessGroup()
