"""Networks as a device runs them best: in half precision, in its memory format, compiled."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from cyclegan.hardware.devices import Precision
from cyclegan.networks.layers import Block

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
# CUDA graphs of whole steps are recorded elsewhere, round what these modes compile.
MODES = {"default": None, "max": "max-autotune-no-cudagraphs"}


@dataclass(frozen=True)
class Speed:
    """How networks are computed; what they compute is the same but for rounding.

    joined: batches that pass one network side by side pass it as one, where that is equal.
    fused: the optimizer's update is one kernel.
    graph: a whole step is recorded and replayed (CUDA graphs).
    checkpointed: blocks of the generators are computed again on the way back, to save memory.
    """

    precision: Precision = "fp32"
    channels_last: bool = False
    compile: Literal["off", "default", "max"] = "off"
    joined: bool = True
    fused: bool = False
    graph: bool = False
    checkpointed: bool = False


PLAIN = Speed()


class Running:
    """A network, called just as it is.

    Images keep their own type on the way in and out: inside, convolutions run in half precision
    and norms gather their statistics in float32, as autocast arranges it.
    """

    def __init__(self, network: nn.Module, speed: Speed = PLAIN) -> None:
        self.network = network
        self.speed = speed
        self.keeps_queues = bool(getattr(network, "keeps_queues", False))
        self.per_sample = speed.joined and is_per_sample(network)
        for block in network.modules():
            if isinstance(block, Block):
                block.recompute = speed.checkpointed
        if speed.channels_last:
            network.to(memory_format=torch.channels_last)
        self.forward: Callable[..., Any] = self._forward
        if speed.compile != "off":
            self.forward = self._compile

    def __call__(self, image: Tensor, **told: bool) -> Any:
        return self.forward(image, **told)

    def _compile(self, image: Tensor, **told: bool) -> Any:
        """At the first call: the compiler takes seconds to load, for which nobody is to wait who
        has mistyped an option.
        """
        # Both generators, and both states of a discriminator, count as one function's shapes.
        torch._dynamo.config.recompile_limit = 64
        mode = MODES[self.speed.compile]
        self.forward = torch.compile(self._forward, dynamic=False, mode=mode)
        return self.forward(image, **told)

    def uncompile(self) -> None:
        self.forward = self._forward

    def encode(self, image: Tensor, layers: Sequence[int] | None = None) -> list[Tensor]:
        """The network's own `encode`, in the same precision."""
        with self._autocast(image):
            features: list[Tensor] = self.network.encode(image, layers)  # type: ignore[operator]
        return features

    def side_by_side(self, batches: Sequence[Tensor]) -> list[Tensor]:
        """What the network makes of each batch: as one batch where that is equal, else in turn."""
        if not self.per_sample or len({batch.shape[1:] for batch in batches}) != 1:
            return [self(batch) for batch in batches]
        together: Tensor = self(torch.cat(list(batches)))
        sizes = [len(batch) for batch in batches]
        return list(torch.split(together, sizes))

    def _forward(self, image: Tensor, **told: bool) -> Any:
        if self.speed.channels_last:
            image = image.contiguous(memory_format=torch.channels_last)
        with self._autocast(image):
            output = self.network(image, **told)
        if isinstance(output, Tensor):
            return output.to(image.dtype)
        return [each.to(image.dtype) for each in output]

    def _autocast(self, image: Tensor) -> torch.autocast:
        half = HALVES.get(self.speed.precision)
        return torch.autocast(image.device.type, dtype=half, enabled=half is not None)


def is_per_sample(network: nn.Module) -> bool:
    """Whether what comes of an image depends on that image alone: on no other of its batch, no
    random number and no count of calls. Of networks that are not of this package nobody knows.
    """
    return all(map(_is_per_sample, network.modules()))


def _is_per_sample(module: nn.Module) -> bool:
    if type(module).__module__.partition(".")[0] not in ("torch", __name__.partition(".")[0]):
        return False
    draws = isinstance(module, nn.modules.dropout._DropoutNd) or getattr(module, "noise", None)
    mixes = isinstance(module, nn.modules.batchnorm._BatchNorm)
    # Spectral norm takes a power iteration at every call.
    return not (draws or mixes or is_parametrized(module))
