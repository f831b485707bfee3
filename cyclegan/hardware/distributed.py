"""The processes of a run: one, or as many as torchrun has started, on one machine or several."""

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
from cyclegan.hardware.devices import own_place

Value = TypeVar("Value")

# One process measures and draws while the others wait for it.
LONGEST_WAIT = timedelta(hours=2)

# Seconds between two looks for the others, at the start.
_MOMENT = 0.02


@dataclass(eq=False)
class World:
    """A process among those of its run. One that is alone asks and tells nobody."""

    rank: int = 0
    size: int = 1
    # Among the processes of its machine.
    local_rank: int = 0
    restarts: int = 0

    def __post_init__(self) -> None:
        self._host: Any = None
        self._asked: tuple[torch.Tensor, Any] | None = None

    @classmethod
    def around(cls) -> "World":
        """As torchrun's environment tells it."""
        return cls(*own_place(), restarts=int(os.environ.get("TORCHELASTIC_RESTART_COUNT") or 0))

    @property
    def leads(self) -> bool:
        """Whether this is the one process that writes, prints and measures."""
        return self.rank == 0

    def join(self, device: torch.device) -> None:
        """Meets the others. Tensors go by nccl between GPUs, by gloo between CPUs."""
        if self.size == 1:
            return
        backend = "nccl" if device.type == "cuda" else "gloo"
        store, rank, size = next(rendezvous("env://"))
        store = PrefixStore(meet(store, rank=rank, size=size), store)
        dist.init_process_group(
            backend, store=store, rank=rank, world_size=size, timeout=LONGEST_WAIT
        )
        # What is not on a GPU goes by a way of its own, which waits for no GPU.
        self._host = dist.new_group(backend="gloo", timeout=LONGEST_WAIT)

    def leave(self) -> None:
        if self._host is not None:
            if self._asked is not None:
                self._asked[1].wait()
            dist.destroy_process_group()
            self._host = None

    def each(self, batch_size: int) -> int:
        """A process's part of so many images; raises UserError where they cannot be dealt out."""
        if batch_size % self.size:
            most = -(-batch_size // self.size) * self.size
            raise UserError(
                f"--batch_size {batch_size} cannot be dealt out to {self.size} processes: give a "
                f"multiple of {self.size}, as {most} (it is the number over all of them)"
            )
        return batch_size // self.size

    def parallel(
        self, forward: Callable[..., Value], learners: nn.Module, *, sometimes: bool
    ) -> Callable[..., Value]:
        """The same function, which computes what `learners` learn from; in a backward pass their
        gradients become the mean over all processes. `sometimes`: some may learn nothing from it.
        """
        if self.size == 1 or not any(p.requires_grad for p in learners.parameters()):
            return forward
        return DistributedDataParallel(_Half(forward, learners), find_unused_parameters=sometimes)

    def apart(self, function: Callable[..., object]) -> AbstractContextManager[Any]:
        """Within it, backward passes of such a function leave gradients as they are here."""
        if isinstance(function, DistributedDataParallel):
            return function.no_sync()
        return nullcontext()

    def asked(self, bits: int) -> int:
        """The bits that any process had set the last time all were asked; asks again. The answer
        travels while the step between the two calls is computed.
        """
        if self.size == 1:
            return bits
        before = self._asked
        answer = torch.tensor(int(bits))
        work = dist.all_reduce(answer, dist.ReduceOp.BOR, group=self._host, async_op=True)
        self._asked = answer, work
        if before is None:
            return 0
        before[1].wait()
        return int(before[0].item())

    def means(self, values: Mapping[str, float]) -> dict[str, float]:
        """Of each value, the mean over all processes, which give the same names."""
        if self.size == 1 or not values:
            return dict(values)
        names = sorted(values)
        sums = torch.tensor([values[name] for name in names], dtype=torch.float64)
        dist.all_reduce(sums, group=self._host)
        mean = dict(zip(names, (sums / self.size).tolist(), strict=True))
        return {name: mean[name] for name in values}

    def gather(self, value: Value) -> list[Value]:
        """Everybody's, in the order of ranks, to the one that leads; to others, their own."""
        if self.size == 1:
            return [value]
        everybody: list[Any] | None = [None] * self.size if self.leads else None
        dist.gather_object(value, everybody, group=self._host)
        return everybody or [value]

    def spread(self, value: Value) -> Value:
        """What the process that leads has, to all."""
        if self.size == 1:
            return value
        box = [value if self.leads else None]
        dist.broadcast_object_list(box, src=0, group=self._host)
        return box[0]  # type: ignore[return-value]

    @contextmanager
    def after_the_first(self) -> Iterator[None]:
        """On each machine one process does it first: the others find what it has made."""
        if self.size > 1 and self.local_rank:
            dist.barrier(group=self._host)
        yield
        if self.size > 1 and not self.local_rank:
            dist.barrier(group=self._host)


def meet(store: Any, *, rank: int, size: int) -> str:
    """A name of their own for the processes that are there now. torchrun keeps its store when it
    starts processes again, and what those before them have left there is out of date (pytorch
    issue 135712): without this, some would look for others at addresses where nobody is any more.
    """
    own = uuid.uuid4().hex
    store.set(f"here/{rank}", own)
    if rank:
        here: list[str] = []
        while own not in here:
            time.sleep(_MOMENT)
            here = store.get("all").decode().split()
        store.set(f"met/{rank}", here[0])
        return here[0]
    met: list[str] = []
    # Whom a process takes for present tells whether it is one of those that are.
    while met != [own] * (size - 1):
        here = [own, *(store.get(f"here/{other}").decode() for other in range(1, size))]
        store.set("all", " ".join(here))
        time.sleep(_MOMENT)
        met = [
            store.get(key).decode()
            for other in range(1, size)
            if store.check([key := f"met/{other}"])
        ]
    return own


class _Half(nn.Module):
    """What DistributedDataParallel asks for: a module whose forward is the function."""

    def __init__(self, forward: Callable[..., Any], learners: nn.Module) -> None:
        super().__init__()
        self.learners = learners
        self.look = forward

    def forward(self, *arguments: Any, **options: Any) -> Any:
        return self.look(*arguments, **options)


ALONE = World()
