"""Two generators and two discriminators, and the images that the generators make of a batch."""

import math
from collections.abc import Collection, Iterator, Mapping

from torch import Tensor, nn

from cyclegan.config.errors import UserError
from cyclegan.networks.execution import EAGER_FP32, ExecutionPlan, configure
from cyclegan.networks.layers import ResidualBlock

# NCHW batches in [-1, 1] by name: real_A, fake_B ... The suffix is the domain of the image.
Images = Mapping[str, Tensor]

# Each image that is made: the generator that makes it, and the image it is made from.
PASSES = {
    "fake_B": ("G_AB", "real_A"),
    "fake_A": ("G_BA", "real_B"),
    "rec_A": ("G_BA", "fake_B"),
    "rec_B": ("G_AB", "fake_A"),
    "idt_A": ("G_BA", "real_A"),
    "idt_B": ("G_AB", "real_B"),
    "pse_A": ("G_BA", "fake_B"),
    "pse_B": ("G_AB", "fake_A"),
}
# A pseudo-pair is a reconstruction whose gradient stops at the translation.
DETACHED = ("pse_A", "pse_B")
CLASSIC_PASSES = ("fake_A", "fake_B", "rec_A", "rec_B", "idt_A", "idt_B")


class CycleGAN(nn.Module):
    """Both directions of translation (Zhu et al., 2017, fig. 3). A domain without an adversarial
    loss has no discriminator.
    """

    def __init__(
        self, *, G_AB: nn.Module, G_BA: nn.Module, discriminators: Mapping[str, nn.Module]
    ) -> None:
        super().__init__()
        self.generators = nn.ModuleDict({"G_AB": G_AB, "G_BA": G_BA})
        self.discriminators = nn.ModuleDict(discriminators)
        self.configure(EAGER_FP32)

    def configure(self, plan: ExecutionPlan) -> None:
        """Makes the networks run by this plan; the weights stay the same objects. Raises UserError
        if activation checkpointing is planned and no generator has residual blocks.
        """
        blocks = any(isinstance(module, ResidualBlock) for module in self.generators.modules())
        if plan.activation_checkpointing and not blocks:
            raise UserError(
                "--checkpoint_activations: these generators have no residual blocks to compute "
                "again: leave it out, or use resnet, edsr or rrdb"
            )
        self.plan = plan
        self.executors = {name: configure(net, plan) for name, net in self.networks().items()}

    def networks(self) -> dict[str, nn.Module]:
        """All networks by name."""
        return {**dict(self.generators.items()), **dict(self.discriminators.items())}

    def forward(self, images: Images, passes: Collection[str] = CLASSIC_PASSES) -> Images:
        """Adds to real_A and real_B the images named in `passes`, and those they are made from."""
        made = dict(images)
        for names in self._batched_passes(passes):
            sources = [made[PASSES[name][1]] for name in names]
            sources = [
                source.detach() if name in DETACHED else source
                for name, source in zip(names, sources, strict=True)
            ]
            generator = self.executors[PASSES[names[0]][0]]
            made.update(zip(names, generator.forward_many(sources), strict=True))
        return made

    def _batched_passes(self, passes: Collection[str]) -> Iterator[list[str]]:
        """The images to make, in order. Each list is made by one generator from images that exist
        by then, so that they can share a forward pass.
        """
        intermediate = {PASSES[name][1] for name in passes}
        remaining = [name for name in PASSES if name in passes or name in intermediate]
        made = {"real_A", "real_B"}
        while remaining:
            generator = PASSES[remaining[0]][0]
            ready = [n for n in remaining if PASSES[n][0] == generator and PASSES[n][1] in made]
            names = ready if self.executors[generator].per_sample else ready[:1]
            yield names
            made.update(names)
            remaining = [name for name in remaining if name not in names]


def size_multiple(model: CycleGAN, *, scale: int) -> int:
    """The sides of images of B must be multiples of this number to pass both generators."""
    G_AB, G_BA = (int(getattr(net, "size_multiple", 1)) for net in model.generators.values())
    return math.lcm(4, G_AB * scale, G_BA)


def check_sizes(model: CycleGAN, *, option: str, side: int, scale: int) -> None:
    """Raises UserError if square images of B with this side, and images of A that are `scale`
    times smaller, do not fit the networks. `option` is the option that gave the side.
    """
    for name, network in model.generators.items():
        _check_generator(network, option, side, scale if name[2] == "A" else 1)
    for name, network in model.discriminators.items():
        factor = scale if name[-1] == "A" else 1
        smallest = int(getattr(network, "min_size", 1)) * factor
        if side < smallest:
            raise UserError(
                f"--{option} {side} is too small for the discriminator {name}, which needs "
                f"{smallest}{_at(factor)}: raise it, or give the discriminator fewer layers"
            )


def _check_generator(network: nn.Module, option: str, side: int, factor: int) -> None:
    multiple = int(getattr(network, "size_multiple", 1))
    smallest = int(getattr(network, "min_size", 4 * multiple))
    if side // factor % multiple or side // factor < smallest:
        raise UserError(
            f"--{option} {side} does not fit the generator{_at(factor)}: use a multiple of "
            f"{multiple * factor}, at least {smallest * factor}, or a generator with fewer "
            "halvings, as unet(layers=5) or resnet(downs=1)"
        )


def _at(factor: int) -> str:
    return f" at --scale {factor}" if factor > 1 else ""
