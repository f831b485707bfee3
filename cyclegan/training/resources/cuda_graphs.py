"""The update of one side recorded as a CUDA graph: one launch in place of a thousand."""

import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cyclegan.config.errors import explain
from cyclegan.losses.weighted import Clock
from cyclegan.training.algorithm.model import Images
from cyclegan.training.algorithm.objective import Losses
from cyclegan.training.step import Side

# Calls that run uncaptured before one is captured: libraries choose their kernels, compilers
# compile, optimizers create their state.
WARM_UP = 3

logger = logging.getLogger(__name__)


@dataclass
class CapturedGraph:
    """A graph, and the tensors that it reads and writes, whose addresses stay."""

    graph: torch.cuda.CUDAGraph
    inputs: dict[str, Tensor]
    outputs: tuple[Images, Losses]


class GraphedCallable:
    """Calls `minimize` by replaying CUDA graphs.

    One graph is captured for each side, set of active losses and shape of the images. Everything
    else that the function reads must be in tensors that keep their addresses. What cannot be
    captured runs uncaptured, after one warning.
    """

    def __init__(self, minimize: Callable[..., tuple[Images, Losses]]) -> None:
        self.minimize = minimize
        # All graphs share the pool: each result is copied before the next graph is replayed.
        self.pool = torch.cuda.graph_pool_handle()
        self.side_stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self.calls: dict[Hashable, int] = {}
        self.graphs: dict[Hashable, CapturedGraph] = {}
        self.failed: set[Hashable] = set()

    def __call__(
        self,
        side: Side,
        images: Images,
        clock: Clock,
        micro_batches: Sequence[Any] | None = None,
    ) -> tuple[Images, Losses]:
        """The function's result, in tensors that the next call leaves alone."""
        key = (side, side.due(clock), *((name, image.shape) for name, image in images.items()))
        self.calls[key] = self.calls.get(key, 0) + 1
        if self.calls[key] <= WARM_UP:
            return self._warm_up(side, images, clock)
        if key not in self.graphs and key not in self.failed:
            try:
                self.graphs[key] = self._capture(side, images, clock)
            # A capture may fail with any exception; nothing has been computed by then.
            except Exception as error:
                self.failed.add(key)
                logger.warning("the step cannot be recorded, and is slower: %s", explain(error))
        if key in self.failed:
            return self.minimize(side, images, clock)
        captured = self.graphs[key]
        for name, image in images.items():
            captured.inputs[name].copy_(image)
        captured.graph.replay()
        return _copied(captured.outputs)

    def _warm_up(self, side: Side, images: Images, clock: Clock) -> tuple[Images, Losses]:
        """Runs on a side stream, as a capture does."""
        current = torch.cuda.current_stream()
        self.side_stream.wait_stream(current)
        try:
            with torch.cuda.stream(self.side_stream):
                result = self.minimize(side, images, clock)
        finally:
            # Also after an error: what is then restored must not overtake the pending work.
            current.wait_stream(self.side_stream)
        # The copies belong to the current stream; the side stream reuses its memory freely.
        return _copied(result)

    def _capture(self, side: Side, images: Images, clock: Clock) -> CapturedGraph:
        inputs = {name: image.clone() for name, image in images.items()}
        graph = torch.cuda.CUDAGraph()
        # thread_local: the thread that loads images allocates memory meanwhile.
        with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
            outputs = self.minimize(side, inputs, clock)
        return CapturedGraph(graph, inputs, outputs)


def _copied(result: tuple[Images, Losses]) -> tuple[Images, Losses]:
    outputs, losses = result
    copied = [{name: each.clone() for name, each in part.items()} for part in (outputs, losses)]
    return copied[0], copied[1]
