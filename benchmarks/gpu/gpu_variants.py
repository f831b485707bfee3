"""What is measured: the options of a check, and the ways of computing a step that it compares."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from plain_step import Discriminator, Generator, PlainStep  # type: ignore[import-not-found]
from torch import Tensor

from cyclegan.config.logs import log_to
from cyclegan.config.options import check
from cyclegan.config.train_options import TrainSettings
from cyclegan.networks.execution import ExecutionPlan
from cyclegan.training.build.build_step import StepBuilder

Step = Callable[[], object]
Figures = dict[str, Any]

CLASSIC_WIDTH = 64
BF16 = ExecutionPlan("bf16", channels_last=True, fused_optimizer=True)
COMPILED = dataclasses.replace(BF16, compile="default")
SPEEDS = {
    # What a run that is too short for the compiler gets.
    "eager": BF16,
    "eager_first": dataclasses.replace(BF16, channels_last=False),
    "graph": dataclasses.replace(BF16, cuda_graphs=True),
    "graph_first": dataclasses.replace(BF16, cuda_graphs=True, channels_last=False),
    "tf32_graph": ExecutionPlan("tf32", fused_optimizer=True, cuda_graphs=True),
    "compiled": COMPILED,
    "compiled_graph": dataclasses.replace(COMPILED, cuda_graphs=True),
    "compiled_graph_first": dataclasses.replace(COMPILED, cuda_graphs=True, channels_last=False),
    # The compiler is made to keep channels last, which it does not choose for these networks.
    "compiled_graph_layout": dataclasses.replace(COMPILED, cuda_graphs=True),
}
# At the end of a variant's name: the same once more, which shows how far the machine drifts.
AGAIN = "_again"
VARIANTS = ("plain", *SPEEDS)


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command line of gpu_check.py says."""

    what: str
    out: Path
    device: torch.device
    size: int
    batch: int
    width: int
    variants: tuple[str, ...]
    rounds: int
    count: int
    ready: Path
    siblings: int
    until: float

    @property
    def on_cuda(self) -> bool:
        return self.device.type == "cuda"


def make_settings(options: Options, **more: Any) -> TrainSettings:
    """The classic recipe at the size, batch and width of the options."""
    values = {
        "dataroot": "none",
        "name": "none",
        "crop_size": options.size,
        "load_size": options.size,
        "batch_size": options.batch,
        "ngf": options.width,
        "ndf": options.width,
    }
    return check(TrainSettings, values | more)


def random_images(options: Options) -> tuple[Tensor, Tensor]:
    """One batch of each domain, in [-1, 1]."""
    shape = (options.batch, 3, options.size, options.size)
    real_A, real_B = (torch.rand(shape, device=options.device) * 2 - 1 for _ in "AB")
    return real_A, real_B


def build_variant(variant: str, options: Options) -> tuple[Step, list[str]]:
    """A training step on random images, and the list that its warnings are added to."""
    torch.manual_seed(0)
    images = random_images(options)
    if variant == "plain":
        plain = _plain_step(options)
        return lambda: plain.step(*images), []
    if variant.endswith("_layout"):
        import torch._inductor.config as inductor

        inductor.force_layout_optimization = True
    said: list[str] = []
    log_to(said.append)
    builder = StepBuilder(make_settings(options))
    model = builder.model().to(options.device)
    step = builder.step(model, plan=SPEEDS[variant])
    return lambda: step(*images), said


def _plain_step(options: Options) -> Any:
    width = options.width
    plain = PlainStep()
    plain.G_AB, plain.G_BA = Generator(width), Generator(width)
    plain.D_A, plain.D_B = Discriminator(width), Discriminator(width)
    for network in plain.networks().values():
        network.to(options.device)
    plain.prepare()
    return plain
