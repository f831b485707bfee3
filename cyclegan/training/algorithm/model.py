"""Two generators, two discriminators, and the images they make of a pair of batches."""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from cyclegan.config.errors import UserError
from cyclegan.config.train_options import TrainSettings
from cyclegan.networks.execution import PLAIN, Running, Speed
from cyclegan.networks.factory import GENERATOR_NAMES, build_discriminator, build_generator
from cyclegan.networks.layers import Block, initialize

# Each image that is made: by which generator, and of what.
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
# A pseudo-pair is like a reconstruction, but the way there is not to learn from it.
DETACHED = ("pse_A", "pse_B")
CLASSIC_PASSES = ("fake_A", "fake_B", "rec_A", "rec_B", "idt_A", "idt_B")


@dataclass
class Images:
    """NCHW batches in [-1, 1]; a suffix is the domain of the image. A pass that no loss looks at
    is not made: its image is None.
    """

    real_A: Tensor
    real_B: Tensor
    fake_A: Tensor | None = None
    fake_B: Tensor | None = None
    rec_A: Tensor | None = None
    rec_B: Tensor | None = None
    idt_A: Tensor | None = None
    idt_B: Tensor | None = None
    pse_A: Tensor | None = None
    pse_B: Tensor | None = None

    def get(self, name: str) -> Tensor:
        """The image of this name, which must have been made."""
        image = getattr(self, name)
        assert isinstance(image, Tensor), f"{name} was not made"
        return image

    def source(self, name: str) -> Tensor:
        """The image that the image of this name is to be made of."""
        image = self.get(PASSES[name][1])
        return image.detach() if name in DETACHED else image


class CycleGAN(nn.Module):
    """Both directions at once (Zhu et al., 2017, fig. 3). A domain that no adversarial loss is
    about has no discriminator.
    """

    def __init__(
        self, *, G_AB: nn.Module, G_BA: nn.Module, discriminators: dict[str, nn.Module]
    ) -> None:
        super().__init__()
        self.generators = nn.ModuleDict({"G_AB": G_AB, "G_BA": G_BA})
        self.discriminators = nn.ModuleDict(discriminators)
        self.run(PLAIN)

    def run(self, speed: Speed) -> None:
        """From now on the networks are computed so; their weights stay where they are. Raises
        UserError where no generator has blocks that could be computed again.
        """
        blocks = any(isinstance(module, Block) for module in self.generators.modules())
        if speed.checkpointed and not blocks:
            raise UserError(
                "--checkpoint_activations: these generators have no residual blocks to compute "
                "again: leave it out, or use resnet, edsr or rrdb"
            )
        self.running = {name: Running(net, speed) for name, net in self.networks().items()}

    def networks(self) -> dict[str, nn.Module]:
        """All of them, by name."""
        return {**dict(self.generators.items()), **dict(self.discriminators.items())}

    def forward(
        self, real_A: Tensor, real_B: Tensor, passes: Collection[str] = CLASSIC_PASSES
    ) -> Images:
        """Makes the images named in `passes`, and those on the way to them."""
        images = Images(real_A, real_B)
        for names in self._together(passes):
            generator = self.running[PASSES[names[0]][0]]
            sources = [images.source(name) for name in names]
            for name, image in zip(names, generator.side_by_side(sources), strict=True):
                setattr(images, name, image)
        return images

    def _together(self, passes: Collection[str]) -> Iterator[list[str]]:
        """The images to make, in order; side by side those that one generator makes of images that
        are there by then.
        """
        on_the_way = {source for name in passes for _, source in [PASSES[name]]}
        left = [name for name in PASSES if name in passes or name in on_the_way]
        there = {"real_A", "real_B"}
        while left:
            first = PASSES[left[0]][0]
            alone = not self.running[first].per_sample
            ready = [name for name in left if PASSES[name][0] == first and PASSES[name][1] in there]
            names = ready[:1] if alone else ready
            yield names
            there.update(names)
            left = [name for name in left if name not in names]


def build_model(settings: TrainSettings) -> CycleGAN:
    """The networks that the settings name, freshly initialized from torch's global generator."""
    generators = {
        name: build_generator(**settings.generator_options(name)) for name in GENERATOR_NAMES
    }
    discriminators = {
        f"D_{domain}": build_discriminator(settings.discriminator, channels=settings.ndf)
        for domain in "AB"
        if settings.slot("adversarial", domain)
    }
    for network in (*generators.values(), *discriminators.values()):
        initialize(network, init_type=settings.init_type, gain=settings.init_gain)
    return CycleGAN(**generators, discriminators=discriminators)


def unit(model: CycleGAN, settings: TrainSettings) -> int:
    """What sides of B must be multiples of for either network, as they come and as they go."""
    G_AB, G_BA = (int(getattr(n, "multiple", 1)) for n in model.generators.values())
    return math.lcm(4, G_AB * settings.scale, G_BA)


def check_sizes(model: CycleGAN, settings: TrainSettings) -> None:
    """Raises UserError where the crops do not fit the networks."""
    if "crop" not in settings.preprocess and settings.preprocess != "resize":
        return
    cropped = "crop" in settings.preprocess
    option, side = (
        ("crop_size", settings.crop_size) if cropped else ("load_size", settings.load_size)
    )
    for name, network in model.generators.items():
        _check_generator(network, option, side, settings.smaller(name[2]))
    for name, network in model.discriminators.items():
        smaller = settings.smaller(name[-1])
        smallest = int(getattr(network, "min_size", 1)) * smaller
        if side < smallest:
            at_scale = f" at --scale {smaller}" if smaller > 1 else ""
            raise UserError(
                f"--{option} {side} is too small for the discriminator {name}, which needs "
                f"{smallest}{at_scale}: raise it, or give the discriminator fewer layers"
            )


def _check_generator(network: nn.Module, option: str, side: int, smaller: int) -> None:
    multiple = int(getattr(network, "multiple", 1))
    smallest = int(getattr(network, "min_size", 4 * multiple))
    if side // smaller % multiple or side // smaller < smallest:
        at_scale = f" at --scale {smaller}" if smaller > 1 else ""
        raise UserError(
            f"--{option} {side} does not fit the generator{at_scale}: use a multiple of "
            f"{multiple * smaller}, at least {smallest * smaller}, or a generator with fewer "
            "halvings, as unet(layers=5) or resnet(downs=1)"
        )
