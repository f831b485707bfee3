"""Half a step, recorded once as a CUDA graph and then replayed: one launch for a thousand."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cyclegan.config.errors import explain
from cyclegan.losses.weighted import Clock

# Calls that run as they are before one is recorded: libraries choose their kernels, compilers
# compile, optimizers make their state. They train like any other.
WARM_UP = 3


@dataclass
class Recording:
    """A graph, the tensors that it reads, and those that it writes: their addresses stay."""

    graph: torch.cuda.CUDAGraph
    inputs: dict[str, Tensor]
    outputs: Any


class Replayed:
    """A function of a clock and of tensors, called just as it is.

    `pattern` tells by the clock what the function will do: it is recorded once for each pattern
    and shape. Whatever else it reads must be in tensors that stay where they are. What cannot be
    recorded runs on as it is, and `say` is told so once.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        pattern: Callable[[Clock], Hashable],
        pool: Any,
        say: Callable[[str], object],
    ) -> None:
        """`pool` (torch.cuda.graph_pool_handle) may be shared with other functions: each result is
        copied before the next recording that uses the same memory is replayed.
        """
        self.function = function
        self.pattern = pattern
        self.pool = pool
        self.say = say
        self.side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self.calls: dict[Hashable, int] = {}
        self.recordings: dict[Hashable, Recording] = {}
        self.failed: set[Hashable] = set()

    def __call__(self, clock: Clock, **tensors: Tensor) -> Any:
        """The function's result, in tensors that the next call leaves alone."""
        key = (self.pattern(clock), *((name, tensor.shape) for name, tensor in tensors.items()))
        self.calls[key] = self.calls.get(key, 0) + 1
        if self.calls[key] <= WARM_UP:
            return self._warm_up(clock, tensors)
        if key in self.failed:
            return self.function(clock, **tensors)
        if key not in self.recordings:
            try:
                self.recordings[key] = self._record(clock, tensors)
            # What goes wrong in recording may be anything; nothing has been computed by then.
            except Exception as error:
                self.failed.add(key)
                self.say(f"warning: the step cannot be recorded, and is slower: {explain(error)}")
                return self.function(clock, **tensors)
        recording = self.recordings[key]
        for name, tensor in tensors.items():
            recording.inputs[name].copy_(tensor)
        recording.graph.replay()
        return _copied(recording.outputs)

    def _warm_up(self, clock: Clock, tensors: dict[str, Tensor]) -> Any:
        """On a stream beside the current one, as a recording is made."""
        current = torch.cuda.current_stream()
        self.side.wait_stream(current)
        try:
            with torch.cuda.stream(self.side):
                result = self.function(clock, **tensors)
        finally:
            # Also where it fails: what is then put back must not overtake what is under way.
            current.wait_stream(self.side)
        # Copies are of the current stream's memory; the other's is given away as it sees fit.
        return _copied(result)

    def _record(self, clock: Clock, tensors: dict[str, Tensor]) -> Recording:
        inputs = _copied(tensors)
        graph = torch.cuda.CUDAGraph()
        # thread_local: what loads images allocates memory meanwhile.
        with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
            outputs = self.function(clock, **inputs)
        return Recording(graph, inputs, outputs)


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {name: _copied(each) for name, each in value.items()}
    return tuple(map(_copied, value))
