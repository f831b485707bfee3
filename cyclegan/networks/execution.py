"""How networks are executed: precision, memory format, batched passes, compilation."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrize import is_parametrized

from cyclegan.config.errors import shorten
from cyclegan.hardware.devices import Precision
from cyclegan.networks.layers import ResidualBlock

HALF_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
# CUDA graphs are captured of whole steps, around what these modes compile.
COMPILE_MODES = {"default": None, "max": "max-autotune-no-cudagraphs"}

Size = tuple[int, int]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExecutionPlan:
    """How networks are executed; the results are equal up to rounding.

    batch_passes: several batches for one network are concatenated to one, if the result is equal.
    fused_optimizer: an optimizer's update is one kernel.
    cuda_graphs: whole steps are captured as CUDA graphs and replayed.
    activation_checkpointing: the blocks of the generators are recomputed in the backward pass.
    """

    precision: Precision = "fp32"
    channels_last: bool = False
    compile: Literal["off", "default", "max"] = "off"
    batch_passes: bool = True
    fused_optimizer: bool = False
    cuda_graphs: bool = False
    activation_checkpointing: bool = False


EAGER_FP32 = ExecutionPlan()


class Executor:
    """Calls a network as a plan says.

    Images keep their dtype on the way in and out. Inside, autocast runs convolutions in half
    precision, while norms compute their statistics in float32.
    """

    def __init__(self, network: nn.Module, plan: ExecutionPlan = EAGER_FP32) -> None:
        self.network = network
        self.plan = plan
        self.keeps_queues = bool(getattr(network, "keeps_queues", False))
        self.per_sample = plan.batch_passes and is_per_sample(network)
        self.forward: Callable[..., Any] = self._eager if plan.compile == "off" else self._compile

    def __call__(self, image: Tensor, **options: bool) -> Any:
        return self.forward(image, **options)

    def uncompile(self) -> None:
        self.forward = self._eager

    def encode(self, image: Tensor, layers: Sequence[int] | None = None) -> list[Tensor]:
        """The network's own `encode`, in the same precision."""
        with self._autocast(image):
            features: list[Tensor] = self.network.encode(image, layers)  # type: ignore[operator]
        return features

    def forward_many(self, batches: Sequence[Tensor]) -> list[Tensor]:
        """The output for each batch: in one pass if the result is equal, else one by one."""
        if not self.per_sample or len({batch.shape[1:] for batch in batches}) != 1:
            return [self(batch) for batch in batches]
        outputs: Tensor = self(torch.cat(list(batches)))
        return list(torch.split(outputs, [len(batch) for batch in batches]))

    def _compile(self, image: Tensor, **options: bool) -> Any:
        """Compiles in the first call: loading the compiler takes seconds, too long to wait for an
        error in an option.
        """
        # Both generators, and both states of a discriminator, count as one function's shapes.
        torch._dynamo.config.recompile_limit = 64
        mode = COMPILE_MODES[self.plan.compile]
        self.forward = torch.compile(self._eager, dynamic=False, mode=mode)
        return self.forward(image, **options)

    def _eager(self, image: Tensor, **options: bool) -> Any:
        if self.plan.channels_last:
            image = image.contiguous(memory_format=torch.channels_last)
        with self._autocast(image):
            output = self.network(image, **options)
        if isinstance(output, Tensor):
            return output.to(image.dtype)
        return [each.to(image.dtype) for each in output]

    def _autocast(self, image: Tensor) -> torch.autocast:
        half = HALF_DTYPES.get(self.plan.precision)
        return torch.autocast(image.device.type, dtype=half, enabled=half is not None)


class FixedBatchExecutor:
    """A compiled network for images of a few sizes, which falls back to eager mode if it cannot be
    compiled. Each size is compiled for one batch size; smaller batches are padded with black.
    """

    def __init__(self, executor: Executor, batch_sizes: Mapping[Size, int]) -> None:
        self.executor = executor
        self.batch_sizes = dict(batch_sizes)
        self.announced: set[Size] = set()

    def __call__(self, images: Tensor, size: Size, *, eager: Callable[[Tensor], Tensor]) -> Tensor:
        """`size` is (width, height) before padding; `eager` is the uncompiled network."""
        if size not in self.announced:
            self.announced.add(size)
            logger.info(
                "compiling for images of %dx%d px; what was compiled before is found again", *size
            )
        missing = self.batch_sizes[size] - len(images)
        try:
            padded = functional.pad(images, (0, 0) * 3 + (0, missing), value=-1.0)
            outputs: Tensor = self.executor(padded)[: len(images)]
            return outputs
        # A compiler and its dependencies may raise anything.
        except Exception as error:
            problem = shorten(next(iter(str(error).splitlines()), type(error).__name__), 200)
        # After the handler, as the error's frames hold memory. An error of another cause, such as
        # an image that is too large, is raised again here.
        outputs = eager(images)
        self.batch_sizes.clear()
        logger.warning("this cannot be compiled, and goes on uncompiled: %s", problem)
        return outputs


def configure(network: nn.Module, plan: ExecutionPlan) -> Executor:
    """Sets the memory format of the network's weights and the recomputation of its blocks, and
    returns its executor.
    """
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            module.recompute = plan.activation_checkpointing
    if plan.channels_last:
        network.to(memory_format=torch.channels_last)
    return Executor(network, plan)


def is_per_sample(network: nn.Module) -> bool:
    """Whether the output for an image depends on that image alone: on no other of its batch, no
    random number and no count of calls. False for networks from outside this package.
    """
    varying = nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm
    for module in network.modules():
        if type(module).__module__.partition(".")[0] not in ("torch", "cyclegan"):
            return False
        # Spectral norm, a parametrization, makes a power iteration in every call.
        if isinstance(module, varying) or is_parametrized(module) or getattr(module, "noise", None):
            return False
    return True
